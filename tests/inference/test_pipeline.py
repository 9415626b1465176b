"""The one-liner, from files to results, on a random checkpoint."""

import numpy as np
import pytest
import torch
from PIL import Image
from published_checkpoint import make_published_checkpoint
from transformers import Qwen2Config, Qwen2ForCausalLM, pipeline

from llava_st_hf import (
    GroundingResult,
    InputError,
    LlavaSTForConditionalGeneration,
    SpatialTemporalGroundingPipeline,
)
from llava_st_hf.inference.pipeline import check_questions, load_pipeline


@pytest.fixture(scope="module")
def ground(checkpoint) -> SpatialTemporalGroundingPipeline:
    return pipeline("spatial-temporal-grounding", model=str(checkpoint))


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "photograph.PNG"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(path)
    return path


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
    constrained = ground.model.generate(**inputs, do_sample=False, return_dict_in_generate=True, **constraints)
    for outputs, is_constrained in ((free, False), (constrained, True)):
        (expected,) = ground.processor.post_process_grounding(outputs, inputs)
        result = ground(clip, "it moves", task="tvg", max_new_tokens=12, constrained=is_constrained)
        assert (result.text, result.task, result.query) == (expected.text, expected.task, expected.query)
        assert result.media == expected.media
        for span, other in zip(result.spans, expected.spans, strict=True):  # the prompt is prefilled in two parts
            assert span.start_seconds == pytest.approx(other.start_seconds, abs=1e-4)
            assert span.confidence == pytest.approx(other.confidence, abs=1e-4)


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
        (("clip", None), {}, "query"),
        (("clip", "a <video> of a circle"), {}, "<video>"),
        (("clip", "a circle"), {"task": "fly"}, "'fly'"),
        (("clip", "a circle"), {"time_range": (2.0, 1.0)}, "time_range"),
        ((["a.mp4", "b.mp4"], ["one"]), {}, "query has 1 entries for 2 media"),
        (("clip", []), {}, "query is an empty list"),
        ((["a.mp4", "b.mp4"], "one"), {"batch_size": 2}, "batch_size is 2"),
        (("clip", "one"), {"num_return_sequences": 2}, "num_return_sequences is 2"),
    ],
)
def test_bad_input_is_one_documented_exception(ground, clip, arguments, options, words):
    arguments = tuple(clip if argument == "clip" else argument for argument in arguments)
    with pytest.raises(InputError, match=words):
        ground(*arguments, **options)


@pytest.mark.parametrize(
    ("media_type", "queries", "options", "field"),
    [
        ("video", ["a dog", None], {}, "query"),
        ("video", [None], {"task": "fly"}, "task"),
        ("video", ["a dog"], {"span": (0, 1)}, "span"),
        ("video", [None], {"task": "tr", "span": (0, 1, 2)}, "span"),
        ("image", [None], {"task": "rc"}, "box"),
        ("video", [None], {"task": "elc", "box": (0, 0, 9, 9)}, "start"),
        ("video", ["a dog"], {"num_frames": 0}, "num_frames"),
        ("video", ["a dog"], {"num_frames": 9, "fps": 2.0}, "fps"),
        ("video", ["a dog"], {"time_range": (2, 1)}, "time_range"),
        ("image", ["a dog"], {"fps": 2.0}, "fps"),
        ("image", ["a dog"], {"max_new_tokens": 0}, "max_new_tokens"),
        ("video", ["a dog"], {"task": "rec"}, None),
    ],
)
def test_what_could_not_be_asked_is_found_without_a_model_and_names_its_field(media_type, queries, options, field):
    with pytest.raises(InputError) as found:
        check_questions("somewhere", queries, media_type, **options)
    assert found.value.field == field


def test_what_can_be_asked_passes():
    check_questions("somewhere", ["a dog", "a cat"], "video", num_frames=5, time_range=(0, 1))
    check_questions("somewhere", [None], "video", task="elc", start_seconds=-0.5, box=(0, 0, 9, 9))
    check_questions("somewhere", ["a dog"], "image")


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
