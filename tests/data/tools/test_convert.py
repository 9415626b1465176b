import json
from dataclasses import replace
from pathlib import Path

import pytest

from llava_st_hf.data.readers.base import Reader
from llava_st_hf.data.readers.canonical import CanonicalReader
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import RecordError, SkipReport, TooManySkipsError, read_skip_report
from llava_st_hf.data.tools import convert as conversion
from llava_st_hf.data.tools.convert import ConversionCounts, convert_annotations
from llava_st_hf.processing.media_llava_st import InputError


class Numbered(Reader):
    """Records with their number in the text; every `bad`-th one cannot be used, `stop` ends the process."""

    def __init__(self, folder: Path, count: int = 25, bad: int = 5, stop: int | None = None, source: str = "numbered"):
        self.source, self.folder, self.count, self.bad, self.stop = source, folder, count, bad, stop
        self.num_read = 0

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Sample:
        self.num_read += 1
        if index == self.stop:
            raise KeyboardInterrupt
        if index % self.bad == self.bad - 1:
            raise RecordError("invalid_field", "query", "query is missing")
        return Sample(
            id=str(index),
            source=self.source,
            task="tvg",
            media_type="video",
            media=(Media(path=str(self.folder / f"videos/clip é {index}.mp4")),),
            messages=(
                {"role": "user", "content": f"When is {index}? \u2028"},
                {"role": "assistant", "content": "{<t=0.1><t=0.30000000000000004>}"},
            ),
        )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    for index in range(25):
        (tmp_path / f"videos/clip é {index}.mp4").touch()
    return tmp_path


def make_report(folder: Path) -> SkipReport:
    return SkipReport(folder / "skipped.jsonl", max_skip_share=1)


def test_what_is_written_is_read_again(folder):
    reader = Numbered(folder)
    report, done = make_report(folder), []
    counts = convert_annotations(reader, folder / "out/a.jsonl", report, data_folder=folder, progress=done.append)
    assert done == list(range(1, 26))
    assert counts == ConversionCounts(num_written=20, num_skipped=5)
    assert (report.num_used, report.num_skipped) == (20, 5)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a.jsonl"]
    rows = [json.loads(line) for line in (folder / "out/a.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert rows[3]["media"] == [{"bytes": None, "path": "videos/clip é 3.mp4"}]
    again = list(CanonicalReader(folder / "out/a.jsonl", "numbered", folder))
    assert again == [sample for sample in reader if isinstance(sample, Sample)]


def test_goes_on_where_it_was(folder, monkeypatch):
    monkeypatch.setattr(conversion, "_RECORDS_PER_SAVE", 4)
    whole = convert_annotations(Numbered(folder), folder / "whole.jsonl", make_report(folder), folder)
    with pytest.raises(KeyboardInterrupt):
        convert_annotations(Numbered(folder, stop=18), folder / "a.jsonl", make_report(folder), folder)
    assert not (folder / "a.jsonl").exists()
    with open(folder / "a.jsonl.partial", "ab") as file:  # what came after the last state, cut off by the end
        file.write(b'{"id": "16", ' * 2000)
    reader = Numbered(folder)
    assert convert_annotations(reader, folder / "a.jsonl", make_report(folder), folder) == whole
    assert reader.num_read == 25 - 16 + 1  # and the last one that was written
    assert (folder / "a.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    assert len(read_skip_report(folder / "skipped.jsonl")) == 5
    assert not list(folder.glob("a.jsonl.*"))


def test_starts_anew_where_nothing_was_kept(folder, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        convert_annotations(Numbered(folder, stop=18), folder / "a.jsonl", make_report(folder), folder)
    assert convert_annotations(Numbered(folder), folder / "a.jsonl", make_report(folder), folder).num_written == 20
    assert len((folder / "a.jsonl").read_bytes().splitlines()) == 20


@pytest.mark.parametrize("changed", [{"source": "other"}, {"count": 24}])
def test_does_not_go_on_with_other_data(folder, monkeypatch, changed):
    monkeypatch.setattr(conversion, "_RECORDS_PER_SAVE", 4)
    with pytest.raises(KeyboardInterrupt):
        convert_annotations(Numbered(folder, stop=18), folder / "a.jsonl", make_report(folder), folder)
    with pytest.raises(InputError, match=r"a\.jsonl\.partial holds a run with"):
        convert_annotations(Numbered(folder, **changed), folder / "a.jsonl", make_report(folder), folder)


def test_does_not_go_on_with_records_read_in_another_way(folder, monkeypatch):
    monkeypatch.setattr(conversion, "_RECORDS_PER_SAVE", 4)
    with pytest.raises(KeyboardInterrupt):
        convert_annotations(Numbered(folder, stop=18), folder / "a.jsonl", make_report(folder), folder)

    class OtherTask(Numbered):
        def read(self, index):
            return replace(super().read(index), task="tgc")

    with pytest.raises(InputError, match="were read with other options"):
        convert_annotations(OtherTask(folder), folder / "a.jsonl", make_report(folder), folder)


def test_a_part_without_a_usable_record_goes_on(folder, monkeypatch):
    monkeypatch.setattr(conversion, "_RECORDS_PER_SAVE", 4)
    report = SkipReport(max_skip_share=1)
    with pytest.raises(KeyboardInterrupt):
        convert_annotations(Numbered(folder, bad=1, stop=18), folder / "a.jsonl", report, folder)
    assert convert_annotations(Numbered(folder, bad=1), folder / "a.jsonl", report, folder).num_skipped == 25


def test_a_state_that_cannot_be_read_is_reported(folder):
    (folder / "a.jsonl.partial").write_text("x")
    (folder / "a.jsonl.partial.state").write_text("{")
    with pytest.raises(InputError, match="to begin anew"):
        convert_annotations(Numbered(folder), folder / "a.jsonl", make_report(folder), folder)


def test_never_writes_over_a_file(folder):
    (folder / "a.jsonl").write_text("precious")
    with pytest.raises(InputError, match="which exists"):
        convert_annotations(Numbered(folder), folder / "a.jsonl", make_report(folder), folder)
    with pytest.raises(InputError, match=r"ends with \.jsonl"):
        convert_annotations(Numbered(folder), folder / "a.json", make_report(folder), folder)
    assert (folder / "a.jsonl").read_text() == "precious"


def test_stops_as_the_report_says(folder):
    report = SkipReport(required_sources=["numbered"])
    with pytest.raises(TooManySkipsError):
        convert_annotations(Numbered(folder), folder / "a.jsonl", report, folder)
    assert not (folder / "a.jsonl").exists()


def test_the_share_of_a_few_records_counts_at_the_end(folder):
    with pytest.raises(TooManySkipsError, match="5 of 25 records were skipped, more than max_skip_share=0"):
        convert_annotations(Numbered(folder), folder / "a.jsonl", SkipReport(max_skip_share=0.1), folder)
    assert not (folder / "a.jsonl").exists()
    counts = convert_annotations(Numbered(folder), folder / "a.jsonl", SkipReport(max_skip_share=0.2), folder)
    assert counts == ConversionCounts(num_written=20, num_skipped=5)


def test_media_outside_of_the_folder_are_skipped(folder):
    (folder / "other").mkdir()
    report = make_report(folder)
    counts = convert_annotations(Numbered(folder), folder / "a.jsonl", report, folder / "other")
    assert counts == ConversionCounts(num_written=0, num_skipped=25)
    assert report.counts["numbered", "outside_root"] == 20


def test_media_that_are_bytes_are_skipped(folder):
    class Bytes(Numbered):
        def read(self, index):
            sample = super().read(index)
            return Sample(**{**sample.__dict__, "media": (Media(content=b"x"),)})

    report = make_report(folder)
    assert convert_annotations(Bytes(folder, count=3), folder / "a.jsonl", report).num_skipped == 3
    assert "publish it as Parquet" in read_skip_report(folder / "skipped.jsonl")[0].detail
