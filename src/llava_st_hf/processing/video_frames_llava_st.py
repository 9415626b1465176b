"""The frames of a clip that is given without a file: arrays, tensors, pictures, or the paths of pictures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import ChannelDimension

from .image_loading_llava_st import FILE_TYPES, describe_source, open_image
from .media_llava_st import EmptyMediaError, MediaError

# Frames with alpha are blended so many at a time, as the sums take four times their memory.
_FRAMES_AT_ONCE = 4


def is_list_of_files(video: Any) -> bool:
    """Return whether a clip is a list of pictures in files."""
    return isinstance(video, list) and isinstance(video[0], FILE_TYPES)


def open_frames(
    files: Sequence[Any],
    places: Sequence[int],
    allow_url: bool | Mapping,
    resize: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, tuple[int, int]]:
    """
    Open the frames of a clip that is a list of pictures in files, those at `places`, each once and one at a time.

    `resize` is what becomes of a frame, uint8 (1, 3, height, width), before the next is opened. Returned are the
    frames, uint8 (places, 3, height, width), and the width and height that they had.
    """
    frames, size = {}, None
    for place in dict.fromkeys(places):
        picture = open_image(files[place], allow_url)
        size = size or picture.size
        if picture.size != size:
            raise MediaError(
                f"frame {place} of the video, {describe_source(files[place])}, has {picture.size} pixels and an "
                f"earlier one {size}; resize them to one size."
            )
        frames[place] = resize(to_channels_first(np.array(picture)[None]))
    return torch.cat([frames[place] for place in places]), size


def _to_tensor(values: Any) -> torch.Tensor:
    """Return an array or a picture as a tensor; without a copy, unless torch cannot share its memory."""
    if isinstance(values, torch.Tensor):
        return values
    array = np.asarray(values)
    can_share = array.flags.writeable and all(stride >= 0 for stride in array.strides)
    return torch.from_numpy(array if can_share else array.copy())


def to_channels_first(video: Any, data_format: Any = None) -> torch.Tensor:
    """
    Return frames as uint8, RGB or with alpha too, shape (frames, 3 or 4, height, width).

    They are a view of the input where possible, see `drop_alpha`.
    """
    if isinstance(video, list):
        tensors = [_to_tensor(open_image(frame) if isinstance(frame, Image.Image) else frame) for frame in video]
        if len({tuple(tensor.shape) for tensor in tensors}) > 1:
            raise MediaError("the frames of the video differ in size; resize them to one size.")
        frames = torch.stack(tensors)
        frames = frames[..., None] if frames.ndim == 3 else frames  # grey frames have no channel axis
    else:
        frames = _to_tensor(video)
    if frames.dtype != torch.uint8:
        raise MediaError(
            f"the video's frames are {str(frames.dtype).removeprefix('torch.')}; give uint8 from 0 to 255, say "
            "(frames * 255).round().astype('uint8')."
        )
    if not frames.numel():
        raise EmptyMediaError(f"the video of shape {tuple(frames.shape)} has no pixels; give at least one frame.")
    is_last = frames.shape[-1] in (1, 3, 4)
    if data_format is not None:
        is_last = ChannelDimension(data_format) == ChannelDimension.LAST
    shape = tuple(frames.shape)
    frames = frames.permute(0, 3, 1, 2) if is_last and frames.ndim == 4 else frames
    if frames.ndim != 4 or frames.shape[1] not in (1, 3, 4):
        raise MediaError(
            f"the video has shape {shape}; give (frames, height, width, 3) or (frames, 3, height, width)."
        )
    return frames.expand(-1, 3, -1, -1) if frames.shape[1] == 1 else frames


def drop_alpha(frames: torch.Tensor) -> torch.Tensor:
    """Return frames of `to_channels_first` with three channels: white where they are transparent."""
    if frames.shape[1] == 3:
        return frames
    blended = []
    for part in frames.split(_FRAMES_AT_ONCE):
        colors, alpha = part[:, :3].int(), part[:, 3:].int()
        sums = colors * alpha + 255 * (255 - alpha) + 128
        blended.append(((sums + (sums >> 8)) >> 8).to(torch.uint8))  # a division by 255, as Pillow rounds it
    return torch.cat(blended)


__all__ = ["drop_alpha", "is_list_of_files", "open_frames", "to_channels_first"]
