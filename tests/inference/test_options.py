"""What can be said of a question is three small values, and nothing else."""

import pytest

from llava_st_hf import InputError, LlavaSTProcessor
from llava_st_hf.inference.options import (
    AnsweringOptions,
    Question,
    ReadingOptions,
    check_questions,
    make_options,
    select,
)


def test_only_what_is_given_reaches_the_processor(checkpoint):
    assert ReadingOptions(fps=2.0, frame_range=(0, 9)).to_kwargs() == {"fps": 2.0, "frame_range": (0, 9)}
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    question = Question("rec", "a dog", variant=1)
    assert question.to_messages(processor, image="a.png") == processor.build_messages(
        "rec", image="a.png", query="a dog", variant=1
    )


def test_the_task_follows_from_the_medium(checkpoint):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    for media, task in (({"video": "a.mp4"}, "stvg"), ({"image": "a.png", "video": None}, "rec")):
        (message,) = Question(query="a dog").to_messages(processor, **media)
        assert message["grounding"]["task"] == task
    with pytest.raises(InputError, match="video and image given"):
        Question("tvg", "a dog").to_messages(processor, video="a.mp4", image="a.png")


@pytest.mark.parametrize("options", [ReadingOptions, Question, AnsweringOptions])
def test_an_unknown_option_is_named_with_those_that_there_are(options):
    with pytest.raises(InputError, match=r"colour is no option here: give \w+, \w+"):
        make_options(options, {"colour": "red"})


def test_none_is_what_is_left_out():
    values = {"num_frames": None, "fps": 2.0, "query": "a dog"}
    assert select(values, ("num_frames", "fps")) == {"fps": 2.0}


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
        ("video", ["a dog"], {"max_new_tokens": 2.5}, "max_new_tokens"),
        ("video", ["a dog"], {"frame_range": (3, 1)}, "frame_range"),
        ("image", ["a dog"], {"frame_range": (0, 1)}, "frame_range"),
        ("video", [None], {"task": "tr", "span_fractions": (0.1,)}, "span"),
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
