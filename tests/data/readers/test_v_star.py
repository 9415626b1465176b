"""V-STaR: a record for each question of an element."""

import json

import pytest

from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.readers.v_star import VStarReader
from llava_st_hf.processing.media_llava_st import InputError

ELEMENT = {
    "vid": "a",
    "fps": 10.0,
    "width": 72,
    "height": 54,
    "frame_count": 40,
    "temporal_question": "When does the red circle turn?",
    "timestamps": [1.0, 3.0],
    "spatial_question": "Where is the red circle?",
    "bboxes": [{"timestamp": second, "xmin": 0, "ymin": 0, "xmax": 36, "ymax": 27} for second in (1, 2, 3)],
}


def open_v_star(folder, clip, *elements, **options):
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    path = folder / "V_STaR_test.json"
    path.write_text(json.dumps(elements))
    return VStarReader(path, "v_star", folder, num_frames=20, vary_prompts=False, **options)


def test_when_and_where(tmp_path, clip):
    reader = open_v_star(tmp_path, clip, ELEMENT, ELEMENT)
    assert guess_format(reader.path) == "v_star"
    assert [record.id for record in reader] == ["a when", "a where", "a 2 when", "a 2 where"]
    when, where = reader[0], reader[1]
    assert (when.task, where.task) == ("tvg", "svg")
    question = when.messages[0]["content"]
    assert question == "When does the red circle turn? Please return the start and end timestamps."
    assert where.messages[0]["content"].startswith("Between  {<t=0.2") and "Where is the red circle?" in str(where)
    assert where.messages[1]["content"].count("[<x=0.0><y=0.0><x=0.5><y=0.5>]") > 5
    assert [record.id for record in open_v_star(tmp_path, clip, ELEMENT, task="svg")] == ["a where"]


def test_boxes_may_be_called_by_second_and_frame(tmp_path, clip):
    """As the published description of the file has them, and its scorer takes them in one place."""
    sides = {"xmin": 0, "ymin": 0, "xmax": 36, "ymax": 27}
    named = ELEMENT | {"bboxes": [{f"{second}_{10 * second}": sides} for second in (1, 2, 3)]}
    expected = open_v_star(tmp_path, clip, ELEMENT)[1].messages
    assert open_v_star(tmp_path, clip, named)[1].messages == expected


def test_what(tmp_path, clip):
    reader = open_v_star(tmp_path, clip, ELEMENT | {"question": "What turns?", "answer": " A red circle. "}, ELEMENT)
    assert [record.id for record in reader] == ["a when", "a where", "a what", "a 2 when", "a 2 where"]
    assert (reader[2].task, reader[2].messages[1]["content"]) == ("video_qa", "A red circle.")
    assert "What turns?" in str(reader[2].messages[0]["content"])


def test_groups_are_those_of_the_public_scorer(tmp_path, clip):
    lengths = [{"frame_count": count} for count in (599, 600, 1800)]
    reader = open_v_star(tmp_path, clip, *(ELEMENT | {"domain": "Animals"} | length for length in lengths), {}, [])
    names = ["0 to 60 s", "60 to 180 s", "180 s and more"]
    expected = [{"domain": "Animals", "length": name} for name in names for _ in range(2)]
    assert [reader.get_groups(index) for index in range(len(reader))] == [*expected, {}, {}, {}, {}]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"vid": 3}, "vid is 3"),
        ({"fps": 0}, "fps is 0"),
        ({"bboxes": []}, "bboxes is []"),
        ({"bboxes": [{"timestamp": "x"}]}, "bboxes[0].timestamp is 'x'"),
        ({"bboxes": [{"timestamp": 1, "xmin": 0}]}, "bboxes[0].ymin is missing"),
        ({"bboxes": [{"x_1": {}}]}, "bboxes[0].timestamp is 'x'"),
        ({"spatial_question": ""}, "spatial_question is ''"),
        ({"frame_count": 4000}, "video is 'a.mp4' with 40 frames"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, clip, change, detail):
    assert detail in open_v_star(tmp_path, clip, ELEMENT | change, task="svg")[0].detail


def test_another_file_is_refused(tmp_path, clip):
    with pytest.raises(InputError, match="holds no list"):
        (tmp_path / "b.json").write_text("{}")
        VStarReader(tmp_path / "b.json", "v_star", tmp_path)
