from dataclasses import replace

import pytest

from llava_st_hf.data.exports.clips import collect_clips
from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Tube, TubeBox
from llava_st_hf.processing.media_llava_st import InputError

from .conftest import CIRCLE, CIRCLE_WORDS, SQUARE, SQUARE_WORDS


def test_tracks_have_the_boxes_of_the_answer_or_one_a_frame(answers):
    (clip,) = collect_clips(answers, False, None)
    tracks = clip.list_tracks()
    assert [(track.number, track.label) for track in tracks] == [(1, CIRCLE_WORDS), (2, SQUARE_WORDS)]
    assert [{row.frame_index: row.box.xyxy for row in track.boxes} for track in tracks] == [CIRCLE, SQUARE]
    (clip,) = collect_clips(answers, True, None)
    circle, square = clip.list_tracks()
    assert [row.frame_index for row in circle.boxes] == list(range(5, 21))
    assert {row.frame_index: row.box.xyxy for row in circle.boxes if row.is_named} == CIRCLE
    between = square.boxes[4]
    assert (between.frame_index, between.is_named) == (12, False)
    assert between.box.xyxy == pytest.approx([(a + b) / 2 for a, b in zip(SQUARE[8], SQUARE[16], strict=True)])


def test_tracks_share_frames_as_far_as_they_last(answers):
    (clip,) = collect_clips(answers, False, None)
    circle, square = clip.list_tracks(shared_frames=True)
    assert [row.frame_index for row in circle.boxes] == [5, 8, 12, 16, 20]
    assert [row.frame_index for row in square.boxes] == [8, 12, 16]
    filled = clip.fill(answers[1])
    assert [entry.frame_index for entry in filled.tubes[0].boxes] == [8, 12, 16]


def test_two_times_in_one_frame_are_one_box(media):
    boxes = (TubeBox(0.48, 5, Box(1, 1, 9, 9)), TubeBox(0.52, 5, Box(2, 2, 9, 9)), TubeBox(0.7, 7, Box(3, 3, 9, 9)))
    (clip,) = collect_clips([GroundingResult("", tubes=(Tube(boxes),), media=media)], True, None)
    (track,) = clip.list_tracks()
    assert [(row.frame_index, row.box.x1) for row in track.boxes] == [(5, 1), (6, pytest.approx(2 + 4 / 9)), (7, 3)]
    assert track.label == "object"


def test_clips_of_one_name_are_told_apart_and_found_elsewhere(answers, clip, tmp_path):
    other = replace(answers[1].media, source=f"elsewhere/{clip.name}")
    results = [answers[0], replace(answers[1], media=other)]
    assert [one.name for one in collect_clips(results, False, None)] == ["circle", "circle-2"]
    (found,) = collect_clips(results, False, clip.parent)  # there, both are the same file
    assert (len(found.results), found.num_frames, found.frame_rate) == (2, 40, 10)


def test_a_clip_that_is_missing_or_another_is_said(answers, media, tmp_path):
    (clip,) = collect_clips(answers, False, tmp_path)
    with pytest.raises(
        InputError, match="the clip is not there, and its frames have to be counted; give media_folder"
    ):
        clip.list_spans()
    longer = GroundingResult("", tubes=(Tube((TubeBox(0, 0, Box(0, 0, 9, 9)), TubeBox(9, 90, Box(0, 0, 9, 9)))),))
    (clip,) = collect_clips([replace(longer, media=media)], True, None)
    with pytest.raises(InputError, match="which has 40 frames, but the answer has a box in frame 40"):
        clip.list_tracks()
    with pytest.raises(InputError, match="source is not set"):
        collect_clips([replace(answers[0], media=replace(media, source=None))], False, None)
