"""What a way to score is, and what an answer lacks."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...data.choices import read_choice
from ...processing import TASKS, GroundingResult, InputError, Task, get_task
from ...processing.answer_problems_llava_st import ProblemKind
from ...processing.notation_llava_st import CoordinateVocabulary
from ..metrics.uncertainty import Interval, Statistic, compute_intervals

# Problems for which a value was left out; they say more than that it is missing.
_LOSING_PROBLEMS: frozenset[ProblemKind] = frozenset(
    (
        "reversed_span",
        "degenerate_box",
        "wrong_coordinate_count",
        "wrong_coordinate_axis",
        "unclosed_bracket",
        "out_of_range",
        "malformed_coordinate",
        "stray_coordinate",
        "time_on_image",
        "truncated_answer",
    )
)


class Protocol(ABC):
    """
    A way to score answers.

    Attributes:
        name (`str`): Name on the command line.
        explanation (`str`): In words, how it differs from our own; a report prints it.
    """

    name: str
    explanation: str

    def for_benchmark(self, name: str) -> "Protocol":
        """Return the protocol as a benchmark is scored by it, by the name of its format of annotations."""
        return self

    @abstractmethod
    def _list_names(self, task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the values of an item, and of the metrics in a report; none where it is not scored."""

    def get_measure_names(self, task: str) -> tuple[str, ...]:
        """Return the names of the values of an item of a task; none for a task that is not scored."""
        return self._list_names(get_task(task))[0]

    def get_headline(self, task: str) -> tuple[str, ...]:
        """Return the names of the metrics of a task that stand in a report."""
        return self._list_names(get_task(task))[1]

    @abstractmethod
    def score(
        self, task: str, answer: GroundingResult, truth: GroundingResult, vocabulary: CoordinateVocabulary
    ) -> dict[str, float | None]:
        """
        Score one answer.

        Args:
            task (`str`): The task.
            answer (`GroundingResult`): The answer, in seconds and pixels; nothing in it raises.
            truth (`GroundingResult`): The truth, about the same medium, with all that the task asks for.
            vocabulary (`CoordinateVocabulary`): The coordinate tokens of the model.

        Returns:
            `dict[str, float | None]`: The value of each of `get_measure_names`; `None` for an item that the protocol
            leaves out. `"texts"` beside them are captions, which are scored all together, see `list_statistics`.

        Raises:
            `InputError`: For a truth that the protocol cannot score.
        """

    def get_settings(self, tasks: Iterable[str]) -> dict[str, Any]:
        """Return what decides about the scores of tasks, for the settings of a run."""
        return {"protocol": self.name}

    def find_groups(self, truth: GroundingResult) -> dict[str, str]:
        """Return the groups of an item by their kind, whose metrics a report shows apart; none by default."""
        return {}

    @abstractmethod
    def list_values(self, task: str, scores: Sequence[Mapping[str, float | None]]) -> dict[str, np.ndarray]:
        """
        Return what each metric is the mean of, for its confidence interval.

        Args:
            task (`str`): The task.
            scores (`Sequence[Mapping[str, float | None]]`): What `score` returned for each item.

        Returns:
            `dict[str, np.ndarray]`: By the names of the metrics a value per item, NaN where the metric leaves it out.
        """

    def list_statistics(self, task: str, scores: Sequence[Mapping[str, Any]]) -> dict[str, Statistic]:
        """Return the metrics that are no means of values of items, such as BLEU; none by default."""
        return {}

    def compute_metrics(
        self, task: str, scores: Sequence[Mapping[str, Any]], statistics: Mapping[str, Statistic] | None = None
    ) -> dict[str, float]:
        """
        Compute the metrics of all items of a task; no items at all is an `InputError`.

        `statistics` are those of `list_statistics`, where they are known: captions take long to compare.
        """
        if not len(scores):
            raise InputError("there are no items to score: give at least one.")
        values = self.list_values(task, scores)
        means = {name: 0.0 if np.isnan(array).all() else float(np.nanmean(array)) for name, array in values.items()}
        statistics = self.list_statistics(task, scores) if statistics is None else statistics
        return means | {name: statistic.value for name, statistic in statistics.items()}

    def compute_intervals(
        self,
        task: str,
        scores: Sequence[Mapping[str, Any]],
        groups: Sequence[object] | None = None,
        statistics: Mapping[str, Statistic] | None = None,
    ) -> dict[str, Interval]:
        """Compute the bootstrap intervals of all metrics; `groups` are the clips, see `compute_interval`."""
        statistics = self.list_statistics(task, scores) if statistics is None else statistics
        return compute_intervals(self.list_values(task, scores), statistics, groups=groups)

    def join_tasks(self, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Return metrics of several tasks together, of what `summarize_predictions` found of each; none by default."""
        return {}

    def list_tasks(self) -> list[str]:
        """Return the tasks that are scored."""
        return [task for task in TASKS if self.get_measure_names(task)]

    def score_nothing(self, task: str, truth: GroundingResult | None = None) -> dict[str, Any]:
        """Return the values of an item that could not be used, of which the truth may be known: 0 each."""
        return dict.fromkeys(self.get_measure_names(task), 0.0)


def take_values(scores: Sequence[Mapping[str, float | None]], *names: str) -> dict[str, np.ndarray]:
    """Return values of all items by their names, each of shape (items,), NaN where a protocol leaves an item out."""
    return {name: np.array([score[name] for score in scores], dtype=np.float64) for name in names}


def find_part(result: GroundingResult, part: str, takes_all: bool = False) -> Any:
    """
    Return a part of a result.

    Args:
        result (`GroundingResult`): The answer or the truth.
        part (`str`): `"span"`, `"box"`, `"tube"`, `"text"` (the words of the whole), `"caption"` or
            `"sentence"` (with its span), or `"choice"` (the letter of the one that is named).
        takes_all (`bool`, *optional*, defaults to `False`): Whether all spans, boxes or tubes, and not the first.

    Returns:
        The part, `None` where it is missing.
    """
    if part == "text":
        return result.plain_text.strip() or None
    if part == "choice":
        return read_choice(result.plain_text, result.query)
    captions = [caption.text for caption in result.captions]
    sentences = [caption for caption in result.captions if caption.span is not None]
    found = {
        "span": result.spans,
        "box": result.boxes,
        "tube": result.tubes,
        "caption": captions,
        "sentence": sentences,
    }[part]
    if not found:
        return None
    return found if takes_all else found[0]


def find_failure(task: str, answer: GroundingResult | None) -> str | None:
    """
    Say why an answer lacks something that its task asks for.

    Args:
        task (`str`): The task.
        answer (`GroundingResult`, *optional*): The answer; `None` where there is none.

    Returns:
        `str` or `None`: A kind of problem of `PROBLEM_KINDS`, `"empty_answer"` or `"no_answer"`; `None` for an answer
        that has all.
    """
    if answer is None:
        return "no_answer"
    entry = get_task(task)
    parts = (*entry.answer_format.parts, *(("choice",) if "choice_match" in entry.measures else ()))
    missing = [part for part in parts if find_part(answer, part) is None]
    if not missing:
        return None
    if missing[0] == "text" or not (answer.text.strip() or answer.spans or answer.boxes or answer.tubes):
        return "empty_answer"
    causes = (problem.kind for problem in answer.problems if problem.kind in _LOSING_PROBLEMS)
    return next(causes, f"missing_{missing[0]}")
