import json
import re

import numpy as np
import pytest
import torch

from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.grounding_results_llava_st import Box, Span
from llava_st_hf.processing.media_llava_st import MediaInfo, PromptError
from llava_st_hf.processing.prompt_coordinates_llava_st import check_prompt_coordinates
from llava_st_hf.processing.tasks_llava_st import TASK_FIELDS, TASKS, describe_tasks, get_task, write_values

FIELDS = {
    "query": "the child holds a bat",
    "span": "{<t=0.1><t=0.5>}",
    "box": "[<x=0.1><y=0.2><x=0.5><y=0.6>]",
    "start": "<t=0.1>",
}
CLIP = MediaInfo("video", 640, 360, frame_indices=tuple(range(100)), frame_seconds=tuple(i / 10 for i in range(100)))
IMAGE = MediaInfo("image", 640, 360)


def write(name, **fields):
    task = get_task(name)
    return task.write_prompt(**{field: FIELDS[field] for field in task.needs}, **fields)


def test_the_published_tasks_come_first():
    names = "video_captioning tvg dvc tr rec dgc rc tgc igc stvg elc svg conversation video_qa classification"
    assert list(TASKS)[: len(names.split())] == names.split()


@pytest.mark.parametrize("name", TASKS)
def test_task_is_whole(name):
    task = TASKS[name]
    assert task.name == name and task.title and task.description.endswith(".")
    assert task.media_type in ("video", "image", "any")
    assert set(task.needs) <= set(TASK_FIELDS)
    assert task.answer_format is ANSWER_FORMATS[task.answer_format.name]
    assert bool(task.measures) == bool(task.headline)
    for prompt in (*task.prompts, *filter(None, [task.question_prompt])):
        assert set(re.findall(r"\{(\w+)\}", prompt)) == set(task.needs)
        # The spaces that the published pipeline puts around what it formats.
        assert not re.search(r"(?<!  )\{(span|box)\}|\{span\}(?! )|(?<! Starts in )\{start\}|\{start\}(?! ,)", prompt)
    for variant in range(len(task.prompts)):
        check_prompt_coordinates(write(name, variant=variant))
    assert write(name) == write(name)


@pytest.mark.parametrize("name", TASKS)
def test_example_answer_is_read_without_a_problem(name):
    task = TASKS[name]
    media = IMAGE if task.media_type == "image" else CLIP
    result = parse_answer(task.example_answer, media, answer_format=task.answer_format, start_seconds=1.0)
    assert result.problems == ()


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TASKS["tvg"] = TASKS["rec"]
    with pytest.raises(AttributeError):
        TASKS["tvg"].name = "other"


def test_unknown_task_lists_the_names():
    with pytest.raises(PromptError) as error:
        get_task("grounding")
    assert all(name in str(error.value) for name in TASKS)
    with pytest.raises(PromptError, match=r"task is \['tvg'\]: choose one of"):
        get_task(["tvg"])


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    [
        ("tvg", {}, "needs a query"),
        ("tvg", {"query": ""}, "query is ''"),
        ("rec", {"query": "  \n"}, "needs a query"),
        ("tr", {"query": "x"}, "needs a span"),
        ("elc", {"start": "<t=0.1>"}, "needs a box"),
        ("dvc", {"query": "x"}, "takes no query"),
        ("tvg", {"query": "x", "span": "{<t=0><t=1>}"}, "takes only query"),
        ("rec", {"query": "x", "variant": 4}, "0 to 3"),
        ("rec", {"query": "x", "variant": -1}, "0 to 3"),
        ("rec", {"query": "x", "variant": "a"}, "variant is 'a'"),
        ("rec", {"query": "x", "variant": 1.0}, "variant is 1.0"),
        ("rec", {"query": 5}, "query is 5: give it as text"),
    ],
)
def test_refuses_wrong_fields(name, fields, words):
    with pytest.raises(PromptError) as error:
        get_task(name).write_prompt(**fields)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_braces_in_a_query_are_text():
    assert get_task("rec").write_prompt(query="the {odd} one") == "Where can I find the {odd} one in this image?"


def to_inline(text: str) -> str:
    """Write the templates of the published code as coordinates, all with the value 0."""
    letters = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}
    return re.sub(r"<(TEMP|HEIGHT|WIDTH)-INPUT>", lambda match: f"<{letters[match[1]]}=0>", text)


def test_prompts_are_the_published_ones(parity_dir):
    """Every wording among the recorded items of the published readers can be written from the table."""
    span, box = "{<t=0><t=0>}", "[<x=0><y=0><x=0><y=0>]"
    num_checked = 0
    for path in parity_dir.glob("*/unit/datasets.json"):
        recorded = json.loads(path.read_text())
        prompts = {
            kind: {to_inline(row["item"]["conversations"][0]["value"].split("\n", 1)[1]) for row in part["items"]}
            for kind, part in recorded.items()
        }
        annotation = recorded["rec"]["annotation"]
        captions = [image["caption"] for image in annotation["images"] if "<image>" not in image["caption"]]
        written = {"rec": {get_task("rec").write_prompt(v, query=c) for v in range(4) for c in captions}}
        rec = {prompt for prompt in prompts["rec"] if not prompt.startswith("Find ")}
        assert rec == written["rec"]
        assert "Give you a textual query: 'a man runs.'. When" in get_task("tvg").write_prompt(query="a man runs.")
        for prompt in prompts["tvg"]:
            query = re.search(r"query: '(.*)'\. When", prompt)[1]
            assert get_task("tvg").write_prompt(query=query) == prompt
        for prompt in prompts["stvg"]:
            event = re.search(r"can we see (.*) occurring\?", prompt)[1]
            assert get_task("stvg").write_prompt(query=event) == prompt
            assert get_task("stvg").write_prompt(query=prompt.split("Please firstly")[0]) == prompt
        for prompt in prompts["svg"]:
            question = re.search(r"\}\s,\s(.*)Please give the spatial", prompt)[1]
            assert get_task("svg").write_prompt(query=question, span=span) == prompt.replace("At ", "Between ")
        for prompt in prompts["elc"]:
            assert get_task("elc").write_prompt(start="<t=0>", box=box) == prompt
        num_checked += sum(map(len, prompts.values()))
    assert num_checked > 20


@pytest.mark.parametrize("task", ["tvg", "stvg", "svg", "rec", "tvg_several", "stvg_several"])
def test_queries_in_ones_own_words_are_named_as_the_published_ones(task):
    assert get_task(task).name_query(" She cuts the NBA carrots. ") == "she cuts the nba carrots"
    assert get_task(task).name_query(" . ") == " . "


@pytest.mark.parametrize("task", ["conversation", "video_qa", "tgc", "multiple_choice"])
def test_whole_questions_stay_as_they_are(task):
    assert get_task(task).name_query("Name what She cuts.") == "Name what She cuts."


def test_question_is_taken_whole():
    assert get_task("stvg").name_query("What does She hold?") == "What does She hold?"
    question = "What is beneath the child? Where is the corresponding subject/object located?"
    for variant in range(len(get_task("stvg").prompts)):
        written = get_task("stvg").write_prompt(variant, query=question)
        assert written.startswith(question + "Please firstly give the timestamps")
    assert get_task("stvg").write_prompt(query="a child runs").startswith("At which time interval in the video can we")


@pytest.mark.parametrize(
    ("name", "axes", "values", "fractions", "expected"),
    [
        ("span", "tt", Span(1.5, 4.0), None, "{<t=1.5s><t=4.0s>}"),
        ("span", "tt", (1, 4), None, "{<t=1.0s><t=4.0s>}"),
        ("span", "tt", None, (0.1, 0.5), "{<t=0.1><t=0.5>}"),
        ("box", "xyxy", Box(10, 20, 30, 40), None, "[<x=10.0px><y=20.0px><x=30.0px><y=40.0px>]"),
        ("box", "xyxy", None, (0, 0, 1, 1), "[<x=0.0><y=0.0><x=1.0><y=1.0>]"),
        ("start", "t", [3.5], None, "<t=3.5s>"),
        ("start", "t", None, None, None),
        ("box", "xyxy", np.array([10, 20, 30, 40]), None, "[<x=10.0px><y=20.0px><x=30.0px><y=40.0px>]"),
        ("span", "tt", [torch.tensor(1.5), np.float32(4)], None, "{<t=1.5s><t=4.0s>}"),
    ],
)
def test_writes_values(name, axes, values, fractions, expected):
    assert write_values(name, axes, values, fractions) == expected


@pytest.mark.parametrize(
    ("values", "fractions", "words"), [((1, 2), (0, 1), "one of them"), ((1, 2, 3), None, "give 2 numbers")]
)
def test_refuses_wrong_values(values, fractions, words):
    with pytest.raises(PromptError, match=words):
        write_values("span", "tt", values, fractions)


@pytest.mark.parametrize(
    ("name", "axes", "values", "fractions", "message"),
    [
        ("span", "tt", 3.0, None, "span is 3.0: give 2 numbers in seconds."),
        ("span", "tt", {"a": 1}, None, "span is {'a': 1}: give 2 numbers in seconds."),
        ("span", "tt", ("1", "2"), None, "span is ('1', '2'): give 2 numbers in seconds."),
        ("span", "tt", (True, 2), None, "span is (True, 2): give 2 numbers in seconds."),
        ("span", "tt", None, "01", "span_fractions is '01': give 2 numbers from 0 to 1."),
        ("box", "xyxy", "1234", None, "box is '1234': give 4 numbers in pixels."),
        ("box", "xyxy", (1, 2, 3, None), None, "box is (1, 2, 3, None): give 4 numbers in pixels."),
        ("start", "t", ["a"], None, "start_seconds is 'a': give a number in seconds."),
        ("start", "t", None, [None], "start_fraction is None: give a number from 0 to 1."),
    ],
)
def test_refuses_what_is_no_number(name, axes, values, fractions, message):
    with pytest.raises(PromptError) as error:
        write_values(name, axes, values, fractions)
    assert str(error.value) == message


def test_refuses_a_whole_number_that_is_no_float():
    with pytest.raises(PromptError, match="give 2 numbers") as error:
        write_values("span", "tt", (0, 10**400), None)
    assert len(str(error.value)) < 150


def test_help_lists_every_task():
    lines = describe_tasks().splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)
