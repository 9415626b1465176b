"""Each form in which answers are written, taken apart."""

import json

import pytest

from llava_st_hf.evaluation.prediction_forms import FORMS, read_entries
from llava_st_hf.processing.media_llava_st import InputError

BOX = [1, 2, 3, 4]


def read_one(tmp_path, form, record):
    path = tmp_path / "answers.jsonl"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    (entry,) = read_entries(path, form)
    return entry


@pytest.mark.parametrize(
    ("form", "record", "spans", "boxes", "tube"),
    [
        ("jsonl", {"span": [1, 2], "tube": {"1.5": BOX}}, [[1, 2]], [], [("1.5", BOX)]),
        ("jsonl", {"spans": [[1, 2]], "tube": {"1": [BOX, BOX]}}, [[1, 2]], [], [("1", BOX)] * 2),
        ("jsonl", {"tube": [{"time": 1, "box": BOX}]}, [], [], [(1, BOX)]),
        ("jsonl", {"box": BOX}, [], [BOX], []),
        ("video_r1", {"solution": {"time": [1, 2], "boxes": {"1": BOX}}}, [[1, 2]], [], [("1", BOX)]),
        ("video_r1", {"output": '<think>{"a"}</think><answer>{"boxes": [1,2,3,4]}</answer>'}, [], [BOX], []),
        ("qwen", {"response": '```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "x"}]\n```'}, [], [BOX], []),
        (
            "qwen",
            {"response": '[{"bbox_2d": [1,2,3,4], "time": 2.5}, {"start": 1, "end": 3}]'},
            [[1, 3]],
            [],
            [(2.5, BOX)],
        ),
        ("qwen", {"response": "The box is [1, 2, 3, 4]."}, [], [BOX], []),
        (
            "v_star",
            {"answer_temporal_pre": "From 1.5 to 3 seconds", "answer_spatial_pre": '{"2": [[1,2,3,4],[1,2,3,4]]}'},
            [[1.5, 3]],
            [],
            [("2", BOX)] * 2,
        ),
    ],
)
def test_forms(tmp_path, form, record, spans, boxes, tube):
    entry = read_one(tmp_path, form, {"id": "a", **record})
    assert (entry.name, entry.spans, entry.boxes, entry.tube, entry.problems) == ("a", spans, boxes, tube, [])


def test_a_list_and_other_names(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(
        json.dumps([{"problem_id": 3, "answer": {"time": [0, 1]}}, {"vid": "v", "answer": {"time": [0, 1]}}])
    )
    assert [entry.name for entry in read_entries(path, "video_r1")] == [3, "v"]


def test_seconds_of_vue_stg(tmp_path):
    path = tmp_path / "answers.csv"
    lines = [
        "query_id,time_ms,x0,y0,x1,y1",
        "a,1499,0.5,0,0.1,1",
        "a,1500,0,0,1,1",
        "a,501,0,0,1,1",
        "a,bad",
        "b,nan,0,0,1,1",
    ]
    path.write_text("\n".join(lines))
    first, second = read_entries(path, "vue_csv")
    assert first.tube == [(1, [0.1, 0, 0.5, 1]), (2, [0, 0, 1, 1])]
    assert first.problems == ["repeated_time", "unreadable_line"]
    assert second.name == "b"


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("vue_csv", "activitynet", "judged")])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[[[[",
        "{" * 5000,
        '[{"bbox_2d": 3}, 4, "x", null]',
        "[" * 100_000,
        "时间 <answer>",
        "a" * 1_000_000,
        '{"time": "x", "boxes": "y"}',
        "{" + '"1": ' * 100,
    ],
)
def test_hostile_texts_raise_nothing(tmp_path, form, text):
    record = {
        "id": "a",
        **dict.fromkeys(("answer", "answer_temporal_pre", "answer_spatial_pre", "span", "tube"), text),
    }
    assert read_one(tmp_path, form, record).name == "a"


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("deep", [DEEP, DEEP.replace("[", '{"a":[').replace("]", "]}"), f'["]", {DEEP}, "\\""]'])
@pytest.mark.parametrize(
    ("form", "text", "problem"),
    [
        (
            "activitynet",
            '{{"results": {{"a": [{{"timestamp": [0, 1], "sentence": "x"}}], "b": [{0}], "c": [{{"timestamp": [0, 1], '
            '"sentence": "y"}}]}}}}',
            "unreadable_answer",
        ),
        ("judged", '{{"a": [{{"score": 1}}], "b": {0}, "c": [{{"score": 2}}]}}', "unreadable_score"),
        ("jsonl", '[{{"id": "a", "span": []}},\n{{"id": "b", "span": {0}}},\n{{"id": "c", "text": ""}}]', None),
        ("qwen", '{{"id": "a", "answer": []}}\n{{"id": "b", "answer": {0}}}\n{{"id": "c", "answer": []}}', None),
    ],
)
def test_an_answer_that_is_nested_deeply_is_lost_alone(tmp_path, form, text, problem, deep):
    path = tmp_path / "a.json"
    path.write_text(text.format(deep))
    entries = list(read_entries(path, form))
    assert [entry.name for entry in entries] == ["a", "b", "c"]
    assert "unreadable" not in str(entries[0].problems + entries[2].problems)
    if problem:
        assert entries[1].problems == [problem]


def test_dense_captions_of_activitynet(tmp_path):
    path = tmp_path / "answers.json"
    event = {"sentence": "A dog runs.", "timestamp": [1, 2]}
    results = {"v_1": [event, {"sentence": 3, "timestamp": [1, 2]}, "x"], "v_2": [], "v_3": "x"}
    path.write_text(json.dumps({"version": "VERSION 1.0", "results": results, "external_data": {}}))
    entries = {entry.name: entry for entry in read_entries(path, "activitynet")}
    assert entries["v_1"].captions == [([1, 2], "A dog runs.")]
    assert [entry.problems for entry in entries.values()] == [
        ["unreadable_answer"] * 2,
        ["no_answer"],
        ["unreadable_answer"],
    ]


def test_windows_of_qvhighlights(tmp_path):
    entry = read_one(tmp_path, "qvhighlights", {"qid": 3, "pred_relevant_windows": [[0, 2, 0.9], [4, 6], "x"]})
    assert (entry.name, entry.spans, entry.problems) == (3, [[0, 2], [4, 6], "x"], [])
    ranked = {"qid": 3, "pred_relevant_windows": [[0, 2, 0.1], [4, 6, 0.9], [7, 8, 0.1]]}
    assert read_one(tmp_path, "qvhighlights", ranked).spans == [[4, 6], [0, 2], [7, 8]]
    assert read_one(tmp_path, "qvhighlights", {"qid": 3}).problems == ["no_answer"]
    record = {"qid": 3, "pred_relevant_windows": "x"}
    assert read_one(tmp_path, "qvhighlights", record).problems == ["unreadable_pred_relevant_windows", "no_answer"]


@pytest.mark.parametrize("text", ["", "[]", "{" * 5000, "\0", "[" * 100_000])
@pytest.mark.parametrize("form", ["activitynet", "judged"])
def test_a_file_of_another_form_altogether_is_refused(tmp_path, form, text):
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"declare another form than {form}"):
        list(read_entries(path, form))


def test_files_of_another_form_are_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("{}")
    with pytest.raises(InputError, match="has no columns query_id"):
        next(read_entries(path, "vue_csv"))
    with pytest.raises(InputError, match="predictions_format is 'coco': choose one of jsonl"):
        next(read_entries(path, "coco"))
    with pytest.raises(InputError, match="cannot be read"):
        next(read_entries(tmp_path / "nowhere", "jsonl"))
