import pytest
import yaml
from huggingface_hub import DatasetCard

from llava_st_hf import InputError
from llava_st_hf.data import SourceFacts, get_features, render_dataset_card
from llava_st_hf.data.cards import write_benchmark_yaml

COUNTS = {("kitchen", "tvg"): 1200, ("kitchen", "dvc"): 30, ("photographs", "rec"): 4}


def render(**options):
    arguments = {
        "title": "Kitchen",
        "sources": {"kitchen": SourceFacts("kitchen", "CC-BY-4.0", "https://kitchen.example")},
        "counts": COUNTS,
        "skips": {},
        "media_types": {"video": 1230, "image": 4},
        **options,
    }
    return render_dataset_card(**arguments)


def test_metadata_is_what_the_hub_reads():
    card = DatasetCard(render())
    assert card.data.to_dict() == {
        "license": ["cc-by-4.0", "unknown"],
        "task_categories": ["video-text-to-text", "image-text-to-text"],
        "size_categories": ["1K<n<10K"],
        "pretty_name": "Kitchen",
        "tags": ["llava-st", "temporal-grounding", "spatial-grounding"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }
    assert DatasetCard(render(counts={("kitchen", "tvg"): 1})).data.license == "cc-by-4.0"


@pytest.mark.parametrize(
    ("count", "name"),
    [(1, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (4_300_000, "1M<n<10M"), (10**8, "n>10M")],
)
def test_size_categories(count, name):
    assert DatasetCard(render(counts={("kitchen", "tvg"): count})).data.size_categories == [name]


def test_tables_say_counts_licences_and_skips():
    text = render(skips={("kitchen", "missing_media"): 1234})
    for line in (
        "| kitchen | tvg | 1,200 |",
        "| photographs | rec | 4 |",
        "| kitchen | CC-BY-4.0 | https://kitchen.example | 1,230 |",
        "| photographs | unknown | not stated | 4 |",
        "| kitchen | missing_media | 1,234 |",
        "1,234 conversations about videos",
        "By medium: 4 image, 1,230 video.",
        "1,234 records of the sources could not be used.",
        'load_dataset("ORGANIZATION/NAME", split="train", streaming=True)',
    ):
        assert line in text
    assert "Where the licence is unknown" in text
    assert "Nothing: every record of the sources is here." in render()
    one = render(counts={("kitchen", "tvg"): 1}, skips={("kitchen", "missing_media"): 1})
    assert "\n1 conversation about videos" in one and "\n1 record of the sources" in one
    assert "Where the licence is unknown" not in render(counts={("kitchen", "tvg"): 1})
    assert 'load_dataset("me/clips"' in render(repository="me/clips")


def test_names_of_others_are_no_markup():
    name = "a|b\n| c | <script> *x* [y](z) {{ 7 * 7 }}"
    text = render(title=name, counts={(name, "tvg"): 1}, sources={name: SourceFacts(name, "MIT", name)})
    body = DatasetCard(text).text
    assert "<script>" not in body and "[y](" not in body and "49" not in body
    (row,) = (line for line in text.splitlines() if line.endswith("| tvg | 1 |"))
    assert row.replace("\\|", "").count("|") == 4
    assert yaml.safe_load(text.split("---")[1])["pretty_name"] == name


@pytest.mark.parametrize("license", ["", "CC BY", "MIT\nx: y", "a" * 100])
def test_a_licence_that_is_no_identifier_is_refused(license):
    with pytest.raises(InputError, match="'kitchen'"):
        SourceFacts("kitchen", license)


def test_the_schema_in_the_card_is_that_of_the_records():
    rows = [line.split("`")[1] for line in render().splitlines() if line.startswith("| `")]
    assert rows == list(get_features())


def test_a_benchmark_has_the_tasks_of_the_results_of_models():
    content = yaml.safe_load(write_benchmark_yaml("ST: Shapes", ["tvg", "rec", "tvg", "conversation"]))
    assert [*content] == ["name", "description", "evaluation_framework", "tasks"]
    assert [task["id"] for task in content["tasks"]] == ["rec_acc@0.5", "tvg_R@0.5", "tvg_m_tIoU"]
    with pytest.raises(InputError, match="has a metric: it is no benchmark"):
        write_benchmark_yaml("x", ["conversation"])
