import json

import numpy as np
import pytest

from llava_st_hf import Box, GroundingResult, InputError, MediaInfo, Tube, TubeMasks
from llava_st_hf.processing import TubeBox
from llava_st_hf.processing.tube_masks_llava_st import decode_mask, encode_mask

coco_masks = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")


def draw_masks():
    noise = np.random.default_rng(0)
    y, x = np.mgrid[0:90, 0:130]
    yield (x - 60) ** 2 + (y - 40) ** 2 < 900
    yield np.zeros((3, 5), dtype=bool)
    yield np.ones((3, 5), dtype=bool)
    for density in (0.01, 0.5, 0.99):
        yield noise.random((37, 41)) < density
    yield y * 3000 % 7 == 0


@pytest.mark.parametrize("mask", list(draw_masks()))
def test_masks_are_those_of_pycocotools(mask):
    rle = encode_mask(mask)
    expected = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle == {"size": list(mask.shape), "counts": expected["counts"].decode()}
    assert np.array_equal(decode_mask(rle), mask)
    assert np.array_equal(coco_masks.decode(rle), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [10, 10], "counts": "0"},
        {"size": [10**6, 10**6], "counts": encode_mask(np.ones((1, 1), dtype=bool))["counts"]},
        {"size": [2, 2], "counts": [0, 4]},
        {"size": [2, 2], "counts": "\x00\uffff"},
        {"size": [2, 2], "counts": ""},
    ],
)
def test_what_is_no_mask_is_refused(rle):
    with pytest.raises(InputError, match="COCO"):
        decode_mask(rle)


def make_result():
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:20, 5:30] = True
    tube = Tube((TubeBox(0.4, 10, Box(5, 10, 30, 20)), TubeBox(0.48, 12, Box(5, 10, 30, 20))))
    masks = TubeMasks((10, 11, 12), (0.4, 0.44, 0.48), (encode_mask(mask), encode_mask(~mask), encode_mask(mask)))
    media = MediaInfo("video", 64, 48, (0, 39), (0.0, 1.56), "clip.mp4")
    return GroundingResult("...", tubes=(tube,), media=media, masks=(masks,)), mask


def test_masks_are_part_of_the_answer_in_json():
    result, mask = make_result()
    again = GroundingResult.from_dict(json.loads(result.to_json()))
    assert again == result
    assert np.array_equal(again.masks[0].decode(10), mask)
    assert again.masks[0].decode(13) is None
    assert "masks" not in GroundingResult("a man").to_dict()
    with pytest.raises(InputError, match="not a grounding result"):
        GroundingResult.from_dict({"text": "", "masks": [{"seconds": [1.0]}]})
    with pytest.raises(InputError, match="one of each"):
        TubeMasks((1, 2), (0.0,), ())


def test_coco_has_the_masks_of_the_boxes():
    result, mask = make_result()
    first, second = result.to_coco()["annotations"]
    assert np.array_equal(coco_masks.decode(first["segmentation"]), mask)
    assert second["frame_index"] == 12
