"""Masks for the tubes of an answer: SAM 2 or SAM 3 of transformers follows what their boxes name."""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoConfig, PreTrainedModel, Sam2VideoModel, Sam3TrackerVideoModel
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
)
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from ..processing import GroundingResult, InputError, MediaError, MediaInfo, Tube, TubeMasks
from ..processing.media_llava_st import format_count
from ..processing.tube_masks_llava_st import encode_mask
from ..processing.video_decoding_llava_st import FrameDecoder, VideoFrame, resize_frames
from ..processing.video_file_llava_st import VideoFile, open_video
from ..processing.video_timeline_llava_st import Timeline, read_timeline

# Mean and deviation of the pixels that each family was trained with. Their processors in transformers need
# torchvision, and do no more than resize to a square and apply these.
_NORMALIZATIONS = {
    "sam2_video": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    "sam3_tracker_video": (IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD),
}
_CLASSES = {
    "sam2_video": Sam2VideoModel,
    "sam3_tracker_video": Sam3TrackerVideoModel,
    "sam3_video": Sam3TrackerVideoModel,  # a checkpoint of both parts, of which this is the one that takes boxes
}
_MAX_PROMPTED_FRAMES = 4  # that are looked back to, where the model's config sets no limit; SAM 3's
_CORNERS = [[[2, 3]]]  # what SAM calls the upper left and the lower right corner of a box


def load_sam(name: str, device: str | torch.device | None = None, dtype: str = "auto") -> PreTrainedModel:
    """
    Load a SAM 2 or SAM 3 that follows objects in videos.

    Args:
        name (`str`): A directory, or a repository on the Hub.
        device (`str` or `torch.device`, *optional*): Where it computes.
        dtype (`str`, *optional*, defaults to `"auto"`): Type of its weights, the checkpoint's where left out.

    Returns:
        `PreTrainedModel`: For `segment_tubes`.

    Raises:
        `InputError`: For a checkpoint of another model.

    Example:

    ```python
    >>> sam = load_sam("facebook/sam2.1-hiera-tiny")
    ```
    """
    safe = {"trust_remote_code": False, "use_safetensors": True}  # transformers would ask on standard input else
    model_type = AutoConfig.from_pretrained(name, trust_remote_code=False).model_type
    if model_type not in _CLASSES:
        raise InputError(f"masks is {name}, a {model_type}: name a SAM of {' or '.join(_CLASSES)}.", field="masks")
    return _CLASSES[model_type].from_pretrained(name, dtype=dtype, **safe).to(device).eval()


@torch.inference_mode()
def segment_tubes(
    result: GroundingResult, sam_model: PreTrainedModel, source: "str | os.PathLike | bytes | None" = None
) -> GroundingResult:
    """
    Find the pixels of what the tubes of an answer are about.

    Each tube is followed from its first box to the end of its span, every box being a prompt in its frame; no other
    frame is decoded for it, but those back to a key frame. Memory grows neither with the clip nor with the span: of
    the frames before, what the model looks back to is kept.

    Args:
        result (`GroundingResult`): An answer about a clip, with tubes.
        sam_model (`Sam2VideoModel` or `Sam3TrackerVideoModel`): Who follows; on the device and in the dtype to use.
        source (`str`, `Path` or `bytes`, *optional*): The clip; `result.media.source` where it is left out.

    Returns:
        `GroundingResult`: The same with `masks`, one entry for each tube. A frame that cannot be decoded has no mask.

    Raises:
        `InputError`: For another model, an answer without tubes, or a clip that cannot be read.

    Example:

    ```python
    >>> sam = Sam2VideoModel.from_pretrained("facebook/sam2.1-hiera-tiny")
    >>> result = segment_tubes(result, sam)
    >>> result.masks[0].decode(result.tubes[0].boxes[0].frame_index).shape
    (360, 640)
    ```
    """
    media = result.media
    if not result.tubes or media is None:
        raise InputError("the answer has no tube of a clip: ask for one, with the task stvg.", field="result")
    source = media.source if source is None else source
    if source is None:
        raise InputError("source is not known, because the clip was given as bytes or pixels: give its file.")
    model_type = getattr(getattr(sam_model, "config", None), "model_type", type(sam_model).__name__)
    if model_type not in _NORMALIZATIONS:
        known = " or ".join(_NORMALIZATIONS)
        raise InputError(f"sam_model is a {model_type}: give one that follows objects, {known}.", field="sam_model")
    with open_video(source) as file:
        timeline = read_timeline(file, use_index=False)
        periods = [_find_frames(tube, result, timeline) for tube in result.tubes]
        trackers = [
            _Tracker(sam_model, tube, period, media) for tube, period in zip(result.tubes, periods, strict=True)
        ]
        for frame in _read_frames(file, timeline, sorted(set().union(*periods))):
            pixels, features = _prepare_pixels(sam_model, frame.image), None
            for tracker in trackers:
                if frame.index in tracker.period:
                    features = tracker.follow(frame, pixels, features)
    return replace(result, masks=tuple(tracker.masks for tracker in trackers))


def _find_frames(tube: Tube, result: GroundingResult, timeline: Timeline) -> range:
    """Return the frames from the first box of a tube to the end of the span that its last box lies in."""
    first, last = min(entry.frame_index for entry in tube.boxes), max(entry.frame_index for entry in tube.boxes)
    if first < 0 or last >= len(timeline):
        raise InputError(
            f"the clip has {format_count(len(timeline), 'frame')}, but the answer has a box in frame "
            f"{first if first < 0 else last}: give the file that was asked about.",
            field="source",
        )
    ends = [s.end_seconds for s in result.spans if s.start_seconds <= tube.end_seconds <= s.end_seconds]
    if ends:
        last = max(last, int(np.searchsorted(timeline.seconds, min(ends), side="right")) - 1)
    return range(first, last + 1)


def _read_frames(file: VideoFile, timeline: Timeline, indices: list[int]) -> Iterator[VideoFrame]:
    """Yield frames in order; one that cannot be decoded, which its neighbour would stand for, is left out."""
    previous = -1
    for _, frame in FrameDecoder(file, timeline).decode_chosen(indices):
        if frame.index > previous:
            previous = frame.index
            yield frame
    if previous < 0:
        raise MediaError(f"{file.name}: no frame of the tubes could be decoded; copy, download or convert it again.")


def _prepare_pixels(model: PreTrainedModel, image: np.ndarray) -> torch.Tensor:
    """Return a frame (height, width, 3) as the model takes it, (1, 3, side, side)."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in _NORMALIZATIONS[model.config.model_type])
    side = model.config.prompt_encoder_config.image_size
    pixels = resize_frames(torch.from_numpy(image).permute(2, 0, 1)[None], (side, side), "bilinear")
    return ((pixels / 255 - mean) / deviation).to(model.device, model.dtype)


class _Tracker:
    """
    Follows one tube. Each has a session of its own, so that no object is computed outside its tube.

    Args:
        model (`PreTrainedModel`): Who follows.
        tube (`Tube`): Whose boxes are the prompts.
        period (`range`): The frames.
        media (`MediaInfo`): The frame that the boxes are in pixels of.
    """

    def __init__(self, model: PreTrainedModel, tube: Tube, period: range, media: MediaInfo):
        self.model, self.period, self.size = model, period, (media.height, media.width)
        self.prompts = deque(sorted(tube.boxes, key=lambda entry: entry.frame_index))
        devices = dict.fromkeys(("inference_device", "inference_state_device", "video_storage_device"), model.device)
        self.session = Sam2VideoInferenceSession(dtype=model.dtype, **devices)
        self.found: list[tuple[int, float, dict[str, Any]]] = []

    @property
    def masks(self) -> TubeMasks:
        """What was found."""
        return TubeMasks(*zip(*self.found, strict=True)) if self.found else TubeMasks((), (), ())

    def follow(self, frame: VideoFrame, pixels: torch.Tensor, features: Any) -> Any:
        """Find the mask in the next frame; `features` of the frame are those that the tracker before returned."""
        self._prompt(frame.index)
        self.session.cache = features or self.session.cache
        outputs = self.model(self.session, frame=pixels, frame_idx=frame.index)
        logits = F.interpolate(outputs.pred_masks.float(), self.size, mode="bilinear", align_corners=False)
        self.found.append((frame.index, frame.seconds, encode_mask((logits[0, 0] > 0).cpu().numpy())))
        self._forget(frame.index)
        return self.session.cache

    def _prompt(self, frame_index: int) -> None:
        entry = None
        while self.prompts and self.prompts[0].frame_index <= frame_index:  # before it: its frame was not decoded
            entry = self.prompts.popleft()
        if entry is None:
            return
        side = self.model.config.prompt_encoder_config.image_size
        scale = torch.tensor([side / self.size[1], side / self.size[0]])
        corners = torch.tensor(entry.box.xyxy).reshape(1, 1, 2, 2) * scale
        inputs = {"point_coords": corners, "point_labels": torch.tensor(_CORNERS, dtype=torch.int32)}
        self.session.add_point_inputs(self.session.obj_id_to_idx(1), frame_index, inputs)
        self.session.obj_with_new_inputs = [1]

    def _forget(self, frame_index: int) -> None:
        """Drop what the next frame does not look back to: the session of a stream keeps all of it."""
        config, session = self.model.config, self.session
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        num_prompted = config.max_cond_frame_num if config.max_cond_frame_num > 0 else _MAX_PROMPTED_FRAMES
        outputs = session.output_dict_per_obj[0]
        followed, prompted = outputs["non_cond_frame_outputs"], outputs["cond_frame_outputs"]
        for index in [index for index in followed if index < frame_index + 2 - reach]:
            del followed[index]
        for index in sorted(prompted)[:-num_prompted]:
            del prompted[index]
        for entry in (*followed.values(), *prompted.values()):
            entry.pop("high_res_masks", None)  # of the size of the frame, and in the memory by now
        for kept in (session.processed_frames, session.point_inputs_per_obj[0], session.frames_tracked_per_obj[0]):
            kept.clear()
