"""The runner: right metrics, nothing lost when it is stopped, the work shared by processes."""

import json
import random
from contextlib import contextmanager

import pytest
import torch

from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.evaluation import runner
from llava_st_hf.evaluation.benchmarks.base import Benchmark
from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.evaluation.runner import Processes, evaluate, fingerprint_weights
from llava_st_hf.modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult
from llava_st_hf.processing.media_llava_st import InputError

pytestmark = pytest.mark.usefixtures("one_thread", "few_training_samples")


class ClipFiles(Benchmark):
    """A benchmark of files, some of which cannot be read, without records for training."""

    name = "clips"

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def get_id(self, index: int) -> str:
        return f"clip-{index}"

    def get_task(self, index: int) -> str:
        return "tvg"

    def read(self, index: int) -> Sample:
        if not self.paths[index]:
            raise RecordError("invalid_field", "media", "media is '': give the path of a file.")
        messages = ({"role": "user", "content": "When?"}, {"role": "assistant", "content": "{<t=1.0s><t=2.0s>}"})
        return Sample(self.get_id(index), "clips", "tvg", "video", (Media(path=self.paths[index]),), messages)


class Apart(Processes):
    """Processes that run one after the other in a test, the first at last."""

    @contextmanager
    def joined(self):
        yield


def read_lines(folder) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("seconds") >= 0
        assert line.pop("peak_bytes") > 0
    return lines


def test_true_answers_are_worth_1(make_model, processor, output_dir, tell_truths):
    benchmark = StShapes(3)
    model = make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=2)
    metrics = evaluate(model, processor, benchmark, output_dir, batch_size=2, quiet=True, command="llava-st evaluate")
    assert set(metrics["tasks"]) == set(benchmark.tasks)
    for task, found in metrics["tasks"].items():
        highest = {name: 10.0 if name == "CIDEr" else 1.0 for name in found["metrics"]}
        assert found["metrics"] == pytest.approx(highest), task
        assert (found["items"], found["failures"]) == (3, {})
        assert found["baseline"][found["headline"][0]] < 1
    assert json.loads((output_dir / "metrics.json").read_text()) == metrics
    assert metrics["date"] > "2026"
    report = (output_dir / "report.md").read_text()
    assert "llava-st evaluate" in report
    assert "| tvg  | R@0.5" in report
    lines = read_lines(output_dir)
    assert [line["id"] for line in lines] == [benchmark.get_id(index) for index in range(len(benchmark))]
    assert lines[0]["question"] == benchmark.read(0).messages[0]["content"]
    assert GroundingResult.from_dict(lines[0]["result"]).spans[0].start_seconds >= 0
    assert GroundingResult.from_dict(lines[0]["truth"]).tubes


@pytest.mark.parametrize("protocol", ["default", "reference"])
def test_blind_answers_equal_the_baseline(make_model, processor, output_dir, tell_baselines, protocol):
    benchmark = StShapes(3, tasks=StShapes.list_tasks(protocol))
    model = make_model(tell_baselines(benchmark), benchmark=benchmark)
    metrics = evaluate(model, processor, benchmark, output_dir, quiet=True, protocol=protocol)
    for task, found in metrics["tasks"].items():
        assert found["metrics"] == found["baseline"], task
    assert 0 < metrics["tasks"]["tvg"]["metrics"][metrics["tasks"]["tvg"]["headline"][1]] < 1


def test_nonsense_is_worth_0_and_counted(make_model, processor, output_dir):
    texts = ["nothing", "{<t_50><t_10>}", ""]
    benchmark = StShapes(3, ("tvg",))
    metrics = evaluate(make_model(texts, benchmark=benchmark), processor, benchmark, output_dir, quiet=True)
    found = metrics["tasks"]["tvg"]
    assert set(found["metrics"].values()) == {0.0}
    assert found["failures"] == {"missing_span": 1, "reversed_span": 1, "empty_answer": 1}
    assert [line["answer"] for line in read_lines(output_dir)] == texts


def test_a_stopped_run_goes_on_where_it_was(make_model, processor, output_dir, tmp_path, tell_truths, list_asked):
    benchmark = StShapes(4, ("tvg", "rc"))
    truths = tell_truths(benchmark)
    whole = make_model(truths, benchmark=benchmark, batch_size=2)
    evaluate(whole, processor, benchmark, tmp_path / "whole", batch_size=2, quiet=True)
    stopped = make_model(truths, 4, benchmark, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, processor, benchmark, output_dir, batch_size=2, quiet=True)
    assert len(read_lines(output_dir)) == 4
    path = output_dir / "predictions.jsonl"
    path.write_bytes(path.read_bytes()[:-10])  # killed in the middle of a line
    resumed = make_model([truths[index] for index in list_asked(benchmark, 2)[2:]])
    evaluate(resumed, processor, benchmark, output_dir, batch_size=2, quiet=True)
    assert resumed.num_asked == 6  # the batch that was cut off is asked as a whole
    assert read_lines(output_dir) == read_lines(tmp_path / "whole")
    again = make_model([])
    metrics = evaluate(again, processor, benchmark, output_dir, quiet=True)
    assert again.num_asked == 0
    assert metrics["tasks"]["rc"]["metrics"] == {"exact_match": 1.0}


def test_other_settings_are_refused(make_model, processor, output_dir, tell_truths):
    benchmark = StShapes(1, ("rc",))
    evaluate(make_model(tell_truths(benchmark)), processor, benchmark, output_dir, quiet=True)
    cases = [
        (StShapes(1, ("rc",), seed=1_000_001), {}, "with seed=1000000, and now seed is 1000001"),
        (benchmark, {"constrained": True}, "with constrained=False"),
        (benchmark, {"model_name": "another"}, "with model='stand-in', and now model is 'another'"),
        (benchmark, {"max_new_tokens": 7}, "with max_new_tokens=1024"),
    ]
    for other, options, message in cases:
        with pytest.raises(InputError, match=message):
            evaluate(make_model([]), processor, other, output_dir, quiet=True, **options)
    trained = make_model([])
    trained.state_dict = lambda: {"weight": -make_model([]).state_dict()["weight"]}
    with pytest.raises(InputError, match="with weights='"):
        evaluate(trained, processor, benchmark, output_dir, quiet=True)


def test_files_that_cannot_be_read_are_worth_0_and_listed(make_model, processor, output_dir, clip, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    benchmark = ClipFiles([str(clip), str(tmp_path / "broken.mp4"), "", str(clip)])
    # The clip has 3.9 s, so tokens 25 and 51 are near 1 and 2 s.
    model = make_model(["{<t_25><t_51>}", "{<t_25><t_51>}"])
    metrics = evaluate(model, processor, benchmark, output_dir, quiet=True)
    found = metrics["tasks"]["tvg"]
    assert found["items"] == 4
    assert 0.45 < found["metrics"]["m_tIoU"] < 0.5
    assert found["baseline"] is None
    assert found["failures"] == {"unreadable_media": 1, "invalid_field": 1}
    assert [item["id"] for item in metrics["unusable"]] == ["clip-1", "clip-2"]
    report = (output_dir / "report.md").read_text()
    assert "| clip-1 | unreadable_media | media[0]" in report
    assert read_lines(output_dir)[1]["scores"] == {"tiou": 0.0}


def test_processes_share_the_work(make_model, processor, output_dir, tmp_path, tell_truths, list_asked):
    benchmark = StShapes(12, ("tvg", "rc"))
    truths = tell_truths(benchmark)
    one = make_model(truths, benchmark=benchmark, batch_size=4)
    evaluate(one, processor, benchmark, tmp_path / "one", batch_size=4, quiet=True)
    counts = {}
    asked = list_asked(benchmark, 4)
    for rank in (1, 2, 0):
        processes = Apart(rank=rank, count=3)
        model = make_model([truths[index] for index in asked[8 * rank : 8 * rank + 8]])
        metrics = evaluate(model, processor, benchmark, output_dir, batch_size=4, quiet=True, processes=processes)
        counts[rank] = model.num_asked
        assert (metrics is None) == (rank != 0)
    assert counts == {0: 8, 1: 8, 2: 8}
    assert read_lines(output_dir) == read_lines(tmp_path / "one")
    assert not list(output_dir.glob("predictions.rank*"))


def test_fewer_processes_may_go_on(make_model, processor, output_dir, tell_truths, list_asked):
    benchmark = StShapes(16, ("rc",))
    truths = tell_truths(benchmark)
    asked, second = list_asked(benchmark, 8), Apart(rank=1, count=2)
    helper = make_model([truths[index] for index in asked[8:]])
    evaluate(helper, processor, benchmark, output_dir, batch_size=8, quiet=True, processes=second)
    alone = make_model([truths[index] for index in asked[:8]])
    metrics = evaluate(alone, processor, benchmark, output_dir, batch_size=8, quiet=True)
    assert alone.num_asked == 8
    assert metrics["tasks"]["rc"]["metrics"] == {"exact_match": 1.0}


class Narrow:
    """A model that runs out of memory above a number of questions."""

    def __init__(self, model, most, error):
        self.__dict__.update(model=model, most=most, error=error, sizes=[])

    def __call__(self, *args, **options):
        return self.model(*args, **options)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, input_ids, **options):
        self.sizes.append(len(input_ids))
        if len(input_ids) > self.most:
            raise self.error
        return self.model.generate(input_ids, **options)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 7 bytes"),
        MemoryError(),
    ],
)
def test_a_batch_that_is_too_large_is_halved_and_no_item_lost(make_model, processor, output_dir, tell_truths, error):
    benchmark = StShapes(12, ("rc",))
    model = Narrow(make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=8), 2, error)
    metrics = evaluate(model, processor, benchmark, output_dir, batch_size=8, quiet=True)
    assert metrics["tasks"]["rc"]["metrics"] == {"exact_match": 1.0}
    assert model.sizes == [8, 4, 2, 2, 2, 2, 2, 2]  # what was too much is not tried again


class Unlucky(Narrow):
    """A model that runs out of memory at random, while it encodes or answers; never for one question alone."""

    def __init__(self, model, seed, error):
        super().__init__(model, 0, error)
        self.__dict__.update(luck=random.Random(seed))

    def get_image_features(self, pixel_values, **options):
        self.sizes.append(len(pixel_values))
        if self.luck.random() < 0.1 and self.may_fail:
            raise self.error
        return self.model.get_image_features(pixel_values, **options)

    @property
    def may_fail(self):
        return self.runner.memory.max_items > 1

    def generate(self, input_ids, **options):
        if len(input_ids) > 1 and self.luck.random() < 0.3:
            raise self.error
        return self.model.generate(input_ids, **options)


@pytest.mark.parametrize("seed", range(1, 5))
def test_no_item_is_lost_where_memory_ends_at_random(
    make_model, processor, output_dir, tmp_path, tell_truths, seed, keep_runner
):
    benchmark = StShapes(16, ("rec", "rc"))  # of a number they are about one image, which is kept
    whole = make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=8)
    evaluate(whole, processor, benchmark, tmp_path / "whole", batch_size=8, quiet=True)
    model = make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=8)
    model = keep_runner(Unlucky(model, seed, torch.OutOfMemoryError("CUDA out of memory.")))
    metrics = evaluate(model, processor, benchmark, output_dir, batch_size=8, quiet=True)
    assert model.runner.memory.max_items < 8  # it did end
    assert read_lines(output_dir) == read_lines(tmp_path / "whole")
    assert metrics["tasks"]["rec"]["metrics"]["m_IoU"] == metrics["tasks"]["rc"]["metrics"]["exact_match"] == 1.0


class Crowded(Unlucky):
    """A model that runs out of memory wherever two clips are kept, even for one question alone."""

    may_fail = False  # while it encodes

    def generate(self, input_ids, **options):
        if sum(medium is not None for medium in self.runner.answerer._shared.values()) > 1:
            raise self.error
        return self.model.generate(input_ids, **options)


@pytest.fixture
def keep_runner(monkeypatch):
    """Let a model know the runner that asks it."""
    make_runner = runner._Runner.__init__

    def keep(model):
        def keep_runner(self, *args):
            make_runner(self, *args)
            model.__dict__["runner"] = self

        monkeypatch.setattr(runner._Runner, "__init__", keep_runner)
        return model

    return keep


def test_clips_that_are_kept_are_given_up_before_a_question_alone_fails(
    make_model, processor, output_dir, tell_truths, keep_runner
):
    benchmark = StShapes(4, ("rec", "rc"))
    model = make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=1)
    model = keep_runner(Crowded(model, 1, torch.OutOfMemoryError("CUDA out of memory.")))
    metrics = evaluate(model, processor, benchmark, output_dir, batch_size=1, quiet=True)
    assert metrics["tasks"]["rec"]["failures"] == metrics["tasks"]["rc"]["failures"] == {}


def test_above_the_limit_clips_that_are_kept_are_given_up(
    make_model, processor, output_dir, tell_truths, keep_runner, monkeypatch
):
    benchmark = StShapes(4, ("rec", "rc"))
    model = keep_runner(Narrow(make_model(tell_truths(benchmark), benchmark=benchmark, batch_size=1), 8, None))
    monkeypatch.setattr(runner.MemoryBudget, "is_above", lambda self, peak: True)
    evaluate(model, processor, benchmark, output_dir, batch_size=1, quiet=True)
    kept = model.runner.answerer._shared
    assert kept and not any(kept.values())


def test_a_question_too_large_alone_is_worth_0_and_listed(make_model, processor, output_dir):
    model = Narrow(make_model([]), 0, MemoryError("no room"))
    metrics = evaluate(model, processor, StShapes(2, ("rc",)), output_dir, quiet=True)
    assert metrics["tasks"]["rc"]["failures"] == {"out_of_memory": 2}
    assert "no room" in metrics["unusable"][0]["detail"]


def test_other_errors_are_raised(make_model, processor, output_dir):
    model = Narrow(make_model([]), 0, RuntimeError("a fault"))
    with pytest.raises(RuntimeError, match="a fault"):
        evaluate(model, processor, StShapes(2, ("rc",)), output_dir, quiet=True)


def test_launchers_tell_who_this_is(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.from_environment() == Processes(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert Processes.from_environment() == Processes(5, 8, 1)


def test_wrong_settings(make_model, processor, output_dir):
    benchmark = StShapes(1, ("tr",))
    for options, message in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_memory": "much"}, "the size is 'much'"),
        ({"max_memory": "1MB"}, "in use before anything is asked"),
        ({"protocol": "reference"}, "protocol 'reference' does not score"),
        ({"protocol": "mine"}, "protocol is 'mine'"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(make_model([]), processor, benchmark, output_dir, **options)
    with pytest.raises(InputError, match="clips is scored by default only"):
        evaluate(make_model([]), processor, ClipFiles(["a"]), output_dir, protocol="reference")
    assert not output_dir.exists()


def test_fingerprint_tells_weights_apart(checkpoint):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    before = fingerprint_weights(model)
    assert fingerprint_weights(LlavaSTForConditionalGeneration.from_pretrained(checkpoint)) == before
    model.lm_head.weight.data[0, 0] += 1
    assert fingerprint_weights(model) != before


def test_a_model_of_random_weights(checkpoint, processor, output_dir):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    benchmark = StShapes(2, num_frames=20, size=54)
    metrics = evaluate(model, processor, benchmark, output_dir, max_new_tokens=48, constrained=True, quiet=True)
    assert list(metrics["tasks"]) == list(benchmark.tasks)
    assert not any(found["failures"] for found in metrics["tasks"].values())
    assert metrics["settings"]["model"] == checkpoint.name
