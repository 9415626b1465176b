"""The report of a run: metrics with intervals, where the errors are, what the answers look like."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...processing import InputError
from ...processing.media_llava_st import format_count
from ..judging import JUDGE_FILE
from ..metrics.uncertainty import Interval, compute_interval, compute_reliability, compute_risk_coverage
from ..predictions import PROBLEMS
from ..run_folder import METRICS_FILE
from .charts import Axis, Chart
from .document import Block, Code, Figure, Heading, Table, Text, write_reports
from .gallery import Gallery, choose_items
from .items import Items, Run, read_run
from .published import find_percent, find_published

_MAX_LISTED = 20  # unusable items; metrics.json has them all
_FEW_ITEMS = 100
_NUM_BINS = 10
_NUM_GROUPS = 5  # of items by length or size
_BASELINE = (
    " The blind baseline is the best answer that looks at the question only: one span and one box for all, the "
    "commonest words."
)
_WORDS = ("match", "caption_match", "choice")  # right or wrong: no histogram


def write_report(folder: str | Path) -> None:
    """
    Write `report.md` and `report.html` of a run that is done into its folder.

    Args:
        folder (`str` or `Path`): The `output_dir` of the run, with `run.json`, `predictions.jsonl`, `metrics.json`.

    Raises:
        `InputError`: If the run is not done.
    """
    folder = Path(folder)
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / METRICS_FILE} cannot be read ({error}): evaluate again.") from error
    run = read_run(folder)
    write_reports(folder, make_title(run), list(make_report(run, metrics)))


def make_title(run: Run) -> str:
    """Return what a report is called."""
    return f"{run.name} on {run.settings['benchmark']}"


def make_report(run: Run, metrics: Mapping[str, Any]) -> Iterator[Block]:
    """
    Yield the blocks of a report.

    Args:
        run (`Run`): The run.
        metrics (`Mapping[str, Any]`): What `metrics.json` holds.
    """
    intervals = {
        task: {name: Interval(found["metrics"][name], *ends) for name, ends in found["intervals"].items()}
        for task, found in metrics["tasks"].items()
    }
    yield _make_summary(run, metrics, intervals)
    if joined := metrics.get("joined"):
        yield Text("; ".join(f"{name} of all: {value:.4f}" for name, value in joined.items()) + ".")
    has_baseline = any(found["baseline"] for found in metrics["tasks"].values())
    yield Text(run.protocol.explanation + _BASELINE * has_baseline)
    yield from _warn(run, metrics, intervals)
    for task, items in run.by_task.items():
        yield Heading(task)
        yield from _describe_task(run, metrics, items, intervals[task])
    if unusable := metrics["unusable"]:
        yield Heading(f"{format_count(len(unusable), 'item')} without an answer that could be used, worth 0")
        rows = [(item["id"], item["reason"], item["detail"]) for item in unusable[:_MAX_LISTED]]
        yield Table(("item", "reason", "what is wrong"), rows)
        if len(unusable) > _MAX_LISTED:
            yield Text(f"and {len(unusable) - _MAX_LISTED:,} more, see metrics.json")
    if problems := metrics.get("problems"):
        yield Heading("What does not count in the file of answers")
        yield Table(("reason", "how often", "what it is", "the first in"), list_problems(problems))
    yield Heading("Rows for a paper")
    yield Code("\n".join(_write_latex(run, metrics, intervals)))
    yield Heading("How it was made")
    if metrics["command"]:
        yield Code(metrics["command"])
    facts = {**metrics["settings"], "device": metrics["device"], **metrics["versions"]}
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in facts.items()
    ]
    yield Table(("setting", "value"), rows)


def _make_summary(run: Run, metrics: Mapping[str, Any], intervals: Mapping[str, dict[str, Interval]]) -> Table:
    rows = []
    for task in run.by_task:
        found = metrics["tasks"][task]
        failures = ", ".join(f"{count:,} {reason}" for reason, count in found["failures"].items()) or "none"
        for name in found["headline"]:
            baseline = None if found["baseline"] is None else f"{found['baseline'][name]:.3f}"
            interval = intervals[task].get(name)
            between = "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
            counted = found["counted"][name]
            rows.append((task, name, f"{found['metrics'][name]:.3f}", between, baseline, counted, failures))
    return Table(("task", "metric", "value", "95 % between", "blind baseline", "items", "failures"), rows)


def list_problems(problems: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str, str]]:
    """Return reason, number, meaning and first item of what does not count of a file of answers, commonest first."""
    counts: Counter[str] = Counter()
    for problem in problems:
        counts[problem["reason"]] += problem["count"]
    firsts = {problem["reason"]: problem["id"] for problem in reversed(problems)}
    return [(reason, count, PROBLEMS.get(reason, ""), firsts[reason]) for reason, count in counts.most_common()]


def _warn(run: Run, metrics: Mapping[str, Any], intervals: Mapping[str, dict[str, Interval]]) -> Iterator[Text]:
    few = []
    for task, items in run.by_task.items():
        if len(items.lines) < _FEW_ITEMS:
            name = metrics["tasks"][task]["headline"][0]
            found = intervals[task].get(name)
            width = 0.0 if found is None else (found.high - found.low) / 2
            # Of items that are all alike the bootstrap knows no spread: the rule of three does.
            known = f"{name} to {width:.3f}" if width else f"{name}, all alike, to {min(3 / len(items.lines), 1):.3f}"
            few.append(f"{task} ({format_count(len(items.lines), 'item')}: {known})")
    if few:
        yield Text(f"Few items, so that smaller differences than these mean nothing: {', '.join(few)}.", True)
    if "video_qa" in run.by_task:
        yield Text(
            f"{JUDGE_FILE} has the open answers for a judge, in the form of VCG; --predictions-format judged with "
            "--protocol judge reads its scores.",
            True,
        )
    if unreadable := metrics["settings"].get("unreadable_records"):
        yield Text(
            f"{unreadable:,} records could not be read, so their tasks are not known: no metric has them.", True
        )


# One task ---------------------------------------------------------------------------------------------------------


def _describe_task(
    run: Run, metrics: Mapping[str, Any], items: Items, intervals: Mapping[str, Interval]
) -> Iterator[Block]:
    found = metrics["tasks"][items.task]
    baseline = found["baseline"] or {}
    rows = [
        (
            name,
            f"{one.value:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
            _format(baseline.get(name)),
            found["counted"][name],
        )
        for name, one in intervals.items()
    ]
    yield Table(("metric", "value", "95 % between", "blind baseline", "items"), rows)
    for kind, groups in found["groups"].items():
        rows = [
            (name, *(f"{group['metrics'][metric]:.3f}" for metric in found["headline"]), group["items"])
            for name, group in groups.items()
        ]
        yield Table((kind, *found["headline"], "items"), rows)
    yield from _compare_published(run, items.task, found["metrics"])
    if found["failures"]:
        rows = [(reason, count, f"{count / len(items.lines):.1%}") for reason, count in found["failures"].items()]
        yield Table(("failure", "items", "share"), rows)
    yield from _draw_values(items)
    yield from _draw_confidences(items)
    yield Heading(f"{items.task}: best, median and worst by {items.decisive}", 3)
    gallery, values = Gallery(run), items.values[items.decisive]
    for kind, places in choose_items(items).items():
        for place in places:
            line = items.lines[place]
            yield gallery.draw(f"{kind}: {items.decisive} {values[place]:.3f}, {line['id']}", {"answer": line})


def _compare_published(run: Run, task: str, metrics: Mapping[str, float]) -> Iterator[Block]:
    published = find_published(run.settings["benchmark"], task)
    if published is None:
        return
    names = list(dict.fromkeys(name for row in published.rows for name in row.metrics))
    rows = [
        ("this run", *(_format(find_percent(metrics, name), 1) for name in names), f"{run.protocol.name} protocol")
    ]
    rows += [
        (row.system, *(_format(row.metrics.get(name), 1) for name in names), row.source) for row in published.rows
    ]
    yield Heading(f"{task}: beside what is published, in percent", 3)
    yield Table(("system", *names, "source"), rows)
    yield from (Text(warning, True) for warning in published.warnings)


def _draw_values(items: Items) -> Iterator[Figure]:
    """Draw how the values are distributed, and where the errors are."""
    for name, values in items.values.items():
        counted = values[np.isfinite(values)]
        if name in _WORDS or not len(counted):
            continue
        counts, edges = np.histogram(counted, bins=_NUM_BINS, range=(0, 1))
        chart = Chart(Axis(name, 0, 1), Axis("items", 0, float(counts.max()))).add_bars(edges, counts.tolist())
        title = f"{items.task}: {name} of the answers"
        rows = [(f"{low:.1f} to {high:.1f}", int(n)) for low, high, n in zip(edges, edges[1:], counts, strict=False)]
        yield Figure(title, chart.render(title), Table((name, "items"), rows))
    if items.decisive in _WORDS:
        return
    for label, measured in (
        ("true span in seconds", items.span_seconds),
        ("true box, share of the frame", items.box_shares),
    ):
        yield from _draw_errors(items, label, measured)


def _draw_errors(items: Items, label: str, measured: np.ndarray) -> Iterator[Figure]:
    """Draw the error of items by a length or a size of theirs: each, and the means of groups of equal number."""
    name = "tiou" if "span" in label and "tiou" in items.values else items.decisive
    errors = 1 - items.values[name]
    known = np.isfinite(measured) & np.isfinite(errors)
    if len(np.unique(measured[known])) < 2:
        return
    measured, errors = measured[known], errors[known]
    order = np.argsort(measured, kind="stable")
    groups = [group for group in np.array_split(order, min(_NUM_GROUPS, len(order))) if len(group)]
    middles = [float(np.median(measured[group])) for group in groups]
    means = [compute_interval(errors[group]) for group in groups]
    chart = Chart(Axis(label, 0, float(measured.max())), Axis(f"1 - {name}", 0, 1)).add_points(measured, errors)
    chart.add_intervals(middles, [one.low for one in means], [one.high for one in means])
    chart.add_line(middles, [one.value for one in means], "two")
    title = f"{items.task}: error by {label}"
    rows = [
        (f"{measured[group].min():.3g} to {measured[group].max():.3g}", f"{one.value:.3f}", len(group))
        for group, one in zip(groups, means, strict=True)
    ]
    note = "Each dot is an item; the line has the means of groups of equal number, with their 95 % intervals."
    yield Figure(title, chart.render(title), Table((label, f"1 - {name}", "items"), rows), note)


def _draw_confidences(items: Items) -> Iterator[Block]:
    """Draw whether confidences tell which answers are good."""
    values = items.values[items.decisive]
    known = np.isfinite(items.confidences) & np.isfinite(values)
    if not known.any():
        return
    found = compute_reliability(items.confidences[known], values[known])
    title = f"{items.task}: reliability of confidences, ECE {found.ece:.3f}"
    chart = Chart(Axis("confidence", 0, 1), Axis(items.decisive, 0, 1)).add_diagonal()
    chart.add_line(found.confidences, found.values).add_points(found.confidences, found.values)
    rows = [
        (f"{sure:.3f}", f"{worth:.3f}", int(count))
        for sure, worth, count in zip(found.confidences, found.values, found.counts, strict=True)
    ]
    note = f"{int(known.sum()):,} of {len(values):,} answers have a confidence."
    yield Figure(title, chart.render(title), Table(("confidence", items.decisive, "items"), rows), note)
    risk = compute_risk_coverage(items.confidences[known], values[known])
    title = f"{items.task}: risk by coverage, area {risk.area:.3f}"
    top = max(float(risk.risks.max()), 0.1)
    chart = Chart(Axis("share of the answers, surest first", 0, 1), Axis(f"mean of 1 - {items.decisive}", 0, top))
    chart.add_line(risk.coverages, risk.risks)
    places = [max(round(share * len(risk.risks)) - 1, 0) for share in (0.25, 0.5, 0.75, 1.0)]
    rows = [(f"{risk.coverages[place]:.2f}", f"{risk.risks[place]:.3f}") for place in places]
    yield Figure(title, chart.render(title), Table(("coverage", "risk"), rows))


# For a paper ------------------------------------------------------------------------------------------------------


def _write_latex(run: Run, metrics: Mapping[str, Any], intervals: Mapping[str, dict[str, Interval]]) -> Iterator[str]:
    """Write a row for each task, in percent, with half the width of the 95 % interval."""
    for task in run.by_task:
        names = metrics["tasks"][task]["headline"]
        count = format_count(len(run.by_task[task].lines), "item")
        yield f"% {task}, {count}, {run.protocol.name} protocol: {', '.join(names)}"
        cells = []
        for name in names:
            one = intervals[task].get(name)
            scale = 1 if "@" in name and run.protocol.name == "reference" else 100
            cells.append(
                "--" if one is None else f"${one.value * scale:.1f} \\pm {(one.high - one.low) / 2 * scale:.1f}$"
            )
        yield f"{escape_latex(run.name)} & {' & '.join(cells)} \\\\"


def escape_latex(text: str) -> str:
    """
    Return a text as LaTeX prints it.

    Example:

    ```python
    >>> escape_latex("50%_of")
    '50\\\\%\\\\_of'
    ```
    """
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(words.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text if c.isprintable())


def _format(value: float | None, digits: int = 3) -> str | None:
    return None if value is None else f"{value:.{digits}f}"
