"""Another task that is answered in a known format is one entry of the table: all else follows from it."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.turns import read_turns
from llava_st_hf.evaluation.benchmarks.held_out_records import HeldOutRecords
from llava_st_hf.evaluation.blind_baseline import fit_blind_baseline
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.evaluation.questions import read_question
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.modeling.modeling_llava_st import LlavaSTForConditionalGeneration
from llava_st_hf.processing import tasks_llava_st
from llava_st_hf.processing.answer_formats_llava_st import ANSWER_FORMATS
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.processing.tasks_llava_st import TASKS, Task, describe_tasks

pytestmark = pytest.mark.usefixtures("one_thread")

CLIP = np.zeros((20, 54, 54, 3), dtype=np.uint8)
BOX = "[<x=0.1><y=0.2><x=0.5><y=0.6>]"
TUBE = f"<t=0>:{BOX}, <t=1>:{BOX}"


@dataclass(frozen=True)
class Case:
    """A task that does not exist, what its prompt is given, the true answer, and what follows from the table."""

    task: Task
    asking: dict
    answer: str
    record_fields: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    blind_answer: str = ""


def make_task(
    format_name: str, needs: tuple[str, ...], prompt: str, example: str, **measured: tuple[str, ...]
) -> Task:
    return Task(
        name="another",
        title="another task",
        description="Do something else.",
        media_type="video",
        needs=needs,
        prompts=(prompt,),
        answer_format=ANSWER_FORMATS[format_name],
        example_answer=example,
        **measured,
    )


CASES = {
    "moment": Case(
        make_task(
            "span",
            ("query",),
            "Find the moment in which {query}.",
            "{<t_1><t_2>}",
            measures=("temporal_recall",),
            headline=("R@0.7",),
        ),
        {"query": "it turns"},
        "{<t=0.2><t=0.6>}",
        ("query", "span_seconds"),
        ("m_tIoU", "R@0.3", "R@0.5", "R@0.7"),
        ("missing_span",),
        "{<t_20><t_59>}",
    ),
    "motion of a region": Case(
        make_task(
            "text",
            ("box", "span"),
            "How does what is in  {box} move in  {span} ?",
            "To the left.",
            measures=("exact_match",),
            headline=("exact_match",),
        ),
        {"box_fractions": (0.1, 0.2, 0.3, 0.4), "span_fractions": (0.2, 0.6)},
        "to the left.",
        ("span_seconds", "box", "answer"),
        ("exact_match",),
        blind_answer="to the left.",
    ),
    "track from here on": Case(
        make_task(
            "tube",
            ("box", "span"),
            "Follow {box} in {span}.",
            "<t_1>:[<x_1><y_2><x_3><y_4>]",
            measures=("spatial_iou", "volume_iou"),
            headline=("m_vIoU",),
        ),
        {"box_fractions": (0.1, 0.2, 0.5, 0.6), "span_fractions": (0.0, 1.0)},
        TUBE,
        ("span_seconds", "boxes"),
        ("m_sIoU", "sIoU@0.3", "sIoU@0.5", "sIoU@0.7", "m_vIoU", "vIoU@0.3", "vIoU@0.5", "vIoU@0.7"),
        ("missing_tube",),
        "<t_0>:[<x_10><y_20><x_50><y_59>], <t_5>:[<x_10><y_20><x_50><y_59>], ",
    ),
    "talk that is not scored": Case(
        make_task("sentences_with_spans", ("query",), "Tell me: {query}", "{<t_1><t_2>}, it turns."),
        {"query": "what happens?"},
        "{<t=0.2><t=0.6>}, it turns. {<t=0.6><t=1>}, it stops.",
        ("query", "answer"),
    ),
}


SCORED = [name for name, case in CASES.items() if case.task.measures]


@pytest.fixture(params=CASES)
def case(request, monkeypatch) -> Case:
    """One of the cases, its task in the table."""
    case = CASES[request.param]
    monkeypatch.setitem(tasks_llava_st._TASKS_BY_NAME, "another", case.task)
    return case


@pytest.fixture
def samples(case, processor) -> list[Sample]:
    """Two records of the task."""
    (message,) = processor.build_messages("another", video=CLIP, **case.asking)
    question = message["content"][1]["text"]
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": case.answer})
    media = (Media(frames=CLIP),)
    return [Sample(name, "mine", "another", "video", media, messages, video_fps=5.0) for name in "ab"]


def test_it_is_listed_and_says_what_a_record_has(case):
    assert TASKS["another"] is case.task
    assert describe_tasks().splitlines()[-1].split() == ["another", "video", "Do", "something", "else."]
    assert case.task.record_fields == case.record_fields
    assert ("another" in PROTOCOLS["default"].list_tasks()) == bool(case.metrics)


def test_its_records_are_read_from_ones_own_file(case, clip, tmp_path):
    values = {
        "query": "it turns",
        "span_seconds": [1.0, 2.0],
        "box": [10, 20, 50, 60],
        "boxes": {"1.0": [10, 20, 50, 60], "2.0": [20, 20, 60, 60]},
        "answer": "{<t=1s><t=2s>}, it turns." if "span" in case.task.answer_format.several else "To the left.",
    }
    record = {"video": clip.name, "task": "another"} | {field: values[field] for field in case.record_fields}
    (tmp_path / "mine.jsonl").write_text(json.dumps(record))
    (sample,) = UserJsonlReader(tmp_path / "mine.jsonl", "mine", clip.parent)
    (turn,) = read_turns(sample, probe_media(sample))
    assert (sample.task, turn.answer.problems) == ("another", ())


def test_a_model_answers_it_in_its_grammar(case, processor, checkpoint):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    messages = processor.build_messages("another", video=CLIP, **case.asking)
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    outputs = model.generate(**inputs, **processor.build_constraints(inputs, max_new_tokens=48), do_sample=False)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert (result.task, result.problems) == ("another", ())
    found = {"span": result.spans, "tube": result.tubes, "text": result.plain_text, "caption": result.captions}
    assert all(found[part] for part in case.task.answer_format.parts if part != "text")


def test_its_records_are_read_and_trained_on(samples, processor):
    (turn,) = read_turns(samples[0], probe_media(samples[0]))
    assert (turn.answer.task, turn.answer.problems) == ("another", ())
    batch = LlavaSTDataCollator(processor)(samples)
    assert (batch["labels"] >= 0).any(dim=1).all()


@pytest.mark.parametrize("case", SCORED, indirect=True)
def test_it_is_evaluated_by_what_the_table_says(case, samples, make_model, processor, output_dir):
    model = make_model([case.answer, "nothing at all"])
    metrics = evaluate(model, processor, HeldOutRecords(samples, 5), output_dir, quiet=True)
    found = metrics["tasks"]["another"]
    assert found["metrics"] == dict.fromkeys(case.metrics, 0.5)
    assert found["headline"] == list(case.task.headline)
    assert found["failures"] == dict.fromkeys(case.failures, 1)
    assert f"| another | {case.task.headline[0]} " in (output_dir / "report.md").read_text()


@pytest.mark.parametrize("case", SCORED, indirect=True)
def test_it_has_a_blind_baseline(case, samples):
    (medium,) = probe_media(samples[0], num_frames=20)
    question = read_question(samples[0], (medium,), CoordinateVocabulary())
    answer = fit_blind_baseline("another", samples).write(question, medium, CoordinateVocabulary())
    assert answer.startswith(case.blind_answer)
