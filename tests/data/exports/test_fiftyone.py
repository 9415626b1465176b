import json

import pytest

from llava_st_hf.data.exports import export_answers

from .conftest import CIRCLE, CIRCLE_WORDS, SQUARE_WORDS


@pytest.mark.parametrize("every_frame", [False, True])
def test_frames_have_detections_and_the_clip_has_events(answers, clip, tmp_path, every_frame):
    manifest, labels = export_answers(answers, "fiftyone", tmp_path / "set", every_frame=every_frame).paths
    (entry,) = json.loads(manifest.read_text())["index"]
    assert entry == {"data": str(clip), "labels": "labels/circle.json"}
    assert labels == tmp_path / "set" / entry["labels"]
    content = json.loads(labels.read_text())
    events = [(event["label"], event["support"]["ranges"]) for event in content["events"]["events"]]
    assert events == [
        ("It starts.", [[1, 1]]),
        (CIRCLE_WORDS, [[6, 21]]),
        (SQUARE_WORDS, [[9, 17]]),
        ("It stops --> & stays.", [[21, 40]]),
    ]
    numbers = list(range(6, 22)) if every_frame else [6, 9, 13, 17, 21]
    assert [int(number) for number in content["frames"]] == numbers
    for frame, box in CIRCLE.items():
        detection = content["frames"][str(frame + 1)]["objects"]["objects"][0]
        corners = [detection["bounding_box"][corner] for corner in ("top_left", "bottom_right")]
        assert [c for one in corners for c in (one["x"] * 320, one["y"] * 240)] == pytest.approx(box, abs=1e-9)
        assert (detection["label"], detection["index"], detection["confidence"]) == (CIRCLE_WORDS, 1, 0.5)


def test_eta_reads_it(answers, clip, tmp_path):
    """The library with which FiftyOne reads the format."""
    video = pytest.importorskip("eta.core.video", reason="needs voxel51-eta")
    datasets = pytest.importorskip("eta.core.datasets", reason="needs voxel51-eta")
    manifest, labels = export_answers(answers, "fiftyone", tmp_path / "set", every_frame=True).paths
    assert list(datasets.load_dataset(str(manifest)).iter_data_paths()) == [str(clip)]
    read = video.VideoLabels.from_json(str(labels))
    assert [list(event.support.limits) for event in read.events] == [[1, 1], [6, 21], [9, 17], [21, 40]]
    first, second = read[13].objects
    assert first.bounding_box.to_coords() == pytest.approx([30.1 / 320, 40.2 / 240, 70.3 / 320, 90.4 / 240])
    assert [attribute.value for one in (first, second) for attribute in one.attrs] == [True, False]


def test_fiftyone_imports_it(answers, clip, tmp_path, monkeypatch):
    """By the importer behind `Dataset.from_dir`, which needs no MongoDB server."""
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
    data = pytest.importorskip("fiftyone.utils.data", reason="needs fiftyone")
    export_answers(answers, "fiftyone", tmp_path / "set", every_frame=True)
    with data.FiftyOneVideoLabelsDatasetImporter(dataset_dir=str(tmp_path / "set")) as importer:
        ((path, _, labels, frames),) = importer
    assert path == str(clip)
    events = labels["events"].detections
    assert [(one.label, one.support) for one in events][1] == (CIRCLE_WORDS, [6, 21])
    assert [one.confidence for one in events] == [None, 0.75, None, None]
    assert list(frames) == list(range(6, 22))
    first, second = frames[13]["detections"].detections
    assert (first.label, first.index, first.confidence, first.is_named) == (CIRCLE_WORDS, 1, 0.5, True)
    left, top, width, height = first.bounding_box
    corners = [left * 320, top * 240, (left + width) * 320, (top + height) * 240]
    assert corners == pytest.approx(CIRCLE[12], abs=1e-9)
    assert (second.index, second.is_named) == (2, False)
