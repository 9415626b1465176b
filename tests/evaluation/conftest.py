"""A model that says what a test wants, under the real processor and the real runner."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.skips import RecordError
from llava_st_hf.evaluation.asking_order import split_into_batches, split_into_windows
from llava_st_hf.evaluation.benchmarks import st_shapes
from llava_st_hf.evaluation.benchmarks.base import Benchmark
from llava_st_hf.evaluation.blind_baseline import fit_blind_baseline
from llava_st_hf.evaluation.questions import read_question
from llava_st_hf.processing.constrained_generation_llava_st import CACHE_NAME
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.processing.processing_llava_st import LlavaSTProcessor


class StandInModel:
    """Generates given texts, one after the other, whatever is asked."""

    device = torch.device("cpu")
    dtype = torch.float32
    name_or_path = "stand-in"

    def __init__(self, processor: LlavaSTProcessor, texts: Sequence[str], stop_after: int | None = None):
        self.processor = processor
        self.texts: Iterator[str] = iter(texts)
        self.num_asked = self.num_encoded = 0
        self.stop_after = stop_after
        self.config = SimpleNamespace(image_token_id=processor.image_token_id, video_token_id=processor.video_token_id)

    def __call__(self, input_ids: torch.Tensor, **options: object) -> None:
        options[CACHE_NAME].update(*[torch.zeros(*input_ids.shape, 1).unsqueeze(1)] * 2, 0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.ones(3)}

    def get_image_features(self, pixel_values: torch.Tensor, **options: object) -> BaseModelOutputWithPooling:
        self.num_encoded += len(pixel_values)
        return BaseModelOutputWithPooling(pooler_output=[torch.zeros(1, 1)] * len(pixel_values))

    def get_video_features(self, pixel_values_videos: torch.Tensor, **options: object) -> BaseModelOutputWithPooling:
        return self.get_image_features(pixel_values_videos)

    def generate(self, input_ids: torch.Tensor, **options: object) -> torch.Tensor:
        if self.stop_after is not None and self.num_asked >= self.stop_after:
            raise KeyboardInterrupt
        self.num_asked += len(input_ids)
        tokenizer = self.processor.tokenizer
        rows = [tokenizer.encode(next(self.texts) + "<|im_end|>") for _ in range(len(input_ids))]
        longest = max(map(len, rows))
        answers = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(answers)], dim=1)


def _list_asked(benchmark: Benchmark, batch_size: int = 16) -> list[int]:
    asked = []
    for window in split_into_windows(benchmark, batch_size):
        samples = {}
        for index in window:
            try:
                samples[index] = benchmark.read(index)
            except RecordError as error:
                samples[index] = error
        asked += [index for batch in split_into_batches(benchmark, samples, batch_size) for index in batch]
    return asked


@pytest.fixture
def list_asked() -> Callable[..., list[int]]:
    """List the numbers of the items of a benchmark in the order in which one process asks them."""
    return _list_asked


@pytest.fixture
def make_model(processor) -> Callable[..., StandInModel]:
    """Make a stand-in model of the texts that it is to say, those of a benchmark in the order of its items."""

    def make(texts, stop_after=None, benchmark=None, batch_size=16):
        texts = list(texts)
        if benchmark is not None:
            texts = [texts[index] for index in _list_asked(benchmark, batch_size)]
        return StandInModel(processor, texts, stop_after)

    return make


@pytest.fixture
def few_training_samples(monkeypatch) -> None:
    """Fit the blind baseline on few samples, to save time."""
    monkeypatch.setattr(st_shapes, "NUM_TRAINING_SAMPLES", 20)


@pytest.fixture
def tell_truths() -> Callable[[Benchmark], list[str]]:
    """List the true answers of a benchmark, as its records write them."""
    return lambda benchmark: [benchmark.read(index).messages[-1]["content"] for index in range(len(benchmark))]


@pytest.fixture
def tell_baselines() -> Callable[[Benchmark], list[str]]:
    """List the answers of the blind baseline to the questions of a benchmark."""

    def tell(benchmark: Benchmark) -> list[str]:
        texts, fitted = [], {}
        for index in range(len(benchmark)):
            sample = benchmark.read(index)
            if sample.task not in fitted:
                fitted[sample.task] = fit_blind_baseline(sample.task, benchmark.get_training_samples(sample.task))
            media = probe_media(sample, num_frames=20)
            question = read_question(sample, media, CoordinateVocabulary())
            texts.append(fitted[sample.task].write(question, media[0], CoordinateVocabulary()))
        return texts

    return tell


@pytest.fixture
def output_dir(tmp_path) -> Path:
    """A folder for a run."""
    return tmp_path / "run"
