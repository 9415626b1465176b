"""What a user may hand over as image or video, and how images are opened.

An image is a path, bytes of a file, a `data:` URI, a PIL image or an array; a video is a path, bytes of a file, an
array of frames or a list of frames. A `{"bytes": ..., "path": ...}` dictionary, as `datasets` stores media, counts as
what it holds. Addresses on the network are opened only where the caller allows it.
"""

import base64
import binascii
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.utils import httpx
from PIL import Image, ImageOps
from transformers.image_utils import get_image_size, load_image

from .media_llava_st import MediaError, MediaInfo

_BYTES_TYPES = (bytes, bytearray, memoryview)
_FILE_TYPES = (str, os.PathLike, *_BYTES_TYPES)
# What Pillow raises for a file that is no image, is cut off, or is larger than it dares to open.
_PILLOW_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def is_url(media: Any) -> bool:
    """Return whether media is an address on the network."""
    return isinstance(media, str) and media.lower().startswith(("http://", "https://"))


def refuse_url(media: Any, allow_url: bool) -> None:
    """Raise `MediaError` for an address on the network unless the caller allows it."""
    if is_url(media) and not allow_url:
        raise MediaError(
            f"{media} is on the network: download it and give its path, or pass allow_url=True to have it fetched."
        )


def describe_source(media: Any) -> str | None:
    """Return the path or address of media, or `None` for what has none."""
    if isinstance(media, os.PathLike):
        return os.fspath(media)
    return media if isinstance(media, str) and not media.startswith("data:") else None


def flatten_images(images: Any) -> list[Any]:
    """Return the single images of any nesting of lists; `None` is left out, an array of four dimensions is a list."""
    if images is None:
        return []
    if isinstance(images, dict):
        return flatten_images(_open_struct(images))
    num_dimensions = getattr(images, "ndim", None)  # of an array or a tensor
    if isinstance(images, (*_FILE_TYPES, Image.Image)) or num_dimensions in (2, 3):
        return [images]
    if isinstance(images, (list, tuple)) or num_dimensions == 4:
        return [image for item in images for image in flatten_images(item)]
    raise MediaError(f"an image is a {type(images).__name__}: give a path, bytes, a PIL image or an array.")


def flatten_videos(videos: Any) -> list[Any]:
    """Return the single videos of any nesting of lists; a list of frames is one video, `None` is left out."""
    if videos is None:
        return []
    if isinstance(videos, dict):
        return flatten_videos(_open_struct(videos))
    num_dimensions = getattr(videos, "ndim", None)
    if isinstance(videos, _FILE_TYPES) or num_dimensions == 4:
        return [videos]
    if _is_frame(videos):
        return [[videos]]
    if isinstance(videos, (list, tuple)) and videos and all(map(_is_frame, videos)):
        return [list(videos)]
    if isinstance(videos, (list, tuple)) or num_dimensions == 5:
        return [video for item in videos for video in flatten_videos(item)]
    raise MediaError(
        f"a video is a {type(videos).__name__}: give a path, bytes, an array (frames, height, width, 3) or a list of "
        "frames."
    )


def count_per_sample(media: Any, num_samples: int, flatten: Any) -> list[int] | None:
    """Return how many media each sample has where media is a list with one list per sample, else `None`."""
    nested = isinstance(media, (list, tuple)) and len(media) == num_samples
    if nested and all(item is None or isinstance(item, (list, tuple)) for item in media):
        return [len(flatten(item)) for item in media]
    return None


def load_images(images: Sequence[Any], allow_url: bool = False) -> tuple[list[Any], list[MediaInfo]]:
    """
    Open images; the turn that a camera noted in the file (EXIF) is applied, so boxes are in displayed pixels.

    Args:
        images (`Sequence[Any]`): Single images, see the head of this module.
        allow_url (`bool`, *optional*, defaults to `False`): Whether addresses on the network may be fetched.

    Returns:
        `tuple[list[Any], list[MediaInfo]]`: RGB images or the arrays as given, and the size of each.

    Raises:
        `MediaError`: When one cannot be found or read.
    """
    opened = [_load_image(image, allow_url) for image in images]
    media = []
    for picture, image in zip(opened, images, strict=True):
        if isinstance(picture, Image.Image):
            width, height = picture.size
        else:
            height, width = _get_array_size(picture)
        media.append(MediaInfo("image", width, height, source=describe_source(image)))
    return opened, media


def _open_struct(media: dict[str, Any]) -> Any:
    """Return what a `{"bytes": ..., "path": ...}` dictionary holds."""
    content = media.get("bytes") if media.get("bytes") is not None else media.get("path")
    if content is None:
        raise MediaError(f"media is a dictionary with the keys {sorted(media)}: give 'bytes' or 'path'.")
    return content


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (
        not isinstance(item, _FILE_TYPES) and getattr(item, "ndim", None) in (2, 3)
    )


def _load_image(image: Any, allow_url: bool) -> Any:
    """Open one image as RGB, or return an array as it is."""
    refuse_url(image, allow_url)
    name = describe_source(image) or f"the image given as {type(image).__name__}"
    try:
        if is_url(image):
            picture = _fetch_image(image)
        elif isinstance(image, _BYTES_TYPES):
            picture = Image.open(io.BytesIO(image))
        elif isinstance(image, str) and image.startswith("data:"):
            picture = Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2], validate=True)))
        elif isinstance(image, (str, os.PathLike)):
            picture = Image.open(Path(image))
        elif isinstance(image, Image.Image):
            picture = image
        else:
            # A picture without colours gets three equal ones, which is what conversion to RGB means.
            return image if image.ndim == 3 else np.stack([np.asarray(image)] * 3, axis=-1)
        return ImageOps.exif_transpose(picture).convert("RGB")
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist: check the path.") from error
    except binascii.Error as error:
        raise MediaError(f"{name} is no valid base64: give data:image/...;base64, and the encoded file.") from error
    except _PILLOW_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MediaError(f"{name} cannot be read as an image ({reason}): give a JPEG, PNG or WebP file.") from error


def _fetch_image(url: str) -> Image.Image:
    """Fetch an image from the network."""
    try:
        return load_image(url, timeout=60.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise MediaError(f"{url} cannot be fetched ({error}): check the address and the network.") from error


def _get_array_size(array: Any) -> tuple[int, int]:
    """Return height and width of an image array with its channels first or last."""
    try:
        return get_image_size(np.asarray(array))
    except ValueError as error:
        raise MediaError(
            f"an image array has the shape {tuple(array.shape)}: give (height, width, 3) or (3, height, width)."
        ) from error


__all__ = ["count_per_sample", "describe_source", "flatten_images", "flatten_videos", "load_images", "refuse_url"]
