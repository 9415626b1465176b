import json
import shutil

import pytest

from llava_st_hf.data.exports import export_answers
from llava_st_hf.data.readers.mot import MotReader
from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.samples import Sample

from .conftest import CIRCLE, CIRCLE_WORDS, SQUARE, SQUARE_WORDS


@pytest.mark.parametrize("every_frame", [False, True])
def test_is_read_again_equal_to_the_pixel(answers, clip, tmp_path, every_frame):
    path, _, objects = export_answers(answers, "mot", tmp_path / "mot", every_frame=every_frame).paths
    names = {int(number): words for number, words in json.loads(objects.read_text()).items()}
    assert names == {1: CIRCLE_WORDS, 2: SQUARE_WORDS}
    assert guess_format(path) == "mot"
    reader = MotReader(path, "mine", clip.parent, names=names, num_frames=40)
    for track, boxes in zip(reader.list_tracks(), (CIRCLE, SQUARE), strict=True):
        read = {frame: (box[0], box[1], box[0] + box[2], box[1] + box[3]) for frame, _, box in track.rows if box}
        for frame, box in boxes.items():
            assert read[frame] == pytest.approx(box, abs=1e-9)
        inside = [frame for frame in sorted({*CIRCLE, *SQUARE}) if min(boxes) <= frame <= max(boxes)]
        assert list(read) == (list(range(min(boxes), max(boxes) + 1)) if every_frame else inside)
        video = track.video
        assert (video.name, video.size, video.frame_count, video.frame_rate) == ("circle", (320, 240), 40, 10)
    assert len(reader) == 2
    assert all(isinstance(record, Sample) for record in reader)


def test_trackeval_reads_it(answers, tmp_path):
    trackeval = pytest.importorskip("trackeval", reason="needs trackeval")
    path, *_ = export_answers(answers, "mot", tmp_path / "truth", every_frame=True).paths
    (tmp_path / "trackers" / "mine" / "data").mkdir(parents=True)
    shutil.copy(path, tmp_path / "trackers" / "mine" / "data" / "circle.txt")
    settings = trackeval.datasets.MotChallenge2DBox.get_default_dataset_config()
    settings |= {"GT_FOLDER": str(tmp_path / "truth"), "TRACKERS_FOLDER": str(tmp_path / "trackers")}
    settings |= {"SEQ_INFO": {"circle": None}, "SKIP_SPLIT_FOL": True, "DO_PREPROC": False, "BENCHMARK": "MOT15"}
    dataset = trackeval.datasets.MotChallenge2DBox({**settings, "PRINT_CONFIG": False})
    data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("mine", "circle"), "pedestrian")
    assert (data["num_timesteps"], data["num_gt_dets"], data["num_gt_ids"]) == (40, 16 + 9, 2)
    assert data["gt_dets"][5][0] == pytest.approx([10.125, 20.3, 40.575, 39.8])
    assert trackeval.metrics.HOTA().eval_sequence(data)["HOTA"].mean() == pytest.approx(1)


def test_motmetrics_reads_it(answers, tmp_path):
    motmetrics = pytest.importorskip("motmetrics", reason="needs motmetrics")
    path, *_ = export_answers(answers, "mot", tmp_path / "mot", every_frame=True).paths
    rows = motmetrics.io.loadtxt(str(path), fmt="mot15-2D", min_confidence=1)
    for number, boxes in ((1, CIRCLE), (2, SQUARE)):
        for frame, box in boxes.items():
            left, top, width, height = rows.loc[(frame + 1, number), ["X", "Y", "Width", "Height"]]
            # It counts pixels from 1 in a file, from 0 in memory.
            assert [left + 1, top + 1, left + 1 + width, top + 1 + height] == pytest.approx(box)
    assert len(rows) == 16 + 9


def test_datumaro_reads_it(answers, tmp_path):
    dataset = pytest.importorskip("datumaro.components.dataset", reason="needs datumaro")
    export_answers(answers, "mot", tmp_path / "mot")
    read = {
        (int(item.id), shape.attributes["track_id"]): shape.points
        for item in dataset.Dataset.import_from(str(tmp_path / "mot" / "circle"), "mot_seq")
        for shape in item.annotations
    }
    for number, boxes in ((1, CIRCLE), (2, SQUARE)):
        for frame, box in boxes.items():
            assert read[frame + 1, number] == pytest.approx(box, abs=0.01)
