"""Records that were held out: which are asked, and what one without a usable truth is worth."""

from dataclasses import replace

import pytest

from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.skips import SkippedRecord
from llava_st_hf.evaluation.evaluate import evaluate
from llava_st_hf.evaluation.held_out import HeldOutRecords
from llava_st_hf.processing.media_llava_st import InputError

pytestmark = pytest.mark.usefixtures("one_thread", "few_training_samples")


def make_records(*tasks: str) -> list[Sample]:
    return [ShapesDataset([task], 9, seed=3, num_frames=8, size=32)[place] for place, task in enumerate(tasks)]


def test_the_first_records_of_each_task_that_can_be_scored_are_asked():
    records = make_records("dvc", "tvg", "rec", "tvg", "tvg", "rec")
    records.insert(1, SkippedRecord("x", "mine", "missing_media", "media is 'x': mend it."))
    benchmark = HeldOutRecords(records, 2)
    assert [benchmark.get_task(index) for index in range(len(benchmark))] == ["tvg", "rec", "tvg", "rec"]
    assert [benchmark.get_id(index) for index in range(len(benchmark))] == [f"record-{n}" for n in (2, 3, 4, 6)]
    assert benchmark.read(3) is records[6]
    assert benchmark.get_settings() == {"benchmark": "held-out", "records": [2, 3, 4, 6]}
    with pytest.raises(InputError, match="none of the 1 records that are held out"):
        HeldOutRecords(records[:1], 2)


def test_a_record_whose_truth_cannot_be_scored_counts_and_is_listed(make_model, processor, output_dir):
    records = make_records("tvg", "tvg")
    truths = [record.messages[-1]["content"] for record in records]
    records[1] = replace(records[1], messages=(records[1].messages[0], {"role": "assistant", "content": "never"}))
    metrics = evaluate(make_model(truths), processor, HeldOutRecords(records, 5), output_dir, quiet=True)
    found = metrics["tasks"]["tvg"]
    assert found["figures"]["m_tIoU"] == pytest.approx(0.5, abs=0.01)
    assert (found["items"], found["failures"], found["baseline"]) == (2, {"invalid_field": 1}, None)
    (unusable,) = metrics["unusable"]
    assert unusable["id"] == "record-1"
    assert "the truth of item" in unusable["detail"]
    assert "'never'; mend the record" in unusable["detail"]
