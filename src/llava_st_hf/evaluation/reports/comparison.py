"""Two runs beside each other: what differs, by how much, and in which items."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...processing import InputError
from ...visualization.output_files import is_made_here
from ..metrics.uncertainty import Interval, Statistic, compute_interval, compute_intervals
from ..run_folder import REPORT_FILES, RUN_FILE
from .charts import Axis, Chart
from .document import Block, Figure, Heading, Table, Text, write_reports
from .gallery import Gallery
from .items import Items, Run

_MAX_LISTED = 20
_MAX_DRAWN = 4  # of the items that changed, each way
_SHARED = ("benchmark", "protocol")  # settings in which two runs that are compared must agree


class Difference(NamedTuple):
    """A metric of two runs on the same items."""

    task: str
    name: str
    first: float
    second: float
    change: Interval  # mean of second - first over the items that both count, with its paired bootstrap interval
    # Items in which the second is better, equal and worse; `None` for a metric that is no mean of items.
    counts: tuple[int | None, int | None, int | None]

    @property
    def is_clear(self) -> bool:
        """Whether the interval does not hold 0."""
        return self.change.low > 0 or self.change.high < 0


class Pair:
    """
    The items that two runs share.

    Args:
        first (`Run`): One run.
        second (`Run`): Another, of the same benchmark and protocol.

    Raises:
        `InputError`: If the runs are of different benchmarks or protocols, or share no item.

    Example:

    ```python
    >>> for difference in Pair(read_run("before"), read_run("after")).compute_differences():
    ...     print(difference.task, difference.name, difference.change)
    ```
    """

    def __init__(self, first: Run, second: Run):
        for name in _SHARED:
            one, other = (run.settings.get(name) for run in (first, second))
            if one != other:
                raise InputError(f"{name} is {one!r} in the first run and {other!r} in the second: compare like runs.")
        self.runs = (first, second)
        known = [{(line["task"], line["id"]): line for line in run.lines} for run in self.runs]
        shared = [key for key in known[0] if key in known[1]]
        if not shared:
            raise InputError("the runs have no item in common: compare runs of the same items.")
        self.num_alone = tuple(len(each) - len(shared) for each in known)
        self._shared = [
            Run(run.settings, [lines[key] for key in shared]) for run, lines in zip(self.runs, known, strict=True)
        ]

    @property
    def by_task(self) -> dict[str, tuple[Items, Items]]:
        """The shared items of each task, in the same order."""
        first, second = (run.by_task for run in self._shared)
        return {task: (first[task], second[task]) for task in first}

    @property
    def names(self) -> tuple[str, str]:
        """Names of the runs, which differ."""
        first, second = (run.name for run in self.runs)
        return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")

    def compute_differences(self) -> list[Difference]:
        """Return the metrics of each task, and how much they differ."""
        found = []
        for task, (first, second) in self.by_task.items():
            for name, before in first.metrics.items():
                after = second.metrics[name]
                counted = np.isfinite(before) & np.isfinite(after)
                if not counted.any():
                    continue
                clips = [clip for clip, is_counted in zip(first.clips, counted, strict=True) if is_counted]
                change = compute_interval(after[counted], groups=clips, others=before[counted])
                signs = np.sign(after[counted] - before[counted])
                counts = tuple(int((signs == sign).sum()) for sign in (1, 0, -1))
                means = (float(values[counted].mean()) for values in (before, after))
                found.append(Difference(task, name, *means, change, counts))
            found += _compare_statistics(task, first, second)
        return found


def _compare_statistics(task: str, first: Items, second: Items) -> Iterator[Difference]:
    """Yield the differences of metrics that are no means, such as BLEU: no item alone is better or worse in them."""
    after = second.statistics
    for name, (counts, compute) in first.statistics.items():

        def subtract(
            sums: np.ndarray,
            before: Callable = compute,
            then: Callable = after[name].compute,
            width: int = counts.shape[1],
        ) -> float:
            return then(sums[width:]) - before(sums[:width])

        both = Statistic(np.hstack([counts, after[name].counts]), subtract)
        change = compute_intervals({}, {name: both}, groups=first.clips)[name]
        yield Difference(task, name, first.statistics[name].value, after[name].value, change, (None, None, None))


def write_comparison(first: Run, second: Run, output_dir: str | Path) -> list[Difference]:
    """
    Write `report.md` and `report.html` of two runs of the same items.

    Args:
        first (`Run`): One run, see `read_run`.
        second (`Run`): The other; a change is what it has more.
        output_dir (`str` or `Path`): Folder to write to; made where it does not exist.

    Returns:
        `list[Difference]`: The metrics, and how much they differ.

    Raises:
        `InputError`: If they cannot be compared, or the folder cannot be made, or holds another report.
    """
    folder = Path(output_dir)
    for path in (folder / name for name in (RUN_FILE, *REPORT_FILES)):
        if os.path.lexists(path) and (path.name == RUN_FILE or not path.is_file() or not is_made_here(path)):
            raise InputError(f"output_dir is {folder}: {path.name} is there, of no comparison; give another folder.")
    pair = Pair(first, second)
    differences = pair.compute_differences()
    title = f"{pair.names[0]} and {pair.names[1]} on {first.settings['benchmark']}"
    blocks = list(make_comparison(pair, differences))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_reports(folder, title, blocks)
    except OSError as error:
        raise InputError(
            f"output_dir is {folder}: it cannot be written to ({error.strerror}), give another."
        ) from error
    return differences


def list_rows(differences: list[Difference], names: tuple[str, str]) -> tuple[tuple[str, ...], list[tuple]]:
    """Return the header and the rows of a table of differences."""
    header = ("task", "metric", *names, "change", "95 % between", "clear", "better", "equal", "worse")
    rows = [
        (
            one.task,
            one.name,
            f"{one.first:.3f}",
            f"{one.second:.3f}",
            f"{one.change.value:+.3f}",
            f"{one.change.low:+.3f} to {one.change.high:+.3f}",
            "yes" if one.is_clear else "no",
            *one.counts,
        )
        for one in differences
    ]
    return header, rows


def make_comparison(pair: Pair, differences: list[Difference]) -> Iterator[Block]:
    """Yield the blocks of a report on two runs."""
    yield Text(
        f"A change is what {pair.names[1]} has more than {pair.names[0]}, item by item; clips are drawn anew with all "
        "their items (paired bootstrap). It is clear where the interval does not hold 0."
    )
    yield Table(*list_rows(differences, pair.names))
    if any(pair.num_alone):
        yield Text(
            f"{pair.num_alone[0]:,} items are in the first alone and {pair.num_alone[1]:,} in the second.", True
        )
    for task, (first, second) in pair.by_task.items():
        yield Heading(task)
        yield from _compare_task(pair, task, first, second)
    yield Heading("Settings that differ")
    known = [run.settings for run in pair.runs]
    fields = [name for name in dict.fromkeys([*known[0], *known[1]]) if known[0].get(name) != known[1].get(name)]
    yield Table(("setting", *pair.names), [(name, *(str(one.get(name, "")) for one in known)) for name in fields])


def _compare_task(pair: Pair, task: str, first: Items, second: Items) -> Iterator[Block]:
    name = first.decisive
    before, after = first.values[name], second.values[name]
    counted = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    chart = Chart(Axis(f"{name} of {pair.names[0][:30]}", 0, 1), Axis(f"{name} of {pair.names[1][:30]}", 0, 1))
    chart.add_diagonal().add_points(before[counted], after[counted])
    groups = [
        ("both answers above 0.5", int(((before > 0.5) & (after > 0.5)).sum())),
        ("the first alone", int(((before > 0.5) & ~(after > 0.5)).sum())),
        ("the second alone", int((~(before > 0.5) & (after > 0.5)).sum())),
        ("neither", int((~(before > 0.5) & ~(after > 0.5)).sum())),
    ]
    title = f"{task}: {name} of each item"
    yield Figure(
        title, chart.render(title), Table(("items", "number"), groups), "Above the diagonal the second is better."
    )
    changes = after[counted] - before[counted]
    order = counted[np.argsort(-np.abs(changes), kind="stable")]
    changed = [int(place) for place in order if after[place] != before[place]]
    yield Heading(f"{task}: {len(changed):,} of {len(before):,} items changed", 3)
    rows = [
        (
            first.lines[place]["id"],
            f"{before[place]:.3f}",
            f"{after[place]:.3f}",
            f"{after[place] - before[place]:+.3f}",
            first.lines[place]["failure"],
            second.lines[place]["failure"],
        )
        for place in changed[:_MAX_LISTED]
    ]
    if rows:
        yield Table(("item", *pair.names, "change", "failure of the first", "failure of the second"), rows)
    gallery = Gallery(pair.runs[0])
    for sign, kind in ((1, "better"), (-1, "worse")):
        drawn = [place for place in changed if np.sign(after[place] - before[place]) == sign]
        drawn = [p for p in drawn if all(isinstance(each.lines[p]["result"], dict) for each in (first, second))]
        for place in drawn[:_MAX_DRAWN]:
            lines = dict(zip(pair.names, (first.lines[place], second.lines[place]), strict=True))
            yield gallery.draw(f"{kind}: {before[place]:.3f} to {after[place]:.3f}, {first.lines[place]['id']}", lines)
