"""Masks by a SAM that is as small as it can be, and knows nothing."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_sam import make_sam2, make_sam3
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from video_files import damage_packets, encode, encode_anamorphic

from llava_st_hf import Box, GroundingResult, InputError, MediaInfo, Span, Tube, segment_tubes
from llava_st_hf.inference import masks as masks_module
from llava_st_hf.inference.masks import load_sam
from llava_st_hf.processing import TubeBox, iterate_frames, probe_video

RATE = 25


@pytest.fixture(scope="module")
def sam():
    return make_sam2()


@pytest.fixture(scope="module")
def sam3():
    return make_sam3()


def make_tube(*frames, box=(10, 8, 40, 30)):
    return Tube(tuple(TubeBox(frame / RATE, frame, Box(*box)) for frame in frames))


def make_result(path, *tubes, spans=()):
    video = probe_video(path)
    seconds = video.timeline.seconds
    media = MediaInfo("video", video.width, video.height, (0, len(seconds) - 1), (0.0, float(seconds[-1])), str(path))
    return GroundingResult("...", spans=spans, tubes=tubes, media=media, query="a dog")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("masks") / "clip.mp4"
    encode(path, num_frames=60)
    return path


@pytest.mark.parametrize("family", ["sam", "sam3"])
def test_masks_lie_in_the_span_only(family, clip, request):
    sam = request.getfixturevalue(family)
    result = make_result(clip, make_tube(12, 20), spans=(Span(12 / RATE, 27.5 / RATE),))
    answer = segment_tubes(result, sam)
    (masks,) = answer.masks
    assert masks.frame_indices == tuple(range(12, 28))
    assert masks.seconds == tuple(frame.seconds for frame in iterate_frames(clip))[12:28]
    assert {masks.decode(index).shape for index in masks.frame_indices} == {(48, 64)}
    assert masks.decode(11) is None
    assert masks.decode(28) is None
    assert len({rle["counts"] for rle in masks.rles}) > 1
    assert replace(answer, masks=()) == result
    assert GroundingResult.from_dict(answer.to_dict()) == answer
    with pytest.raises(InputError, match="no tube"):
        segment_tubes(replace(result, tubes=()), sam)


def test_tubes_do_not_disturb_each_other_and_share_what_is_seen(sam, clip, monkeypatch):
    tubes = make_tube(5, 15), make_tube(10, 20, box=(0, 0, 20, 20)), make_tube(40, 44)
    seen = Counter()
    look = type(sam).get_image_features

    def count(self, *arguments, **options):
        seen["frames"] += 1
        return look(self, *arguments, **options)

    monkeypatch.setattr(type(sam), "get_image_features", count)
    together = segment_tubes(make_result(clip, *tubes), sam).masks
    assert seen["frames"] == len({*range(5, 21), *range(40, 45)})
    assert together == tuple(segment_tubes(make_result(clip, tube), sam).masks[0] for tube in tubes)
    assert together[0].rles[5:] != together[1].rles[:6]


def count_kept(session):
    """Return how many entries a session holds, and how many numbers are in them."""
    numbers, entries, todo = 0, 0, [vars(session), vars(session.cache)]
    while todo:
        value = todo.pop()
        if isinstance(value, torch.Tensor):
            numbers += value.numel()
        elif isinstance(value, (dict, list, tuple)):
            entries += len(value)
            todo += value.values() if isinstance(value, dict) else value
    return entries, numbers


@pytest.mark.parametrize("step", [200, 1])
def test_memory_does_not_grow_with_the_span(sam, tmp_path, monkeypatch, step):
    kept = {}
    follow = masks_module._Tracker.follow

    def watch(self, frame, *arguments):
        features = follow(self, frame, *arguments)
        kept[frame.index] = count_kept(self.session)
        return features

    monkeypatch.setattr(masks_module._Tracker, "follow", watch)
    encode(tmp_path / "long.mp4", num_frames=120)
    tube = make_tube(*range(0, 119, step), 119)
    (masks,) = segment_tubes(make_result(tmp_path / "long.mp4", tube), sam).masks
    assert len(masks.rles) == 120
    assert kept[30] == kept[60] == kept[118]
    assert kept[30][0] < 100


def test_what_is_forgotten_would_not_have_been_looked_at(sam, clip, monkeypatch):
    result = make_result(clip, make_tube(0, 10, 30, 45))
    (expected,) = segment_tubes(result, sam).masks
    monkeypatch.setattr(masks_module._Tracker, "_forget", lambda self, frame_index: None)
    assert segment_tubes(result, sam).masks == (expected,)


def test_prompts_are_given_as_the_session_of_transformers_takes_them(sam, clip):
    """The frames and boxes through the documented calls, without a processor, which needs torchvision."""
    result = make_result(clip, make_tube(3, 6))
    session = Sam2VideoInferenceSession(dtype=torch.float32)
    expected = []
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for frame in list(iterate_frames(clip))[3:7]:
        pixels = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float()
        pixels = torch.nn.functional.interpolate(pixels, (128, 128), mode="bilinear", antialias=True).round()
        pixels = (pixels / 255 - mean[:, None, None]) / deviation[:, None, None]
        if frame.index in (3, 6):
            corners = torch.tensor([[[[10 * 2, 8 * 128 / 48], [40 * 2, 30 * 128 / 48]]]])
            labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
            session.add_point_inputs(
                session.obj_id_to_idx(7), frame.index, {"point_coords": corners, "point_labels": labels}
            )
            session.obj_with_new_inputs = [7]
        with torch.no_grad():
            outputs = sam(session, frame=pixels, frame_idx=frame.index)
        logits = torch.nn.functional.interpolate(outputs.pred_masks, (48, 64), mode="bilinear")
        expected.append((logits[0, 0] > 0).numpy())
    (masks,) = segment_tubes(result, sam).masks
    for index, mask in zip(masks.frame_indices, expected, strict=True):
        assert (masks.decode(index) == mask).mean() > 0.98


def test_size_is_that_of_the_frame_as_it_is_displayed(sam, tmp_path):
    encode_anamorphic(tmp_path / "clip.mp4", is_turned=True)
    result = make_result(tmp_path / "clip.mp4", make_tube(0, 1))
    (masks,) = segment_tubes(result, sam).masks
    frame = next(iterate_frames(tmp_path / "clip.mp4"))
    assert masks.decode(0).shape == frame.image.shape[:2] != (72, 90)


def test_frames_that_cannot_be_decoded_have_no_mask(sam, tmp_path):
    encode(tmp_path / "whole.mp4", num_frames=60)
    path = damage_packets(tmp_path / "whole.mp4", 12, 18)
    (masks,) = segment_tubes(make_result(path, make_tube(8, 13, 40)), sam).masks
    shown = {frame.index for frame in iterate_frames(path)}
    assert set(masks.frame_indices) <= shown
    assert list(masks.frame_indices) == sorted(masks.frame_indices)
    assert {8, 40} <= set(masks.frame_indices)


def test_what_cannot_be_followed_is_said(sam, clip, tmp_path):
    result = make_result(clip, make_tube(10, 100))
    with pytest.raises(InputError, match=r"60 frames.*box in frame 100"):
        segment_tubes(result, sam)
    with pytest.raises(InputError, match="sam_model is a "):
        segment_tubes(make_result(clip, make_tube(1)), torch.nn.Linear(1, 1))
    unnamed = make_result(clip, make_tube(1, 2))
    unnamed = replace(unnamed, media=replace(unnamed.media, source=None))
    with pytest.raises(InputError, match="give its file"):
        segment_tubes(unnamed, sam)
    assert segment_tubes(unnamed, sam, clip.read_bytes()) == segment_tubes(unnamed, sam, clip)


@pytest.mark.parametrize("make", [make_sam2, make_sam3])
def test_loaded_as_it_was_saved(make, clip, tmp_path):
    sam = make()
    sam.save_pretrained(tmp_path / "sam")
    result = make_result(clip, make_tube(3, 6))
    assert segment_tubes(result, load_sam(str(tmp_path / "sam"))) == segment_tubes(result, sam)


def test_another_model_is_no_sam(checkpoint):
    with pytest.raises(InputError, match=r"masks is .*, a llava_st: name a SAM of sam2_video or"):
        load_sam(str(checkpoint))
