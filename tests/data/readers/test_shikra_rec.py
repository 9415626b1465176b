import json
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.readers.shikra_rec import ShikraRecReader

LINE = {"img_path": "train2014/a.jpg", "expression": "the bowl behind", "bbox": [20, 10, 230, 50], "dataset_name": "x"}


def open_lines(folder: Path, line: dict = LINE, **options) -> ShikraRecReader:
    (folder / "train2014").mkdir(exist_ok=True)
    Image.new("RGB", (200, 100)).save(folder / "train2014/a.jpg")
    (folder / "rec.jsonl").write_text(json.dumps(line))
    return ShikraRecReader(folder / "rec.jsonl", "shikra", options.pop("data_folder", folder), **options)


def test_a_line_is_a_record(tmp_path):
    (record,) = open_lines(tmp_path)
    assert record.messages[0]["content"] == "What part of this image contains the bowl behind?"  # by its id
    assert record.messages[1]["content"] == "[<x=0.1><y=0.1><x=1.0><y=0.5>]"  # of 200 x 100, cut at its edge
    # Pixels are those of the size of the line. The image's folder may be the data folder itself.
    sized = {**LINE, "width": 400, "height": 200, "bbox": [20, 20, 100, 100]}
    (record,) = open_lines(tmp_path, sized, data_folder=tmp_path / "train2014", task="rc")
    assert "[<x=0.05><y=0.1><x=0.25><y=0.5>]" in record.messages[0]["content"]
    assert record.messages[1]["content"] == "the bowl behind"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"bbox": [20, 10, 10, 50]}, "bbox is [20, 10, 10, 50]: it has no area; give left, top, right, bottom"),
        ({"bbox": None}, "bbox is missing"),
        ({"expression": ""}, "expression is ''"),
        ({"img_path": "b.jpg"}, "img_path is 'b.jpg', which does not exist"),
    ],
)
def test_says_what_is_wrong(tmp_path, changes, found):
    assert open_lines(tmp_path, {**LINE, **changes})[0].detail.startswith(found)


def test_a_box_that_may_be_a_width_says_so(tmp_path):
    detail = open_lines(tmp_path, {**LINE, "bbox": [90, 20, 80, 60]})[0].detail
    assert detail.endswith("in pixels; or box_format: xywh, if it is [left, top, width, height].")


def test_real_photographs(real_media_dir, tmp_path):
    rows = [json.loads(line) for line in (real_media_dir / "annotations.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["media"] == "image" and row.get("query")]
    assert rows
    lines = [{"img_path": row["file"], "expression": row["query"], "bbox": [1, 2, 100, 200]} for row in rows]
    (tmp_path / "rec.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for record in ShikraRecReader(tmp_path / "rec.jsonl", "shikra", real_media_dir):
        with Image.open(record.media[0].path) as picture:
            size = picture.size * 2
        values = [lexeme.value * side for lexeme, side in zip(record.find_coordinates()[1], size, strict=True)]
        assert values == pytest.approx([1, 2, 100, 200])
