"""The one-liner, from files to results, on a random checkpoint."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from published_checkpoint import make_published_checkpoint
from transformers import Qwen2Config, Qwen2ForCausalLM, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from llava_st_hf import (
    GroundingResult,
    InputError,
    LlavaSTForConditionalGeneration,
    SpatialTemporalGroundingPipeline,
)
from llava_st_hf.inference.pipeline import load_pipeline


@pytest.fixture(scope="module")
def ground(checkpoint) -> SpatialTemporalGroundingPipeline:
    return pipeline("spatial-temporal-grounding", model=str(checkpoint))


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "photograph.PNG"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


CHAT = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def chat_about(path, text):
    content = [{"type": "video", "video": str(path), "num_frames": 5}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def assert_same(result, expected):
    """Check that a result is that of a question that was asked alone; a batch rounds in other places."""
    assert (result.text, result.task, result.query) == (expected.text, expected.task, expected.query)
    assert result.media == expected.media
    for found, other in zip(result.labelled_boxes(), expected.labelled_boxes(), strict=True):
        assert found.box.xyxy == pytest.approx(other.box.xyxy, abs=1e-2)
        assert found.seconds == pytest.approx(other.seconds, abs=1e-3)
        assert found.box.confidence == pytest.approx(other.box.confidence, abs=1e-4)


def test_clip_and_query_give_a_result_with_its_media(ground, clip):
    result = ground(str(clip), "a red circle", max_new_tokens=40)
    assert type(result) is GroundingResult
    assert (result.task, result.query) == ("stvg", "a red circle")
    assert (result.media.width, result.media.height) == (320, 240)
    assert len(result.media.frame_seconds) == 20
    assert result.media.frame_seconds[-1] == pytest.approx(3.9)


def test_answer_equals_the_steps_done_by_hand(ground, clip):
    messages = ground.processor.build_messages("tvg", video=str(clip), query="it moves")
    inputs = ground.processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    free = ground.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    constraints = ground.processor.build_constraints(inputs, max_new_tokens=12)
    constrained = ground.model.generate(**inputs, do_sample=False, **constraints)
    for outputs, is_constrained in ((free, False), (constrained, True)):
        (expected,) = ground.processor.post_process_grounding(outputs, inputs)
        result = ground(clip, "it moves", task="tvg", max_new_tokens=12, constrained=is_constrained)
        assert result.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ("is_terminal", "options", "is_shown"),
    [
        (False, {}, False),
        (True, {}, True),
        (True, {"show_progress": False}, False),
        (False, {"show_progress": True}, True),
    ],
)
def test_a_bar_counts_many_inputs(ground, photograph, monkeypatch, capsys, is_terminal, options, is_shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    asked = {"query": "the dog", "max_new_tokens": 16, **options}
    for items in ([photograph] * 3, KeyDataset([{"image": str(photograph)}] * 3, "image")):
        results = list(ground(items, **asked))
        assert len(results) == 3 and all(result.boxes for result in results)
        assert ("Answering: 100%" in capsys.readouterr().err) == is_shown
    assert ground(photograph, **asked).boxes
    assert "Answering" not in capsys.readouterr().err


def test_several_queries_share_one_clip(ground, clip):
    results = ground(clip, ["a circle", "a square"], max_new_tokens=40)
    assert [result.query for result in results] == ["a circle", "a square"]
    assert results[0].to_dict() == ground(clip, "a circle", max_new_tokens=40).to_dict()
    assert len(ground(clip, ["a circle"], max_new_tokens=40)) == 1


def test_answers_are_constrained_unless_told_otherwise(ground, clip):
    result = ground(clip, "a circle", max_new_tokens=64)
    assert not result.problems
    assert result.spans
    assert result.tubes
    assert ground(clip, "a circle", max_new_tokens=64, constrained=False).problems


def test_image_is_a_rec_question_by_default(ground, photograph):
    result = ground(photograph, "the dog", max_new_tokens=40)
    assert (result.task, result.media.media_type) == ("rec", "image")
    assert ground(Image.open(photograph), "the dog", max_new_tokens=40).text == result.text


def test_list_of_media_is_a_list_of_questions(ground, clip, photograph):
    results = ground([clip, photograph], ["a circle", "the dog"], max_new_tokens=40)
    assert [result.query for result in results] == ["a circle", "the dog"]
    assert [result.task for result in results] == ["stvg", "rec"]
    assert len(ground([clip, clip], "a circle", max_new_tokens=40)) == 2


def test_a_question_may_be_a_dictionary(ground, clip, photograph):
    options = {"max_new_tokens": 40}
    alone = ground(clip, "a circle", **options)
    assert ground({"video": str(clip), "text": "a circle"}, **options) == alone
    assert ground({"video": clip, "query": "a circle", "image": None}, **options) == alone
    assert ground({"media": clip}, "a circle", **options) == alone
    content = {"bytes": photograph.read_bytes(), "path": None}  # as `datasets` stores it
    assert ground(content, "the dog", **options).media.width == 80
    assert ground({"image": content, "text": "the dog"}, **options).task == "rec"
    asked = {"video": clip, "text": "it moves", "task": "tvg", "num_frames": 5, "time_range": (1.0, 2.0)}
    result = ground(asked, **options, num_frames=9)
    assert result.task == "tvg" and len(result.media.frame_seconds) == 5
    assert result == ground(clip, "it moves", task="tvg", num_frames=5, time_range=(1.0, 2.0), **options)
    assert ground({"video": clip, "task": "tr", "span": (1.0, 2.0)}, **options).task == "tr"
    assert len(ground({"video": clip, "text": ["a circle", "a square"]}, **options)) == 2


def test_a_question_may_be_a_chat(ground, clip):
    messages = ground.processor.build_messages("tvg", video=str(clip), query="it moves")
    assert ground(messages, max_new_tokens=16) == ground(clip, "it moves", task="tvg", max_new_tokens=16)
    told = ground(chat_about(clip, "When does it move?"), task="tvg", max_new_tokens=16)
    assert told.task == "tvg" and len(told.media.frame_seconds) == 5
    assert not told.problems and told.spans
    free = ground(chat_about(clip, "What is it?"), max_new_tokens=8)
    assert free.task is None and free.media == told.media
    assert ground(CHAT, max_new_tokens=8).media is None
    many = ground([chat_about(clip, "What is it?"), CHAT], max_new_tokens=8, batch_size=2)
    assert [result.text for result in many] == [free.text, ground(CHAT, max_new_tokens=8).text]


def list_items(clip, photograph):
    frames = [Image.new("RGB", (64, 48), (shade, 90, 90)) for shade in (0, 120, 240)]
    return [
        {"video": clip, "text": "a circle"},
        {"image": photograph, "text": "the dog on the left"},
        {"video": clip, "text": ["it moves", "it stands still"], "task": "tvg"},
        {"video": clip, "text": "a rather long description of a square", "num_frames": 7},
        {"video": frames, "query": "a wall", "num_frames": 3, "video_fps": 1},
        {"image": photograph, "text": "the cat"},
        chat_about(clip, "What is it?"),
        {"video": clip, "task": "tr", "span": (1.0, 2.0)},
    ]


@pytest.mark.parametrize("options", [{}, {"constrained": False}, {"num_beams": 2}], ids=["greedy", "free", "beams"])
def test_answers_of_a_batch_are_those_of_single_questions(ground, clip, photograph, options):
    items = list_items(clip, photograph)
    options = {"max_new_tokens": 48, **options}
    singles = [ground(item, **options) for item in items]
    for batch_size in (3, 8):
        results = ground(items, batch_size=batch_size, **options)
        assert len(results) == len(items)
        for result, single in zip(results, singles, strict=True):
            if isinstance(single, list):
                assert result == single  # in a session, as alone
            else:
                assert_same(result, single)


def test_questions_of_a_batch_are_answered_together(ground, clip, photograph, monkeypatch):
    sizes = []
    generate = ground.model.generate
    monkeypatch.setattr(
        ground.model, "generate", lambda **inputs: (sizes.append(len(inputs["input_ids"])), generate(**inputs))[1]
    )
    ground([clip, photograph, clip, clip, clip], "a circle", batch_size=3, max_new_tokens=40)
    assert sizes == [3, 2]


def test_a_generator_is_answered_as_results_are_asked_for(ground, clip, photograph):
    taken = []

    def write_questions():
        for item in list_items(clip, photograph)[:3]:
            taken.append(item)
            yield item

    results = iter(ground(write_questions(), max_new_tokens=40))
    assert len(taken) <= 1
    assert next(results).query == "a circle"
    assert len(taken) <= 2
    assert next(results).query == "the dog on the left"
    assert [result.query for result in next(results)] == ["it moves", "it stands still"]
    assert next(results, None) is None
    paths = ground((path for path in (clip, photograph)), "a circle", max_new_tokens=40, batch_size=2)
    assert [result.task for result in paths] == ["stvg", "rec"]
    chats = ground((chat_about(clip, text) for text in ("One?", "Two?")), task="tvg", max_new_tokens=16)
    assert [len(result.spans) for result in chats] == [1, 1]


def test_data_sets_are_streamed(ground, clip, photograph):
    rows = [{"clip": str(clip), "words": "a circle"}, {"clip": str(photograph), "words": "the dog"}]
    for dataset in (datasets.Dataset.from_list(rows), datasets.Dataset.from_list(rows).to_iterable_dataset()):
        table = dataset.rename_columns({"clip": "media", "words": "text"})
        results = ground(table, max_new_tokens=40)
        assert not isinstance(results, list)
        assert [result.query for result in results] == ["a circle", "the dog"]
    column = KeyDataset(datasets.Dataset.from_list(rows), "clip")
    assert [result.task for result in ground(column, "a circle", batch_size=2, max_new_tokens=40)] == ["stvg", "rec"]


def test_media_can_be_read_by_other_processes(ground, clip):
    results = ground(KeyDataset([{"clip": str(clip)}] * 3, "clip"), "a circle", num_workers=1, max_new_tokens=40)
    assert [result.to_dict() for result in results] == [ground(clip, "a circle", max_new_tokens=40).to_dict()] * 3


def test_options_can_be_set_for_all_calls(checkpoint, clip):
    ground = pipeline(
        "spatial-temporal-grounding", model=str(checkpoint), num_frames=5, max_new_tokens=40, batch_size=2
    )
    assert [len(result.media.frame_seconds) for result in ground([clip, clip], "it moves")] == [5, 5]
    result = ground(clip, "it moves", num_frames=6, task="tvg")
    assert (result.task, len(result.media.frame_seconds)) == ("tvg", 6)


def test_options_reach_the_reader_the_prompt_and_generate(ground, clip):
    result = ground(clip, "a circle", num_frames=5, time_range=(1.0, 2.0), max_new_tokens=40)
    assert len(result.media.frame_seconds) == 5
    assert result.media.start_seconds == pytest.approx(1.0)
    assert result.media.end_seconds == pytest.approx(2.0)
    referred = ground(clip, task="tr", span=(1.0, 2.0), max_new_tokens=40)
    assert referred.task == "tr"


def test_decoding_is_greedy_even_where_the_checkpoint_samples(ground, clip):
    expected = ground(clip, "a circle", max_new_tokens=40).text
    ground.model.generation_config.do_sample = True
    try:
        torch.manual_seed(1)
        assert ground(clip, "a circle", max_new_tokens=40).text == expected
    finally:
        ground.model.generation_config.do_sample = False


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("missing.mp4", "a circle"), {}, "missing.mp4"),
        (("a circle", "clip"), {}, "the clip or image comes first, then the query"),
        ((["a circle", "a square"], "clip"), {}, "the clip or image comes first, then the query"),
        (("a circle", ["clip"]), {}, "the clip or image comes first, then the query"),
        (({"video": "a circle", "text": "clip"},), {}, "the clip or image comes first, then the query"),
        (("clip", None), {}, "query"),
        (("clip", "a <video> of a circle"), {}, "<video>"),
        (("clip", "a circle"), {"task": "fly"}, "'fly'"),
        (("clip", "a circle"), {"time_range": (2.0, 1.0)}, "time_range"),
        ((["a.mp4", "b.mp4"], ["one"]), {}, "query has 1 entries for 2 media"),
        (("clip", []), {}, "query is an empty list"),
        ((["clip", "clip"], "one"), {"batch_size": 2, "streamer": print}, "streamer is given with batch_size"),
        (({"video": "clip", "text": "one", "tsak": "tvg"},), {}, "a question has the key 'tsak'"),
        (({"video": "clip", "image": "clip", "text": "one"},), {}, "a question has video and image"),
        (({"video": "clip", "text": "one", "query": "one"},), {}, "a question has text and query"),
        (({"video": "missing.mp4", "text": "one"},), {}, "missing.mp4"),
        (({"image": "clip", "text": "one"},), {}, "is a video: give it as video="),
        (({"path": None}, "one"), {}, "a dictionary with the keys"),
        ((CHAT, "one"), {}, "query is given beside chat messages"),
        ((CHAT,), {"span": (0, 1)}, "span is given beside chat messages"),
        ((CHAT,), {"task": "fly"}, "'fly'"),
        (("clip", "one"), {"num_return_sequences": 2}, "num_return_sequences is 2"),
        ((np.zeros((4, 8, 8, 3), np.uint8), "one"), {}, "nothing says when they are: give video_fps="),
    ],
)
def test_bad_input_is_one_documented_exception(ground, clip, arguments, options, words):
    def put_clip(value):
        if isinstance(value, dict):
            return {name: put_clip(item) for name, item in value.items()}
        if isinstance(value, list):
            return [put_clip(item) for item in value]
        return clip if isinstance(value, str) and value == "clip" else value

    arguments = tuple(map(put_clip, arguments))
    with pytest.raises(InputError, match=words):
        ground(*arguments, **options)


@pytest.mark.parametrize("device", ["toaster", "cuda"])
def test_a_device_that_there_is_not_is_named(checkpoint, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"device is '?{device}") as found:
        load_pipeline(checkpoint, device)
    assert found.value.field == "device"


def test_both_forms_of_the_published_checkpoint_load(parity_dir, tmp_path, clip):
    for number, folder in enumerate(sorted(path.parent for path in parity_dir.glob("*/*/model.safetensors"))):
        for form in ("config.json", "config.released_style.json"):
            copy = tmp_path / f"{number}-{form}"
            copy.mkdir()
            for path in folder.iterdir():
                if path.name not in ("config.json", "cases"):
                    (copy / path.name).symlink_to(path)
            (copy / "config.json").symlink_to(folder / form)
            ground = load_pipeline(copy)
            assert not ground.model.config.splice_fast_tokens
            assert not ground(clip, "a circle", max_new_tokens=60).problems


def test_another_kind_of_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="model_type is 'bert'"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("model_type", ["llava_qwen", "llava"])
def test_published_checkpoint_as_it_lies(model_type, clip, tmp_path):
    """Also where its config.json says `llava`, which the Auto classes take for another model."""
    folder = make_published_checkpoint(tmp_path / "published", model_type)
    ground = pipeline("spatial-temporal-grounding", model=str(folder))
    assert type(ground.model) is LlavaSTForConditionalGeneration
    assert not ground.processor.splice_fast_tokens
    assert ground(str(clip), "a red circle", max_new_tokens=60).media.width == 320


def test_another_model_is_refused():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 9}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=1))
    with pytest.raises(InputError, match=r"Qwen2ForCausalLM.*LlavaSTForConditionalGeneration\.from_pretrained"):
        pipeline("spatial-temporal-grounding", model=model)
