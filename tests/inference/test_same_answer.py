"""The same question gets the same numbers, whichever way it is asked."""

import json

import pytest

from llava_st_cli import main
from llava_st_hf import GroundingSession, load_pipeline
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.page.answering import Answerer, PageLimits

QUESTIONS = {
    "stvg": ({"query": "the red circle moves"}, ()),
    "tvg": ({"query": "the red circle moves"}, ()),
    "svg": ({"query": "the red circle", "span": (0.5, 2.5)}, ("--span", 0.5, 2.5)),
    "elc": (
        {"start_seconds": 1.0, "box": (12, 92, 68, 148)},
        ("--start", 1.0, "--box", 12, 92, 68, 148),
    ),
    "dvc": ({}, ()),
}


@pytest.fixture(scope="module")
def ground():
    return load_pipeline(SHIPPED_CHECKPOINT, device="cpu")


@pytest.mark.parametrize("task", QUESTIONS)
def test_processor_session_pipeline_page_and_command_agree_to_the_bit(ground, clip, tmp_path, task):
    (asking, flags), path = QUESTIONS[task], str(clip)
    model, processor = ground.model, ground.processor
    inputs = processor.apply_chat_template(
        processor.build_messages(task, video=path, **asking),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 12},
    ).to(model.device)
    outputs = model.generate(**inputs, **processor.build_constraints(inputs, max_new_tokens=120), do_sample=False)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert result.spans or result.tubes
    assert any(span.confidence is not None for span in result.spans) or result.tubes[0].boxes[0].box.confidence
    expected = json.loads(result.to_json())

    session = GroundingSession(model, processor, video=path, num_frames=12)
    session.ask("tvg", query="another question comes first", max_new_tokens=16)
    assert json.loads(session.ask(task, **asking, max_new_tokens=120).to_json()) == expected

    options = {"task": task, "num_frames": 12, "max_new_tokens": 120}
    assert json.loads(ground(path, **asking, **options).to_json()) == expected

    page = Answerer(ground, PageLimits(max_new_tokens=120))
    about = {name: value for name, value in asking.items() if name != "query"}
    (shown,) = page.ask(path, "video", task, [asking.get("query", "")], lambda *_: None, num_frames=12, **about)
    assert json.loads(shown.to_json()) == expected

    words = [asking["query"]] if "query" in asking else []
    given = ["--task", task, "--frames", 12, "--max-new-tokens", 120, *flags, "--json", tmp_path / "answer.json"]
    assert main(["ground", path, *words, *map(str, given), "--device", "cpu"]) == 0
    said = json.loads((tmp_path / "answer.json").read_text())
    said.pop("model")
    assert said == expected
