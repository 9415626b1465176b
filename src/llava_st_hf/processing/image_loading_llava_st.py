"""What a user may hand over as image or video, and how images are opened.

An image is a path, bytes of a file, a `data:` URI, a PIL image or an array; a video is a path, bytes of a file, a
`data:` URI, an array of frames, a list of frames or a list of the paths of its pictures. A `{"bytes": ..., "path":
...}` dictionary, as `datasets` stores media, counts as what it holds. Addresses on the network are opened only where
the caller allows it, `file://` addresses only in the folders that it names.

Arrays are `uint8` only: no other type says which of its values is white. Pictures of 16 bits are scaled to 8.
What is transparent shows white, in pictures and clips of every form.
"""

import io
import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
from PIL import Image, ImageOps
from transformers.image_utils import get_image_size

from .media_fetching_llava_st import fetch_media, read_data_uri
from .media_llava_st import (
    MAX_FRAME_PIXELS,
    EmptyMediaError,
    MediaError,
    MediaInfo,
    MissingMediaError,
    OversizedMediaError,
)

BYTES_TYPES = (bytes, bytearray, memoryview)
FILE_TYPES = (str, os.PathLike, *BYTES_TYPES)
# First bytes of still pictures that FFmpeg opens as no video; WebP has its own in the middle.
_IMAGE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
_STILL_HEIF = (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")
_IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic")  # a GIF is a clip
_ANIMATED_FORMATS = ("GIF", "PNG", "WEBP")
# The end of a JPEG and the start of another, which has no place inside of one. (Two pictures of a camera, which belong
# together, are another format for Pillow: MPO.)
_NEXT_JPEG = b"\xff\xd9\xff\xd8\xff"
_MAX_SEARCHED_BYTES = 2**26
# EXIF says so of a picture that is shown with its sides exchanged.
_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 0x0100, 0x0101
_TURNED = (5, 6, 7, 8)
# MP4, MOV and animated AVIF, Matroska, AVI, MPEG-TS, bare streams and MPEG-PS, FLV, ASF, Ogg, IVF, Y4M, RM, MXF.
_VIDEO_START = re.compile(
    rb"....ftyp(?!avif|hei|mif1)|....(?:moov|mdat|wide|free)|\x1aE\xdf\xa3|RIFF....AVI |(?:....)?\x47.{187,191}\x47"
    rb"|\0\0\0\x01|\0\0\x01[\xb0-\xef]|FLV|\x30\x26\xb2\x75|OggS|DKIF|YUV4MPEG2|\.RMF|\x06\x0e\x2b\x34",
    re.DOTALL,
)
_VIDEO_FIX = "give it as video=..., or save the one frame that is meant."
# The decoders of Pillow that a file may be given to: others start programs (EPS), or read what else a file names.
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
# A picture of more pixels is refused before they are read: its header alone can claim any number of them.
MAX_PICTURE_PIXELS = 64 * 2**20
# Of one that is decoded in Python, or has so many scans, each of which passes over all of it.
_MAX_SLOW_PIXELS, _SLOW_DECODERS, _MAX_SCANS = 2**23, ("ppm_plain", "bmp_rle"), 1000
# What decoders let through for files that are damaged, or that somebody made so. `MediaError` is a `ValueError`.
DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
# Two letters at least: `C://clip.mp4` is a path.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
# How to write the arrays that people have as uint8, by the first letters of their dtype.
_ARRAY_FIXES = {
    "float": "(image * 255).round().astype('uint8') where white is 1",
    "uint16": "(image / 257).round().astype('uint8') where white is 65535",
    "bool": "image.astype('uint8') * 255",
    "": "image.astype('uint8') where white is 255",
}


def is_url(media: Any) -> bool:
    """Return whether media is an address (`scheme://...`) and not a path."""
    return isinstance(media, str) and _ADDRESS.match(media) is not None


def refuse_url(media: Any, allow_url: bool | Mapping) -> None:
    """Raise `MediaError` for an address, unless it is `http(s)://...` and the caller allows it."""
    if not is_url(media):
        return
    scheme = _ADDRESS.match(media)["scheme"].lower()
    if scheme not in ("http", "https"):
        raise MediaError(
            f"{describe_source(media)} is an address of the kind {scheme}://, which is not opened: give the path of a "
            f"file{', or its folder as file_roots=[...]' if scheme == 'file' else ''}."
        )
    if not allow_url:
        raise MediaError(
            f"{describe_source(media)} is on the network: download it and give its path, or pass allow_url=True to "
            "have it fetched."
        )


def resolve_file_url(media: Any, file_roots: "str | os.PathLike | Sequence | None") -> Any:
    """Return the path that a `file://` address names, which lies in one of some folders; any other media as it is."""
    if file_roots is None or not (is_url(media) and media[:7].lower() == "file://"):
        return media
    roots = [file_roots] if isinstance(file_roots, (str, os.PathLike)) else file_roots
    parts = urlsplit(media)
    path = os.path.realpath(url2pathname(parts.path))  # with links followed
    if parts.netloc not in ("", "localhost") or not any(Path(path).is_relative_to(os.path.realpath(r)) for r in roots):
        raise MediaError(
            f"{describe_source(media)} lies outside of file_roots ({', '.join(map(str, roots))}): give a file in one "
            "of these folders, or add its own.",
            field="file_roots",
        )
    return path


def check_source(source: Any, allow_url: bool | Mapping = False) -> None:
    """
    Check that a source may be opened: that it is the bytes or the path of one file, or an address that is allowed.

    Raises:
        `MediaError`: When it is none of these, does not exist or is empty.
    """
    name = describe_source(source)
    refuse_url(source, allow_url)
    if isinstance(source, BYTES_TYPES) and not len(source):
        raise EmptyMediaError(f"{name}: there is nothing in it; give the whole file's bytes.")
    if is_url(source) or (name_of_file := get_source_path(source)) is None:
        return
    if "\0" in name_of_file:
        raise MediaError(f"{name} holds a null character, as no path does: check it.")
    path = Path(name_of_file)
    if not path.exists():
        raise MissingMediaError(f"{name} does not exist: check the path.")
    if path.is_dir():
        raise MediaError(f"{name} is a directory: give the path of a file.")
    if not path.is_file():  # a pipe or a device would be waited for without end
        raise MediaError(f"{name} is no regular file: copy what is in it to one.")
    if path.stat().st_size == 0:
        raise EmptyMediaError(f"{name} is an empty file: copy or download it again.")


def get_source_path(media: Any) -> str | None:
    """Return the path or address of media, or `None` for what has none."""
    if isinstance(media, os.PathLike):
        return os.fspath(media)
    return media if isinstance(media, str) and not media.startswith("data:") else None


def describe_source(media: Any) -> str:
    """Return the name of media for messages, on one line: the path or address, or what it was given as."""
    if (path := get_source_path(media)) is not None:
        written = " ".join(path.split())
        return written if len(written) <= 200 else f"{written[:97]}...{written[-100:]}"
    if isinstance(media, str):
        return "the data: URI"
    return f"the file of {len(media)} bytes" if isinstance(media, BYTES_TYPES) else f"the {type(media).__name__}"


def _read_head(source: Any, num_bytes: int) -> bytes:
    """Return the first bytes of a file; none of what is no file, or cannot be opened."""
    if isinstance(source, BYTES_TYPES):
        return bytes(source[:num_bytes])
    if not isinstance(source, (str, os.PathLike)) or is_url(source) or not os.path.isfile(source):
        return b""
    with suppress(OSError), open(source, "rb") as file:  # asked after a failure, which may have been the same one
        return file.read(num_bytes)
    return b""


def is_image_file(source: "str | os.PathLike | bytes") -> bool:
    """Return whether a source is a file that begins like a still picture (JPEG, PNG, WebP, BMP, TIFF, AVIF, HEIF)."""
    head = _read_head(source, 12)
    return head.startswith(_IMAGE_SIGNATURES) or head[4:] in _STILL_HEIF or head[:4] + head[8:] == b"RIFFWEBP"


def refuse_picture(video: Any) -> None:
    """Raise `MediaError` for a still picture that is given as a video by itself."""
    source = read_data_uri(video)
    if isinstance(source, FILE_TYPES) and is_image_file(source) and not count_animation_frames(source):
        raise MediaError(
            f"{describe_source(video)}: this is an image: give it as image=..., or give a video file, or the pictures "
            "of a clip as one list."
        )


def count_animation_frames(source: Any) -> int:
    """Return how many frames a GIF, PNG, WebP or stream of JPEGs has; 0 for a still picture and any other file."""
    if not isinstance(source, (*FILE_TYPES, Image.Image)) or is_url(source):
        return 0
    try:
        if isinstance(source, FILE_TYPES):
            check_source(source)
        # A picture that was opened before is not closed here.
        with _open_file(source) if isinstance(source, FILE_TYPES) else nullcontext(source) as picture:
            if picture.format == "JPEG" and isinstance(source, FILE_TYPES):
                num_further = _read_content(source).count(_NEXT_JPEG)
                return num_further + 1 if num_further else 0
            is_moving = picture.format in _ANIMATED_FORMATS and getattr(picture, "n_frames", 1) > 1
            # Of one that was opened before, a later frame was chosen on purpose.
            return picture.n_frames if is_moving and picture.tell() == 0 else 0
    except (
        *DECODER_ERRORS,
        Image.DecompressionBombError,
        MemoryError,
    ):  # what reads the file says what is wrong with it
        return 0


def guess_media_type(media: Any) -> str:
    """Return `"image"` or `"video"`, by class, dimensions, first bytes, or the ending of a name."""
    if isinstance(media, Mapping):
        media = media.get("bytes") or media.get("path") or media.get("url")
    if isinstance(media, str) and media.startswith("data:"):
        media = read_data_uri(media)
    if isinstance(media, (str, os.PathLike)) and not Path(media).is_file():
        return "image" if Path(media).suffix.lower() in _IMAGE_ENDINGS else "video"
    if isinstance(media, FILE_TYPES):
        return "image" if is_image_file(media) and not count_animation_frames(media) else "video"
    if isinstance(media, Image.Image):
        return "image"
    return "image" if getattr(media, "ndim", 4) == 3 else "video"


def flatten_images(images: Any, file_roots: Any = None) -> list[Any]:
    """
    Return the single images of any nesting of lists; `None` is left out, an array of four dimensions is a list.

    Addresses of the kind `file://` become paths, where folders are named in which they may lie.
    """
    if isinstance(images, dict):
        return flatten_images(_open_struct(images), file_roots)
    if isinstance(images, FILE_TYPES) or _is_frame(images):
        return [resolve_file_url(images, file_roots)]
    if images is None or isinstance(images, (list, tuple)) or getattr(images, "ndim", None) == 4:
        return [image for item in (() if images is None else images) for image in flatten_images(item, file_roots)]
    raise MediaError(f"an image is a {type(images).__name__}: give a path, bytes, a PIL image or an array.")


def flatten_videos(videos: Any, file_roots: Any = None) -> list[Any]:
    """
    Return the single videos of any nesting of lists; `None` is left out.

    A list of frames is one video, as are two and more pictures in files, which no video is. Addresses of the kind
    `file://` become paths, where folders are named in which they may lie.
    """
    if isinstance(videos, dict):
        return flatten_videos(_open_struct(videos), file_roots)
    num_dimensions = getattr(videos, "ndim", None)  # of an array or a tensor
    if isinstance(videos, FILE_TYPES) or num_dimensions == 4:
        return [resolve_file_url(videos, file_roots)]
    if _is_frame(videos):
        return [[videos]]
    if isinstance(videos, (list, tuple)) and videos:
        if all(map(_is_frame, videos)):
            return [list(videos)]
        if len(videos) > 1 and all(map(_is_picture_file, videos)) and not count_animation_frames(videos[0]):
            return [flatten_images(list(videos), file_roots)]
    if videos is None or isinstance(videos, (list, tuple)) or num_dimensions == 5:
        return [video for item in (() if videos is None else videos) for video in flatten_videos(item, file_roots)]
    raise MediaError(
        f"a {type(videos).__name__} is not a video: give a path, bytes, an array (frames, height, width, 3) or a list "
        "of frames."
    )


def count_per_sample(media: Any, num_samples: int, flatten: Any) -> list[int] | None:
    """Return how many media each sample has where media is a list with one list per sample, else `None`."""
    nested = isinstance(media, (list, tuple)) and len(media) == num_samples
    if nested and all(item is None or isinstance(item, (list, tuple)) for item in media):
        return [len(flatten(item)) for item in media]
    return None


def load_images(images: Sequence[Any], allow_url: bool | Mapping = False) -> tuple[list[Any], list[MediaInfo]]:
    """
    Open images; the turn that a camera noted in the file (EXIF) is applied, so boxes are in displayed pixels.

    Args:
        images (`Sequence[Any]`): Single images, see the head of this module; arrays are `uint8`.
        allow_url (`bool` or `dict`, *optional*, defaults to `False`):
            Whether addresses on the network may be fetched, or within which limits, see `FetchRules`.

    Returns:
        `tuple[list[Any], list[MediaInfo]]`: RGB images or the arrays as given, and the size of each.

    Raises:
        `MediaError`: When one cannot be found or read, or is an array of another type.
    """
    opened = [_load_image(image, allow_url) for image in images]
    media = []
    for picture, image in zip(opened, images, strict=True):
        if isinstance(picture, Image.Image):
            width, height = picture.size
        else:
            height, width = _get_array_size(picture)
        media.append(MediaInfo("image", width, height, source=get_source_path(image)))
    return opened, media


def open_image(source: Any, allow_url: bool | Mapping = False) -> Image.Image:
    """
    Open one image as the model gets to see it, in the pixels that boxes are in.

    Args:
        source (`str`, `os.PathLike`, `bytes` or `PIL.Image.Image`): Path, file content, `data:` URI or picture.
        allow_url (`bool` or `dict`, *optional*, defaults to `False`):
            Whether an address on the network may be fetched, or within which limits, see `FetchRules`.

    Returns:
        `PIL.Image.Image`: RGB, with the turn applied that a camera noted in the file (EXIF).

    Raises:
        `MediaError`: When it cannot be found or read, or nothing says which of its values is white.

    Example:

    ```python
    >>> open_image("kitchen.jpg").size
    (640, 480)
    ```
    """
    with open_picture(source, allow_url) as picture:
        if picture is source:  # which is not to be changed
            picture = ImageOps.exif_transpose(picture)
        else:  # a copy of a large one would be the most that is held at a time
            ImageOps.exif_transpose(picture, in_place=True)
        return _convert_to_rgb(picture, describe_source(source))


def probe_image(source: "str | os.PathLike | bytes") -> tuple[int, int]:
    """
    Return width and height of a picture as it is displayed.

    Raises:
        `MediaError`: As `open_image`.
    """
    with open_picture(source) as picture:
        # Newer versions of Pillow give the size of a TIFF as it is displayed, all give its tags.
        tags = picture.tag_v2 if picture.format == "TIFF" else {}
        width, height = tags.get(_TIFF_WIDTH, picture.width), tags.get(_TIFF_HEIGHT, picture.height)
        return (height, width) if picture.getexif().get(_EXIF_ORIENTATION) in _TURNED else (width, height)


@contextmanager
def open_picture(source: Any, allow_url: bool | Mapping = False, may_move: bool = False) -> Iterator[Image.Image]:
    """
    Give a picture of which only the header was read; what Pillow raises for it becomes `MediaError`.

    An animation is refused unless it `may_move`, and a video by its own name.
    """
    name = describe_source(source)
    try:
        check_source(source, allow_url)
        source = fetch_media(source, allow_url) if is_url(source) else source
        if isinstance(source, str) and source.startswith("data:video/"):
            raise MediaError(f"{name} is a video: {_VIDEO_FIX}")
        if not may_move:
            _refuse_animation(source)
        with _open_file(source) if isinstance(source, FILE_TYPES) else nullcontext(_open_file(source)) as picture:
            yield picture
    except MediaError:
        raise  # it is a ValueError too, and has its message already
    except (Image.DecompressionBombError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise OversizedMediaError(f"{name} is larger than Pillow opens ({reason}): scale it down first.") from error
    except DECODER_ERRORS as error:
        if (kind := _name_video(source)) is not None:
            raise MediaError(f"{name} is {kind}: {_VIDEO_FIX}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MediaError(
            f"{name} cannot be read as an image ({reason:.200}): give a file of {', '.join(PICTURE_FORMATS)}."
        ) from error


def _name_video(source: Any) -> str | None:
    """Tell what moves by the first bytes; a file is not opened as a video that may be none."""
    head = _read_head(read_data_uri(source), 256)
    if not _VIDEO_START.match(head):
        return None
    return "an animated AVIF" if head[4:12] == b"ftypavis" else "a video"


def _read_content(source: Any) -> bytes:
    """Return what is searched of a file."""
    if isinstance(source, BYTES_TYPES):
        return bytes(source)
    with open(source, "rb") as file:
        return file.read(_MAX_SEARCHED_BYTES)


def _refuse_animation(source: Any) -> None:
    if count := count_animation_frames(source):
        raise MediaError(
            f"{describe_source(source)} is an animation of {count} frames: give it as video=..., or save the one "
            "frame that is meant as a picture."
        )


def _open_struct(media: dict[str, Any]) -> Any:
    """Return what a `{"bytes": ..., "path": ...}` dictionary holds."""
    content = media.get("bytes") if media.get("bytes") is not None else media.get("path")
    if content is None:
        raise MediaError(f"media is a dictionary with the keys {sorted(media)}: give 'bytes' or 'path'.")
    return content


def _is_picture_file(item: Any) -> bool:
    """Return whether something is a picture in a file, by the ending of its name where it has one."""
    if isinstance(item, Mapping):
        item = item.get("bytes") or item.get("path")
    if isinstance(item, (str, os.PathLike)) and (ending := Path(item).suffix.lower()) and str(item)[:5] != "data:":
        return ending in _IMAGE_ENDINGS
    return isinstance(item, FILE_TYPES) and guess_media_type(item) == "image"


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (
        not isinstance(item, FILE_TYPES) and getattr(item, "ndim", None) in (2, 3)
    )


def _load_image(image: Any, allow_url: bool | Mapping) -> Any:
    """Open one image as RGB, or return an array of bytes as it is."""
    if isinstance(image, (*FILE_TYPES, Image.Image)):
        return open_image(image, allow_url)
    dtype, shape = str(image.dtype).removeprefix("torch."), tuple(image.shape)
    if dtype != "uint8":
        fix = next(fix for start, fix in _ARRAY_FIXES.items() if dtype.startswith(start))
        raise MediaError(f"an image array is {dtype}: give uint8 from 0 to 255, say {fix}.")
    if 0 in shape:
        raise EmptyMediaError(f"an image array has the shape {shape}, which is no pixels: give one that is not empty.")
    if image.ndim == 2:  # without colours: three equal ones, which is what conversion to RGB means
        return np.stack([np.asarray(image)] * 3, axis=-1)
    if shape[-1] == 4 or (shape[0] == 4 and shape[-1] not in (1, 3)):
        pixels = np.asarray(image) if shape[-1] == 4 else np.moveaxis(np.asarray(image), 0, -1)
        return np.asarray(composite_on_white(Image.fromarray(np.ascontiguousarray(pixels))))
    return image


def _open_file(source: Any) -> Image.Image:
    """Open a file of any form with Pillow, which reads its pixels later."""
    if isinstance(source, Image.Image):
        return source
    name, source = describe_source(source), read_data_uri(source)
    if not isinstance(source, FILE_TYPES):
        raise MediaError(f"an image is a {type(source).__name__}: give a path, bytes or a PIL image.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
        file = io.BytesIO(source) if isinstance(source, BYTES_TYPES) else Path(source)
        picture = Image.open(file, formats=PICTURE_FORMATS)
    width, height = picture.size
    max_pixels = _find_max_pixels(picture, source)
    if width * height > max_pixels:
        picture.close()
        raise OversizedMediaError(
            f"{name} is {width} x {height} pixels, more than the limit of {max_pixels:,}: scale it down, or open it "
            "with Pillow and give the picture."
        )
    return picture


def _find_max_pixels(picture: Image.Image, source: Any) -> int:
    """Return how many pixels a picture may have: fewer where decoding takes long, or several times their memory."""
    is_jpeg = picture.format in ("JPEG", "MPO")
    num_scans = _read_content(source).partition(_NEXT_JPEG)[0].count(b"\xff\xda") if is_jpeg else 0
    if num_scans > _MAX_SCANS or any(tile[0] in _SLOW_DECODERS for tile in picture.tile):
        return _MAX_SLOW_PIXELS
    return MAX_FRAME_PIXELS if picture.format == "WEBP" or picture.mode.startswith("I") else MAX_PICTURE_PIXELS


def _convert_to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """Return a picture as RGB; one of 16 bits is scaled, where `convert` alone would clip it to white."""
    if picture.mode == "F":
        raise MediaError(f"{name} holds floats (mode F), which do not say what is white: save it with 8 or 16 bits.")
    is_wide = picture.mode.startswith("I;16")
    if picture.mode == "I":
        low, high = picture.getextrema()
        if low < 0 or high > 65535:
            raise MediaError(
                f"{name} holds whole numbers from {low} to {high} (mode I), which do not say what is white: save it "
                "with 8 or 16 bits."
            )
        # Pillow reads 16 bits of some formats as 32. Where no value is above 255 it is 8 bits that were widened.
        is_wide = high > 255
    if is_wide:
        picture = Image.fromarray(np.rint(np.asarray(picture, dtype=np.float32) / 257).astype(np.uint8))
    return composite_on_white(picture)


def composite_on_white(picture: Image.Image) -> Image.Image:
    """Return a picture as RGB, with white where it is transparent."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    canvas = Image.new("RGB", layer.size, "white")
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def _get_array_size(array: Any) -> tuple[int, int]:
    """Return height and width of an image array with its channels first or last."""
    try:
        return get_image_size(np.asarray(array))
    except ValueError as error:
        raise MediaError(
            f"an image array has the shape {tuple(array.shape)}: give (height, width, 3) or (3, height, width)."
        ) from error


__all__ = [
    "BYTES_TYPES",
    "DECODER_ERRORS",
    "FILE_TYPES",
    "MAX_PICTURE_PIXELS",
    "PICTURE_FORMATS",
    "check_source",
    "composite_on_white",
    "count_animation_frames",
    "count_per_sample",
    "describe_source",
    "flatten_images",
    "flatten_videos",
    "get_source_path",
    "guess_media_type",
    "is_image_file",
    "is_url",
    "load_images",
    "open_image",
    "open_picture",
    "probe_image",
    "refuse_picture",
    "refuse_url",
    "resolve_file_url",
]
