import json
import pickle
import sys

import numpy as np
import pytest

from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.answer_problems_llava_st import Problem
from llava_st_hf.processing.grounding_results_llava_st import (
    Box,
    Caption,
    GroundingResult,
    Span,
    Tube,
    TubeBox,
)
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.tube_masks_llava_st import TubeMasks, encode_mask

# Token k of time is k / 10 s and frame k; token k of width or height is k pixels.
CLIP = MediaInfo("video", 99, 99, tuple(range(100)), tuple(k / 10 for k in range(100)), source="clip.mp4")
IMAGE = MediaInfo("image", 99, 99, source="image.jpg")
BOX = "[<x_1><y_2><x_30><y_40>]"
BOX_PIXELS = (1, 2, 30, 40)
SPAN = "{<t_10><t_42>}"
SPAN_SECONDS = (1.0, 4.2)


def make_full_result():
    text = f"{{<t_10><t_42>}} One: <t_10>:{BOX}, <t_20>:[<x_11><y_2><x_40><y_40>]. Two: <t_10>:{BOX} {BOX} {{<t_9>}}"
    return parse_answer(text, CLIP, query="a man", task="stvg")


def test_a_tube_of_arrays_is_a_tube():
    result = parse_answer(", ".join(f"<t_{k}>:{BOX}" for k in range(20)), CLIP)
    (tube,) = pickle.loads(pickle.dumps(result)).tubes
    expected = Tube(tuple(TubeBox(k / 10, k, Box(*BOX_PIXELS)) for k in range(20)))
    assert "boxes" not in vars(tube)  # until somebody asks
    assert [entry.frame_index for entry in tube.boxes] == list(range(20))
    assert tube.boxes[3].box.fractions == (1 / 99, 2 / 99, 30 / 99, 40 / 99)
    assert repr(tube) == "Tube(20 boxes from 0.00 s to 1.90 s)"
    assert (tube, hash(tube)) == (result.tubes[0], hash(result.tubes[0]))
    np.testing.assert_allclose(tube.arrays.boxes_pixels, expected.arrays.boxes_pixels)
    np.testing.assert_array_equal(tube.arrays.frame_indices, expected.arrays.frame_indices)
    with pytest.raises(AttributeError, match="no attribute 'masks'"):
        tube.masks  # noqa: B018


def test_a_result_survives_json_exactly():
    result = make_full_result()
    assert result.spans and result.tubes and result.boxes and result.problems and result.media
    restored = GroundingResult.from_dict(json.loads(result.to_json(indent=2)))
    assert restored == result
    assert restored.to_dict() == result.to_dict()
    assert restored.tubes[0].boxes[0].box.fractions == result.tubes[0].boxes[0].box.fractions


def make_every_field():
    box, span = Box(1.0, 2.0, 3.0, 4.0, 0.5, (0.1, 0.2, 0.3, 0.4)), Span(1.0, 2.0, 0.5, (0.1, 0.2))
    return GroundingResult(
        "a",
        spans=(span,),
        boxes=(box,),
        tubes=(Tube((TubeBox(1.0, 1, box, 0.1), TubeBox(2.0, 2, box, 0.2))),),
        captions=(Caption("c", span, (box,)),),
        problems=(Problem("missing_box", "m", "t", 0, 1),),
        task="stvg",
        query="q",
        media=MediaInfo("video", 64, 48, (0, 1), (0.0, 1.0), "absent.mp4", ("p",)),
        notes=("n",),
        masks=(TubeMasks((1,), (1.0,), (encode_mask(np.eye(3, dtype=bool)),)),),
    )


def list_places(values, place=()):
    """Yield the place of everything that JSON holds."""
    yield place
    for key, item in (
        values.items() if isinstance(values, dict) else enumerate(values if isinstance(values, list) else ())
    ):
        yield from list_places(item, (*place, key))


EVERY_PLACE = [place for place in list_places(json.loads(make_every_field().to_json())) if place]


@pytest.mark.filterwarnings("ignore:OpenCV")
@pytest.mark.parametrize("place", EVERY_PLACE, ids=lambda place: ".".join(map(str, place)))
def test_a_saved_answer_is_used_or_refused_by_the_name_of_its_field(tmp_path, place):
    for value in [[], [1], {}, {"a": 1}, "x", "\ud800", None, True, 10**400, 2**62, -1, 1e308, float("nan")]:
        values = json.loads(make_every_field().to_json())
        holder = values
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = value
        try:
            result = GroundingResult.from_dict(values)
        except InputError as error:
            message = str(error)
            assert place[0] in message and "\n" not in message and len(message) < 300, (value, message)
            continue
        assert str(result) and repr(result) and result._repr_html_()
        result.to_dataframe(), result.to_detections()
        assert result.media is None or json.dumps(result.to_coco(), allow_nan=False)
        for ending in ("json", "csv", "html"):
            result.save(tmp_path / f"a.{ending}")


def test_a_mask_of_endless_numbers_ends():
    with pytest.raises(InputError, match="do not fill its size"):
        TubeMasks((1,), (1.0,), ({"size": [2, 2], "counts": "o" * 2_000_000},)).decode(1)


@pytest.mark.parametrize("values", [{}, {"text": "", "spans": [3]}, {"text": "", "boxes": [{"left": 1}]}, 5])
def test_from_dict_of_something_else_raises(values):
    with pytest.raises(InputError, match="not a grounding result"):
        GroundingResult.from_dict(values)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Span(2.0, 1.0), "reversed"),
        (lambda: Span(float("nan"), 1.0), "start_seconds"),
        (lambda: Box(10, 10, 5, 20), "reversed"),
        (lambda: Box(0, 0, float("inf"), 20), "x2"),
        (lambda: Tube(()), "no boxes"),
        (lambda: Tube((TubeBox(1.0, 1, Box(0, 0, 1, 1)), TubeBox(0.0, 0, Box(0, 0, 1, 1)))), "order"),
    ],
)
def test_impossible_values_raise(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_tube_is_interpolated_between_its_boxes_only():
    tube = Tube((TubeBox(1.0, 10, Box(0, 0, 10, 10)), TubeBox(2.0, 20, Box(10, 20, 30, 40))))
    assert tube.box_at(1.0) == Box(0, 0, 10, 10)
    assert tube.box_at(1.25) == Box(2.5, 5, 15, 17.5)
    assert tube.box_at(2.0) == Box(10, 20, 30, 40)
    assert tube.box_at(0.9) is None
    assert tube.box_at(2.1) is None
    assert tube.box_at(0.9, tolerance_seconds=0.2) == Box(0, 0, 10, 10)
    assert tube.box_at(2.1, tolerance_seconds=0.2) == Box(10, 20, 30, 40)


def test_coco_of_a_clip_has_its_frames_and_tracks():
    coco = make_full_result().to_coco()
    assert json.loads(json.dumps(coco, allow_nan=False)) == coco
    assert coco["videos"] == [
        {"id": 1, "file_name": "clip.mp4", "width": 99, "height": 99, "spans": [pytest.approx(SPAN_SECONDS)]}
    ]
    frames = {image["id"]: image["frame_index"] for image in coco["images"]}
    rows = [(frames[a["image_id"]], a["track_id"], a["bbox"]) for a in coco["annotations"]]
    box = pytest.approx([1, 2, 29, 38])
    assert rows == [(None, None, box), (10, 1, box), (20, 1, pytest.approx([11, 2, 29, 38])), (10, 2, box)]
    assert coco["categories"] == [{"id": 1, "name": "a man"}]
    assert len(coco["images"]) == 3


def test_coco_of_an_image_has_its_phrases_as_categories():
    result = parse_answer(f"a dog {BOX} and a cat {BOX}", IMAGE, answer_format="phrases_with_boxes")
    coco = result.to_coco()
    assert [category["name"] for category in coco["categories"]] == ["a dog", "and a cat"]
    assert [annotation["category_id"] for annotation in coco["annotations"]] == [1, 2]
    assert [image["file_name"] for image in coco["images"]] == ["image.jpg"]
    assert coco["annotations"][0]["area"] == pytest.approx(29 * 38)
    with pytest.raises(InputError, match="media"):
        GroundingResult("").to_coco()


def test_detections_are_those_of_supervision():
    supervision = pytest.importorskip("supervision")
    result = make_full_result()
    detections = result.to_detections()
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist()[2] == pytest.approx([11, 2, 40, 40])
    assert detections.tracker_id.tolist() == [-1, 1, 1, 2]
    assert detections.data["frame_index"].tolist() == [-1, 10, 20, 10]
    assert set(detections.data["class_name"]) == {"a man"}
    assert detections.confidence is None
    assert len(result.to_detections(frame_index=10)) == 2
    assert len(GroundingResult("").to_detections()) == 0
    sure = parse_answer(BOX, CLIP, refinements={1: (0.0, 0.5)}).to_detections()
    assert sure.confidence.tolist() == [0.5]
    assert sure.tracker_id is None


def test_detections_without_supervision_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install llava-st-hf\[detections\]"):
        make_full_result().to_detections()


def test_a_table_has_a_row_for_each_span_and_box():
    pytest.importorskip("pandas")
    table = make_full_result().to_dataframe()
    assert table["kind"].tolist() == ["span", "box", "box", "box", "box"]
    assert set(table["label"]) == {"a man"}
    assert table["track"].fillna(0).tolist() == [0, 0, 1, 1, 2]
    assert table["start_seconds"].fillna(-1).tolist() == pytest.approx([1.0, -1, 1.0, 2.0, 1.0])
    assert table["end_seconds"].fillna(-1).tolist() == pytest.approx([4.2, -1, 1.0, 2.0, 1.0])
    assert table["frame_index"].fillna(-1).tolist() == [-1, -1, 10, 20, 10]
    assert table.loc[3, ["x1", "y1", "x2", "y2"]].tolist() == pytest.approx([11, 2, 40, 40])
    assert table["confidence"].isna().all()
    empty = GroundingResult("").to_dataframe()
    assert len(empty) == 0 and list(empty) == list(table)
    dense = parse_answer(
        f"{SPAN}, he sits. {{<t_50><t_60>}}, he stands.", CLIP, answer_format="sentences_with_spans"
    ).to_dataframe()
    assert dense["label"].tolist() == ["he sits.", "he stands."]


def test_a_table_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        make_full_result().to_dataframe()


@pytest.mark.parametrize(
    "make", [lambda: Span(0, 10**400), lambda: Box(0, 0, 10**400, 1), lambda: Span(-(10**400), 1)]
)
def test_numbers_beyond_all_floats_are_refused(make):
    with pytest.raises(InputError, match="give a finite number"):
        make()
