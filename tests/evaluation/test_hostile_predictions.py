"""Whatever a file of answers holds, in every form: nothing is raised, and no other item is worth less or more."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llava_st_hf.evaluation.audit import audit_predictions
from llava_st_hf.evaluation.predictions import PROBLEMS, read_predictions
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.scored_run import write_scored_run
from llava_st_hf.evaluation.scoring import describe_problems, format_scores, score_predictions
from llava_st_hf.evaluation.summary import summarize_predictions
from llava_st_hf.evaluation.truths import Truth, Truths, read_truths
from llava_st_hf.processing.grounding_results_llava_st import Box, GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
PROTOCOLS = [get_protocol(name) for name in ("default", "vue", "community")]
BOX = [20, 10, 70, 60]
TUBE = {str(second): BOX for second in (2, 3, 4)}
# A perfect answer in each form, by the name of the item.
GOOD = {
    "jsonl": lambda name: {"id": name, "span": [2, 4], "tube": TUBE},
    "video_r1": lambda name: {"id": name, "answer": json.dumps({"time": [2, 4], "boxes": TUBE})},
    "qwen": lambda name: {
        "id": name,
        "answer": json.dumps([*({"bbox_2d": BOX, "time": int(time)} for time in TUBE), {"start": 2, "end": 4}]),
    },
    "v_star": lambda name: {"id": name, "answer_temporal_pre": "From 2 to 4", "answer_spatial_pre": json.dumps(TUBE)},
}
TEXTS = [
    "",
    " ",
    "时间是从二到四秒",
    "‮\x00\x1b[31m\ud800",
    "x" * 1_000_000,
    "[" * 100_000,
    '{"time": [NaN, Infinity], "boxes": {"2": [NaN, -Infinity, 1e999, 0]}}',
    '{"time": [4, 2], "boxes": {"2": [70, 60, 20, 10]}}',
    '{"time": [true, false], "boxes": [[true, 1, 2, 3]]}',
    '{"time": {"a": 1}, "boxes": {"2": {"x": 1}}}',
    '{"time": null, "boxes": null}',
    "[null, true, 3, [], [[]], {}]",
    json.dumps([{"bbox_2d": [1, 2, 3 + number, 40], "time": 2} for number in range(10_000)]),
    json.dumps({"boxes": {str(number / 1000): BOX for number in range(10_000)}}),
    "From 9" + "9" * 5000 + " to 1e9",
]
VALUES = [
    None,
    True,
    7,
    10**400,
    -(10**400),
    -1e308,
    "",
    "2, 4",
    [],
    {},
    [None, None],
    [True, False],
    ["2", "4"],
    [[2, 4]],
    [[[2, 4]]],
    [4, 2],
    [2],
    [2, 4, 6],
    [10**400, 2],
    {"2": None},
    {"2": [10**400] * 4},
    {"2": [[[1, 2, 3, 4]]]},
    {"": BOX, "x": BOX, "nan": BOX, "inf": BOX, "-1e308": BOX},
    [{"time": [2], "box": BOX}, {"box": BOX}, {"time": 2}, {}],
    {"2": [BOX] * 10_000},
]


def make_truth() -> Truth:
    media = MediaInfo("video", 200, 100, tuple(range(100)), tuple(frame / 10 for frame in range(100)))
    frames = np.arange(20, 41)
    tube = Tube.from_arrays(TubeArrays(frames / 10, frames, np.tile(np.array(BOX, dtype=float), (len(frames), 1))))
    return Truth("stvg", GroundingResult("", spans=(Span(2.0, 4.0),), tubes=(tube,), media=media))


TRUTHS = {name: make_truth() for name in ("a", "b", "c")}
ALL = Truths("mine", TRUTHS)


def check(path, form: str, lines: list[str], num_hostile: int = 1) -> dict[str, int]:
    """
    Score a file whose items a and c are answered perfectly, and return what did not count of it.

    The hostile answers are to b or, where they are several, to b0, b1, and so on.
    """
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    hostile = ["b"] if num_hostile == 1 else [f"b{number}" for number in range(num_hostile)]
    truths = {"a": TRUTHS["a"], **dict.fromkeys(hostile, TRUTHS["b"]), "c": TRUTHS["c"]}
    predictions = read_predictions(path, truths, form, "pixels")
    alone = path.with_name("alone.txt")
    is_csv = form == "vue_csv"
    alone.write_text("\n".join(each for each in lines if is_good(each, is_csv)))
    expected = read_predictions(alone, TRUTHS, form, "pixels")
    for protocol in PROTOCOLS:
        found, wanted = (
            {line["id"]: line for line in score_predictions(items, each, protocol)}
            for items, each in ((truths, predictions), (TRUTHS, expected))
        )
        for name in ("a", "c"):
            assert found[name]["scores"] == wanted[name]["scores"]
            assert found[name]["failure"] is wanted[name]["failure"] is None
        values = [value for name in hostile for value in found[name]["scores"].values() if value is not None]
        assert all(math.isfinite(value) and value >= 0 for value in values)
        summary = summarize_predictions(list(found.values()), protocol)
        assert format_scores(summary, protocol, Truths("mine", truths), predictions)
    problems = predictions.count_problems()
    assert set(problems) <= set(PROBLEMS)
    assert len(describe_problems(Truths("mine", truths), predictions)) == len(problems)
    return problems


def is_good(line: str, is_csv: bool) -> bool:
    """Tell whether a line is one of those of the items a and c, or the header of a CSV file."""
    if is_csv:
        return line.startswith(("query_id", "a,", "c,"))
    return line.startswith(('{"id": "a"', '{"id": "c"'))


def surround(form: str, *lines: str) -> list[str]:
    """Return lines between the perfect answers to two items."""
    return [json.dumps(GOOD[form]("a")), *lines, json.dumps(GOOD[form]("c"))]


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_texts(tmp_path, form, text):
    fields = dict.fromkeys(("answer", "answer_temporal_pre", "answer_spatial_pre", "span", "tube", "text"), text)
    problems = check(tmp_path / "answers", form, surround(form, json.dumps({"id": "b", **fields})))
    if not text.strip():
        assert problems


@pytest.mark.parametrize("form", GOOD)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_values_of_wrong_types(tmp_path, form, value):
    names = ("span", "box", "tube", "confidence", "box_unit", "text")
    records = [{name: value} for name in (*names, "spans", "boxes")]
    records += [{"answer": {"time": value, "boxes": value}}]
    records += [{"answer": value, "answer_temporal_pre": value, "answer_spatial_pre": value}]
    records += [{"answer": [{"bbox_2d": value, "time": value}, {"start": value, "end": value}]}]
    lines = [json.dumps({"id": f"b{number}", **record}) for number, record in enumerate(records)]
    check(tmp_path / "answers", form, surround(form, *lines), len(records))


@pytest.mark.parametrize("form", GOOD)
def test_names_and_lines(tmp_path, form):
    lines = ["", "{", "null", "[]", "[1]", '"x"', "\x00", "{}", '{"id": null}', '{"id": {"a": 1}}', '{"id": true}']
    lines += ['{"id": ["b"]}', '{"id": NaN}', json.dumps({**GOOD[form]("b"), "id": "nobody" * 100})]
    lines += [json.dumps(GOOD[form]("b"))] * 3
    problems = check(tmp_path / "answers", form, surround(form, *lines))
    assert problems.pop("unreadable_line") == 6
    assert problems == {"missing_id": 6, "repeated_id": 2, "unknown_id": 1}


def test_lines_of_vue_stg(tmp_path):
    header = "query_id,time_ms,x0,y0,x1,y1"
    good = [f"{name},{1000 * second},20,10,70,60" for name in "ac" for second in (2, 3, 4)]
    bad = ["b", "b,,,,,", "b,nan,0,0,1,1", "b,inf,1,1,1,1", "b,2000,nan,0,1,1", "b,2000,0,0,1", "b,1e400,0,0,1,1"]
    bad += [f"b,{'9' * 400},0,0,1,1", "b,2000,70,60,20,10", "b,2000,0,0,1,1", '"b', "时间,1,2,3,4,5", ",,,,,", "\x00"]
    bad += [f"b,{number},1,1,2,2" for number in range(10_000)] + ["x" * 1_000_000]
    problems = check(tmp_path / "answers", "vue_csv", [header, *good[:3], *bad, *good[3:]])
    assert {"unknown_id", "repeated_time", "unreadable_line", "not_a_number"} <= set(problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8),
    lambda each: st.lists(each, max_size=5) | st.dictionaries(st.text(max_size=5), each, max_size=4),
    max_leaves=20,
)
FIELDS = ("span", "spans", "box", "boxes", "tube", "text", "confidence", "box_unit", "answer", "answer_temporal_pre")


@pytest.mark.parametrize("form", GOOD)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.dictionaries(st.sampled_from([*FIELDS, "answer_spatial_pre", "id"]), JSON), as_text=st.booleans())
def test_anything(tmp_path, form, record, as_text):
    if record.get("id") in ("a", "c"):
        record["id"] = "b"
    if as_text:
        record |= {name: json.dumps(record[name]) for name in record if name.startswith("answer")}
    check(tmp_path / "answers", form, surround(form, json.dumps({"id": "b", **record})))


def test_a_folder_and_an_audit_of_hostile_answers(tmp_path):
    lines = surround("jsonl", *(json.dumps({"id": "b", "text": text}) for text in TEXTS))
    lines += [json.dumps({"id": "b", "span": value}) for value in VALUES] + ['{"id": "\\ud800|<u>"}']
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(lines))
    predictions = read_predictions(path, TRUTHS)
    settings = {"benchmark": "mine"}
    metrics = write_scored_run(tmp_path / "run", path, ALL, predictions, PROTOCOLS[0], settings)
    assert metrics["tasks"]["stvg"]["metrics"]["m_vIoU"] == pytest.approx(2 / 3)
    assert sum(problem["count"] for problem in metrics["problems"]) == len(TEXTS) + len(VALUES) + 1
    assert "<u>" not in (tmp_path / "run/report.html").read_text(encoding="utf-8").split("</style>", 1)[1].lower()
    assert audit_predictions(TRUTHS, predictions).table["the file"]["ours"] == pytest.approx(2 / 3)


BAD_TRUTHS = [
    {"img_num": 400, "st_frame": 101, "bbox": [], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 0, "st_frame": 101, "bbox": [BOX], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 10**9, "bbox": [BOX], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 101, "bbox": [[1, 2]], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 101, "bbox": [["a"] * 4], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 101, "bbox": [[0, 0, 0, 0]], "caption": "he walks", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 101, "bbox": [BOX], "caption": "", "width": 320, "height": 240},
    {"img_num": 400, "st_frame": 101, "bbox": [BOX], "caption": "he walks", "width": 0, "height": -1},
    {"img_num": "many", "st_frame": None, "bbox": "none", "caption": 3, "width": [], "height": {}},
    {"img_num": float("nan"), "st_frame": 101, "bbox": [[float("nan")] * 4], "caption": "x", "width": 1, "height": 1},
    {"img_num": 10**400, "st_frame": 101, "bbox": [BOX], "caption": "he walks", "width": 320, "height": 240},
    {},
    None,
    [],
]


@pytest.mark.parametrize("record", BAD_TRUTHS, ids=range(len(BAD_TRUTHS)))
def test_hostile_truths_change_no_other_item(tmp_path, record):
    good = {"img_num": 400, "st_frame": 101, "bbox": [BOX] * 40, "caption": "he walks", "width": 320, "height": 240}
    path, alone = tmp_path / "hc.json", tmp_path / "alone.json"
    path.write_text(json.dumps({"a.mp4": good, "b.mp4": record, "c.mp4": good}))
    alone.write_text(json.dumps({"a.mp4": good, "c.mp4": good}))
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(json.dumps({"id": f"{name}.mp4", "span": [5, 6], "tube": TUBE}) for name in "abc"))
    found, wanted = (read_truths(each, "hc_stvg") for each in (path, alone))
    predictions = read_predictions(answers, found.items, unusable=dict(found.unusable))
    for protocol in PROTOCOLS:
        scores = [
            {line["id"]: line["scores"] for line in score_predictions(truths.items, predictions, protocol)}
            for truths in (found, wanted)
        ]
        assert {name: each for name, each in scores[0].items() if name != "b.mp4"} == scores[1]
    if "b.mp4" not in found.items:
        assert [name for name, _ in found.unusable] == ["b.mp4"]
        assert predictions.count_problems() == {"unusable_item": 1}


def test_images(tmp_path):
    truths = {
        name: Truth("rec", GroundingResult("", boxes=(Box(*BOX),), media=MediaInfo("image", 200, 100)))
        for name in "ab"
    }
    path = tmp_path / "answers.jsonl"
    for value in VALUES:
        path.write_text("\n".join(json.dumps({"id": n, "box": b}) for n, b in (("a", BOX), ("b", value))))
        predictions = read_predictions(path, truths)
        lines = score_predictions(truths, predictions, PROTOCOLS[0])
        assert lines[0]["scores"] == {"iou": 1}
        assert lines[1]["scores"] == {"iou": 0}


def read_whole_truths(folder, form: str) -> Truths:
    """Return items of a benchmark whose answers have a form of their own: one for each hostile answer, and two."""
    names = [f"item_{number}" for number in range(len(HOSTILE_WHOLE) + 2)]
    path = folder / ("truths.jsonl" if form == "qvhighlights" else "truths.json")
    if form == "qvhighlights":
        lines = [
            {"qid": name, "query": "he walks", "vid": name, "duration": 150, "relevant_windows": [[2, 4], [8, 12]]}
            for name in names
        ]
        path.write_text("\n".join(map(json.dumps, lines)))
        return read_truths(path)
    if form == "activitynet":
        video = {"duration": 10.0, "timestamps": [[0, 4], [4, 10]], "sentences": ["A dog runs.", "Two men play."]}
        path.write_text(json.dumps(dict.fromkeys(names, video)))
        return read_truths(path, task="dvc")
    lines = [{"video_name": name, "Q": "What turns?", "A": "A circle."} for name in names]
    path.write_text(json.dumps(lines))
    return read_truths(path)


EVENTS = [{"sentence": "A dog runs.", "timestamp": [0, 4]}, {"sentence": "Two men play.", "timestamp": [4, 10]}]
WHOLE = {
    "qvhighlights": [[2, 4, 0.9], [8, 12, 0.8]],
    "activitynet": EVENTS,
    "judged": [{"score": 4}, {"pred": "A circle."}],
}
SHORT_TEXTS = [text[:5000] for text in TEXTS]  # each is compared in words
HOSTILE_WHOLE = [
    *map(json.dumps, VALUES),
    *(json.dumps([value]) for value in VALUES),
    *(json.dumps([{"sentence": value, "timestamp": value, "score": value}, value]) for value in VALUES),
    *(json.dumps([{"sentence": text, "timestamp": [0, 4], "score": text}]) for text in SHORT_TEXTS),
    *(json.dumps([{"sentence": "A dog runs.", "timestamp": value}] * 3) for value in VALUES),
    *(json.dumps([[2, 4, value], [2, value, 0.9], [value, 4]]) for value in VALUES),
    json.dumps([{"sentence": "A dog runs.", "timestamp": [0, 4]}] * 50),
    "9" * 5000,
    "[[" + "9" * 5000 + ", 4]]",
    '[{"sentence": "A dog runs.", "timestamp": [0, ' + "9" * 5000 + '], "score": -' + "9" * 5000 + "}]",
    '[{"timestamp": [0, 4], "timestamp": [0, 1], "sentence": "x", "score": 1, "score": 5}]',
    "[" * 400 + "]" * 400,
    "-Infinity",
]


def write_whole(path, form: str, answers: list[tuple[str, str]]) -> None:
    """Write answers, JSON by names, of which several may be the same."""
    if form == "qvhighlights":
        path.write_text("\n".join(f'{{"qid": "{name}", "pred_relevant_windows": {each}}}' for name, each in answers))
        return
    content = "{" + ", ".join(f'"{name}": {each}' for name, each in answers) + "}"
    path.write_text(content if form == "judged" else f'{{"version": "1", "results": {content}}}')


def score_whole(path, truths: Truths, form: str, answers: list[tuple[str, str]]):
    """Return the lines of the items by their names, and what did not count."""
    write_whole(path, form, answers)
    predictions = read_predictions(path, truths.items, form, unusable=dict(truths.unusable))
    protocol = get_protocol("judge" if form == "judged" else "default").for_benchmark(truths.format)
    lines = score_predictions(truths.items, predictions, protocol)
    assert format_scores(summarize_predictions(lines, protocol), protocol, truths, predictions)
    assert set(predictions.count_problems()) <= set(PROBLEMS)
    return {line["id"]: line for line in lines}, predictions.count_problems()


@pytest.mark.parametrize("form", WHOLE)
def test_forms_that_are_not_of_records(tmp_path, form):
    truths, path = read_whole_truths(tmp_path, form), tmp_path / "answers"
    first, *others, last = truths.items
    good = json.dumps(WHOLE[form])
    alone, _ = score_whole(path, truths, form, [(first, good), (last, good)])
    assert alone[first]["failure"] is None
    hostile = zip(others, HOSTILE_WHOLE, strict=True)
    found, problems = score_whole(path, truths, form, [(first, good), *hostile, (last, good)])
    assert [found[name]["scores"] for name in (first, last)] == [alone[name]["scores"] for name in (first, last)]
    for name in others:
        values = [value for kind, value in found[name]["scores"].items() if kind != "texts"]
        assert all(math.isfinite(value) and 0 <= value <= 5 for value in values)
    assert problems


@pytest.mark.parametrize("form", WHOLE)
def test_names_that_stand_twice_in_forms_that_are_not_of_records(tmp_path, form):
    truths, path = read_whole_truths(tmp_path, form), tmp_path / "answers"
    first, other, *_ = truths.items
    good = json.dumps(WHOLE[form])
    found, problems = score_whole(path, truths, form, [(first, good), (other, good), (first, "[]"), (first, "[]")])
    assert problems["repeated_id"] == 2
    assert found[first]["scores"] == found[other]["scores"] and found[first]["failure"] is None
