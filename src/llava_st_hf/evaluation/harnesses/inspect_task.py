"""The questions of `llava-st lmms-tasks` as a task of inspect-ai (0.3); imported by it alone."""

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from ...data.skips import RecordError
from ...inference import load_pipeline
from ..answering import Answerer
from .lmms_tasks import compute_metric, process_results, read_sample


@task
def grounding(questions: str, pretrained: str, device: str | None = None, dtype: str | None = None) -> Task:
    """
    Ask a checkpoint the questions of a file, greedily, and score the answers as `llava-st evaluate` does.

    Args:
        questions (`str`): A `.jsonl` that `llava-st lmms-tasks` wrote.
        pretrained (`str`): Checkpoint: a folder or a repository.
        device (`str`, *optional*): Where it runs.
        dtype (`str`, *optional*): Data type of the weights; that of the checkpoint when left out.
    """
    docs = [json.loads(line) for line in Path(questions).read_text(encoding="utf-8").splitlines()]
    samples = [Sample(input=doc["question"], id=doc["id"], metadata={"doc": doc}) for doc in docs]
    return Task(MemoryDataset(samples), solver=answer(pretrained, device, dtype), scorer=grounding_metrics())


@solver
def answer(pretrained: str, device: str | None = None, dtype: str | None = None) -> Solver:
    """Answer with a checkpoint, one question after the other; what cannot be asked gets no words."""
    pipeline = load_pipeline(pretrained, device, dtype)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        doc = state.metadata["doc"]
        try:
            num_frames = json.loads(doc["record"])["num_frames"]
            answerer = Answerer(pipeline.model, pipeline.processor, num_frames=num_frames)
            (answered,) = answerer.answer([read_sample(doc)])
        except RecordError as error:
            answered = error
        state.output.completion = "" if isinstance(answered, RecordError) else answered.result.text
        return state

    return solve


@metric
def metrics_of_all() -> Metric:
    """Return all metrics of all items, as `Protocol.compute_metrics` does."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        results = [{**score.score.value, **score.score.metadata} for score in scores]
        # The harness tries it without any.
        return {name: compute_metric(name, [one[name] for one in results]) for name in results[0]} if results else {}

    return compute


@scorer(metrics=[metrics_of_all()])
def grounding_metrics() -> Scorer:
    """Score an answer by each metric of its task; nothing in it raises."""

    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        added = process_results(state.metadata["doc"], [text])
        numbers = {name: value for name, value in added.items() if isinstance(value, float)}
        # A value of a score is a number: captions stand beside.
        return Score(value=numbers, answer=text, metadata={name: added[name] for name in added.keys() - numbers})

    return score
