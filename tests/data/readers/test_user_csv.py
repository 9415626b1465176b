import json
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.readers.user_csv import UserCsvReader
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError


def read_table(folder: Path, clip: Path, text: str, **options) -> list:
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    Image.new("RGB", (200, 100)).save(folder / "a.jpg")
    (folder / "mine.csv").write_text(text)
    return list(UserCsvReader(folder / "mine.csv", "mine", folder, **options))


def test_rows_are_the_lines_of_the_jsonl(tmp_path, clip):
    text = """id,video,image,query,span_seconds,box,boxes,caption
1,a.mp4,,it moves,"[1.0, 3.0]",,,
2,a.mp4,,"it moves, again",1.0-3.0,,"{""1.0"": [10, 20, 50, 60], ""3.0"": [50, 20, 90, 60]}",
3,a.mp4,,it moves,00:01\u201300:03,,"[[1, [10, 20, 50, 60]], [3, [50, 20, 90, 60]]]",
4,a.mp4,,it moves,"[[1, 2], [""00:03"", 3.5]]",,,
5,,a.jpg,the dog,,20 10 100 50,,
6,,a.jpg,the dog,,"20, 10, 100, 50",,
7,a.mp4,,,"1.0, 3.0",,,It moves.
"""
    records = read_table(tmp_path, clip, "\ufeff" + text)
    assert all(isinstance(record, Sample) for record in records), records
    assert [record.id for record in records] == list("1234567")
    assert [record.task for record in records] == ["tvg", "stvg", "stvg", "tvg_several", "rec", "rec", "tr"]
    lines = [
        {"id": 1, "video": "a.mp4", "query": "it moves", "span_seconds": [1.0, 3.0]},
        {
            "id": 3,
            "video": "a.mp4",
            "query": "it moves",
            "span_seconds": [1, 3],
            "boxes": {"1": [10, 20, 50, 60], "3": [50, 20, 90, 60]},
        },
        {"id": 5, "image": "a.jpg", "query": "the dog", "box": [20, 10, 100, 50]},
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert list(UserJsonlReader(tmp_path / "mine.jsonl", "mine", tmp_path)) == [records[0], records[2], records[4]]


def test_options_are_those_of_the_jsonl(tmp_path, clip):
    text = "image,query,box,unit\na.jpg,dog,100 100 400 400,\na.jpg,dog,0.1 0.1 0.4 0.4,fraction\n"
    for record in read_table(tmp_path, clip, text, unit="thousandth", box_format="xywh"):
        assert record.messages[1]["content"] == "[<x=0.1><y=0.1><x=0.5><y=0.5>]"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("video,query,span_seconds\na.mp4,it,[1\n", "span_seconds is '[1': it is no JSON"),
        ("video,query,span_seconds\na.mp4,it,soon\n", "span_seconds is ['soon']: give 2 numbers"),
        ("video,query,start,end\na.mp4,it,1,2\n", "Write start, end as span_seconds: [start, end] in seconds."),
        ("clip,query\na.mp4,it\n", "neither video nor image: give the path of one. Write clip as video, or image"),
        ("video;query;span_seconds\na.mp4;it;1,5-2,5\n", "span_seconds is '1,5-2,5': write decimals with a point"),
        ("image;query;box\na.jpg;it;10 20,5 50 80\n", "box is '10 20,5 50 80': write decimals with a point"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, text, found):
    (record,) = read_table(tmp_path, clip, text)
    assert found in record.detail


def test_says_what_is_wrong_with_the_table(tmp_path, clip):
    with pytest.raises(InputError, match=r'line 2: there are more cells than columns; put cells .* in quotes, "\[1'):
        read_table(tmp_path, clip, "video,query,span_seconds\na.mp4,it,[1, 2]\n")
    with pytest.raises(InputError, match="unit is 'inch': choose one of pixels, fraction, thousandth"):
        read_table(tmp_path, clip, "video\n", unit="inch")
