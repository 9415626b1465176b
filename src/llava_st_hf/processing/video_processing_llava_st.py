"""Video processor: from a clip in any form to the pixel values that the model reads.

Files go through `read_video`, which resizes each frame when it is decoded; arrays and lists of frames take the same
sampling and the same resize. It needs no torchvision. What was sampled (frame indices, seconds, original size) is kept
in `LlavaSTVideoMetadata`, so that an answer can be put back onto the clip.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata

from .frame_sampling_llava_st import check_sampling, compute_clip_end, compute_sampled_indices, find_clip
from .image_loading_llava_st import FILE_TYPES, flatten_videos, get_source_path
from .media_llava_st import UNKNOWN_RATE, MediaError, MediaInfo, show
from .video_decoding_llava_st import probe_video, read_video, resize_frames
from .video_frames_llava_st import drop_alpha, is_list_of_files, open_frames, to_channels_first
from .video_requests_llava_st import REQUEST_FIELDS, TIME_FIELDS, list_requests, list_times

# Of frames that come without a time line, which is noted (`UNKNOWN_RATE`); transformers assumes it too
# (`VideoMetadata.sampled_fps`).
DEFAULT_FPS = 24.0
RESIZE_MODES = {PILImageResampling.BICUBIC: "bicubic", PILImageResampling.BILINEAR: "bilinear"}
# Resized frames are turned into floats while they are still in the processor's cache.
FRAMES_AT_ONCE = 4


class LlavaSTVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Keyword arguments of the video processor, beside those of every video processor.

    The four that choose frames (`num_frames`, `fps`, `frame_range`, `time_range`) take one value for all videos or a
    list with one entry (or None) for each.

    num_frames (`int`, *optional*): Number of frames, spread evenly over the clip, both ends included.
    fps (`float`, *optional*): Frames a second to sample, instead of `num_frames`.
    frame_range (`tuple[int, int]`, *optional*): First and last frame of the clip, in presentation order.
    time_range (`tuple[float, float]`, *optional*): Start and end of the clip in seconds.
    video_fps (`float`, *optional*): Frames a second of a video that is given as frames; or a list, one for each.
    frame_seconds (`list[float]`, *optional*): Time of each of those frames instead; or a list of lists.
    num_threads (`int`, *optional*): Decoder threads; 0 means as many as there are cores.
    allow_url (`bool` or `dict`, *optional*): Whether a video such as `https://...` may be fetched, see `FetchRules`.
    file_roots (`str`, `PathLike` or a list of them, *optional*): Folders in which `file://...` may lie.
    max_frames (`int`, *optional*): Most frames to sample of a video; more are refused before any is decoded.
    """

    num_frames: int | list | tuple | None
    fps: float | int | list | tuple | None
    frame_range: list | tuple | None
    time_range: list | tuple | None
    video_fps: float | int | list | tuple | None
    frame_seconds: list | tuple | None
    num_threads: int | None
    allow_url: bool | dict | None
    file_roots: str | PathLike | list | tuple | None
    max_frames: int | None


@dataclass
class LlavaSTVideoMetadata(VideoMetadata):
    """
    What is known of a sampled video: the fields of transformers' `VideoMetadata`, and the true time line.

    Args:
        frame_seconds (`list[float]`, *optional*): Time stamp in seconds of each sampled frame.
        source (`str`, *optional*): Path or address of the video; it has none when it was given as bytes or frames.
        problems (`tuple[str, ...]`, *optional*, defaults to `()`): What was wrong with the file and worked around.
        stated_end_seconds (`float`, *optional*): Where the clip ends, see `MediaInfo`.
    """

    frame_seconds: list[float] | None = None
    source: str | None = None
    problems: tuple[str, ...] = ()
    stated_end_seconds: float | None = None

    @property
    def timestamps(self) -> list[float]:
        """Time stamps in seconds of the sampled frames."""
        return self.frame_seconds if self.frame_seconds is not None else super().timestamps

    def to_media_info(self) -> MediaInfo:
        """Return the size and time line that turn coordinates of an answer into pixels and seconds."""
        return MediaInfo(
            "video",
            self.width,
            self.height,
            frame_indices=tuple(int(index) for index in self.frames_indices),
            frame_seconds=tuple(float(seconds) for seconds in self.timestamps),
            source=self.source,
            problems=tuple(self.problems),
            stated_end_seconds=self.stated_end_seconds,
        )


class LlavaSTVideoProcessor(VideoProcessorMixin):
    r"""
    Turns videos into pixel values. Accepts a path, the bytes of a file, a `data:` URI, a `uint8` array or tensor of
    shape (frames, height, width, 3) or (frames, 3, height, width), a list of frames or of two and more paths of
    pictures, or a list of any of these.

    Args:
        size (`dict[str, int]`, *optional*, defaults to `{"height": 384, "width": 384}`): Size of the output frames.
        num_frames (`int`, *optional*, defaults to 100): Number of frames sampled from each video.
        fps (`float`, *optional*): Frames a second to sample, instead of `num_frames`.
        do_resize, do_rescale, do_normalize, do_sample_frames (`bool`, *optional*, defaults to `True`): Switches.
        image_mean, image_std (`list[float]`, *optional*, defaults to `[0.5, 0.5, 0.5]`): For normalization.
        return_metadata (`bool`, *optional*, defaults to `False`):
            Whether to return `video_metadata`, a [`LlavaSTVideoMetadata`] for each video.

    Returns:
        `BatchFeature` with `pixel_values_videos`, float32, shape (videos, frames, 3, height, width). Where videos
        differ in their number of frames, the shorter ones end in frames of zeros and `video_num_frames`, int64, shape
        (videos,), is there as well.

    Example:

    ```python
    >>> processor = LlavaSTVideoProcessor()
    >>> processor("clip.mp4", time_range=(3.0, 12.5), return_tensors="pt")["pixel_values_videos"].shape
    torch.Size([1, 100, 3, 384, 384])
    ```
    """

    valid_kwargs = LlavaSTVideoProcessorKwargs
    model_input_names = ["pixel_values_videos"]
    _auto_class = "AutoVideoProcessor"  # save_pretrained copies the code
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    do_sample_frames = True
    size = {"height": 384, "width": 384}
    default_to_square = True
    resample = PILImageResampling.BICUBIC
    rescale_factor = 1 / 255
    image_mean = [0.5, 0.5, 0.5]
    image_std = [0.5, 0.5, 0.5]
    num_frames = 100
    fps = None
    return_metadata = False

    def __init__(self, **kwargs: Unpack[LlavaSTVideoProcessorKwargs]):
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)
        if self.fps is not None and kwargs.get("num_frames") is None:
            self.num_frames = None  # the default number gives way to a rate that was chosen

    def preprocess(self, videos: Any, **kwargs: Unpack[LlavaSTVideoProcessorKwargs]) -> BatchFeature:
        """
        Prepare one video or several; see the class for the forms of `videos`.

        Raises:
            `MediaError`: A video cannot be read or sampled as asked; the message says what to do.
        """
        return super().preprocess(videos, **_move_times(videos, self._resolve_rate(kwargs)))

    def decode_videos(
        self, videos: Any, **kwargs: Unpack[LlavaSTVideoProcessorKwargs]
    ) -> tuple[list[torch.Tensor], list[LlavaSTVideoMetadata]]:
        """
        Read, sample and resize videos, without turning them into pixel values.

        The result can be given to `__call__`, or to a processor that takes neither bytes nor `Path`, as
        `videos=frames, video_metadata=metadata, do_sample_frames=False`.

        Args:
            videos: One video or several, in any form that the processor takes.
            **kwargs: As of a call: `num_frames`, `fps`, `frame_range`, `time_range`, `size`, `video_metadata`, ...

        Returns:
            `tuple[list[torch.Tensor], list[LlavaSTVideoMetadata]]`: For each video its frames, uint8, shape
            (frames, 3, height, width), and its metadata.
        """
        kwargs = _move_times(videos, self._resolve_rate(kwargs))
        video_metadata = kwargs.pop("video_metadata", None)
        for name in self.valid_kwargs.__annotations__:
            kwargs.setdefault(name, getattr(self, name, None))
        do_sample = kwargs.pop("do_sample_frames")
        sample = partial(self.sample_frames, **kwargs)
        frames, metadata = self._decode_and_sample_videos(videos, video_metadata, do_sample, sample)
        if kwargs["do_resize"]:
            target = self._standardize_kwargs(**kwargs)["size"]
            frames = [self._resize(video, target, kwargs["resample"]) for video in frames]
        return frames, metadata

    def probe(self, source: str | PathLike | bytes) -> LlavaSTVideoMetadata:
        """
        Tell what would be known of a file's frames, once they were sampled, without decoding them.

        Raises:
            `MediaError`: The file is not usable, or cannot be sampled as this processor does.
        """
        width, height, timeline = probe_video(source)
        metadata = LlavaSTVideoMetadata(
            total_num_frames=len(timeline),
            fps=timeline.fps,
            width=width,
            height=height,
            duration=timeline.duration_seconds,
            frame_seconds=timeline.seconds.tolist(),
            source=get_source_path(source),
            problems=timeline.problems,
            stated_end_seconds=timeline.end_seconds,
        )
        places = self.sample_frames(metadata, self.num_frames, self.fps)
        metadata.frames_indices, metadata.frame_seconds = places.tolist(), timeline.seconds[places].tolist()
        return metadata

    def _resolve_rate(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Let `fps` of a call take the place of the default `num_frames`, and the other way round."""
        kwargs = dict(kwargs)
        if kwargs.get("fps") is not None:
            kwargs.setdefault("num_frames", None)
        elif kwargs.get("num_frames") is not None:
            kwargs.setdefault("fps", None)
        return kwargs

    def sample_frames(
        self,
        metadata: VideoMetadata,
        num_frames: int | None = None,
        fps: float | None = None,
        frame_range: tuple[int, int] | None = None,
        time_range: tuple[float, float] | None = None,
        max_frames: int | None = None,
        **kwargs,
    ) -> np.ndarray:
        """
        Choose frames of a decoded video.

        Args:
            metadata (`VideoMetadata` or [`LlavaSTVideoMetadata`]):
                With `frame_seconds`, the time stamp of every frame there is, or with their number and `fps`.
            num_frames, fps, frame_range, time_range, max_frames: See `LlavaSTVideoProcessorKwargs`; one value each.

        Returns:
            `np.ndarray`: `int64`, shape (sampled frames,), positions among the video's frames.
        """
        metadata = to_metadata(metadata)
        name = metadata.source or "the video"
        if fps is not None and metadata.frame_seconds is None and metadata.fps is None:
            raise MediaError(
                f"{name}: fps={fps} asks for frames by their time; give video_fps= or frame_seconds=.", field="fps"
            )
        if metadata.frame_seconds is None:
            seconds = np.arange(metadata.total_num_frames) / (metadata.fps or DEFAULT_FPS)
        else:
            seconds = np.asarray(metadata.frame_seconds, dtype=np.float64)
        return compute_sampled_indices(
            name,
            seconds,
            num_frames=num_frames,
            fps=fps,
            frame_range=frame_range,
            time_range=time_range,
            end_seconds=_find_end(metadata, seconds),
            max_frames=max_frames,
        )

    def choose_frames(self, metadata: LlavaSTVideoMetadata, count: int, **request) -> np.ndarray:
        """
        Choose frames of a clip that is given as frames; its metadata become those of what is chosen.

        Args:
            metadata ([`LlavaSTVideoMetadata`]):
                What is known of the frames; where nothing says when they are, that is noted as a problem.
            count (`int`): How many frames there are.
            request: As for `sample_frames`.

        Returns:
            `np.ndarray`: `int64`, shape (sampled frames,), positions among the frames.

        Raises:
            `MediaError`: For frames that are asked for by a time that nothing says, or that there are not.
        """
        asked = {name: request.get(name) for name in REQUEST_FIELDS}
        check_sampling("the video", **asked)
        _complete_metadata(metadata, count, asked)
        places = self.sample_frames(metadata, **request)
        seconds, end = np.asarray(metadata.frame_seconds), _find_end(metadata, metadata.frame_seconds)
        ranges = {name: asked[name] for name in ("frame_range", "time_range")}
        _, last = find_clip("the video", seconds, **ranges, end_seconds=end)
        metadata.stated_end_seconds = compute_clip_end(seconds, last, end)
        metadata.frames_indices = [metadata.frames_indices[place] for place in places]
        metadata.frame_seconds = [metadata.frame_seconds[place] for place in places]
        return places

    def _decode_and_sample_videos(
        self,
        videos: Any,
        video_metadata: Any = None,
        do_sample_frames: bool | None = None,
        sample_indices_fn: Callable | None = None,
    ) -> tuple[list[torch.Tensor], list[LlavaSTVideoMetadata]]:
        # `sample_indices_fn` is a partial of `sample_frames`: the arguments of the call are found in it.
        options = sample_indices_fn.keywords if sample_indices_fn is not None else {}
        if not (videos := flatten_videos(videos, options.get("file_roots"))):
            raise MediaError("an empty list is not a video: give a path, bytes, an array or a list of frames.")
        given = _list_metadata(video_metadata, len(videos))
        requests = list_requests(options if do_sample_frames else {}, len(videos))
        decoded = [
            self._read_file(video, request, options)
            if isinstance(video, FILE_TYPES)
            else self._sample_array(video, metadata, request, options)
            for video, metadata, request in zip(videos, given, requests, strict=True)
        ]
        return [frames for frames, _ in decoded], [metadata for _, metadata in decoded]

    def _read_file(
        self, source: Any, request: dict[str, Any], options: dict[str, Any]
    ) -> tuple[torch.Tensor, LlavaSTVideoMetadata]:
        size = None
        # Only the filter that the reader has is used while decoding; with another one frames are resized afterwards.
        if options.get("do_resize") and options.get("resample") == PILImageResampling.BICUBIC:
            target = self._standardize_kwargs(**options)["size"]
            size = (target.height, target.width)
        video = read_video(
            source,
            size=size,
            num_threads=options.get("num_threads") or 0,
            allow_url=options.get("allow_url") or False,
            max_frames=options.get("max_frames"),
            **request,
        )
        metadata = LlavaSTVideoMetadata(
            total_num_frames=video.total_num_frames,
            fps=video.fps,
            width=video.width,
            height=video.height,
            duration=video.duration_seconds,
            video_backend="pyav",
            frames_indices=list(video.frame_indices),
            frame_seconds=list(video.frame_seconds),
            source=get_source_path(source),
            problems=video.problems,
            stated_end_seconds=video.stated_end_seconds,
        )
        return video.frames, metadata

    def _sample_array(
        self, video: Any, given: VideoMetadata | None, request: dict[str, Any], options: dict[str, Any]
    ) -> tuple[torch.Tensor, LlavaSTVideoMetadata]:
        metadata = given or LlavaSTVideoMetadata(total_num_frames=None)
        if is_list_of_files(video):
            return self._open_pictures(video, metadata, request, options)
        frames = to_channels_first(video, options.get("input_data_format"))
        metadata.height = metadata.height or frames.shape[2]
        metadata.width = metadata.width or frames.shape[3]
        places = self.choose_frames(metadata, len(frames), max_frames=options.get("max_frames"), **request)
        if len(places) != len(frames) or (places != np.arange(len(frames))).any():
            frames = frames[torch.from_numpy(places)]
        return drop_alpha(frames), metadata

    def _open_pictures(
        self, files: list[Any], metadata: LlavaSTVideoMetadata, request: dict[str, Any], options: dict[str, Any]
    ) -> tuple[torch.Tensor, LlavaSTVideoMetadata]:
        """Read a clip that is a list of pictures in files; only those that are sampled are opened."""
        places = self.choose_frames(metadata, len(files), max_frames=options.get("max_frames"), **request)

        def resize(frame: torch.Tensor) -> torch.Tensor:
            if not options.get("do_resize"):
                return frame
            return self._resize(frame, self._standardize_kwargs(**options)["size"], options["resample"])

        frames, size = open_frames(files, places.tolist(), options.get("allow_url") or False, resize)
        metadata.width, metadata.height = size
        return frames, metadata

    def _prepare_input_videos(self, videos: list[torch.Tensor], **kwargs) -> list[torch.Tensor]:
        device = kwargs.get("device")
        return videos if device is None else [video.to(device) for video in videos]

    def _resize(self, frames: torch.Tensor, size: SizeDict, resample: Any) -> torch.Tensor:
        if resample not in RESIZE_MODES:
            raise MediaError(f"resample is {resample!r}; give PILImageResampling.BICUBIC or BILINEAR.")
        if not size.height or not size.width:
            raise MediaError(f"size is {dict(size)}; give it as {{'height': ..., 'width': ...}}.")
        return resize_frames(frames, (size.height, size.width), RESIZE_MODES[PILImageResampling(resample)])

    def _preprocess(
        self,
        videos: list[torch.Tensor],
        do_resize: bool | None = None,
        size: SizeDict | None = None,
        resample: Any = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        return_tensors: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        sizes = {(size.height, size.width)} if do_resize else {tuple(video.shape[2:]) for video in videos}
        if len(sizes) > 1:
            raise MediaError("videos of different sizes cannot be put in one batch; leave do_resize on.")
        scale = np.ones(3) * (rescale_factor if do_rescale else 1.0)
        shift = np.zeros(3)
        if do_normalize:
            mean, std = (np.broadcast_to(value, 3) for value in (image_mean, image_std))  # one value, or one a channel
            scale, shift = scale / std, -mean / std
        counts = [len(video) for video in videos]
        dtype = torch.float32 if do_rescale or do_normalize else torch.uint8
        shape = (len(videos), max(counts), 3, *sizes.pop())  # videos, frames, 3, height, width
        pixels = torch.empty(shape, dtype=dtype, device=videos[0].device)
        for video, count, target in zip(videos, counts, pixels, strict=True):
            for start in range(0, count, FRAMES_AT_ONCE):
                part = video[start : start + FRAMES_AT_ONCE]
                part = self._resize(part, size, resample) if do_resize else part
                _scale_into(target[start : start + len(part)], part, scale, shift)
            target[count:] = 0
        data = {"pixel_values_videos": pixels}
        if len(set(counts)) > 1:
            data["video_num_frames"] = torch.tensor(counts, dtype=torch.int64)
        return BatchFeature(data, tensor_type=return_tensors)


def _scale_into(target: torch.Tensor, frames: torch.Tensor, scale: np.ndarray, shift: np.ndarray) -> None:
    """Write `frames * scale + shift`, per channel, to `target`, both of shape (frames, 3, height, width)."""
    if target.dtype == torch.uint8:
        target.copy_(frames)
        return
    scale, shift = (
        np.float32(values[0]) if (values == values[0]).all() else values.astype(np.float32).reshape(3, 1, 1)
        for values in (scale, shift)
    )
    if target.device.type != "cpu":
        target.copy_(frames).mul_(torch.as_tensor(scale).to(target)).add_(torch.as_tensor(shift).to(target))
        return
    # numpy turns bytes into floats block by block in the cache, twice as fast as torch, which makes a copy first.
    pixels = target.numpy()
    np.multiply(frames.numpy(), scale, out=pixels)
    pixels += shift


# ----------------------------------------------------------------------------------------------------
# Forms of input
# ----------------------------------------------------------------------------------------------------
def _list_metadata(video_metadata: Any, num_videos: int) -> list[VideoMetadata | None]:
    """Return one metadata object, or None, for each video."""
    if video_metadata is None:
        return [None] * num_videos
    if isinstance(video_metadata, (dict, VideoMetadata)):
        video_metadata = [video_metadata]
    flat = []
    for item in video_metadata:
        flat.extend(item if isinstance(item, (list, tuple)) else [item])
    if len(flat) != num_videos:
        raise MediaError(f"video_metadata has {len(flat)} entries for {num_videos} videos; give one for each.")
    return [None if item is None else to_metadata(item) for item in flat]


def _move_times(videos: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Move `video_fps` and `frame_seconds` of a call into the metadata of the videos that they are of."""
    times = {name: kwargs.pop(name, None) for name in TIME_FIELDS}
    times = {name: value for name, value in times.items() if value is not None}
    if not times:
        return kwargs
    flat = flatten_videos(videos)
    metadata, timed = _list_metadata(kwargs.get("video_metadata"), len(flat)), set()
    for name, value in times.items():
        values = list_times(name, value, len(flat))
        is_bare = [not isinstance(video, FILE_TYPES) for video in flat]
        if not any(entry is not None and bare for entry, bare in zip(values, is_bare, strict=True)):
            raise MediaError(
                f"{name} is {show(value)}, but a file says when its frames are: leave it out.", field=name
            )
        for index, entry in enumerate(values):
            if entry is None or not is_bare[index]:
                continue
            if index in timed:
                raise MediaError("frame_seconds is given beside video_fps: give one of the two.", field=name)
            timed.add(index)
            metadata[index] = metadata[index] or LlavaSTVideoMetadata(total_num_frames=None)
            if name == "video_fps":
                metadata[index].fps = float(entry)
            else:
                metadata[index].frame_seconds = [float(seconds) for seconds in entry]
    return {**kwargs, "video_metadata": metadata}


def to_metadata(item: Any) -> LlavaSTVideoMetadata:
    """Return metadata that are a dictionary or an object of transformers, as our own class."""
    values = {key: item[key] for key in item}
    unknown = set(values) - {field.name for field in fields(LlavaSTVideoMetadata)}
    if unknown:
        raise MediaError(f"video_metadata has the unknown fields {sorted(unknown)}; leave them out.")
    values.setdefault("total_num_frames", None)
    return LlavaSTVideoMetadata(**values)


def _find_end(metadata: LlavaSTVideoMetadata, seconds: Sequence[float]) -> float:
    """Return where the file of a clip ends: where its metadata say, or with the last of its frames."""
    if metadata.stated_end_seconds is not None:
        return metadata.stated_end_seconds
    spacing = float(seconds[-1] - seconds[0]) / max(len(seconds) - 1, 1)
    return float(seconds[-1]) + (1 / metadata.fps if metadata.fps else spacing)


def _complete_metadata(metadata: LlavaSTVideoMetadata, count: int, request: Mapping[str, Any]) -> None:
    """Give metadata an index and a time stamp for each of some frames, or a note that nothing says their times."""
    metadata.total_num_frames = metadata.total_num_frames or count
    name = metadata.source or "the video"
    if metadata.frames_indices is None:
        metadata.frames_indices = list(range(count))
    if metadata.frame_seconds is None and not metadata.fps:
        for field_name in ("fps", "time_range"):
            if request.get(field_name) is not None:
                raise MediaError(
                    f"{name}: {field_name}={request[field_name]} asks for frames by their time, which nothing says; "
                    "give video_fps= or frame_seconds= with them.",
                    field=field_name,
                )
        metadata.problems = (
            *metadata.problems,
            f"{UNKNOWN_RATE}: nothing says when its frames are; its seconds are counted at {DEFAULT_FPS:g} frames a "
            "second, which is a guess: give video_fps= or frame_seconds= with them",
        )
    if metadata.frame_seconds is None:
        metadata.frame_seconds = [index / (metadata.fps or DEFAULT_FPS) for index in metadata.frames_indices]
    for field_name in ("frames_indices", "frame_seconds"):
        if len(metadata[field_name]) != count:
            raise MediaError(
                f"{name}: video_metadata.{field_name} has {len(metadata[field_name])} entries for {count} frames; "
                "give one for each frame, or leave it out."
            )


__all__ = [
    "LlavaSTVideoMetadata",
    "LlavaSTVideoProcessor",
    "LlavaSTVideoProcessorKwargs",
]
