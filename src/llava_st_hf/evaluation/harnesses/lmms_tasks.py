"""Tasks for lmms-eval, with our questions and our metrics: a folder that is written, and the functions that it names.

A line of the file of questions has the words and the media for any chat model of lmms-eval, and in `record` the item
as our own model and scores take it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...data.media_probe import probe_media
from ...data.samples import Sample
from ...data.shapes.encoding import encode_sample
from ...data.skips import RecordError, SkippedRecord
from ...processing import InputError, get_task, parse_answer
from ...processing.media_llava_st import format_count
from ...processing.notation_llava_st import CoordinateVocabulary
from ...utils.atomic_files import write_bytes_whole, write_text_whole
from ...visualization.output_files import MADE_HERE, is_made_here
from ..benchmarks.st_shapes import StShapes
from ..metrics.caption_sets import CAPTION_METRICS, make_caption_statistics
from ..protocols import PROTOCOLS
from ..questions import read_question, read_truth

_PROTOCOL = PROTOCOLS["default"]
_TASK_FILE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_messages: !function utils.doc_to_messages
doc_to_target: id
process_results: !function utils.process_results
generation_kwargs: {{max_new_tokens: 1024, do_sample: false}}
metric_list:
{metrics}
metadata: {{version: 1}}
"""
_METRIC = "- {{metric: {name}, aggregation: !function utils.{function}, higher_is_better: true}}"
_UTILS = """\
# {made_here}
from functools import partial

from llava_st_hf.evaluation.harnesses.lmms_tasks import (  # noqa: F401
    {names}
)

{aggregations}
"""
_FUNCTIONS = ("compute_metric", "doc_to_messages", "doc_to_text", "doc_to_visual", "process_results", "take_mean")
_AGGREGATION = '{function} = partial(compute_metric, "{name}")'
_OF_CAPTIONS = {name: f"compute_{name.lower()}" for name in CAPTION_METRICS}


def write_shapes_tasks(folder: str | Path, benchmark: StShapes, num_frames: int) -> list[str]:
    """
    Write tasks that ask ST-Shapes into a folder, its clips as files, for models that read files; return their names.
    """
    folder, settings = Path(folder), json.dumps({**benchmark.get_settings(), "benchmark": None})
    (folder / "media").mkdir(parents=True, exist_ok=True)

    def make_lines() -> Iterator[dict[str, Any]]:
        for index in range(len(benchmark)):
            sample, name = benchmark.read(index), benchmark.get_id(index)
            medium = encode_sample(sample).media[0]
            path = (folder / "media" / f"{name}{Path(medium.path).suffix}").resolve()
            write_bytes_whole(path, medium.content)
            record = {"shapes": settings, "index": index, "num_frames": num_frames}
            yield _make_line(name, sample, [str(path)], record)

    return _write(folder, "shapes", make_lines())


def write_tasks(
    folder: str | Path, name: str, records: Sequence[Sample | SkippedRecord], num_frames: int
) -> tuple[list[str], list[SkippedRecord]]:
    """
    Write tasks that ask the records of a reader, whose media are in files, into a folder.

    Returns the names of the tasks, and the records that cannot be read. None that can be asked and scored is an
    `InputError`.
    """
    skipped: list[SkippedRecord] = []
    scored = _PROTOCOL.list_tasks()

    def make_lines() -> Iterator[dict[str, Any]]:
        for record in (records[index] for index in range(len(records))):
            if isinstance(record, SkippedRecord):
                skipped.append(record)
            elif record.task in scored:
                paths = [str(Path(item.path).resolve()) for item in record.media]
                row = record.to_row()
                row["media"] = [{"path": path, "bytes": None} for path in paths]
                yield _make_line(record.id, record, paths, {"row": row, "num_frames": num_frames})

    lines = list(make_lines())
    if not lines and skipped:
        raise InputError(
            f"none of {format_count(len(records), 'record')} can be asked; the first: {skipped[0].detail}"
        )
    return _write(Path(folder), name, lines), skipped


def _make_line(name: str, sample: Sample, paths: list[str], record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": name,
        "task": sample.task,
        "question": sample.messages[-2]["content"],
        "media_type": sample.media_type,
        "media": paths,
        "record": json.dumps(record),
    }


def _write(folder: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    name = "".join(c if c.isalnum() else "_" for c in name.lower())
    by_task: dict[str, list[str]] = {}
    for line in lines:
        by_task.setdefault(line["task"], []).append(json.dumps(line) + "\n")
    if not by_task:
        raise InputError(f"no record has a task that can be scored: give some of {', '.join(_PROTOCOL.list_tasks())}.")
    utils = folder / "utils.py"
    if os.path.lexists(utils) and not (utils.is_file() and is_made_here(utils)):
        raise InputError(f"output_dir is {folder}: utils.py is there, of no tasks of ours; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for task, members in by_task.items():
        names.append(f"llava_st_{name}_{task}")
        questions = (folder / f"{names[-1]}.jsonl").resolve()
        write_text_whole(questions, "".join(members))
        nothing = [_PROTOCOL.score_nothing(task)]
        functions = dict.fromkeys(_PROTOCOL.list_values(task, nothing), "take_mean")
        functions |= {metric: _OF_CAPTIONS[metric] for metric in _PROTOCOL.list_statistics(task, nothing)}
        metrics = "\n".join(_METRIC.format(name=json.dumps(name), function=each) for name, each in functions.items())
        text = _TASK_FILE.format(name=names[-1], questions=json.dumps(str(questions)), metrics=metrics)
        write_text_whole(folder / f"{names[-1]}.yaml", text)
    aggregations = "\n".join(_AGGREGATION.format(name=name, function=each) for name, each in _OF_CAPTIONS.items())
    functions = ",\n    ".join(_FUNCTIONS)
    write_text_whole(utils, _UTILS.format(made_here=MADE_HERE, names=f"{functions},", aggregations=aggregations))
    return names


# What the files name ----------------------------------------------------------------------------------------------


def doc_to_visual(doc: Mapping[str, Any]) -> list[str]:
    """Return the files that a question is about."""
    return list(doc["media"])


def doc_to_text(doc: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> str:
    """Return the words of a question."""
    return doc["question"]


def doc_to_messages(doc: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return a question as chat messages of lmms-eval."""
    kind = "video" if doc["media_type"] == "video" else "image"
    media = [{"type": kind, "url": path} for path in doc["media"]]
    return [{"role": "user", "content": [*media, {"type": "text", "text": doc["question"]}]}]


def read_sample(doc: Mapping[str, Any]) -> Sample:
    """Return the item of a question; one that cannot be used is a `RecordError`."""
    record = json.loads(doc["record"])
    if "row" in record:
        return Sample.from_row(record["row"])
    return _open_shapes(record["shapes"]).read(record["index"])


@lru_cache(maxsize=8)
def _open_shapes(settings: str) -> StShapes:
    return StShapes(**{name: value for name, value in json.loads(settings).items() if name != "benchmark"})


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """
    Return what an answer adds to each metric: a number, or its captions with the true ones; nothing in it raises.
    """
    task, vocabulary = doc["task"], CoordinateVocabulary()
    try:
        sample = read_sample(doc)
        media = probe_media(sample, json.loads(doc["record"])["num_frames"])
        question, truth = read_question(sample, media, vocabulary), read_truth(sample, media)
        start = None if question.start is None else media[0].seconds_at(question.start)
        answer = parse_answer(
            str(results[0]),
            media[0],
            answer_format=get_task(task).answer_format,
            vocabulary=vocabulary,
            start_seconds=start,
        )
        scores = _PROTOCOL.score(task, answer, truth, vocabulary)
    except (InputError, RecordError):
        scores = _PROTOCOL.score_nothing(task)
    values = {name: float(values[0]) for name, values in _PROTOCOL.list_values(task, [scores]).items()}
    return values | dict.fromkeys(_PROTOCOL.list_statistics(task, [scores]), scores.get("texts"))


def take_mean(values: Sequence[float]) -> float:
    """Return a metric of all items, as `Protocol.compute_metrics` does."""
    return float(np.nanmean(np.array(values, dtype=np.float64)))


def compute_metric(name: str, values: Sequence[Any]) -> float:
    """Return a metric of what all items add to it; one of captions is no mean of what each is worth."""
    return take_mean(values) if isinstance(values[0], float) else make_caption_statistics(values)[name].value
