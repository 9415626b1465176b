import json
from pathlib import Path

import pytest

from llava_st_hf.data.readers.qvhighlights import QvHighlightsReader
from llava_st_hf.data.samples import Sample

LINE = {"qid": 7, "query": "A circle.", "duration": 4, "vid": "a_0.0_4.0", "relevant_windows": [[2, 4], [0, 1]]}


def open_highlights(folder: Path, clip: Path, line: dict = LINE, **options) -> QvHighlightsReader:
    (folder / "a_0.0_4.0.mp4").write_bytes(clip.read_bytes())
    (folder / "queries.jsonl").write_text(json.dumps(line))
    return QvHighlightsReader(folder / "queries.jsonl", "qvhighlights", folder, **options)


def test_all_windows_are_the_answer(tmp_path, clip):
    (record,) = open_highlights(tmp_path, clip)
    assert (record.id, record.task) == ("7", "tvg_several")
    assert "'a circle'" in record.messages[0]["content"]
    assert record.messages[1]["content"] == f"{{<t=0.0><t={10 / 39!r}>}}, {{<t={20 / 39!r}><t=1.0>}}"
    assert "2 spans: task 'tvg' needs one" in open_highlights(tmp_path, clip, task="tvg")[0].detail
    one = {**LINE, "relevant_windows": [[0, 1]]}
    assert open_highlights(tmp_path, clip, one, task="tvg")[0].messages[1]["content"] == f"{{<t=0.0><t={10 / 39!r}>}}"


def test_a_duration_need_not_be_given(tmp_path, clip):
    (record,) = open_highlights(tmp_path, clip, {**LINE, "duration": None})
    assert record.messages == open_highlights(tmp_path, clip)[0].messages


def test_a_last_window_over_the_end_is_cut(tmp_path, clip):
    (record,) = open_highlights(tmp_path, clip, {**LINE, "relevant_windows": [[2, 5]]})
    assert record.messages[1]["content"] == f"{{<t={20 / 39!r}><t=1.0>}}"
    assert record.notes[0][0] == "cut_end" and "relevant_windows[0] is [2, 5]" in record.notes[0][1]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"relevant_windows": None}, "relevant_windows is missing"),  # as in the test set
        ({"relevant_windows": []}, "relevant_windows is []"),
        ({"relevant_windows": [[0, 1], [3]]}, "relevant_windows[1] is [3]"),
        ({"duration": 0}, "duration is 0"),
        ({"duration": 150}, "video is 'a_0.0_4.0.mp4' with 40 frames and 4.000 s"),
        ({"vid": "b"}, "vid is 'b', which does not exist"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, changes, found):
    assert open_highlights(tmp_path, clip, {**LINE, **changes})[0].detail.startswith(found)


def test_the_real_file(real_annotations_dir, tmp_path):
    path = real_annotations_dir / "qvhighlights_val_excerpt.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        (tmp_path / f"{line['vid']}.mp4").touch()
    records = list(QvHighlightsReader(path, "qvhighlights", tmp_path))
    assert len(records) == 60 and all(isinstance(record, Sample) for record in records)
    assert records[0].id == "2579" and records[0].messages[1]["content"] == f"{{<t={82 / 150!r}><t=1.0>}}"
    for line, record in zip(lines, records, strict=True):
        times = [time / line["duration"] for window in line["relevant_windows"] for time in window]
        assert [lexeme.value for lexeme in record.find_coordinates()[1]] == pytest.approx(times)
    single = list(QvHighlightsReader(path, "qvhighlights", tmp_path, task="tvg"))
    assert sum(isinstance(record, Sample) for record in single) == 43
