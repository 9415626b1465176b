import json
from pathlib import Path

import pytest

from llava_st_hf.data.readers.refcoco import RefCocoReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo


def write_refcoco(folder: Path, images: list, annotations: list) -> Path:
    for image in images:
        if isinstance(image, dict) and isinstance(image.get("file_name"), str):
            (folder / image["file_name"]).touch()
    path = folder / "refcoco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


IMAGE = {"id": 5, "file_name": "a.jpg", "width": 200, "height": 100, "caption": "the dog"}


@pytest.mark.parametrize("variant", range(4))
def test_gives_the_items_of_the_published_code(parity_dir, tmp_path, variant):
    recorded = json.loads((parity_dir / "public/unit/datasets.json").read_text())["rec"]
    path = write_refcoco(tmp_path, **recorded["annotation"])
    reader = RefCocoReader(path, "refcoco", tmp_path, prompt_variant=variant)
    rows = [row for row in recorded["items"] if row["sample_prompt"] == variant]
    assert len(reader) == len(rows) == 6
    for row in rows:
        sample, item = reader.read(row["index"]), row["item"]
        (block, *texts), answer = (message["content"] for message in sample.to_messages())
        assert Path(block["image"]).name == item["image_path"]
        assert "<image>\n" + "".join(text["text"] for text in texts) == item["conversations"][0]["value"].replace(
            " [<WIDTH-INPUT><HEIGHT-INPUT><WIDTH-INPUT><HEIGHT-INPUT>]", "[0.1, 0.2, 0.3, 0.4]"
        )
        result = parse_answer(answer[0]["text"], MediaInfo("image", 1, 1), answer_format="box")
        assert not result.problems
        assert [round(value, 3) for value in result.boxes[0].xyxy] == item["gt_bbox"]


def test_takes_the_image_that_an_annotation_names(tmp_path):
    path = write_refcoco(
        tmp_path,
        [IMAGE, {**IMAGE, "id": 6, "caption": "the cat"}],
        [{"id": 5, "image_id": 6, "bbox": [0, 0, 50, 50]}, {"id": 6, "image_id": 5, "bbox": [100, 50, 100, 50]}],
    )
    samples = list(RefCocoReader(path, "r", tmp_path))
    assert [sample.id for sample in samples] == ["5", "6"]
    assert [sample.messages[1]["content"] for sample in samples] == [
        "[<x=0.5><y=0.5><x=1.0><y=1.0>]",
        "[<x=0.0><y=0.0><x=0.25><y=0.5>]",
    ]


def test_the_image_of_coco_that_an_annotation_names_is_none_of_the_file(tmp_path):
    path = write_refcoco(tmp_path, [IMAGE], [{"id": IMAGE["id"], "image_id": 581857, "bbox": [0, 0, 50, 50]}])
    (sample,) = RefCocoReader(path, "r", tmp_path)
    assert sample.messages[1]["content"] == "[<x=0.0><y=0.0><x=0.25><y=0.5>]"


def test_one_key_names_the_images_of_a_whole_file(tmp_path):
    # Ids of COCO, two of which are ids of other images here.
    images = [{**IMAGE, "id": number} for number in range(4)]
    annotations = [
        {"id": number, "image_id": image, "bbox": [0, 0, 50 * (number + 1), 50]}
        for number, image in enumerate((2, 0, 581857, 9))
    ]
    samples = list(RefCocoReader(write_refcoco(tmp_path, images, annotations), "r", tmp_path))
    assert [sample.messages[1]["content"] for sample in samples] == [
        f"[<x=0.0><y=0.0><x={share}><y=0.5>]" for share in (0.25, 0.5, 0.75, 1.0)
    ]


def test_varies_prompts_by_name(tmp_path):
    images = [{**IMAGE, "id": number} for number in range(40)]
    path = write_refcoco(tmp_path, images, [{"id": number, "bbox": [0, 0, 50, 50]} for number in range(40)])
    prompts = [
        [sample.messages[0]["content"] for sample in RefCocoReader(path, "r", tmp_path, vary_prompts=True)]
        for _ in range(2)
    ]
    assert prompts[0] == prompts[1]
    assert len(set(prompts[0])) == 4


@pytest.mark.parametrize(
    ("image", "annotation", "field"),
    [
        ({}, {"bbox": [300, 0, 10, 10]}, "bbox"),
        ({}, {"bbox": [10, 10, 0, 10]}, "bbox"),
        ({}, {"bbox": [10, 10, "a", 10]}, "bbox"),
        ({}, {"bbox": None}, "bbox"),
        ({}, {"id": 9}, "id"),
        ({"width": None}, {}, "width"),
        ({"width": 0}, {}, "bbox"),
        ({"caption": " "}, {}, "caption"),
        ({"caption": "<video> here"}, {}, "messages"),
        ({"file_name": "b/../../a.jpg"}, {}, "file_name"),
        ({"file_name": "https://x.org/a.jpg"}, {}, "file_name"),
        ({"id": [1]}, {}, "id"),
    ],
)
def test_says_what_is_wrong(tmp_path, image, annotation, field):
    path = write_refcoco(tmp_path, [IMAGE], [])
    content = {
        "images": [{**IMAGE, **image}],
        "annotations": [{"id": 5, "bbox": [0, 0, 10, 10], **annotation}, "no object"],
    }
    path.write_text(json.dumps(content))
    skipped = RefCocoReader(path, "r", tmp_path)[0]
    assert not isinstance(skipped, Sample)
    assert skipped.detail.startswith(field)


def test_an_image_with_two_boxes_is_not_guessed(tmp_path):
    path = write_refcoco(tmp_path, [IMAGE], [{"id": 5, "bbox": [0, 0, 50, 50]}, {"id": 5, "bbox": [9, 9, 50, 50]}])
    assert "2 annotations name this image" in RefCocoReader(path, "r", tmp_path)[0].detail


@pytest.mark.parametrize("content", ["[]", '{"images": 3, "annotations": []}', "{", '{"images": []}'])
def test_refuses_another_file(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError):
        RefCocoReader(tmp_path / "a.json", "r")


def test_refuses_an_unknown_prompt_or_task(tmp_path):
    path = write_refcoco(tmp_path, [], [])
    with pytest.raises(InputError, match="prompt_variant is 4"):
        RefCocoReader(path, "r", prompt_variant=4)
    with pytest.raises(InputError, match="choose one of rec\\."):
        RefCocoReader(path, "r", task="rc")
