"""What a run logs beside its loss: loss by task and by kind of token, coordinate errors in bins, throughput, skips."""

import time
from collections.abc import Callable, Mapping

import torch

from ..processing import TASKS
from ..processing.notation_llava_st import CoordinateVocabulary

IGNORED = -100
_KINDS = ("text", "time", "space")
# The mean error of all coordinates falls also when the next box is guessed from the last ones. These are the ones
# that can only be seen: the span, and the first box of an answer.
_ERRORS = ("time", "space", "span", "first_box")
_COUNTS = ("tokens", "samples", "clips", "records")
_SPAN_NUMBERS, _BOX_NUMBERS = 2, 4


class TrainingMetrics:
    """
    Sums of what was seen since the last report, of this process; `report` adds up those of all.

    Args:
        vocabulary (`CoordinateVocabulary`): Says which ids are coordinates.

    Example:

    ```python
    >>> metrics = TrainingMetrics(processor.coordinates)
    >>> metrics.add(batch, outputs.token_losses, outputs.coordinate_errors)
    >>> metrics.report(lambda sums: sums)["loss_text"]
    5.83
    ```
    """

    def __init__(self, vocabulary: CoordinateVocabulary):
        self.vocabulary = vocabulary
        names = [f"loss_{name}" for name in (*_KINDS, *TASKS)] + [f"error_bins_{name}" for name in _ERRORS]
        self._places = {name: index for index, name in enumerate([*names, "loss", *_COUNTS])}
        self.num_skipped = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self._sums: torch.Tensor | None = None  # (metrics, 2): sums, and how many were summed
        self._start_seconds = time.monotonic()

    @torch.no_grad()
    def add(
        self, inputs: Mapping[str, torch.Tensor], token_losses: torch.Tensor, coordinate_errors: torch.Tensor
    ) -> None:
        """
        Take note of a batch.

        Args:
            inputs (`Mapping[str, torch.Tensor]`):
                The batch: `labels` (batch, tokens), `attention_mask`, `task_ids` (batch,) where there are any, clips.
            token_losses (`torch.Tensor` of shape `(supervised tokens,)`): As the model returns them.
            coordinate_errors (`torch.Tensor` of shape `(supervised tokens,)`): As the model returns them.
        """
        labels = inputs["labels"][:, 1:]
        supervised = labels != IGNORED
        rows = supervised.nonzero()[:, 0]
        ids = labels[supervised]
        is_time, is_space = self.vocabulary.contains(ids, "t"), self.vocabulary.contains(ids, "yx")
        kinds = {"text": ~(is_time | is_space), "time": is_time, "space": is_space}
        errors = {
            "time": is_time,
            "space": is_space,
            "span": is_time & (_count_in_row(is_time, rows) <= _SPAN_NUMBERS),
            "first_box": is_space & (_count_in_row(is_space, rows) <= _BOX_NUMBERS),
        }
        if self._sums is None:
            dtype = torch.float32 if labels.device.type == "mps" else torch.float64
            self._sums = torch.zeros(len(self._places), 2, dtype=dtype, device=labels.device)
        losses = token_losses.to(self._sums)
        for name, chosen in kinds.items():
            self._add(f"loss_{name}", losses, chosen)
        for name, chosen in errors.items():
            self._add(f"error_bins_{name}", coordinate_errors.to(self._sums), chosen)
        self._add("loss", losses, torch.ones_like(ids, dtype=torch.bool))
        if (task_ids := inputs.get("task_ids")) is not None:
            first = self._places[f"loss_{next(iter(TASKS))}"]
            tasks = task_ids[rows]
            known = tasks >= 0
            pairs = torch.stack([losses, torch.ones_like(losses)], dim=-1)
            self._sums[first : first + len(TASKS)].index_add_(0, tasks[known], pairs[known])
        clips = inputs.get("pixel_values_videos")
        num_samples = supervised.any(-1).sum()
        counts = {
            "tokens": inputs["attention_mask"].sum(),
            "samples": num_samples,
            "clips": 0 if clips is None else len(clips),
            "records": inputs.get("num_records", num_samples),
        }
        for name, count in counts.items():
            self._sums[self._places[name], 0] += count

    def _add(self, name: str, values: torch.Tensor, chosen: torch.Tensor) -> None:
        pair = torch.stack([torch.where(chosen, values, 0.0).sum(), chosen.sum()])
        self._sums[self._places[name]] += pair

    def count_samples(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> int:
        """Return how many samples all processes learnt from since the last report; see `report`."""
        return 0 if self._sums is None else int(reduce(self._sums.clone())[self._places["samples"], 0])

    def leave_out(self, seconds: float) -> None:
        """Do not count some time, which was spent on something else, in the throughput."""
        self._start_seconds += seconds

    def report(self, reduce: Callable[[torch.Tensor], torch.Tensor], with_speed: bool = True) -> dict[str, float]:
        """
        Return the metrics of all processes since the last report, and begin anew.

        `reduce` adds up a tensor over processes; all of them call this at the same time. Returned are `loss_<kind>`,
        `loss_<task>` and `error_bins_<kind>` of what there was, `loss` as the mean over all supervised tokens;
        `tokens_per_second`, `samples_per_second` and `clips_per_second` where the speed is asked for; and
        `skipped_records` since this object was made.
        """
        if self._sums is None:
            return {}
        sums = reduce(self._sums).tolist()
        seconds = max(time.monotonic() - self._start_seconds, 1e-9)
        counts = {name: sums[self._places[name]][0] for name in _COUNTS}
        metrics = {}
        for name, place in self._places.items():
            total, count = sums[place]
            if name not in _COUNTS and count:
                metrics[name] = total / count
        if with_speed:
            metrics |= {f"{name}_per_second": counts[name] / seconds for name in ("tokens", "samples", "clips")}
        self.num_skipped += int(counts["records"] - counts["samples"])
        metrics["skipped_records"] = self.num_skipped
        self.reset()
        return metrics


def _count_in_row(chosen: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Number the chosen tokens of each row from 1; both of shape (tokens,), rows in order."""
    counts = chosen.long().cumsum(0)
    starts = torch.searchsorted(rows, rows)  # where the row of each token begins
    before = torch.nn.functional.pad(counts, (1, 0))[starts]
    return counts - before
