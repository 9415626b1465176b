import numpy as np
import pytest

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError
from llava_st_hf.data.turns import find_units, make_stand_in, read_turns


def make(task, media_type, media, *texts, **fields):
    roles = ("user", "assistant")
    messages = tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(texts))
    return Sample(id="1", source="s", task=task, media_type=media_type, media=media, messages=messages, **fields)


def test_fractions_are_of_the_part_of_the_clip_that_is_meant(clip):
    sample = make("tvg", "video", (Media(path=str(clip)),), "When?", "{<t=0.25><t=1.0>}", frame_range=(10, 30))
    (turn,) = read_turns(sample, probe_media(sample))
    (span,) = turn.answer.spans
    assert (span.start_seconds, span.end_seconds) == pytest.approx((1.5, 3.0))  # 10 frames a second
    assert turn.answer.problems == ()


def test_seconds_and_pixels_of_question_and_answer(clip):
    sample = make(
        "elc",
        "video",
        (Media(path=str(clip)),),
        "Starts in <t=1.0s>, what happens in [<x=32px><y=24px><x=160px><y=120px>]?",
        "Ends in <t=2.0s>, it moves. Object bounding box: <t=1.0s>:[<x=32px><y=24px><x=160px><y=120px>]",
    )
    (turn,) = read_turns(sample, probe_media(sample))
    assert turn.question.boxes[0].xyxy == pytest.approx((32, 24, 160, 120))
    assert turn.question.captions == ()
    (span,) = turn.answer.spans
    assert (span.start_seconds, span.end_seconds) == pytest.approx((1.0, 2.0))
    assert turn.answer.tubes[0].boxes[0].box.xyxy == pytest.approx((32, 24, 160, 120))
    assert turn.answer.captions[0].text == "it moves."
    assert turn.answer.problems == ()


def test_each_turn_is_about_the_image_before_it():
    images = tuple(Media(frames=np.zeros((10 * k, 20 * k, 3), dtype=np.uint8)) for k in (1, 2))
    box = "[<x=0.5><y=0.5><x=1><y=1>]"
    sample = make("igc", "image", images, "<image>\nwhat?", f"A {box}.", "and <image>?", f"B {box}.")
    first, second = read_turns(sample, probe_media(sample))
    assert (first.index, second.index) == (0, 1)
    assert first.answer.boxes[0].xyxy == (10, 5, 20, 10)
    assert second.answer.boxes[0].xyxy == (20, 10, 40, 20)
    # Pixels are of the same image.
    marked = make("igc", "image", images, "<image> what?", "A [<x=10px><y=5px><x=20px><y=10px>].", "<image>", "B.")
    assert read_turns(marked, probe_media(marked))[0].answer.boxes[0].fractions == pytest.approx((0.5, 0.5, 1, 1))


def test_what_lies_outside_the_medium_is_an_error_of_its_field(clip):
    media = (Media(path=str(clip)),)
    for text, words in (("{<t=1s><t=90s>}", "90"), ("[<x=1px><y=1px><x=900px><y=9px>]", "900"), ("<t_100>", "100")):
        sample = make("video_qa", "video", media, "When?", text)
        with pytest.raises(RecordError, match=words) as error:
            read_turns(sample, probe_media(sample))
        assert (error.value.reason, error.value.field) == ("invalid_field", "messages[1].content")


def test_a_stand_in_shows_the_form_without_the_file():
    text = "{<t=7s><t=90s>} <t=7s>:[<x=10px><y=20px><x=3000px><y=40px>]"
    sample = make("stvg", "video", (Media(path="nowhere.mp4"),), "When and where?", text)
    assert find_units(sample)
    (turn,) = read_turns(sample, make_stand_in(sample))
    assert turn.answer.problems == ()
    assert len(turn.answer.tubes) == 1
    plain = make("tvg", "video", (Media(path="nowhere.mp4"),), "When?", "At noon <t=0.25>.")
    assert not find_units(plain)
    kinds = [problem.kind for problem in read_turns(plain, make_stand_in(plain))[0].answer.problems]
    assert "missing_span" in kinds


def test_tiny_fractions_are_read():
    sample = make("tvg", "video", (Media(path="nowhere.mp4"),), "When?", "{<t=1e-7><t=0.5>}")
    (turn,) = read_turns(sample, make_stand_in(sample))
    assert turn.answer.spans[0].fractions == pytest.approx((1e-7, 0.5))


def test_text_has_nothing_to_point_at():
    sample = make("conversation", "text", (), "Why?", "Because {<t=0.1><t=0.2>}.")
    assert probe_media(sample) == make_stand_in(sample) == ()
    assert read_turns(sample, ()) == []
