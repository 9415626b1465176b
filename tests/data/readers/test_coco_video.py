import json
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.readers.coco_video import CocoVideoReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

CATEGORIES = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
SIZE = {"width": 320, "height": 240}
FRAMES = (0, 10, 20, 30)


def make_coco_vid(frame_key: str, track_key: str) -> dict:
    """Three objects: a dog in three of four frames, and two cats."""
    boxes = {
        7: {0: [0, 0, 32, 24], 10: [32, 0, 32, 24], 30: [64, 0, 32, 24]},
        8: {0: [9, 9, 9, 9]},
        9: {0: [9, 9, 9, 9]},
    }
    return {
        "videos": [{"id": 1, "name": "a", **SIZE}],
        "images": [
            {"id": 100 + f, "video_id": 1, "file_name": f"a/{f:03d}.jpg", frame_key: f, **SIZE} for f in FRAMES
        ],
        "annotations": [
            {
                "id": 50 + n,
                "image_id": 100 + f,
                "video_id": 1,
                track_key: track,
                "category_id": 1 + (track > 7),
                "bbox": box,
            }
            for track, by_frame in boxes.items()
            for n, (f, box) in enumerate(by_frame.items())
        ],
        "categories": CATEGORIES,
    }


YOUTUBE_VIS = {
    "videos": [{"id": 1, "file_names": [f"a/{f:03d}.jpg" for f in FRAMES], "length": 4, **SIZE}],
    "annotations": [
        {"id": 5, "video_id": 1, "category_id": 1, "bboxes": [[0, 0, 32, 24], [32, 0, 32, 24], None, [64, 0, 32, 24]]}
    ],
    "categories": CATEGORIES,
}


def open_file(folder: Path, content: dict, clip: Path | None = None, **options) -> CocoVideoReader:
    if clip is not None:
        (folder / "a.mp4").write_bytes(clip.read_bytes())
    else:
        (folder / "a").mkdir()
        for frame in range(0, 40, 5):  # more than are annotated
            Image.new("RGB", (320, 240)).save(folder / f"a/{frame:03d}.jpg")
    (folder / "a.json").write_text(json.dumps(content))
    return CocoVideoReader(folder / "a.json", "videos", folder, **options)


@pytest.mark.parametrize(
    "content", [make_coco_vid("frame_id", "instance_id"), make_coco_vid("frame_index", "track_id"), YOUTUBE_VIS]
)
def test_annotated_pictures_are_the_clip(tmp_path, content):
    (record,) = open_file(tmp_path, content, vary_prompts=False)
    assert record.id in ("a 7", "5")
    assert [Path(item.path).stem for item in record.media] == ["000", "010", "020", "030"]
    assert "Between  {<t=0.0><t=1.0>} , where is the dog?" in record.messages[0]["content"]
    boxes = [f"[<x={left}><y=0.0><x={left + 0.1}><y=0.1>]" for left in (0.0, 0.1, 0.2)]
    expected = f"<t=0.0>:{boxes[0]}, <t={1 / 3!r}>:{boxes[1]}, <t=1.0>:{boxes[2]}"  # the third frame has none
    found = [lexeme.value for lexeme in record.find_coordinates()[1]]
    assert found == pytest.approx([float(part.partition("=")[2]) for part in expected.split(">") if "=" in part])


def test_a_video_has_the_frames_between(tmp_path, clip):
    (record,) = open_file(tmp_path, make_coco_vid("frame_index", "track_id"), clip, num_frames=40)
    times = [lexeme.value * 39 for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx([*range(11), 30])  # at frame 20 it is not there


def test_frames_may_be_counted_from_1(tmp_path, clip):
    # As files that are made of MOT are; the video has its name as file_name.
    content = make_coco_vid("frame_id", "track_id")
    content["images"] = [{**image, "frame_id": image["frame_id"] + 1} for image in content["images"]]
    content["videos"] = [{"id": 1, "file_name": "a", **SIZE}]
    (record,) = open_file(tmp_path, content, clip, num_frames=40)
    times = [lexeme.value * 39 for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx([*range(11), 30])


@pytest.mark.parametrize("first", [0, 1])
def test_names_of_pictures_tell_the_frames_of_a_video(tmp_path, clip, first):
    names = [f"a/img_{f + first:05d}.jpg" for f in FRAMES]
    content = {**YOUTUBE_VIS, "videos": [{**YOUTUBE_VIS["videos"][0], "file_names": names}]}
    (record,) = open_file(tmp_path, content, clip, num_frames=40)
    times = [lexeme.value * 39 for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx([*range(11), 30])


def test_pictures_without_numbers_are_the_whole_video(tmp_path, clip):
    names = [f"a/{letter}.jpg" for letter in "abcd"]
    content = {**YOUTUBE_VIS, "videos": [{**YOUTUBE_VIS["videos"][0], "file_names": names}]}
    record = open_file(tmp_path, content, clip)[0]
    assert not isinstance(record, Sample) and record.reason == "mismatched_media"


def test_crowds_are_no_records_and_kinds_are_words(tmp_path, clip):
    content = make_coco_vid("frame_id", "track_id")
    content["categories"] = [{"id": 1, "name": "guide_dog"}, {"id": 2, "name": "cat"}]
    content["annotations"][-1]["iscrowd"] = 1
    records = list(open_file(tmp_path, content, clip, task="elc"))
    assert [record.id for record in records] == ["a 7", "a 8"]
    assert "the guide dog. Object" in records[0].messages[1]["content"]


def test_phrases_name_what_a_kind_does_not(tmp_path, clip):
    content = make_coco_vid("frame_id", "track_id")
    content["annotations"][3]["caption"] = "the cat in the box"
    records = list(open_file(tmp_path, content, clip))
    assert [record.id for record in records] == ["a 7", "a 8"]
    assert "where is the cat in the box?" in records[1].messages[0]["content"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"categories": []}, "label is None"),
        (
            {"annotations": [{"id": 5, "video_id": 1, "category_id": 1, "segmentations": [None]}]},
            "the track has no box",
        ),
        ({"annotations": [{**YOUTUBE_VIS["annotations"][0], "bboxes": [None]}]}, "the track has no box"),
        ({"videos": [{"id": 1, "name": "b", **SIZE}]}, "video is 'b', which does not exist"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, changes, found):
    content = {**make_coco_vid("frame_id", "track_id"), **changes}
    content["annotations"] = content["annotations"][:3]
    content["images"] = [{**image, "file_name": "c.jpg"} for image in content["images"]]
    record = open_file(tmp_path, content, clip)[0]
    assert not isinstance(record, Sample)
    assert record.detail.startswith(found) or "c.jpg" in record.detail


def test_an_object_has_one_box_in_an_image(tmp_path, clip):
    content = make_coco_vid("frame_id", "track_id")
    content["annotations"][1] |= {"image_id": 100}
    content["categories"] = content["categories"][:1]
    assert open_file(tmp_path, content, clip)[0].detail == "frame is 0: it has two boxes of this object; give one."
    with pytest.raises(InputError, match=r"id is 1 of .* and of another: give each its own"):
        open_file(tmp_path, {**content, "videos": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, clip)


def test_refuses_another_file(tmp_path, clip):
    with pytest.raises(InputError, match="has no list 'images'"):
        open_file(tmp_path, {"videos": [], "annotations": []}, clip)
    content = make_coco_vid("frame", "track_id")
    with pytest.raises(InputError, match="images: frame_index is None: give a whole number"):
        open_file(tmp_path, content, clip)
