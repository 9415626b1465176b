import json

import pytest

from llava_st_hf.data.exports import read_answers
from llava_st_hf.processing.media_llava_st import InputError


def test_reads_what_ground_and_evaluations_write(tmp_path, answers):
    rows = [{"model": "tiny", **answer.to_dict()} for answer in answers]
    (tmp_path / "one.json").write_text(json.dumps(rows[0]))
    (tmp_path / "several.json").write_text(json.dumps(rows))
    failed = {"id": "x", "result": None}
    lines = [json.dumps({"id": str(number), "result": row}) for number, row in enumerate(rows)]
    (tmp_path / "predictions.jsonl").write_text("\n".join([lines[0], json.dumps(failed), "", *lines[1:]]))
    assert read_answers(tmp_path / "one.json") == answers[:1]
    assert read_answers(tmp_path / "several.json") == answers
    assert read_answers(tmp_path / "predictions.jsonl") == answers


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "[1]", "answer 1: this is not a grounding result"),
        ("a.json", '{"id": 3}', "answer 1: this is not a grounding result"),
        ("a.json", "[", "cannot be read as a JSON file"),
        ("a.jsonl", '{"text": ""}\n{"text": ', "line 2: is no JSON"),
        ("a.jsonl", '{"text": ""}\n{"result": 3}', "line 2: this is not a grounding result"),
    ],
)
def test_says_where_something_else_stands(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_answers(tmp_path / name)
