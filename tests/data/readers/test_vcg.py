"""Open questions in the form of VCG."""

import json

import pytest

from llava_st_hf.data.readers.registry import guess_format
from llava_st_hf.data.readers.vcg import VcgReader
from llava_st_hf.processing.media_llava_st import InputError


@pytest.fixture
def open_file(tmp_path, clip):
    (tmp_path / "v_1.mp4").write_bytes(clip.read_bytes())

    def write(*elements):
        path = tmp_path / "generic_qa.json"
        path.write_text(json.dumps(elements))
        return VcgReader(path, "vcg", tmp_path, num_frames=8)

    return write


def test_names_are_those_of_the_public_judge(open_file):
    pair = {"video_name": "v_1", "Q1": "What turns?", "Q2": "Which thing turns?", "A": "A circle."}
    reader = open_file({"video_name": "v_1", "Q": "What turns?", "A": "A circle."}, pair, {"video_name": "v_1"})
    assert guess_format(reader.path) == "vcg"
    assert [reader.get_id(index) for index in range(4)] == ["v_1_0", "v_1_1 Q1", "v_1_1 Q2", "v_1_2"]
    record = reader[2]
    assert (record.task, record.messages[0]["content"]) == ("video_qa", "Which thing turns?")
    assert record.messages[1]["content"] == "A circle."
    assert "Q is missing" in reader[3].detail


def test_another_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no list"):
        (tmp_path / "b.json").write_text("{}")
        VcgReader(tmp_path / "b.json", "vcg", tmp_path)
