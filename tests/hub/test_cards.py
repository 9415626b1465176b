from importlib.resources import files
from pathlib import Path

import yaml
from huggingface_hub import DatasetCard, ModelCard, parse_eval_result_entries

from llava_st_hf.data.cards import write_benchmark_yaml
from llava_st_hf.hub.cards import (
    ModelFacts,
    add_results,
    render_model_card,
    render_results_card,
    render_trained_card,
)
from llava_st_hf.hub.results import EvaluationRun
from llava_st_hf.hub.training_facts import TrainedSource, TrainingFacts


def test_cards_of_checkpoints_say_what_they_are_of():
    card = ModelCard(render_model_card("converted", source="owner/published"))
    assert card.data.to_dict() == {
        "library_name": "transformers",
        "pipeline_tag": "video-text-to-text",
        "tags": ["llava_st", "video-grounding"],
    }
    assert "The weights of `owner/published`, a model" in card.text
    assert "random (seed 3)" in render_model_card("untrained", source="base", seed=3)


def make_facts(**settings) -> ModelFacts:
    known = {"base_model": None, "num_parameters": 1234567, "num_frames": 20, "image_size": 72}
    sizes = {"num_temporal_tokens": 100, "num_spatial_tokens": 100}
    return ModelFacts("me/model", **{"is_adapter": False, **known, **sizes, **settings})


def make_training(**settings) -> TrainingFacts:
    known = {
        "stage": "instruction_tuning",
        "base": "start",
        "base_id": None,
        "base_revision": None,
        "sources": [TrainedSource("a|b", "CC-BY-4.0", None, "owner/clips", "1f0c9d2", 10, 20)],
        "modules": {"packer": "full, 1e-05"},
        "hyper_parameters": {"seed": 42},
        "hardware": "1 x GPU",
        "hours": 1.5,
        "is_resumed": False,
        "steps": 10,
        "records": 160,
        "loss": None,
        "date": "2026-01-31",
        "versions": {"torch": "2.13.0"},
    }
    return TrainingFacts(**{**known, **settings})


def make_run(**settings) -> EvaluationRun:
    task = {"items": 5, "metrics": {"m_tIoU": 0.51239, "R@0.5": 0.4}, "headline": ["m_tIoU"]}
    tasks = {"tvg": {**task, "baseline": {"m_tIoU": 0.25}}, "rec": {**task, "baseline": None}}
    known = {"benchmark": "st-shapes", "protocol": "default", "model": "me/model"}
    return EvaluationRun(
        {**known, **settings}, tasks, "llava-st evaluate st-shapes", "2026-01-31", {"torch": "2"}, "cpu"
    )


def test_a_model_card_says_what_the_run_knows():
    text = render_trained_card(
        make_facts(base_model="owner/base", license="Apache-2.0"), make_training(), [make_run()]
    )
    card = ModelCard(text)
    assert {name: value for name, value in card.data.to_dict().items() if name != "model-index"} == {
        "base_model": "owner/base",
        "base_model_relation": "finetune",
        "datasets": ["owner/clips"],
        "library_name": "transformers",
        "license": "apache-2.0",
        "pipeline_tag": "video-text-to-text",
        "tags": ["llava_st", "video-grounding"],
    }
    assert [(result.metric_name, result.metric_value) for result in card.data.eval_results] == [
        ("tvg m_tIoU", 0.5124),
        ("rec m_tIoU", 0.5124),
    ]
    assert [result.dataset_config for result in card.data.eval_results] == ["tvg", "rec"]
    for words in (
        "of 1,234,567 parameters",
        "| a\\|b | CC-BY-4.0 | owner/clips at `1f0c9d2` | 10 | 20 |",
        "`packer` (full, 1e-05). Other modules were frozen.",
        "Cost: 10 steps over 160 records,\n1.5 hours on 1 x GPU.\nDone on 2026-01-31 with torch 2.13.0.",
        "`st-shapes`, default protocol, 2026-01-31:",
        "```bash\nllava-st evaluate st-shapes\n```",
        'from_pretrained("me/model", trust_remote_code=True)',
    ):
        assert words in card.text, words


def test_a_card_of_a_model_that_nothing_is_known_of_says_no_more():
    card = ModelCard(render_trained_card(make_facts(), None))
    assert "base_model" not in card.data.to_dict() and "license" not in card.data.to_dict()
    assert "How it was made" not in card.text and "Nothing was measured." in card.text


def test_the_card_of_an_adapter_names_what_it_needs():
    assert "With the package `llava-st-hf[lora]`," in render_trained_card(make_facts(is_adapter=True), None)
    assert "With the package `llava-st-hf`," in render_trained_card(make_facts(), None)


def test_a_card_has_what_the_run_measured_of_what_was_held_out():
    training = make_training(held_out={"loss": 3.39812, "stvg_m_tIoU": 0.45})
    for evaluations in ([], [make_run()]):
        text = render_trained_card(make_facts(), training, evaluations)
        assert "| metric | value |\n| --- | ---: |\n| loss | 3.398 |\n| stvg_m_tIoU | 0.45 |\n" in text
        assert "held out" in text and "Nothing was measured" not in text


def test_a_results_card_links_the_model():
    text = render_results_card(make_run(), "me/results", "me/model")
    assert "# me/model on st-shapes" in text and "[me/model](https://huggingface.co/me/model)" in text
    assert DatasetCard(text).data.to_dict()["configs"][0]["data_files"][0]["path"] == "predictions.jsonl"
    assert "huggingface.co" not in DatasetCard(render_results_card(make_run(model="mine"), "me/results")).text


def test_results_are_those_of_huggingface_hub():
    entries = parse_eval_result_entries(yaml.safe_load(make_run().write_yaml()))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in entries] == [
        ("llava-st-hf/st-shapes", "tvg_m_tIoU", 0.5124),
        ("llava-st-hf/st-shapes", "rec_m_tIoU", 0.5124),
    ]
    tasks = yaml.safe_load(write_benchmark_yaml("ST: Shapes", ["tvg"]))["tasks"]
    assert entries[0].task_id in {task["id"] for task in tasks}
    assert entries[0].notes == "default protocol; llava-st evaluate st-shapes" and entries[0].date == "2026-01-31"


def test_a_card_that_is_there_gets_its_place_and_its_metrics():
    card = ModelCard(add_results(render_model_card("converted", source="owner/old"), "me/model", [make_run()]))
    assert 'model="me/model"' in card.text and "path/to" not in card.text
    assert "## Metrics" in card.text and "| tvg" in card.text
    assert len(card.data.eval_results) == 2
    assert add_results(str(card), "me/model", [make_run()]).count("## Metrics") == 1


def test_the_templates_lie_at_the_root_too():
    root = Path(__file__).parents[2] / "hub_cards"
    names = {path.name for path in root.iterdir()}
    assert {"model_card.md.jinja", "adapter_card.md.jinja", "dataset_card.md.jinja", "results_card.md.jinja"} <= names
    assert names == {path.name for path in (files("llava_st_hf") / "assets" / "card_templates").iterdir()}
