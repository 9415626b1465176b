"""Skipped records: counted, written as they come, and a run that loses too much is stopped."""

import io
import json
import multiprocessing
import os
import pickle
import signal

import pytest

from llava_st_hf.data.skips import (
    RecordError,
    SkippedRecord,
    SkipReport,
    TooManySkipsError,
    check_report,
    count_notes,
    read_skip_report,
)
from llava_st_hf.processing.media_llava_st import InputError


def make_note(
    number: int = 0, source: str = "kitchen", reason: str = "missing_media", detail: str = "gone"
) -> SkippedRecord:
    return SkippedRecord(str(number), source, reason, detail)


def test_an_error_keeps_its_fields():
    error = pickle.loads(pickle.dumps(RecordError("too_long", "messages", "messages are long")))
    assert (error.reason, error.field, str(error)) == ("too_long", "messages", "messages are long")
    assert isinstance(error, InputError)


def test_a_note_is_one_line_of_bounded_length():
    note = SkippedRecord.from_error("1", "kitchen", RecordError("too_long", "messages", "two\nlines " + "a" * 5000))
    assert note.detail.startswith("two lines a") and len(note.detail) == 1000
    error = RecordError("unreadable_media", "media", f"cannot identify image file {io.BytesIO()!r}")
    assert SkippedRecord.from_error("1", "kitchen", error).detail == "cannot identify image file <_io.BytesIO object>"
    note = SkippedRecord.from_error("1" * 10**6, "kitchen", RecordError("too_long", "id", "id is long"))
    assert note.id == "1" * 1000


def test_the_table(tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=1)
    assert report.format_table() == "0 of 0 records skipped"
    report.count_used(7)
    for number in range(3):
        report.add(make_note(number))
    report.add(make_note(3, "a", "too_long"))
    assert report.format_table().splitlines() == [
        "source   reason         records",
        "a        too_long             1",
        "kitchen  missing_media        3",
        f"4 of 11 records skipped; see {tmp_path / 'skipped.jsonl'}",
    ]
    assert (report.num_used, report.num_skipped) == (7, 4)


def test_the_report_holds_each_record_once(tmp_path):
    path = tmp_path / "folder" / "skipped.jsonl"
    notes = [make_note(0), make_note(1, detail="na\u00efve \ud800 \u2028"), make_note(0, "lawn")]
    notes.append(make_note(0, detail="another record of that id"))
    for note in (*notes, notes[0]):
        SkipReport(path, max_skip_share=1).add(note)
    with path.open("ab") as file:  # a line that was cut off, in the middle of a character
        file.write('{"id": "9\u00ef'.encode()[:-1])
    found = read_skip_report(path)
    assert [(note.id, note.source) for note in found] == [
        ("0", "kitchen"),
        ("1", "kitchen"),
        ("0", "lawn"),
        ("0", "kitchen"),
    ]
    assert found[1].detail.startswith("na\u00efve")
    assert read_skip_report(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("share", "num_used", "stops_at"), [(0.05, 190, 11), (0.05, 0, 100), (0.0, 99, 1), (1, 0, None)]
)
def test_a_run_is_stopped_above_the_share(tmp_path, share, num_used, stops_at):
    """Of fewer than 100 records the share says nothing yet."""
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=share)
    report.count_used(num_used)
    for number in range(1, 300 if stops_at is None else stops_at):
        report.add(make_note(number))
    if stops_at is not None:
        with pytest.raises(TooManySkipsError, match=r"were skipped, more than max_skip_share=.*skipped\.jsonl"):
            report.add(make_note(stops_at))
    assert len(read_skip_report(tmp_path / "skipped.jsonl")) == (stops_at or 299)


def test_a_required_source_stops_at_once(tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl", required_sources=["kitchen"])
    report.add(make_note(1, "lawn"))
    with pytest.raises(TooManySkipsError, match=r"record '2' of the required source 'kitchen'.*gone"):
        report.add(make_note(2))
    assert len(read_skip_report(tmp_path / "skipped.jsonl")) == 2


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(InputError, match="max_skip_share is"):
        SkipReport(max_skip_share=share)


def write_notes(path, source: str, count: int) -> None:
    report = SkipReport(path, max_skip_share=1)
    for number in range(count):
        report.add(make_note(number, source, detail="a" * 900))
    os.kill(os.getpid(), signal.SIGKILL)  # what was added is written already


def test_processes_share_one_file(tmp_path):
    path = tmp_path / "skipped.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_notes, args=(path, f"source {index}", 200)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 800
    assert {(line["source"], line["id"]) for line in lines} == {
        (f"source {index}", str(number)) for index in range(4) for number in range(200)
    }


def test_a_report_can_be_sent_to_workers(tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=0.5, required_sources=["lawn"])
    report.add(make_note())
    copy = pickle.loads(pickle.dumps(report))
    assert copy.counts == report.counts and copy.required_sources == {"lawn"} and copy.max_skip_share == 0.5


def test_what_was_put_right_is_counted_apart_from_skips(tmp_path):
    path = tmp_path / "skipped.jsonl"
    report = SkipReport(path, max_skip_share=1)
    for _ in range(2):  # two epochs
        report.use("1", "kitchen", [("clamped_coordinate", "a[0] is 1.02, which counts as the edge")])
        report.use("2", "kitchen")
    assert (report.num_used, report.num_skipped) == (4, 0)
    assert read_skip_report(path) == []
    assert count_notes(path) == {("kitchen", "clamped_coordinate"): 1}
    assert report.format_table().splitlines()[-1] == "2 records of kitchen used with clamped_coordinate"
    check_report(path)  # a later run goes on with it
