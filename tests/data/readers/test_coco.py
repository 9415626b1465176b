import json
from pathlib import Path

import pytest

from llava_st_hf.data.readers.coco import CocoReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

CONTENT = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
    "annotations": [
        {"id": 10, "image_id": 1, "category_id": 3, "bbox": [20, 10, 40, 50]},
        {"id": 11, "image_id": 1, "category_id": 4, "bbox": [0, 0, 20, 50]},
        {"id": 12, "image_id": 1, "category_id": 4, "bbox": [100, 0, 120, 50]},
        {"id": 13, "image_id": 1, "category_id": 4, "bbox": [50, 0, 10, 50], "caption": "the small cup on the left"},
        {"id": 14, "image_id": 1, "category_id": 5, "bbox": [0, 0, 200, 50], "iscrowd": 1},
    ],
    "categories": [{"id": 3, "name": "dog"}, {"id": 4, "name": "cup"}, {"id": 5, "name": "person"}],
}


def open_coco(folder: Path, content: object, **options) -> CocoReader:
    (folder / "a.jpg").touch()
    (folder / "a.json").write_text(json.dumps(content))
    return CocoReader(folder / "a.json", "coco", folder, **options)


def test_asks_for_what_is_there_once(tmp_path):
    dog, cup = open_coco(tmp_path, CONTENT)
    assert (dog.id, cup.id) == ("10", "13")
    assert dog.messages[0]["content"] == "Where can I find the dog in this image?"
    assert dog.messages[1]["content"] == "[<x=0.1><y=0.1><x=0.3><y=0.6>]"
    assert cup.messages[0]["content"] == "Where does the small cup on the left appear in this image?"  # by its id


def test_pictures_may_lie_in_a_folder_below(tmp_path):
    (expected,) = [record.messages for record in open_coco(tmp_path, CONTENT, vary_prompts=False)][:1]
    (tmp_path / "val2017").mkdir()
    for path in [*tmp_path.glob("*.jpg"), *tmp_path.glob("*.png")]:
        path.rename(tmp_path / "val2017" / path.name)
    (record, *_) = CocoReader(tmp_path / "a.json", "coco", tmp_path, vary_prompts=False)
    assert record.messages == expected and "val2017" in record.media[0].path


def test_says_how_many_annotations_make_no_record(tmp_path, caplog):
    num_given, num_read = len(CONTENT["annotations"]), len(open_coco(tmp_path, CONTENT))
    assert f"{num_given - num_read} of {num_given} annotations make no record of the task rec" in caplog.text
    caplog.clear()
    open_coco(tmp_path, {**CONTENT, "annotations": CONTENT["annotations"][:1]})
    assert not caplog.text


def test_names_what_is_in_a_region(tmp_path):
    samples = list(open_coco(tmp_path, CONTENT, task="rc"))
    assert [sample.messages[1]["content"] for sample in samples] == ["dog", "cup", "cup", "the small cup on the left"]
    assert samples[2].messages[0]["content"] == (
        "What object can be observed within the region  [<x=0.5><y=0.0><x=1.0><y=0.5>] in the image?"
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bbox": None}, "bbox"),
        ({"bbox": [0, 0, -1, 5]}, "bbox"),
        ({"bbox": [500, 0, 9, 5]}, "bbox"),
        ({"image_id": 9}, "image_id"),
        ({"image_id": [1]}, "image_id"),
        ({"category_id": 9}, "category_id"),
        ({"category_id": None}, "category_id"),
        ({"phrase": ""}, "phrase"),
    ],
)
def test_says_what_is_wrong(tmp_path, changes, field):
    content = {**CONTENT, "annotations": [{**CONTENT["annotations"][0], **changes}]}
    skipped = open_coco(tmp_path, content)[0]
    assert not isinstance(skipped, Sample)
    assert (skipped.id, skipped.detail.split()[0]) == ("10", field)


def test_an_annotation_that_is_no_object_is_reported(tmp_path):
    (skipped,) = open_coco(tmp_path, {**CONTENT, "annotations": ["x"]})
    assert (skipped.id, skipped.reason) == ("annotation 0", "invalid_json")


def test_refuses_other_tasks(tmp_path):
    with pytest.raises(InputError, match="choose one of rec, rc"):
        open_coco(tmp_path, CONTENT, task="dgc")
