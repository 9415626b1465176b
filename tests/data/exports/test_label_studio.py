import json

import pytest

from llava_st_hf.data.exports import export_answers

from .conftest import CIRCLE, CIRCLE_WORDS


def read_back(sequence):
    """The boxes in pixels by frame from 0."""
    return {
        row["frame"] - 1: (
            row["x"] * 3.2,
            row["y"] * 2.4,
            (row["x"] + row["width"]) * 3.2,
            (row["y"] + row["height"]) * 2.4,
        )
        for row in sequence
    }


@pytest.mark.parametrize("every_frame", [False, True])
def test_a_task_has_its_tracks_and_spans(answers, clip, tmp_path, every_frame):
    tasks, _ = export_answers(answers, "label_studio", tmp_path / "ls", every_frame=every_frame).paths
    (task,) = json.loads(tasks.read_text())
    assert task["data"] == {"video": str(clip), "frame_rate": 10}
    regions = task["predictions"][0]["result"]
    assert [region["id"] for region in regions] == ["track1", "track2", "span1", "span2", "span3", "span4"]
    circle, first = regions[0], regions[3]
    assert circle["meta"] == first["meta"] == {"text": [CIRCLE_WORDS]}
    assert circle["value"]["framesCount"] == 40
    boxes = read_back(circle["value"]["sequence"])
    assert list(boxes) == (list(range(5, 21)) if every_frame else list(CIRCLE))
    for frame, box in CIRCLE.items():
        assert boxes[frame] == pytest.approx(box, abs=1e-9)
    assert [row["frame"] for row in circle["value"]["sequence"] if not row["enabled"]] == [21]
    assert [row["frame"] for row in circle["value"]["sequence"] if not row["auto"]] == [6, 13, 21]
    assert first["value"] == {"ranges": [{"start": 6, "end": 21}], "timelinelabels": ["span"]}
    assert first["score"] == 0.75


def test_label_studio_takes_it(answers, tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="needs label-studio-sdk")
    tasks, config = export_answers(answers, "label_studio", tmp_path / "ls").paths
    project = interface.LabelInterface(config.read_text())
    project.validate()
    (task,) = json.loads(tasks.read_text())
    assert project.validate_task({"data": task["data"]})
    errors = project.validate_prediction(task["predictions"][0], return_errors=True)
    assert [error for error in errors if "'timeline'" not in error] == []
    # Its SDK has no class for a time line, and refuses the one of Label Studio's own documentation.
    documented = {"ranges": [{"start": 3, "end": 5}], "timelinelabels": ["span"]}
    region = {"from_name": "timeline", "to_name": "video", "type": "timelinelabels", "value": documented}
    assert type(project._controls["timeline"]).__name__ == "ControlTag"
    assert len(project.validate_prediction({"result": [region]}, return_errors=True)) == 1


def test_label_studio_interpolates_as_we_do(answers, tmp_path):
    name = "label_studio_sdk._extensions.label_studio_tools.postprocessing.video"
    video = pytest.importorskip(name, reason="needs label-studio-sdk")
    paths = [
        export_answers(answers, "label_studio", tmp_path / f"ls_{flag}", every_frame=flag).paths[0]
        for flag in (False, True)
    ]
    named, filled = ([*json.loads(path.read_text())[0]["predictions"][0]["result"]][:2] for path in paths)
    for theirs, ours in zip(video.extract_key_frames(named), filled, strict=True):
        theirs, ours = read_back(theirs["value"]["sequence"]), read_back(ours["value"]["sequence"])
        assert list(theirs) == list(ours)
        for frame, box in ours.items():
            assert theirs[frame] == pytest.approx(box, abs=1e-6)
