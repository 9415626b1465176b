import math
from pathlib import Path

import pytest
from video_files import encode

from llava_st_hf.data.annotations import AnnotatedBox, AnnotatedSpan, AnnotatedTube, Annotation
from llava_st_hf.data.sample_writing import (
    HOLD_SECONDS,
    SampledClip,
    interpolate_boxes,
    make_sample,
)
from llava_st_hf.data.samples import Media
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaError, MediaInfo
from llava_st_hf.processing.notation_llava_st import NOTATION

BOX = AnnotatedBox([0, 0, 50, 20])


def answer(num_frames: int = 11, **fields) -> str:
    """Return the answer of a record about frames 0 to 100 of 100 x 40 pixels."""
    fields = {"query": "a dog runs", "frame_count": 101, "size": (100, 40), **fields}
    annotation = Annotation(**{"task": "stvg", "media_type": "video", "media": (Media(path="a.mp4"),), **fields})
    return make_sample(annotation, "1", "made up", num_frames).messages[1]["content"]


def test_fractions_are_read_again_exactly():
    box = (1 / 3, 1e-7, 2 / 3 + 1e-16, math.nextafter(1, 0))
    assert [coordinate.value for coordinate in NOTATION.find_coordinates(NOTATION.write_box(box))] == list(box)
    result = parse_answer(NOTATION.write_box(box), MediaInfo("image", 1, 1), answer_format="box")
    assert not result.problems
    assert result.boxes[0].xyxy == pytest.approx(box, abs=1e-12)


def test_boxes_move_evenly_and_hold_half_a_second():
    first, last = (0.0, 0.0, 0.2, 0.2), (0.4, 0.4, 0.8, 0.8)
    boxes = {4.0: last, 2.0: first}
    found = interpolate_boxes(boxes, [1.4, 2 - HOLD_SECONDS, 2.0, 2.5, 3.0, 4.0, 4 + HOLD_SECONDS, 4.6])
    assert found[0] is None and found[-1] is None
    assert found[1] == found[2] == first
    assert found[3] == pytest.approx((0.1, 0.1, 0.35, 0.35))
    assert found[4] == pytest.approx((0.2, 0.2, 0.5, 0.5))
    assert found[5] == found[6] == last


def test_a_marked_gap_is_not_bridged():
    box = (0.0, 0.0, 0.2, 0.2)
    times = [2.0, 2.4, 2.6, 3.0, 3.4, 3.6, 4.0]
    found = interpolate_boxes({2.0: box, 3.0: None, 4.0: box}, times)
    assert [item is not None for item in found] == [True, True, False, False, False, True, True]
    # A gap that begins at once leaves nothing to hold.
    found = interpolate_boxes({2.0: box, 2.1: None, 9.0: None}, [2.0, 2.05, 2.1, 2.15])
    assert [item is not None for item in found] == [True, True, False, False]


# ------------------------------------------------------------------------------------------------ the sampled clip


def test_sampled_frames_are_those_of_the_published_code():
    assert [frame for frame, _ in SampledClip.of_frames(18, 205, 100).moments[:3]] == [18, 20, 22]
    short = SampledClip.of_frames(3, 5, 100)
    assert short.moments == [(3, 0.0), (4, 0.5), (5, 1.0)]
    assert [short.compute_fraction(frame) for frame, _ in short.moments] == [0.0, 0.5, 1.0]
    assert SampledClip.of_frames(7, 7, 100).compute_fraction(7) == 0
    with pytest.raises(MediaError, match="frame 6 is outside of the clip; give frames from 3 to 5"):
        short.compute_fraction(6)


def test_the_clip_of_a_file_has_its_seconds():
    clip = SampledClip.of_file(MediaInfo("video", 10, 10, (0, 0, 3, 9), (1.0, 1.0, 2.0, 5.0)))
    assert clip.moments == [(1.0, 0.0), (2.0, 3 / 9), (5.0, 1.0)]  # a short clip has some frames twice
    assert (clip.compute_fraction(2.0), clip.end) == (3 / 9, 5.0)


# ------------------------------------------------------------------------------------------------ the record


def test_a_tube_needs_a_sampled_frame():
    spans = (AnnotatedSpan((10, 10), "frames"),)
    tube = AnnotatedTube({7: BOX, 10: BOX}, "frames", interpolate=False)
    assert answer(spans=spans, tubes=(tube,)) == "{<t=0.1><t=0.1>} <t=0.1>:[<x=0.0><y=0.0><x=0.5><y=0.5>]"
    with pytest.raises(RecordError, match="boxes has 1 box, none of them at or near a sampled frame"):
        answer(spans=spans, tubes=(AnnotatedTube({7: BOX}, "frames", interpolate=False),))


def test_an_event_between_two_sampled_frames_has_the_nearest_one():
    first, last = AnnotatedBox([0, 0, 50, 20]), AnnotatedBox([50, 0, 100, 20])
    for boxes, found in (
        ({11: first, 12: last}, "<t=0.1>:[<x=0.0><y=0.0><x=0.5><y=0.5>]"),
        ({17: first, 18: last}, "<t=0.2>:[<x=0.5><y=0.0><x=1.0><y=0.5>]"),
    ):
        start, end = boxes
        spans = (AnnotatedSpan((start, end), "frames"),)
        for interpolate in (False, True):
            written = answer(spans=spans, tubes=(AnnotatedTube(boxes, "frames", interpolate=interpolate),))
            assert written == f"{{<t={start / 100}><t={end / 100}>}} {found}"
    # Nothing is said of a box outside of the event.
    with pytest.raises(RecordError, match="none of them at or near a sampled frame"):
        answer(
            spans=(AnnotatedSpan((11, 12), "frames"),),
            tubes=(AnnotatedTube({7: BOX}, "frames", interpolate=False),),
        )


def test_boxes_further_apart_than_they_hold_are_near_the_sampled_frame_beside_them(clip: Path):
    # Of 3 frames at 0, 2 and 3.9 s, none is within half a second of the box.
    fields = {"media": (Media(path=str(clip)),), "frame_count": None, "spans": (AnnotatedSpan((1.1, 2.9)),)}
    fields["size"] = (100, 75)
    written = answer(3, tubes=(AnnotatedTube({1.3: BOX}),), **fields)
    assert written.endswith("<t=0.5128205128205128>:[<x=0.0><y=0.0><x=0.5><y=0.26666666666666666>]")
    with pytest.raises(RecordError, match="none of them at or near a sampled frame"):
        answer(3, tubes=(AnnotatedTube({0.1: BOX}),), **fields)


def test_several_spans_and_tubes_of_one_query_stay_several():
    spans = (AnnotatedSpan((10, 20), "frames"), AnnotatedSpan((41, 42), "frames"))
    assert answer(task="tvg_several", spans=spans) == "{<t=0.1><t=0.2>}, {<t=0.41><t=0.42>}"
    assert answer(task="tvg_several", spans=spans[:1]) == "{<t=0.1><t=0.2>}"
    written = "[<x=0.0><y=0.0><x=0.5><y=0.5>]"
    expected = (
        f"{{<t=0.1><t=0.2>}}, {{<t=0.41><t=0.42>}} <t=0.1>:{written}, <t=0.2>:{written}; another: <t=0.4>:{written}"
    )
    boxes = dict.fromkeys([*range(10, 21), 30, 41, 42], BOX)
    parts = (dict.fromkeys(range(10, 21), BOX), {41: BOX, 42: BOX})
    for interpolate in (False, True):
        tubes = tuple(AnnotatedTube(part, "frames", interpolate=interpolate) for part in (boxes, *parts))
        for given in (tubes[:1], tubes[1:]):  # one for all spans, or one each
            assert answer(task="stvg_several", spans=spans, tubes=given) == expected
    media = MediaInfo("video", 100, 40, tuple(range(101)), tuple(range(101)))
    result = parse_answer(expected, media, answer_format="spans_and_tubes")
    assert (len(result.spans), [len(tube.boxes) for tube in result.tubes], result.problems) == (2, [2, 1], ())
    assert [problem.kind for problem in parse_answer(expected, media, answer_format="span_and_tube").problems] == [
        "extra_span",
        "extra_tube",
    ]
    with pytest.raises(RecordError, match="2 spans: task 'tvg' needs one; tvg_several takes more"):
        answer(task="tvg", spans=spans)
    with pytest.raises(RecordError, match="there are 3 tubes for 2 spans: give one each"):
        answer(task="stvg_several", spans=spans, tubes=(AnnotatedTube(boxes, "frames"),) * 3)
    with pytest.raises(RecordError, match="spans is empty"):
        answer(task="tvg_several")


def test_boxes_by_frame_are_interpolated_where_they_are_sparse():
    last = AnnotatedBox([50, 0, 50, 20], "xywh")
    found = answer(
        task="svg",
        spans=(AnnotatedSpan((20, 60), "frames"),),
        tubes=(AnnotatedTube({25: BOX, 45: last}, "frames"),),
        frame_rate=10,
    )
    # Half a second beside them is five frames.
    assert [c.value for c in NOTATION.find_coordinates(found)] == pytest.approx(
        [0.2, 0, 0, 0.5, 0.5, 0.3, 0.125, 0, 0.625, 0.5, 0.4, 0.375, 0, 0.875, 0.5, 0.5, 0.5, 0, 1, 0.5]
    )


def test_units_are_converted_by_the_frame_rate(clip: Path):
    span = (AnnotatedSpan((10, 30), "frames"),)  # of a clip of 40 frames at 10 frames a second
    media = (Media(path=str(clip)),)
    for fields in (
        {"media": media, "frame_count": None, "spans": (AnnotatedSpan((1.0, 3.0)),)},
        {"media": media, "frame_count": None, "spans": span, "frame_rate": 10},
        {"media": media, "frame_count": 40, "spans": (AnnotatedSpan((1.0, 3.0)),), "frame_rate": 10},
        {"media": media, "frame_count": None, "spans": span},  # frames of the file at hand
    ):
        found = NOTATION.find_coordinates(answer(task="tvg", **fields))
        assert [coordinate.value for coordinate in found] == pytest.approx([10 / 39, 30 / 39])
    with pytest.raises(RecordError, match=r"span is 1\.0: it is in seconds, which need frame_rate"):
        answer(task="tvg", spans=(AnnotatedSpan((1.0, 3.0)),))


@pytest.mark.parametrize("end", [4.0, 4.1])
def test_the_end_and_one_frame_more_is_the_last_frame_of_counted_ones_too(clip: Path, end):
    fields = {"task": "tvg", "media": (Media(path=str(clip)),), "frame_count": 40, "frame_rate": 10}
    assert answer(spans=(AnnotatedSpan((1.3, end)),), **fields).endswith("<t=1.0>}")
    with pytest.raises(RecordError, match="outside of the clip"):
        answer(spans=(AnnotatedSpan((1.3, 4.2)),), **fields)


def test_what_lies_behind_the_clip_is_cut_off_or_refused(clip: Path):
    fields = {"task": "tvg", "media": (Media(path=str(clip)),), "frame_count": None}
    assert answer(spans=(AnnotatedSpan((0.0, 99.0), cut_end=True),), **fields) == "{<t=0.0><t=1.0>}"
    with pytest.raises(RecordError, match=r"the time 99\.0 s is outside the clip"):
        answer(spans=(AnnotatedSpan((1.95, 99.0)),), **fields)
    with pytest.raises(RecordError, match=r"span is \[98.0, 99.0\]"):
        answer(spans=(AnnotatedSpan((98.0, 99.0), cut_end=True),), **fields)
    with pytest.raises(RecordError, match="frame 101 is outside of the clip"):
        answer(spans=(AnnotatedSpan((50, 101), "frames"),), task="tvg")


def test_what_is_cut_off_is_noted(clip: Path, tmp_path):
    media = (Media(path=str(clip)),)  # 40 frames, 4 s
    spans = (AnnotatedSpan((0.0, 99.0), cut_end=True),)
    fields = {"task": "tvg", "media_type": "video", "media": media, "query": "it"}
    assert dict(make_sample(Annotation(**fields, spans=spans), "1", "a").notes) == {
        "cut_end": "span is [0.0, 99.0], of a clip that ends at 3.9 seconds, which counts as its end"
    }
    # A file that fits its annotations to a percent: what ends with them ends with it.
    fields["media"] = (Media(path=str(encode(tmp_path / "a.mkv", num_frames=300))),)  # 12 s
    for end, notes in ((12.0, []), (12.1, ["cut_end"])):
        sample = make_sample(Annotation(**fields, spans=(AnnotatedSpan((0.0, end)),), duration_seconds=12.1), "1", "a")
        assert (sample.messages[1]["content"], list(dict(sample.notes))) == ("{<t=0.0><t=1.0>}", notes)
    with pytest.raises(RecordError, match=r"the time 12\.2 s is outside the clip"):
        answer(spans=(AnnotatedSpan((0.0, 12.2)),), **fields, duration_seconds=12.1, frame_count=None, size=None)
    picture = {"task": "rec", "media_type": "image", "media": media, "query": "it", "size": (100, 50)}
    for box, notes in (([0, 0, 50, 52], []), ([0, 0, 50, 80], ["cut_box"])):
        sample = make_sample(Annotation(**picture, boxes=(AnnotatedBox(box),)), "1", "a")
        assert (sample.messages[1]["content"][-8:], list(dict(sample.notes))) == ("<y=1.0>]", notes)


def test_a_box_in_fractions_needs_no_size():
    box = AnnotatedBox([0.25, -0.1, 0.5, 1.2], unit="fraction")
    assert answer(task="rec", media_type="image", boxes=(box,), size=None) == "[<x=0.25><y=0.0><x=0.5><y=1.0>]"


def test_sentences_with_spans_are_written_from_their_captions():
    spans = (AnnotatedSpan((0, 50), "frames", "a man enters"), AnnotatedSpan((0.5, 1), "fraction", " he leaves. "))
    found = answer(task="dvc", query=None, spans=spans)
    assert found == "{<t=0.0><t=0.5>}, a man enters. {<t=0.5><t=1.0>}, he leaves."
    media = MediaInfo("video", 9, 9, (0, 1), (0, 1))
    assert not parse_answer(found, media, answer_format="sentences_with_spans").problems


def test_a_caption_ends_with_one_full_stop():
    for caption in ("a dog runs", "a dog runs. "):
        tube = AnnotatedTube({50: BOX}, "frames", interpolate=False)
        found = answer(task="elc", answer=caption, spans=(AnnotatedSpan((50, 50), "frames"),), tubes=(tube,))
        box = "[<x=0.0><y=0.0><x=0.5><y=0.5>]"
        assert found == f"Ends in <t=0.5>, a dog runs. Object bounding box: <t=0.5>:{box}"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"task": "tvg"}, "the record has 0 spans: task 'tvg' needs one"),
        ({"task": "tvg", "spans": [(0, 1), (2, 3)]}, "the record has 2 spans"),
        ({"spans": [(0, 1)]}, "the record has 0 tubes"),
        ({"task": "rec", "media_type": "image"}, "the record has 0 boxes"),
        ({"task": "rec", "media_type": "image", "spans": [(0, 1)], "frame_count": None}, "it has no time"),
        ({"task": "tr", "spans": [(0, 1)]}, "answer is missing: task 'tr' needs it"),
        ({"task": "tvg", "query": None, "spans": [(0, 1)]}, "query is missing"),
        ({"task": "svg", "prompts": ("Where?",), "spans": [(0, 101)], "tubes": [{0: BOX}]}, "frame 101 is outside"),
    ],
)
def test_says_what_a_task_lacks(fields, found):
    spans = tuple(AnnotatedSpan(times, "frames") for times in fields.pop("spans", ()))
    tubes = tuple(AnnotatedTube(boxes, "frames", interpolate=False) for boxes in fields.pop("tubes", ()))
    with pytest.raises(RecordError, match=found):
        answer(spans=spans, tubes=tubes, **fields)
