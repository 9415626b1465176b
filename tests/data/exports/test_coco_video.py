import json

import pytest
from PIL import Image

from llava_st_hf.data.exports import export_answers
from llava_st_hf.data.readers.coco_video import CocoVideoReader
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.samples import Sample

from .conftest import CIRCLE, CIRCLE_WORDS, SQUARE, SQUARE_WORDS


@pytest.mark.parametrize("every_frame", [False, True])
def test_is_read_again_equal_to_the_pixel(answers, clip, tmp_path, every_frame):
    (path,) = export_answers(answers[:3], "coco_video", tmp_path / "a.json", every_frame=every_frame).paths
    assert guess_format(path) == "coco_video"
    reader = CocoVideoReader(path, "mine", clip.parent, num_frames=40)
    tracks = reader.list_tracks()
    assert [(track.phrase, track.label) for track in tracks] == [(CIRCLE_WORDS,) * 2, (SQUARE_WORDS,) * 2]
    for track, boxes in zip(tracks, (CIRCLE, SQUARE), strict=True):
        read = {frame: (box[0], box[1], box[0] + box[2], box[1] + box[3]) for frame, _, box in track.rows if box}
        for frame, box in boxes.items():
            assert read[frame] == pytest.approx(box, abs=1e-9)
        inside = [frame for frame in sorted({*CIRCLE, *SQUARE}) if min(boxes) <= frame <= max(boxes)]
        assert list(read) == (list(range(min(boxes), max(boxes) + 1)) if every_frame else inside)
    assert all(isinstance(record, Sample) for record in reader)
    named = [one for one in json.loads(path.read_text())["annotations"] if one["is_named"]]
    assert [(one["track_id"], one["frame_index"]) for one in named] == [
        *((1, frame) for frame in CIRCLE),
        *((2, frame) for frame in SQUARE),
    ]


def test_clips_and_images_are_one_file(answers, tmp_path):
    (path,) = export_answers(answers, "coco_video", tmp_path / "coco").paths
    content = json.loads(path.read_text())
    assert [(video["name"], video["spans"]) for video in content["videos"]] == [
        ("circle.mp4", [[0.5, 2.0], [0.8, 1.6]])
    ]
    for name in ("images", "annotations", "categories"):
        assert [row["id"] for row in content[name]] == list(range(1, len(content[name]) + 1))
    frames = [(image["video_id"], image["frame_index"]) for image in content["images"][:-1]]
    assert len(set(frames)) == len(frames) == 5
    assert [image["file_name"] for image in content["images"][:2]] == ["circle/000005.jpg", "circle/000008.jpg"]
    assert content["images"][-1] == {"id": 6, "file_name": "a.png", "width": 64, "height": 48}
    last = content["annotations"][-1]
    assert (last["image_id"], last["bbox"], last["caption"]) == (6, [1, 2, 29.5, 38], "a dog")
    assert "video_id" not in last
    (path,) = export_answers(answers[3:], "coco_video", tmp_path / "images.json").paths
    assert guess_format(path) == "coco"


def test_pycocotools_reads_it(answers, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    (path,) = export_answers(answers, "coco_video", tmp_path / "a.json").paths
    read = coco.COCO(str(path))
    (number,) = read.getCatIds(catNms=[CIRCLE_WORDS])
    assert len(read.getAnnIds(catIds=[number])) == 5
    assert len(read.getImgIds(catIds=[number])) == 5


def test_datumaro_reads_it(answers, tmp_path):
    dataset = pytest.importorskip("datumaro.components.dataset", reason="needs datumaro")
    for name in ("annotations", "images"):
        (tmp_path / name).mkdir()
    export_answers(answers, "coco_video", tmp_path / "annotations" / "instances_all.json")
    read = dataset.Dataset.import_from(str(tmp_path), "coco_instances")
    names = [label.name for label in read.categories()[next(iter(read.categories()))]]
    found = [(names[shape.label], tuple(shape.points)) for item in read for shape in item.annotations]
    for box in CIRCLE.values():
        assert any(name == CIRCLE_WORDS and points == pytest.approx(box, abs=0.01) for name, points in found)
    assert len(found) == 5 + 3 + 1


def test_supervision_reads_it(answers, tmp_path):
    supervision = pytest.importorskip("supervision", reason="needs supervision")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    (path,) = export_answers(answers[3:], "coco_video", tmp_path / "images.json").paths
    read = supervision.DetectionDataset.from_coco(str(tmp_path), str(path))
    ((_, _, detections),) = read
    assert read.classes == ["a dog"]
    assert detections.xyxy[0] == pytest.approx([1, 2, 30.5, 40])
