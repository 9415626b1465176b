from pathlib import Path

import pytest

from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.readers.vue_stg import VueStgReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo

ROWS = [
    "q,400,0.1,0.2,0.5,0.6",  # rounds to 0 s
    "q,1500,0.5,0.6,0.2,0.2",  # to 2 s, with its corners in another order
    "q,2000,0,0,1,1",  # 2 s is there already
    "q,3000,-0.5,0.1,1.5,0.4",
    "q,3400,0.1,0.1,0.2,0.2",  # 3 s too
    "q,1000,0.3,0.3,0.3,0.9",  # has no area
]


def open_vue(folder: Path, clip: Path | None = None, rows: list[str] = ROWS, **options) -> VueStgReader:
    if clip is not None:
        (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "query.csv").write_text('query_id,query_text,video_id\nq,"A circle, red",a\n')
    (folder / "video.csv").write_text("video_id,video_duration\na,4.0\n")
    (folder / "tubes.csv").write_text("\n".join(["query_id,time_ms,x0,y0,x1,y1", *rows]))
    return VueStgReader(folder, "vue_stg", folder, num_frames=14, **options)


def parse(record: Sample, seconds: tuple[float, ...]):
    media = MediaInfo("video", 1000, 1000, tuple(range(len(seconds))), seconds)
    return parse_answer(record.messages[1]["content"], media, answer_format="spans_and_tubes")


def test_seconds_in_a_row_are_a_span(tmp_path, clip):
    (record,) = open_vue(tmp_path, clip)
    assert (record.id, record.task) == ("q", "stvg_several")
    assert "can we see a circle, red occurring?" in record.messages[0]["content"]
    result = parse(record, tuple(number / 10 for number in range(40)))
    assert [(span.start_seconds, span.end_seconds) for span in result.spans] == [(0, 0), (2, pytest.approx(3))]
    assert result.problems == ()
    first, second = result.tubes  # at every third frame, 0.3 s apart
    assert [(entry.seconds, entry.box.xyxy) for entry in first.boxes] == [(0, pytest.approx((100, 200, 500, 600)))]
    assert [entry.seconds for entry in second.boxes] == pytest.approx([2.1, 2.4, 2.7, 3.0])
    assert second.boxes[-1].box.xyxy == pytest.approx((0, 100, 1000, 400))
    assert second.boxes[0].box.xyxy == pytest.approx((180, 190, 550, 580))


def test_other_tasks(tmp_path, clip):
    assert open_vue(tmp_path, clip, task="tvg_several")[0].messages[1]["content"].count("{") == 2
    assert "2 spans: task 'stvg' needs one; stvg_several takes more" in open_vue(tmp_path, clip, task="stvg")[0].detail
    assert open_vue(tmp_path, clip, ROWS[:1], task="svg")[0].messages[1]["content"].startswith("<t=0.0>:[<x=0.1>")


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], "query_id is 'q': tubes.csv has no box of it with an area"),
        (["q,1000,0,0,640,480"], "tubes.csv is [0.0, 0.0, 640.0, 480.0]: give x0, y0, x1 and y1 as fractions of the"),
        (["q,x,0,0,1,1"], "tubes.csv is {'query_id': 'q', 'time_ms': 'x'"),
        (["q,1000,0,0,1"], "tubes.csv is {"),
        (["q,9000,0,0,1,1"], "time_ms is [9.0, 9.0]"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, rows, found):
    assert open_vue(tmp_path, clip, rows)[0].detail.startswith(found)


def test_refuses_other_files(tmp_path):
    with pytest.raises(InputError, match="has no column 'x1': its header is query_id, time_ms, x0"):
        open_vue(tmp_path)
        (tmp_path / "tubes.csv").write_text("query_id,time_ms,x0,y0\n")
        VueStgReader(tmp_path / "query.csv", "vue_stg", tmp_path)
    (tmp_path / "tubes.csv").unlink()
    with pytest.raises(InputError, match=r"tubes\.csv cannot be read as a CSV file"):
        VueStgReader(tmp_path, "vue_stg", tmp_path)


def test_the_real_files(real_annotations_dir, tmp_path):
    folder = real_annotations_dir / "vue_stg"
    assert guess_format(folder) == guess_format(folder / "query.csv") == "vue_stg"
    reader = VueStgReader(folder, "vue_stg", tmp_path)
    for row in reader.entries:
        (tmp_path / f"{row['video_id']}.mp4").touch()
    records = list(reader)
    assert len(records) == 1600 and [record for record in records if not isinstance(record, Sample)] == []
    assert sum(record.messages[1]["content"].count("{") > 1 for record in records) == 342
    # 1158 to 1169 s of 1303.615 s; of 100 frames the one at 1158.8 s lies in it, between two boxes.
    first = records[0]
    assert first.id == "5a1f77aa-11fb-4c4a-a1c5-8c38f620e3ce"
    values = [lexeme.value for lexeme in first.find_coordinates()[1]]
    assert values[:3] == pytest.approx([1158 / 1303.615, 1169 / 1303.615, 88 / 99])
    share = 88 / 99 * 1303.615 - 1158
    sides = zip((0.136, 0.118, 0.541, 0.998), (0.254, 0.071, 0.73, 0.996), strict=True)
    assert values[3:] == pytest.approx([(1 - share) * before + share * after for before, after in sides])
    # 0, 1 and 1675 s are two spans; the second lies between two frames and has the nearest one.
    (two,) = (record for record in records if record.id == "20c4fc1e-6df2-4834-bd5d-68038ba2a930")
    assert two.messages[1]["content"].count("{") == 2 and two.messages[1]["content"].count("; another: ") == 1
    single = VueStgReader(folder, "vue_stg", tmp_path, task="stvg")
    assert sum(isinstance(record, Sample) for record in single) == 1258
