"""The truth of benchmarks from their annotation files, without media."""

import json

import pytest
from truth_files import write_hc_stvg, write_vidstg

from llava_st_hf.evaluation.truths import read_truths
from llava_st_hf.processing.media_llava_st import InputError


def test_frames_become_seconds_at_the_rate_of_the_annotation(real_annotations_dir, tmp_path):
    entries = json.loads((real_annotations_dir / "vidstg_val_excerpt.json").read_text())[:3]
    found = read_truths(write_vidstg(tmp_path / "vidstg.json", entries))
    truths, unusable = found.items, found.unusable
    assert not unusable
    assert len(truths) == sum(len(entry["captions"]) + len(entry["questions"]) for entry in entries)
    entry, truth = entries[0], truths["entry 0 captions 0"].result
    begin, end = entry["temporal_gt"].values()
    assert truth.spans[0].start_seconds == begin / entry["fps"]
    assert truth.spans[0].end_seconds == pytest.approx((end - 1) / entry["fps"])
    assert truth.media.frame_indices == tuple(range(entry["frame_count"]))
    arrays = truth.tubes[0].arrays
    assert arrays.frame_indices.tolist() == list(range(begin, end))
    assert arrays.boxes_pixels[3].tolist() == pytest.approx([13, 23, 113, 123])


@pytest.mark.parametrize(
    ("file", "items", "unusable"),
    [
        ("charades_sta_test_excerpt.txt", 500, 0),
        ("qvhighlights_val_excerpt.jsonl", 60, 0),
        ("tacos_test_excerpt.json", 630, 0),
        ("activitynet_captions_val_excerpt.json", 213, 0),
        ("st_align_stvg_truth_excerpt.json", 398, 20),  # those have no box, and it is said
    ],
)
def test_real_annotations(real_annotations_dir, file, items, unusable):
    found = read_truths(real_annotations_dir / file)
    truths, left_out = found.items, found.unusable
    assert (len(truths), len(left_out)) == (items, unusable)
    assert all(truth.result.spans for truth in truths.values())
    assert all("solution.boxes" in reason for _, reason in left_out)


def test_what_is_not_known_of_a_frame_cannot_be_compared(real_annotations_dir, tmp_path):
    truths = read_truths(write_hc_stvg(tmp_path / "hc.json")).items
    assert truths["1_a.mp4"].box_units == ("pixels", "fraction", "thousandth")
    truths = read_truths(real_annotations_dir / "st_align_stvg_truth_excerpt.json").items
    truth = next(iter(truths.values()))
    assert (truth.box_units, truth.has_duration) == (("pixels",), False)


def test_items_that_cannot_be_scored_are_named(tmp_path):
    path = write_hc_stvg(tmp_path / "hc.json")
    records = json.loads(path.read_text())
    records["2_b.mp4"] = {**records["1_a.mp4"], "bbox": []}
    path.write_text(json.dumps(records))
    found = read_truths(path)
    truths, unusable = found.items, found.unusable
    assert list(truths) == ["1_a.mp4"]
    assert [(name, "bbox is []" in reason) for name, reason in unusable] == [("2_b.mp4", True)]


def test_records_without_annotations_are_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({"task": "tvg", "media_type": "video", "messages": []}) + "\n")
    with pytest.raises(InputError, match="have no annotations"):
        read_truths(path)
