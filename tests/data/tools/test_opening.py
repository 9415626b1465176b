"""What the tools for data look at, opened by one function."""

import json

import pytest

from llava_st_hf import InputError
from llava_st_hf.data.cards import UNKNOWN_LICENSE, SourceFacts
from llava_st_hf.data.shapes import ShapesDataset, write_shapes
from llava_st_hf.data.tools.opening import get_media_folder, open_annotations, open_records


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, ShapesDataset(["rec", "rc"], num_samples=4, size=32))
    return folder / "st_shapes.jsonl"


def test_annotations_name_what_is_not_said(shapes):
    opened = open_records(shapes)
    assert {opened.records[index].source for index in range(4)} == {"st-shapes"}  # as the records say
    assert opened.records.source == "st_shapes"
    assert (opened.facts, opened.required_sources, opened.max_skip_share) == ({}, frozenset(), 0.05)
    said = {"format": "canonical", "data_folder": shapes.parent, "source": "mine"}
    assert open_annotations(shapes, **said)[0].source == "mine"
    assert get_media_folder(shapes) == get_media_folder(shapes.parent) == shapes.parent
    assert get_media_folder(shapes, shapes.parent / "clips") == shapes.parent / "clips"


def test_a_mixture_says_what_it_requires(shapes):
    mixture = shapes.with_name("mixture.yaml")
    entries = [f"  - {{json_path: {shapes}, data_folder: {shapes.parent}, source: one, license: MIT, required: true}}"]
    entries += [f"  - {{json_path: {shapes}, data_folder: {shapes.parent}, source: two, origin: here}}"]
    mixture.write_text("\n".join(["max_skip_share: 0.5", "datasets:", *entries]))
    opened = open_records(mixture)
    assert len(opened.records) == 8
    one, two = SourceFacts("one", "MIT", None), SourceFacts("two", UNKNOWN_LICENSE, "here")
    assert opened.facts == {"one": one, "two": two}
    assert (opened.required_sources, opened.max_skip_share) == ({"one"}, 0.5)
    with pytest.raises(InputError, match="source is given, but") as found:
        open_records(mixture, source="three")
    assert found.value.field == "source"


def test_st_shapes_are_built_in():
    assert len(open_records("st-shapes").records) == 1000
    with pytest.raises(InputError, match="num_frames is given, but st-shapes says that itself"):
        open_records("st-shapes", num_frames=8, task=None)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"data_folder": "nowhere"}, "data_folder"),
        ({"format": "nonsense"}, "format"),
        ({"num_frames": 8}, "num_frames"),
    ],
)
def test_what_cannot_be_said_names_its_field(shapes, said, field):
    with pytest.raises(InputError) as found:
        open_records(shapes, **said)
    assert found.value.field == field
    with pytest.raises(InputError, match="no such file or folder"):
        open_records("nowhere.jsonl")


def test_the_form_of_ones_own_boxes_may_be_said_for_the_whole_file(tmp_path, clip):
    path = tmp_path / "mine.jsonl"
    record = {"video": str(clip.name), "query": "it", "span_seconds": [1, 3], "boxes": {"1": [0.5, 0.5, 0.25, 0.25]}}
    path.write_text(json.dumps(record) + "\n")
    said = {"box_format": "xywh", "unit": "fraction"}
    (sample,) = open_annotations(path, data_folder=clip.parent, **said)
    assert "<x=0.5><y=0.5><x=0.75><y=0.75>" in sample.messages[1]["content"]
    with pytest.raises(InputError, match="unit is no option of the format coco"):
        open_annotations(path, format="coco", data_folder=clip.parent, **said | {"box_format": None})
