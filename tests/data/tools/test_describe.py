"""Records and checks in words."""

from collections import Counter

import numpy as np
import pytest

from llava_st_hf import InputError
from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.tools.check import CheckSummary
from llava_st_hf.data.tools.describe import describe_check, describe_record, find_record
from llava_st_hf.data.turns import read_turns


def test_a_record_says_what_it_means_in_seconds_and_pixels():
    messages = (
        {"role": "user", "content": "Between {<t=0.250000001><t=0.75>}, where is it?"},
        {"role": "assistant", "content": "<t=0.25>:[<x=0.1><y=0><x=0.5><y=0.5>], <t=0.75>:[<x=0><y=0><x=1><y=1>]"},
    )
    clip = Media(frames=np.zeros((5, 20, 40, 3), dtype=np.uint8))
    fields = {"media": (clip,), "messages": messages, "video_fps": 1.0}
    sample = Sample(id="7", source="s", task="svg", media_type="video", **fields)
    assert describe_record(sample, read_turns(sample, probe_media(sample, 5))).splitlines() == [
        "id: 7",
        "source: s",
        "task: svg",
        "medium: video",
        "  an array",
        "user: Between {<t=0.25><t=0.75>}, where is it?",
        "assistant: <t=0.25>:[<x=0.1><y=0><x=0.5><y=0.5>], <t=0.75>:[<x=0><y=0><x=1><y=1>]",
        "question span: 1.00 s to 3.00 s",
        "answer tube: 2 boxes from 1.00 s to 3.00 s",
        "answer   at 1.00 s: (4, 0) to (20, 10) pixels",
        "answer   at 3.00 s: (0, 0) to (40, 20) pixels",
    ]


def test_a_record_is_found_by_number_and_by_id():
    records, seen = ShapesDataset(["tr"], num_samples=5, num_frames=8, size=32), []
    name = records[3].id
    assert find_record(records, "3").id == name
    assert find_record(records, name, seen.append).id == find_record(records, f"id={name}").id == name
    assert seen == [1, 1, 1]
    for wrong in ("5", "id=3", "nothing"):
        with pytest.raises(InputError, match="the record is") as found:
            find_record(records, wrong)
        assert found.value.field == "record"
    with pytest.raises(InputError, match="there is no record to show"):
        find_record([], "0")


def test_a_check_shows_each_fault_with_an_example(tmp_path):
    summary = CheckSummary(counts=Counter({("kitchen", "tvg"): 1200}), skips=Counter({("kitchen", "too_long"): 3}))
    summary.warnings["kitchen", "cut"] = 2
    summary.examples |= {("kitchen", "too_long"): "'7': it is", ("kitchen", "cut"): "'8': it was"}
    used, skipped, doubtful = describe_check(summary, tmp_path / "s.jsonl")
    assert used.split() == ["source", "task", "records", "kitchen", "tvg", "1,200"]
    assert f"3 of 1,203 records skipped; see {tmp_path / 's.jsonl'}\n" in skipped
    assert skipped.endswith("\nfor example\n  too_long: '7': it is")
    assert doubtful.endswith("for example\n  cut: '8': it was")
