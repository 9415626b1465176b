import json
from pathlib import Path

import pytest

from llava_st_hf.data.media_probe import probe_video
from llava_st_hf.data.readers.charades_sta import CharadesStaReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo


def test_gives_the_items_of_the_published_code(parity_dir, tmp_path):
    recorded = json.loads((parity_dir / "public/unit/datasets.json").read_text())["tvg"]
    for item in recorded["annotation"]:
        (tmp_path / item["image_id"].removeprefix("v_")).touch()
    path = tmp_path / "charades.json"
    path.write_text(json.dumps(recorded["annotation"]))
    reader = CharadesStaReader(path, "charades", tmp_path)
    assert len(reader) == len(recorded["items"]) == 4
    for row in recorded["items"]:
        sample, item = reader.read(row["index"]), row["item"]
        assert Path(sample.media[0].path).name == item["video_path"]
        assert "<video>\n" + sample.messages[0]["content"] == item["prompt"]
        start, end = item["gt"]
        assert sample.messages[1]["content"] == f"{{<t={start!r}><t={end!r}>}}"


def test_reads_the_release(clip, tmp_path):
    (tmp_path / "AO8RW.mp4").write_bytes(clip.read_bytes())
    path = tmp_path / "train.txt"
    path.write_text("AO8RW 1.0 3.0##Person turn a light on.\n\nAO8RW 0.0 4.6##person walks.\n")
    first, second = CharadesStaReader(path, "charades", tmp_path)
    assert "'person turn a light on'" in first.messages[0]["content"]
    info = probe_video(first.media[0].path, 100)
    span = parse_answer(first.messages[1]["content"], info, answer_format="span").spans[0]
    assert (span.start_seconds, span.end_seconds) == pytest.approx((1.0, 3.0), abs=1e-9)
    assert second.messages[1]["content"] == "{<t=0.0><t=1.0>}"  # the release has such ends


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("circle 1.0##a.", "the line"),
        ("circle 3.0 1.0##a.", "ends before it starts"),
        ("circle nan 1.0##a.", "start, end is [nan, 1.0]"),
        ("circle x 1.0##a.", "start is 'x'"),
        ("circle 9.0 10.0##a.", "start, end is [9.0, 10.0]: the time 9.0 s is outside"),
        ("circle 1.0 2.0## . ", "caption"),
        ("../circle 1.0 2.0##a.", "outside of"),
        ("lost 1.0 2.0##a.", "does not exist"),
    ],
)
def test_says_what_is_wrong_in_a_line(clip, tmp_path, line, found):
    (tmp_path / "a.txt").write_text(line)
    skipped = CharadesStaReader(tmp_path / "a.txt", "charades", clip.parent)[0]
    assert not isinstance(skipped, Sample)
    assert found in skipped.detail


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"timestamp": [24.3, 30.4]}, "timestamp"),
        ({"timestamp": [0.5, 1.2]}, "timestamp"),
        ({"timestamp": [-0.1, 0.5]}, "timestamp"),
        ({"timestamp": [0.5, 0.4]}, "timestamp"),
        ({"timestamp": [0.5]}, "timestamp"),
        ({"timestamp": None}, "timestamp"),
        ({"caption": 3}, "caption"),
        ({"image_id": ""}, "image_id"),
    ],
)
def test_says_what_is_wrong_in_an_object(clip, tmp_path, record, field):
    base = {"image_id": clip.name, "caption": "a dog", "timestamp": [0.1, 0.5]}
    (tmp_path / "a.json").write_text(json.dumps([base, {**base, **record}, 3]))
    good, bad, worse = CharadesStaReader(tmp_path / "a.json", "charades", clip.parent)
    assert isinstance(good, Sample)
    assert bad.detail.startswith(field)
    assert worse.reason == "invalid_json"


def test_a_real_end_lies_behind_the_clip(real_media_dir, tmp_path):
    rows = [json.loads(line) for line in (real_media_dir / "annotations.jsonl").read_text().splitlines()]
    (row,) = (row for row in rows if row["task"] == "tvg")
    start, end = row["span_seconds"]
    (tmp_path / "a.txt").write_text(f"{Path(row['file']).stem} {start} {end}##{row['query']}")
    (tmp_path / "a.json").write_text(
        json.dumps([{"image_id": row["file"], "caption": row["query"], "timestamp": [0.7, 1.03]}])
    )
    (sample,) = CharadesStaReader(tmp_path / "a.txt", "charades", real_media_dir)
    info = probe_video(sample.media[0].path, 100)
    span = parse_answer(sample.messages[1]["content"], info, answer_format="span").spans[0]
    assert span.start_seconds == pytest.approx(start, abs=1e-6)
    assert span.end_seconds == info.end_seconds < end - 1
    assert dict(sample.notes)["cut_end"].startswith(f"start, end is [{start}, {end}], of a clip that ends at ")
    (sample,) = CharadesStaReader(tmp_path / "a.json", "charades", real_media_dir)
    assert sample.messages[1]["content"] == "{<t=0.7><t=1.0>}"
    assert [kind for kind, _ in sample.notes] == ["cut_end"]


def test_every_real_line_is_read(real_annotations_dir, tmp_path):
    reader = CharadesStaReader(real_annotations_dir / "charades_sta_test_excerpt.txt", "charades", tmp_path)
    assert len(reader) == 500
    assert {record.reason for record in reader} == {"missing_media"}


def test_every_real_line_has_its_seconds(real_annotations_dir, tmp_path, monkeypatch):
    path = real_annotations_dir / "charades_sta_test_excerpt.txt"
    lines = [line.split("##") for line in path.read_text().splitlines()]
    for where, _ in lines:
        (tmp_path / f"{where.split()[0]}.mp4").touch()
    media = MediaInfo("video", 64, 64, tuple(range(1001)), tuple(number / 5 for number in range(1001)))
    monkeypatch.setattr("llava_st_hf.data.sample_writing.probe_video", lambda *arguments: media)
    for (where, caption), record in zip(lines, CharadesStaReader(path, "charades", tmp_path), strict=True):
        assert f"'{caption.strip('.').strip().lower()}'" in record.messages[0]["content"]
        (span,) = parse_answer(record.messages[1]["content"], media).spans
        assert (span.start_seconds, span.end_seconds) == pytest.approx([float(time) for time in where.split()[1:]])
        assert record.notes == ()
    # Clips that end at 30 s: the first line's event, 24.3 to 30.4 s, ends there, and that is noted.
    media = MediaInfo("video", 64, 64, tuple(range(301)), tuple(number / 10 for number in range(301)))
    first = CharadesStaReader(path, "charades", tmp_path)[0]
    assert first.messages[1]["content"] == f"{{<t={24.3 / 30!r}><t=1.0>}}"
    assert first.notes[0][0] == "cut_end"


def test_refuses_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a text file"):
        CharadesStaReader(tmp_path / "a.txt", "charades")
