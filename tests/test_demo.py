"""The checkpoint that ships, on the clip of the demo."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from llava_st_hf import GroundingResult
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.questions import list_descriptions
from llava_st_hf.demo import DEMO_INDEX, DEMO_QUERY, DEMO_SEED, DEMO_SIDE, SHIPPED_CHECKPOINT, write_demo_clip
from llava_st_hf.evaluation.answering import Answerer
from llava_st_hf.evaluation.benchmarks.st_shapes import FIRST_EVALUATION_SEED, StShapes
from llava_st_hf.evaluation.metrics import compute_box_iou, compute_temporal_iou
from llava_st_hf.evaluation.runner import evaluate
from llava_st_hf.inference.pipeline import load_pipeline

DOCS = Path(__file__).parents[1] / "docs"


def test_what_ships_is_small_and_has_no_code_of_its_own():
    names = {path.name for path in SHIPPED_CHECKPOINT.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= names
    assert not [name for name in names if name.endswith(".py")]
    assert sum(path.stat().st_size for path in SHIPPED_CHECKPOINT.iterdir()) < 10e6


def read_demo_truth():
    """Return what the scene of the demo says of the object that is asked for, and when."""
    scene = ShapesDataset(["stvg"], DEMO_INDEX + 1, seed=DEMO_SEED, size=DEMO_SIDE).make_scene(DEMO_INDEX)
    (asked,) = [each for item in scene.objects for each in list_descriptions(item) if each.sentence == DEMO_QUERY]
    return asked, tuple(frame / 5 for frame in (asked.first_frame, asked.last_frame))


def test_the_record_of_the_docs_is_true():
    """Its span, its boxes, and the box that a question begins at."""
    asked, span = read_demo_truth()
    text = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("your_data.md", "asking.md"))
    assert tuple(json.loads(re.search(r'"span_seconds": (\[.*?\])', text)[1])) == span
    boxes = json.loads(re.search(r'"boxes": (\{.*?\})', text)[1])
    assert tuple(map(float, boxes)) == span
    start, box = re.search(r"start_seconds=([\d.]+), box=\((.*?)\)", text).groups()
    for seconds, given in (*boxes.items(), (start, json.loads(f"[{box}]"))):
        truth = asked.item.boxes[round(float(seconds) * 5)].tolist()
        assert given == pytest.approx(truth, abs=1)


def test_the_answer_about_the_demo_clip_is_right(tmp_path):
    """The span and every box of the tube, against the scene that was rendered."""
    asked, truth = read_demo_truth()
    result = load_pipeline(SHIPPED_CHECKPOINT)(write_demo_clip(tmp_path / "clip.mp4"), DEMO_QUERY)
    assert isinstance(result, GroundingResult)
    (span,) = result.spans
    assert compute_temporal_iou((span.start_seconds, span.end_seconds), truth) > 0.7
    (tube,) = result.tubes
    ious = [compute_box_iou(entry.box.xyxy, asked.item.boxes[entry.frame_index].tolist()) for entry in tube.boxes]
    assert min(ious) > 0.5
    assert sum(ious) / len(ious) > 0.75


def test_the_grammar_leaves_a_well_formed_answer_as_it_is():
    """What the model writes freely and the grammar allows is what it writes with the grammar."""
    ground = load_pipeline(SHIPPED_CHECKPOINT)
    benchmark = StShapes(6, tasks=("elc", "stvg", "tvg"), seed=FIRST_EVALUATION_SEED + 7)
    samples = [benchmark.read(index) for index in range(len(benchmark))]
    same = []
    for first in range(0, len(samples), 6):
        free, kept = (
            Answerer(ground.model, ground.processor, constrained=constrained).answer(samples[first : first + 6])
            for constrained in (False, True)
        )
        same += [one.result.text == other.result.text for one, other in zip(free, kept, strict=True)]
    assert sum(same) > 0.7 * len(same)


@pytest.mark.slow
def test_metrics_on_other_clips_are_near_those_of_the_card(tmp_path):
    """On 40 items a task of another seed, no metric differs by more than chance: four standard errors of a share."""
    card = {
        (task, name): float(value)
        for task, name, value in re.findall(
            r"^\| (\w+) +\| (\S+) +\| +([\d.]+) \|", (SHIPPED_CHECKPOINT / "README.md").read_text(), flags=re.MULTILINE
        )
    }
    ground = load_pipeline(SHIPPED_CHECKPOINT)
    benchmark = StShapes(40, seed=FIRST_EVALUATION_SEED + 1)
    tasks = evaluate(ground.model, ground.processor, benchmark, tmp_path / "run", batch_size=20, quiet=True)["tasks"]
    metrics = {(task, name): found["metrics"][name] for task, found in tasks.items() for name in found["headline"]}
    assert metrics.keys() == card.keys()
    for key, value in metrics.items():
        assert abs(value - card[key]) < 4 * max(card[key] * (1 - card[key]) / 40, 0.001) ** 0.5, key


def test_the_snippets_of_the_card_run_as_they_stand(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    card = ModelCard.load(SHIPPED_CHECKPOINT / "README.md")
    (snippet,) = re.findall(r"```python\n(.*?)```", card.text, flags=re.DOTALL)
    exec(snippet, {})
    assert "Span(start_seconds=1." in capsys.readouterr().out


def test_the_metrics_of_the_card_are_there_as_the_hub_reads_them():
    card = ModelCard.load(SHIPPED_CHECKPOINT / "README.md")
    path = SHIPPED_CHECKPOINT / ".eval_results" / "st-shapes.yaml"
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    shown = {
        (task, name): float(value)
        for task, name, value in re.findall(r"^\| (\w+) +\| (\S+) +\| +([\d.]+) \|", card.text, flags=re.MULTILINE)
    }
    results = {(one.task_name, one.metric_type): round(one.metric_value, 3) for one in card.data.eval_results}
    assert results == shown and len(shown) == 11
    assert {entry.task_id: round(entry.value, 3) for entry in entries} == {
        f"{task}_{name}": value for (task, name), value in shown.items()
    }
    assert {str(entry.date) for entry in entries} == set(re.findall(r"Measured on (\S+) by", card.text))
