"""Records that were held out: which are asked, and what one without a usable truth is worth."""

from dataclasses import replace

import pytest

from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.skips import SkippedRecord
from llava_st_hf.evaluation.benchmarks.held_out_records import HeldOutRecords
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.processing.media_llava_st import InputError

pytestmark = pytest.mark.usefixtures("one_thread", "few_training_samples")


def make_records(*tasks: str) -> list[Sample]:
    return [ShapesDataset([task], 9, seed=3, num_frames=8, size=32)[place] for place, task in enumerate(tasks)]


def test_the_first_records_of_each_task_that_can_be_scored_are_asked_once():
    records = make_records("video_captioning", "tvg", "rec", "tvg", "tvg", "rec", "video_qa")
    gone = SkippedRecord("x", "mine", "missing_media", "media is 'x': fix it.")
    records = [records[0], gone, records[1], *records[1:]]
    benchmark = HeldOutRecords(records, 2)
    chosen = [records[place] for place in (2, 4, 5, 7)]
    assert [benchmark.read(index) for index in range(len(benchmark))] == chosen
    assert [benchmark.get_task(index) for index in range(len(benchmark))] == ["tvg", "rec", "tvg", "rec"]
    assert [benchmark.get_id(index) for index in range(len(benchmark))] == [f"{one.source}/{one.id}" for one in chosen]


def test_settings_tell_other_records_from_the_same():
    records = make_records("tvg", "tvg")
    settings = [HeldOutRecords(chosen, 2).get_settings() for chosen in (records, records, records[:1])]
    assert settings[0] == settings[1]
    assert settings[0]["records"] != settings[2]["records"]
    changed = replace(records[0], messages=(records[0].messages[0], {"role": "assistant", "content": "{<t_1><t_2>}"}))
    assert HeldOutRecords([changed, records[1]], 2).get_settings()["records"] != settings[0]["records"]


def test_no_record_that_can_be_scored_is_refused_with_the_reason():
    gone = SkippedRecord("x", "mine", "missing_media", "media is 'x', which does not exist")
    for records, message in (
        (make_records("video_captioning"), "none of 1 record has a task that can be scored: give some of tvg, "),
        ([gone, gone], "2 of 2 records cannot be read, .*; the first: media is 'x', which does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            HeldOutRecords(records, 2)
    with pytest.raises(InputError, match="num_records is 0"):
        HeldOutRecords(make_records("tvg"), 0)


def test_a_record_whose_truth_cannot_be_scored_counts_and_is_listed(make_model, processor, output_dir):
    records = make_records("tvg", "tvg")
    truths = [record.messages[-1]["content"] for record in records]
    records[1] = replace(records[1], messages=(records[1].messages[0], {"role": "assistant", "content": "never"}))
    benchmark = HeldOutRecords(records, 5)
    metrics = evaluate(make_model(truths, benchmark=benchmark), processor, benchmark, output_dir, quiet=True)
    found = metrics["tasks"]["tvg"]
    assert found["metrics"]["m_tIoU"] == pytest.approx(0.5, abs=0.01)
    assert (found["items"], found["failures"], found["baseline"]) == (2, {"invalid_field": 1}, None)
    (unusable,) = metrics["unusable"]
    assert unusable["id"] == f"{records[1].source}/{records[1].id}"
    assert "the truth of item" in unusable["detail"]
    assert "'never'; fix the record" in unusable["detail"]


def test_records_that_cannot_be_read_are_told_in_the_report(make_model, processor, output_dir):
    gone = SkippedRecord("x", "mine", "missing_media", "media is 'x', which does not exist")
    records = make_records("tvg")
    benchmark = HeldOutRecords([gone, *records, gone], 5)
    metrics = evaluate(make_model([records[0].messages[-1]["content"]]), processor, benchmark, output_dir, quiet=True)
    assert metrics["settings"]["unreadable_records"] == 2
    assert "2 records could not be read" in (output_dir / "report.md").read_text()
