"""What records look like in numbers and plots: how long spans are, how large boxes, how many, how many tokens."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...processing import InputError, LlavaSTProcessor
from ...utils.atomic_files import write_json_whole, writing_whole
from ...visualization.output_files import MADE_HERE
from ..media_probe import probe_media
from ..samples import Sample
from ..skips import RecordError
from ..turns import find_units, make_stand_in, read_turns
from .check import Records, TokenCounter

STATISTICS_FILE = "stats.json"
_MAX_BARS = 30  # sources of a plot; the others become one bar
_DPI = 120
_COLOR = "#2a6f97"


@dataclass
class DataStatistics:
    """
    Numbers of a sample of records; those of answers, by task.
    """

    num_records: int = 0  # records that there are
    num_read: int = 0  # records that were read, the ones left out included
    num_skipped: int = 0  # records that could not be used
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # records by source and task
    span_shares: dict[str, list[float]] = field(default_factory=dict)  # length of each span, as a share of the clip
    # Area of each box, as a share of the frame; of tubes too.
    box_shares: dict[str, list[float]] = field(default_factory=dict)
    tube_lengths: dict[str, list[int]] = field(default_factory=dict)  # boxes in each tube
    # Tokens of each record, media included; empty without a processor.
    num_tokens: dict[str, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and, for each task, quantiles, ready for JSON."""
        return {
            "num_records": self.num_records,
            "num_read": self.num_read,
            "num_skipped": self.num_skipped,
            "records": [{"source": s, "task": t, "records": n} for (s, t), n in sorted(self.counts.items())],
            "span_share_of_clip": _summarize(self.span_shares),
            "box_share_of_frame": _summarize(self.box_shares),
            "boxes_per_tube": _summarize(self.tube_lengths),
            "tokens": _summarize(self.num_tokens),
        }


def collect_statistics(
    records: Records,
    max_records: int = 20_000,
    processor: LlavaSTProcessor | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> DataStatistics:
    """
    Read records, or a random part of them, and measure their answers.

    Media are opened only for records in seconds and pixels, whose shares only the file can tell.

    Args:
        records (`Sequence[Sample | SkippedRecord]`): A reader, a mixture or a list.
        max_records (`int`, *optional*, defaults to 20,000): Records to read at most.
        processor (`LlavaSTProcessor`, *optional*): Counts tokens; without one they are not counted.
        seed (`int`, *optional*, defaults to 0): Seed of the choice.
        progress (`Callable[[int], None]`, *optional*): Called with 1 after each record.

    Returns:
        `DataStatistics`: The numbers.

    Raises:
        `InputError`: If `max_records` is not at least 1.
    """
    if max_records < 1:
        raise InputError(f"max_records is {max_records}: give at least 1.", field="max_records")
    statistics = DataStatistics(num_records=len(records))
    counter = None if processor is None else TokenCounter(processor)
    chosen: Sequence[int] = range(len(records))
    if len(records) > max_records:
        chosen = np.sort(np.random.default_rng(seed).choice(len(records), max_records, replace=False)).tolist()
    for index in chosen:
        record = records[index]
        statistics.num_read += 1
        try:
            if isinstance(record, Sample):
                _measure(record, statistics, counter)
            else:
                statistics.num_skipped += 1
        except RecordError:
            statistics.num_skipped += 1
        if progress is not None:
            progress(1)
    return statistics


def _measure(sample: Sample, statistics: DataStatistics, counter: TokenCounter | None) -> None:
    turns = read_turns(sample, probe_media(sample) if find_units(sample) else make_stand_in(sample))
    num_tokens = None if counter is None else counter.count(sample)
    statistics.counts[sample.source, sample.task] += 1
    if num_tokens is not None:
        statistics.num_tokens.setdefault(sample.task, []).append(num_tokens)
    for turn in turns:
        answer = turn.answer
        spans = [span.fractions[1] - span.fractions[0] for span in answer.spans]
        boxes = [*answer.boxes, *(entry.box for tube in answer.tubes for entry in tube.boxes)]
        shares = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box.fractions for box in boxes)]
        for values, into in (
            (spans, statistics.span_shares),
            (shares, statistics.box_shares),
            ([len(tube.boxes) for tube in answer.tubes], statistics.tube_lengths),
        ):
            if values:
                into.setdefault(sample.task, []).extend(values)


def _summarize(values: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    names = ("minimum", "percentile_5", "median", "percentile_95", "maximum")
    summaries = {}
    for task, numbers in sorted(values.items()):
        quantiles = np.quantile(numbers, (0, 0.05, 0.5, 0.95, 1))
        summary = {name: round(float(value), 6) for name, value in zip(names, quantiles, strict=True)}
        summaries[task] = {"count": len(numbers), "mean": round(float(np.mean(numbers)), 6), **summary}
    return summaries


def check_folder(output_dir: str | Path, overwrite: bool = False) -> None:
    """Raise `InputError` where a file that is no earlier output would be replaced."""
    for name in (STATISTICS_FILE, *_PLOTS):
        path = Path(output_dir) / name
        mark = '"span_share_of_clip"' if name == STATISTICS_FILE else MADE_HERE
        if path.exists() and not (path.is_file() and (overwrite or mark.encode() in path.read_bytes())):
            raise InputError(
                f"output_dir is {output_dir}: {name} is there, and was not written here before; give another folder "
                "or --overwrite (overwrite=True).",
                field="output_dir",
            )


def write_statistics(statistics: DataStatistics, output_dir: str | Path, overwrite: bool = False) -> list[Path]:
    """
    Write `stats.json` and a plot for each kind of number that there is.

    Args:
        statistics (`DataStatistics`): The numbers.
        output_dir (`str` or `Path`): Folder to write to; made where it does not exist, earlier outputs are replaced.
        overwrite (`bool`, *optional*, defaults to `False`): Whether other files of these names are replaced, too.

    Returns:
        `list[Path]`: What was written.

    Raises:
        `InputError`: For a folder that holds other files of these names.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    output_dir = Path(output_dir)
    check_folder(output_dir, overwrite)
    output_dir.mkdir(parents=True, exist_ok=True)
    paths = [output_dir / STATISTICS_FILE]
    write_json_whole(paths[0], statistics.to_dict())
    for name, (field_name, plot) in _PLOTS.items():
        path, values = output_dir / name, getattr(statistics, field_name)
        if not values:
            path.unlink(missing_ok=True)  # of an earlier run: it would not belong to these numbers
            continue
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure, values)
        with writing_whole(path) as temporary_path:
            figure.savefig(temporary_path, dpi=_DPI, metadata={"Software": MADE_HERE})
        paths.append(path)
    return paths


def _plot_counts(figure: Any, counts: Counter[tuple[str, str]]) -> None:
    from matplotlib import colormaps

    by_source: Counter[str] = Counter()
    for (source, _), count in counts.items():
        by_source[source] += count
    labels = [source for source, _ in by_source.most_common(_MAX_BARS)]
    places = {source: place for place, source in enumerate(labels)}
    if len(by_source) > len(labels):
        labels.append("all others")
    figure.set_size_inches(9, 3.5 + 0.3 * len(labels))
    axes = figure.subplots()
    left = np.zeros(len(labels))
    for number, task in enumerate(sorted({task for _, task in counts})):
        widths = np.zeros(len(labels))
        for (source, name), count in counts.items():
            if name == task:
                widths[places.get(source, len(labels) - 1)] += count
        axes.barh(range(len(labels)), widths, left=left, label=task, color=colormaps["tab20"](number))
        left += widths
    axes.set_yticks(range(len(labels)), [_shorten(label) for label in labels])
    axes.invert_yaxis()
    axes.set(xlabel="records", title="Records by source and task")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _plot_rows(
    title: str, unit: str, bins: np.ndarray | None, scale: str, figure: Any, values: Mapping[str, Sequence[float]]
) -> None:
    """
    Draw a histogram for each task, one below the other: of shares in percent, or of whole numbers without `bins`.

    What lies outside the bins is shown at their ends.
    """
    factor, bins = (1, _make_whole_bins(values)) if bins is None else (100, bins)
    figure.set_size_inches(9, 1.6 + 0.8 * len(values))
    rows = figure.subplots(len(values), sharex=True, squeeze=False)[:, 0]
    for axes, (task, numbers) in zip(rows, sorted(values.items()), strict=True):
        weights = np.full(len(numbers), 100 / len(numbers))
        axes.hist(np.clip(np.multiply(numbers, factor), bins[0], bins[-1]), bins, weights=weights, color=_COLOR)
        axes.set_ylabel(
            f"{task}\n{len(numbers):,}", rotation=0, horizontalalignment="right", verticalalignment="center"
        )
        axes.yaxis.set_major_formatter("{x:g} %")
        axes.locator_params(axis="y", nbins=2)
        axes.grid(alpha=0.3)
    rows[-1].set(xlabel=unit, xscale=scale)
    figure.suptitle(f"{title} (share of each task, and how many)")


def _make_whole_bins(values: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Return edges half-way between whole numbers, for at most 60 bins."""
    low = min(min(numbers) for numbers in values.values())
    high = max(max(numbers) for numbers in values.values())
    step = -(-(high - low + 1) // 60)
    return np.arange(low, high + step + 1, step) - 0.5


def _shorten(label: str) -> str:
    label = label if len(label) <= 40 else label[:37] + "..."
    return label.replace("$", r"\$")  # between two of them matplotlib reads mathematics


_PERCENT_OF_CLIP, _PERCENT_OF_FRAME = np.linspace(0, 100, 41), np.logspace(-2, 2, 41)
_PLOTS: dict[str, tuple[str, Callable[[Any, Any], None]]] = {
    "records.png": ("counts", _plot_counts),
    "span_lengths.png": (
        "span_shares",
        partial(_plot_rows, "Span lengths", "length of the span (% of the clip)", _PERCENT_OF_CLIP, "linear"),
    ),
    "box_sizes.png": (
        "box_shares",
        partial(_plot_rows, "Box sizes", "area of the box (% of the frame)", _PERCENT_OF_FRAME, "log"),
    ),
    "boxes_per_tube.png": (
        "tube_lengths",
        partial(_plot_rows, "Boxes per tube", "boxes in the tube", None, "linear"),
    ),
    "tokens.png": (
        "num_tokens",
        partial(_plot_rows, "Tokens per task", "tokens of the record, media included", None, "linear"),
    ),
}
