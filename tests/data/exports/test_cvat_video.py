from pathlib import Path

import pytest

from llava_st_hf.data.exports import export_answers
from llava_st_hf.data.readers.cvat_video import CvatVideoReader
from llava_st_hf.data.readers.tables import read_xml
from llava_st_hf.data.samples import Sample

from .conftest import CIRCLE, CIRCLE_WORDS, SQUARE, SQUARE_WORDS


@pytest.mark.parametrize("every_frame", [False, True])
def test_is_read_again_equal_to_the_pixel(answers, clip, tmp_path, every_frame):
    (path,) = export_answers(answers, "cvat_video", tmp_path / "a.xml", every_frame=every_frame).paths
    tracks = CvatVideoReader(path, "mine", clip.parent).list_tracks()
    assert [(track.phrase, track.label) for track in tracks] == [(CIRCLE_WORDS, "object"), (SQUARE_WORDS, "object")]
    for track, boxes, end in zip(tracks, (CIRCLE, SQUARE), (21, 17), strict=True):
        read = {frame: box if box is None else tuple(box) for frame, _, box in track.rows}
        assert read.pop(end) is None  # or CVAT would let it stay
        assert {frame: read[frame] for frame in boxes} == boxes
        assert list(read) == list(range(min(boxes), max(boxes) + 1) if every_frame else boxes)
        video = track.video
        assert (video.name, video.size, video.frame_count) == (clip.name, (320, 240), 40)
    keyframes = [int(box.get("frame")) for box in read_xml(path).iter("box") if box.get("keyframe") == "1"]
    assert keyframes == [*CIRCLE, 21, *SQUARE, 17]
    assert all(isinstance(record, Sample) for record in CvatVideoReader(path, "mine", clip.parent, num_frames=40))


def test_datumaro_reads_it(answers, tmp_path):
    dataset = pytest.importorskip("datumaro.components.dataset", reason="needs datumaro")
    export_answers(answers, "cvat_video", tmp_path / "cvat")
    read = [
        (int(item.attributes["frame"]), shape.attributes["caption"], tuple(shape.points))
        for item in dataset.Dataset.import_from(str(tmp_path / "cvat"), "cvat")
        for shape in item.annotations
        if not shape.attributes.get("outside")
    ]
    rows = [(frame, CIRCLE_WORDS, box) for frame, box in CIRCLE.items()]
    rows += [(frame, SQUARE_WORDS, box) for frame, box in SQUARE.items()]
    for frame, words, box in rows:
        assert any(one[:2] == (frame, words) and one[2] == pytest.approx(box, abs=0.01) for one in read)
    assert Path(tmp_path / "cvat" / "circle.xml").exists()
