"""Questions are answered many at a time as they are one by one, and one that cannot be asked harms no other."""

from dataclasses import replace

import numpy as np
import pytest

from llava_st_hf import LlavaSTConfig
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.evaluation import answering
from llava_st_hf.evaluation.answering import Answered, Answerer
from llava_st_hf.evaluation.benchmarks.st_shapes import StShapes
from llava_st_hf.processing.media_llava_st import InputError, PromptError

pytestmark = pytest.mark.usefixtures("one_thread")


def list_texts(answers: list[Answered | RecordError]) -> list[str]:
    return [answer.result.text for answer in answers]


@pytest.mark.parametrize("task", ["tvg", "rec"])
def test_batch_equals_one_by_one(model, processor, task):
    benchmark = StShapes(4, (task,))
    samples = [benchmark.read(index) for index in range(4)]
    assert len({len(sample.messages[0]["content"]) for sample in samples}) > 1  # so some are padded
    answerer = Answerer(model, processor, constrained=True, max_new_tokens=32)
    together = answerer.answer(samples)
    alone = [answer for sample in samples for answer in answerer.answer([sample])]
    assert list_texts(together) == list_texts(alone)

    def list_confidences(answers: list[Answered]) -> list[float]:
        return [part.confidence for answer in answers for part in (*answer.result.spans, *answer.result.boxes)]

    # Random weights say much the same about everything, but not as surely.
    assert list_confidences(together) == pytest.approx(list_confidences(alone), rel=1e-5)
    assert min(abs(np.diff(np.unique(list_confidences(alone))))) > 2e-5 * max(list_confidences(alone))


def test_answers_are_greedy_whatever_the_checkpoint_says(model, processor):
    sample = StShapes(1, ("tvg",)).read(0)
    answerer = Answerer(model, processor, max_new_tokens=20)
    expected = list_texts(answerer.answer([sample]))
    config = model.generation_config
    changed = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0, "num_beams": 2}
    before = {name: getattr(config, name) for name in changed}
    try:
        config.update(**changed)
        assert list_texts(answerer.answer([sample])) == expected
    finally:
        config.update(**before)


def test_constrained_answers_parse(model, processor):
    benchmark = StShapes(2, ("stvg",))
    answers = Answerer(model, processor, constrained=True, max_new_tokens=200).answer([*map(benchmark.read, (0, 1))])
    assert all(answer.result.spans and answer.result.tubes for answer in answers)
    assert answers[0].result.spans[0].confidence is not None


def test_start_of_the_question_makes_a_span(make_model, processor):
    benchmark = StShapes(2, ("elc",))
    samples = [benchmark.read(index) for index in range(2)]
    answers = Answerer(make_model(["Ends in <t_99>, it grows."] * 2), processor).answer(samples)
    spans = [answer.result.spans[0] for answer in answers]
    assert [span.end_seconds for span in spans] == [3.8, 3.8]  # 20 frames, 5 a second
    assert spans[0].start_seconds != spans[1].start_seconds
    assert answers[0].result.task == "elc"


def test_unusable_records_among_usable_ones(make_model, processor, clip, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    long_question = "word " * 5000

    def make(number: int, path, question: str = "When?") -> Sample:
        messages = ({"role": "user", "content": question}, {"role": "assistant", "content": "{<t=0.1><t=0.2>}"})
        return Sample(str(number), "test", "tvg", "video", (Media(path=str(path)),), messages)

    samples = [
        make(0, clip),
        make(1, tmp_path / "broken.mp4"),
        make(2, tmp_path / "missing.mp4"),
        make(3, clip, long_question),
        make(4, clip, "When does it end?"),
    ]
    answers = Answerer(make_model(["{<t_0><t_99>}", "{<t_10><t_20>}"]), processor).answer(samples)
    assert [getattr(answer, "reason", None) for answer in answers] == [
        None,
        "unreadable_media",
        "missing_media",
        "invalid_field",
        None,
    ]
    assert answers[0].result.spans[0].end_seconds == pytest.approx(3.9)
    assert answers[4].result.text == "{<t_10><t_20>}"
    assert answers[0].media[0].source == str(clip)
    assert "tokens" in str(answers[3])


def test_nothing_usable(make_model, processor):
    sample = Sample(
        "1",
        "test",
        "rc",
        "image",
        (Media(content=b"x"),),
        ({"role": "user", "content": "What?"}, {"role": "assistant", "content": "a dog"}),
    )
    (answer,) = Answerer(make_model([]), processor).answer([sample])
    assert answer.reason == "unreadable_media"


def test_answers_about_an_image_of_any_size(make_model, processor):
    frames = np.zeros((40, 80, 3), dtype=np.uint8)
    messages = ({"role": "user", "content": "Where?"}, {"role": "assistant", "content": "[<x=0><y=0><x=1><y=1>]"})
    sample = Sample("1", "test", "rec", "image", (Media(frames=frames),), messages)
    (answer,) = Answerer(make_model(["[<x_0><y_0><x_99><y_99>]"]), processor).answer([sample])
    assert answer.result.boxes[0].xyxy == (0, 0, 80, 40)


def test_longest_answer():
    with pytest.raises(InputError, match="max_new_tokens is 0: give a whole number from 1 on"):
        Answerer(None, None, max_new_tokens=0)


def test_constrained_answer_that_cannot_be_that_short(model, processor):
    with pytest.raises(PromptError, match="max_new_tokens"):
        Answerer(model, processor, constrained=True, max_new_tokens=2).answer([StShapes(1, ("tvg",)).read(0)])


@pytest.mark.parametrize("constrained", [False, True])
def test_questions_about_one_clip_encode_it_once(model, processor, clip, monkeypatch, constrained):
    def ask(text: str) -> Sample:
        messages = ({"role": "user", "content": text}, {"role": "assistant", "content": "{<t=0.1><t=0.2>}"})
        return Sample(text, "mine", "tvg", "video", (Media(path=str(clip)),), messages)

    samples = [ask(text) for text in ("When?", "When does the circle move to the left?", "At what time?")]
    answerer = Answerer(model, processor, constrained=constrained, max_new_tokens=24)
    apart = [answer for sample in samples for answer in answerer.answer([sample])]
    encoded = []
    encode = type(model.model).get_video_features

    def count(self, pixel_values_videos, *args, **options):
        encoded.append(len(pixel_values_videos))
        return encode(self, pixel_values_videos, *args, **options)

    monkeypatch.setattr(type(model.model), "get_video_features", count)
    answerer.begin(samples)
    together = answerer.answer(samples[:2]) + answerer.answer(samples[2:])
    assert encoded == [1]
    assert list_texts(together) == list_texts(apart)
    assert [answer.media for answer in together] == [answer.media for answer in apart]


@pytest.mark.parametrize(("task", "longest"), [("video_qa", 300), ("tr", 128), ("tvg", 64)])
def test_only_open_answers_may_be_long(model, processor, monkeypatch, task, longest):
    limits = []

    def generate(model, processor, inputs, options, model_inputs):
        limits.append(options.max_new_tokens)
        return []

    monkeypatch.setattr(answering, "generate_answers", generate)
    sample = replace(StShapes(1, ("tvg",)).read(0), task=task)
    with pytest.raises(ValueError, match="zip"):  # there is no answer
        Answerer(model, processor, max_new_tokens=300).answer([sample])
    assert limits == [longest]


def test_prompts_that_begin_differently_are_read_once_and_asked_together(model, processor):
    frames = StShapes(1, ("tvg",)).read(0).media[0].frames

    def ask(text: str, count: int) -> Sample:
        question = f"{'Look at this. ' * (count < 20)}<video>\n{text}"
        messages = ({"role": "user", "content": question}, {"role": "assistant", "content": "{<t=0.1><t=0.2>}"})
        return Sample(text, "mine", "tvg", "video", (Media(frames=frames[:count]),), messages, video_fps=5.0)

    samples = [ask(f"{text}?", count) for count in (20, 12) for text in ("When", "When does it move to the left")]
    answerer = Answerer(model, processor, max_new_tokens=24)
    apart = [answer for sample in samples for answer in answerer.answer([sample])]
    answerer.begin(samples)
    assert list_texts(answerer.answer(samples[::2]) + answerer.answer(samples[1::2])) == list_texts(
        apart[::2] + apart[1::2]
    )
    caches = [medium.cache.get_seq_length() for medium in answerer._shared.values()]
    assert len(set(caches)) == 2
    answerer.forget()
    assert list(answerer._shared.values()) == [None, None]
    assert list_texts(answerer.answer(samples)) == list_texts(apart)


def count_cache_bytes(config, itemsize: int) -> int:
    """Return what keys and values of one token take."""
    text = config.get_text_config()
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * text.num_key_value_heads * width * itemsize


def test_what_is_kept_of_a_clip_that_several_questions_are_about(model, processor, clip):
    ask = {"role": "assistant", "content": "{<t=0.1><t=0.2>}"}
    samples = [
        Sample(text, "mine", "tvg", "video", (Media(path=str(clip)),), ({"role": "user", "content": text}, ask))
        for text in ("When?", "At what time?")
    ]
    answerer = Answerer(model, processor, max_new_tokens=24)
    answerer.begin(samples)
    answerer.answer(samples)
    (medium,) = answerer._shared.values()
    rooms = [room for layer in medium.cache.layers for room in layer._rooms]
    steps = 128  # tokens of room behind those that are read
    expected = (medium.prefix.shape[1] + steps) * count_cache_bytes(model.config, model.dtype.itemsize)
    assert sum(room.untyped_storage().nbytes() for room in rooms) == expected
    (features,) = medium.features
    assert features.untyped_storage().nbytes() == len(features) * model.config.get_text_config().hidden_size * 4
    assert sum(tensor.untyped_storage().nbytes() for name, tensor in medium.inputs.items() if "pixel" in name) <= 8
    # What docs/evaluation.md says of weights of 7B in bfloat16.
    assert count_cache_bytes(LlavaSTConfig(), 2) == 57_344
    assert LlavaSTConfig().get_text_config().hidden_size * 2 == 7_168
