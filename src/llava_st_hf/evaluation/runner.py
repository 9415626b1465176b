"""Runs a model over a benchmark: asks, scores, writes each answer down as it comes, and sums up at the end."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data.sample_writing import DEFAULT_NUM_FRAMES
from ..data.samples import Sample
from ..data.skips import RecordError, as_record_error
from ..processing import GroundingResult, InputError, LlavaSTProcessor, get_task, parse_answer
from ..utils.atomic_files import write_json_whole
from ..utils.folder_locks import locking_folder
from ..utils.public_names import get_public_name, hide_folders
from .answering import Answered, Answerer
from .asking_order import split_into_batches, split_into_windows
from .benchmarks.base import Benchmark
from .blind_baseline import BlindBaseline
from .judging import write_judge_file
from .memory import MemoryBudget, choose_batch_size, is_out_of_memory
from .progress import Progress
from .protocols import find_failure, get_protocol
from .questions import Question, read_question
from .reports import write_report
from .run_folder import METRICS_FILE, RunFolder
from .summary import summarize_predictions

NUM_HASHED = 256  # numbers of a tensor that its weights are known by


# Not accelerate's `PartialState`. Without a GPU each process takes itself for the only one there, unless it is made
# with `cpu=True`, which every later `Accelerator` then shares. Its timeout is that of whoever makes it first: under an
# `Accelerator` the first process to be done would give up after minutes. With GPUs its barrier is NCCL's, which keeps
# those that wait busy. And an evaluation by one process needs no accelerate.
@dataclass(frozen=True)
class Processes:
    """
    This process among those that share a run, as `torchrun` and `accelerate launch` tell it.

    Example:

    ```python
    >>> Processes(rank=1, count=3).share(range(7))
    [1, 4]
    ```
    """

    rank: int = 0
    count: int = 1  # how many there are
    local_rank: int = 0  # number of this process on its machine, by which it takes a GPU

    @classmethod
    def from_environment(cls) -> "Processes":
        """Read the environment variables of the launcher; without one this is the only process."""
        rank, count, local_rank = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return cls(int(rank or 0), int(count or 1), int(local_rank or 0))

    def share(self, items: Sequence[Any]) -> list[Any]:
        """Return the items that this process takes."""
        return list(items[self.rank :: self.count])

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Wait, after the block, until all processes are through it; the launcher ends them all if one fails."""
        if self.count == 1:
            yield
            return
        owns_group = not torch.distributed.is_initialized()
        if owns_group:
            torch.distributed.init_process_group("gloo")
        # One may be done long before another.
        patient = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=7))
        try:
            yield
            torch.distributed.barrier(patient)
        finally:
            if owns_group:
                torch.distributed.destroy_process_group()


def evaluate(
    model: PreTrainedModel,
    processor: LlavaSTProcessor,
    benchmark: Benchmark,
    output_dir: str | Path,
    *,
    model_name: str | None = None,
    protocol: str = "default",
    constrained: bool = False,
    batch_size: int | None = None,
    max_new_tokens: int = 1024,
    num_frames: int | None = None,
    max_memory: str | None = None,
    quiet: bool = False,
    command: str | None = None,
    processes: Processes | None = None,
) -> dict[str, Any] | None:
    """
    Ask a model all questions of a benchmark and report what its answers are worth.

    The folder gets `run.json` (settings), `predictions.jsonl` (a line per item, as they come), and at the end
    `metrics.json`, `report.md` and `report.html`. A run that was stopped goes on where it was when it is started
    again.

    Args:
        model (`LlavaSTForConditionalGeneration`): The model.
        processor (`LlavaSTProcessor`): The processor saved with it.
        benchmark (`Benchmark`): What to ask.
        output_dir (`str` or `Path`): Folder for predictions and report.
        model_name (`str`, *optional*): Name for the report; by default where the model was loaded from.
        protocol (`str`, *optional*, defaults to `"default"`): A name out of `PROTOCOLS` that the benchmark has.
        constrained (`bool`, *optional*, defaults to `False`): Whether answers must keep to the grammar of their task.
        batch_size (`int`, *optional*): Questions asked at a time, see `choose_batch_size`. Other sizes may change the
            last digits of a score, as kernels round by the number of rows; another number of processes does not.
        max_new_tokens (`int`, *optional*, defaults to 1024): Longest answer in tokens.
        num_frames (`int`, *optional*): Frames to sample of a clip; what the processor samples when left out.
        max_memory (`str`, *optional*): Most memory to be taken, such as `"16GB"`, see `MemoryBudget`. Where it is not
            enough, or an error says so, half as many questions are asked at a time.
        quiet (`bool`, *optional*, defaults to `False`): No progress on standard error.
        command (`str`, *optional*): The command line, for the report.
        processes (`Processes`, *optional*): This process among several; by default what the launcher says.

    Returns:
        `dict[str, Any]` or `None`: What `metrics.json` holds; `None` in all processes but the first.

    Raises:
        `InputError`: For settings that do not fit, or a folder that holds another run.
    """
    clips = processor.video_processor
    if batch_size is None:
        frames = num_frames or clips.num_frames or DEFAULT_NUM_FRAMES
        batch_size = choose_batch_size(model.device, frames, clips.size["height"], clips.size["width"])
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: give at least 1.", field="batch_size")
    processes = processes or Processes.from_environment()
    answerer = Answerer(model, processor, constrained, max_new_tokens, num_frames)
    runner = _Runner(benchmark, answerer, protocol, MemoryBudget(model.device, max_memory))
    settings = runner.get_settings(get_public_name(model_name or model.name_or_path))
    lock = nullcontext() if processes.rank else locking_folder(output_dir, "evaluates a model")
    with lock:
        folder = RunFolder(output_dir, settings, processes.rank)
        with processes.joined():
            runner.run(folder, processes, batch_size, quiet)
        if processes.rank:
            return None
        metrics = runner.summarize(folder, {"settings": settings, "command": command})
        write_json_whole(folder.path / METRICS_FILE, metrics)
        write_report(folder.path)
        return metrics


class _Runner:
    """Asks and scores items of one benchmark."""

    def __init__(self, benchmark: Benchmark, answerer: Answerer, protocol: str, memory: MemoryBudget):
        self.benchmark = benchmark
        self.answerer = answerer
        self.memory = memory
        self.protocol = get_protocol(protocol).for_benchmark(benchmark.annotations)
        benchmark.check_protocol(self.protocol)
        self.vocabulary = answerer.processor.coordinates
        self._baselines: dict[str, BlindBaseline | None] = {}

    def get_settings(self, model_name: str) -> dict[str, Any]:
        """Return what decides about the answers and their scores, as plain values."""
        model, num_frames = self.answerer.model, self.answerer.num_frames
        return {
            **self.benchmark.get_settings(),
            "model": model_name,
            "weights": fingerprint_weights(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            **self.protocol.get_settings({self.benchmark.get_task(index) for index in range(len(self.benchmark))}),
            "constrained": self.answerer.options.constrained,
            "max_new_tokens": self.answerer.options.max_new_tokens,
            **({} if num_frames is None else {"sampled_frames": num_frames}),
        }

    def summarize(self, folder: RunFolder, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `metrics.json` holds, facts about the run included; write open answers down for a judge."""
        lines = folder.merge([self.benchmark.get_id(index) for index in range(len(self.benchmark))])
        write_judge_file(folder.path, lines)
        return {
            **summarize_predictions(lines, self.protocol),
            **facts,
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "versions": {name: version(name) for name in ("llava-st-hf", "torch", "transformers", "numpy", "av")},
            "device": str(self.answerer.model.device),
        }

    def run(self, folder: RunFolder, processes: Processes, batch_size: int, quiet: bool) -> None:
        """Answer what this process has to answer and is not in the folder yet."""
        known = folder.read_predictions()
        windows = processes.share(split_into_windows(self.benchmark, batch_size))
        todo = [[index for index in window if self.benchmark.get_id(index) not in known] for window in windows]
        hidden = quiet or processes.rank > 0
        with Progress(self.benchmark.name, sum(map(len, todo)), self.protocol, hidden) as progress:
            for window, left in zip(windows, todo, strict=True):
                for lines in self.answer(window, left, batch_size):
                    folder.append(lines)
                    progress.update(lines)

    def answer(self, window: Sequence[int], left: Sequence[int], batch_size: int) -> Iterator[list[dict[str, Any]]]:
        """
        Yield the lines of `predictions.jsonl` of some items of a window, those of a batch at a time.

        A batch of which anything is left is asked as a whole, so that its answers are those of a run without a stop.
        """
        if not left:
            return
        samples = {index: self._read(index) for index in window}
        self.answerer.begin(samples.values())
        for batch in split_into_batches(self.benchmark, samples, batch_size):
            if left_here := set(batch) & {*left}:
                for lines in self._ask({index: samples[index] for index in batch}):
                    yield [line for index, line in lines.items() if index in left_here]

    def _ask(self, samples: dict[int, Sample | RecordError]) -> Iterator[dict[int, dict[str, Any]]]:
        """Yield the lines of items of one task, in halves where there is not enough memory for all of them."""
        parts = [samples]
        while parts:
            part = parts.pop()
            if len(part) > self.memory.max_items:
                indices = list(part)
                middle = (len(part) + 1) // 2
                parts += [{index: part[index] for index in half} for half in (indices[middle:], indices[:middle])]
                continue
            self.memory.begin()
            begin = time.perf_counter()
            answers = self._answer(list(part.values()))
            if answers is None:
                self.memory.halve(len(part))
                parts.append(part)
                continue
            lines = {
                index: self._write_line(index, sample, answer)
                for (index, sample), answer in zip(part.items(), answers, strict=True)
            }
            seconds, peak = round((time.perf_counter() - begin) / len(part), 4), self.memory.end(len(part))
            if self.memory.is_above(peak):  # what is kept of other clips is part of it
                self.answerer.forget()
            cost = {"seconds": seconds, "peak_bytes": peak}
            yield {index: line | cost for index, line in lines.items()}

    def _answer(self, samples: list[Sample | RecordError]) -> list[Answered | RecordError] | None:
        """Return answers, `None` where memory is too small for them together; one that it is too small for fails."""
        for _ in range(2):
            try:
                return self.answerer.answer(samples)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())[:200]
            self.answerer.forget()  # one alone is tried again, with what is kept of other clips out of the way
            if len(samples) > 1:
                return None
        return [RecordError("out_of_memory", "media", f"one question alone does not fit into memory: {reason}")]

    def _write_line(self, index: int, sample: Sample, answer: Answered | RecordError) -> dict[str, Any]:
        task = self.benchmark.get_task(index)
        line = {"id": self.benchmark.get_id(index), "task": task, "groups": self.benchmark.get_groups(index)}
        return line | self._score(index, task, sample, answer)

    def _read(self, index: int) -> Sample | RecordError:
        try:
            return self.benchmark.read(index)
        except RecordError as error:
            return error

    def _score_unusable(self, task: str, error: RecordError) -> dict[str, Any]:
        scores = self.protocol.score_nothing(task)
        return {
            "question": None,
            "answer": None,
            "result": None,
            "truth": None,
            "scores": scores,
            "baseline": scores if self._get_baseline(task) else None,
            "failure": error.reason,
            "problems": [hide_folders(str(error))],
        }

    def _score(self, index: int, task: str, sample: Sample, answered: Answered | RecordError) -> dict[str, Any]:
        if isinstance(answered, RecordError):
            return self._score_unusable(task, answered)
        question = read_question(sample, answered.media, self.vocabulary)
        try:
            truth = self.benchmark.read_truth(index, sample, answered.media, self.protocol)
            scores = self.protocol.score(task, answered.result, truth, self.vocabulary)
        except InputError as error:  # the truth is at fault
            unusable = self._score_unusable(task, as_record_error(error, "messages"))
            return {**unusable, "question": question.text, "answer": answered.result.text}
        truth_values = truth.to_dict()
        del truth_values["media"]  # it is with the result
        return {
            "question": question.text,
            "answer": answered.result.text,
            "result": answered.result.to_dict(),
            "truth": truth_values,
            "groups": {**self.benchmark.get_groups(index), **self.protocol.find_groups(truth)},
            "scores": scores,
            "baseline": self._score_baseline(question, truth),
            "failure": find_failure(task, answered.result),
            "problems": [problem.kind for problem in answered.result.problems],
        }

    def _score_baseline(self, question: Question, truth: GroundingResult) -> dict[str, float | None] | None:
        baseline = self._get_baseline(question.task)
        if baseline is None:
            return None
        answer = parse_answer(
            baseline.write(question, truth.media, self.vocabulary),
            truth.media,
            answer_format=get_task(question.task).answer_format,
            vocabulary=self.vocabulary,
            start_seconds=None if question.start is None else truth.media.seconds_at(question.start),
        )
        return self.protocol.score(question.task, answer, truth, self.vocabulary)

    def _get_baseline(self, task: str) -> BlindBaseline | None:
        if task not in self._baselines:
            self._baselines[task] = self.benchmark.make_baseline(task)
        return self._baselines[task]


def fingerprint_weights(model: PreTrainedModel) -> str:
    """Return a short name for the weights of a model: a hash of the first numbers of every tensor."""
    return hash_heads({name: (tuple(tensor.shape), tensor) for name, tensor in model.state_dict().items()})


def hash_heads(heads: Mapping[str, tuple[tuple[int, ...], torch.Tensor]]) -> str:
    """Return the same for the shapes of tensors and their first numbers, `NUM_HASHED` at least, by their names."""
    digest = hashlib.sha256()
    for name, (shape, tensor) in sorted(heads.items()):
        head = tensor.detach().flatten()[:NUM_HASHED].contiguous().cpu()
        digest.update(f"{name} {shape} {tensor.dtype}".encode())
        digest.update(head.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
