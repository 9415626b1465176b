import base64
import json

import numpy as np
import pytest
import torch
import video_files as files
from PIL import Image
from safetensors.torch import load_file
from transformers.video_utils import VideoMetadata

from llava_st_hf.processing.grounding_results_llava_st import GroundingResult
from llava_st_hf.processing.media_llava_st import MediaError, MediaInfo
from llava_st_hf.processing.video_decoding_llava_st import read_video, resize_frames
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoMetadata, LlavaSTVideoProcessor

FOUR_FRAMES = np.zeros((4, 8, 8, 3), np.uint8)
SMALL = {"height": 24, "width": 20}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A file of 40 frames, 64 x 48, 25 a second."""
    return files.encode(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture(scope="module")
def frames(clip):
    """Its frames, uint8, shape (40, 3, 48, 64)."""
    return torch.from_numpy(files.decode_everything(clip)[0].copy())


@pytest.fixture
def processor():
    return LlavaSTVideoProcessor(size=SMALL, num_frames=5)


def by_channel(*values):
    return torch.tensor(values)[:, None, None]


def prepare(frames, size=(24, 20)):
    return resize_frames(frames, size).float() / 127.5 - 1


def test_defaults():
    processor = LlavaSTVideoProcessor()
    assert (processor.size.height, processor.size.width) == (384, 384)
    assert processor.num_frames == 100 and processor.fps is None
    assert not processor.return_metadata
    output = processor(np.zeros((2, 8, 8, 3), dtype=np.uint8), return_tensors="pt")
    assert list(output) == ["pixel_values_videos"]
    assert output["pixel_values_videos"].shape == (1, 100, 3, 384, 384)
    assert output["pixel_values_videos"].dtype == torch.float32
    assert (output["pixel_values_videos"] == -1).all()


def test_resize_and_normalization_are_the_reference_image_processors(parity_dir):
    folder = parity_dir / "public" / "unit"
    tensors = load_file(folder / "image_processor.safetensors")
    for row in json.loads((folder / "image_processor.json").read_text()):
        if "input_file" in row:
            pixels = np.asarray(Image.open(folder / row["input_file"]).convert("RGB"))
        else:
            pixels = tensors[f"{row['image']}.input_uint8"].numpy()
        height, width = row["size"]
        processor = LlavaSTVideoProcessor(size={"height": height, "width": width}, num_frames=1)
        ours = processor(pixels[None], return_tensors="pt")["pixel_values_videos"][0, 0]
        if row["stored"] != "full":
            ours = ours[:, ::16, ::16]
        difference = (ours - tensors[f"{row['image']}.out_{height}"]).abs() * 127.5  # in grey levels
        assert difference.max() < 1.001 and difference.mean() < 0.005, row


FORMS = {
    "path": lambda clip, frames: str(clip),
    "pathlib": lambda clip, frames: clip,
    "bytes": lambda clip, frames: clip.read_bytes(),
    "array_channels_last": lambda clip, frames: frames.permute(0, 2, 3, 1).numpy(),
    "array_channels_first": lambda clip, frames: frames.numpy(),
    "tensor": lambda clip, frames: frames,
    "reversed_view": lambda clip, frames: frames.numpy()[::-1].copy()[::-1],
    "read_only": lambda clip, frames: np.frombuffer(frames.numpy().tobytes(), np.uint8).reshape(frames.shape),
    "five_dimensions": lambda clip, frames: frames[None],
    "pictures": lambda clip, frames: [Image.fromarray(f.permute(1, 2, 0).numpy()) for f in frames],
    "list_of_arrays": lambda clip, frames: [f.permute(1, 2, 0).numpy() for f in frames],
    "list_of_tensors": lambda clip, frames: list(frames),
    "with_alpha": lambda clip, frames: torch.cat([frames, torch.full_like(frames[:, :1], 255)], dim=1),
    "data_uri": lambda clip, frames: "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode(),
    "picture_files": lambda clip, frames: [
        str(write_picture(clip.with_name(f"{k}.png"), f)) for k, f in enumerate(frames)
    ],
    "list": lambda clip, frames: [str(clip)],
    "nested_list": lambda clip, frames: [[str(clip)]],
}


def write_picture(path, frame):
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(path)
    return path


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same_pixels(processor, clip, frames, form):
    output = processor(FORMS[form](clip, frames), return_tensors="pt")["pixel_values_videos"]
    expected = prepare(frames[[0, 10, 20, 29, 39]])
    assert output.shape == (1, 5, 3, 24, 20)
    assert output.is_contiguous()
    assert (output[0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("options", "indices"),
    [
        pytest.param({"num_frames": 3}, [0, 20, 39], id="num_frames"),
        pytest.param({"fps": 5}, list(range(0, 40, 5)), id="fps_instead_of_the_default_number"),
        pytest.param({"frame_range": [10, 20], "num_frames": 2}, [10, 20], id="frame_range"),
        pytest.param({"time_range": (0.4, 0.8), "num_frames": 3}, [10, 15, 20], id="time_range"),
        pytest.param({"time_range": [(0.4, 0.8)], "num_frames": [3]}, [10, 15, 20], id="listed"),
        pytest.param({"do_sample_frames": False}, list(range(40)), id="all"),
    ],
)
@pytest.mark.parametrize("form", ["file", "array"])
def test_sampling_of_a_call(processor, clip, frames, form, options, indices):
    videos = clip if form == "file" else frames
    output = processor(videos, video_metadata=[{"fps": 25}], return_metadata=True, return_tensors="pt", **options)
    metadata = output["video_metadata"][0]
    assert metadata.frames_indices == indices
    assert metadata.frame_seconds == pytest.approx([index / 25 for index in indices])
    assert (output["pixel_values_videos"][0] - prepare(frames[indices])).abs().max() < 1e-6


def test_videos_of_different_lengths_are_padded_with_zeros(processor, clip, frames):
    output = processor(
        [clip, frames], frame_range=[(0, 9), None], num_frames=[2, 4], return_metadata=True, return_tensors="pt"
    )
    pixels = output["pixel_values_videos"]
    assert pixels.shape == (2, 4, 3, 24, 20)
    assert output["video_num_frames"].tolist() == [2, 4] and output["video_num_frames"].dtype == torch.int64
    assert (pixels[0, 2:] == 0).all() and (pixels[0, :2] != 0).any()
    assert (pixels[0, :2] - prepare(frames[[0, 9]])).abs().max() < 1e-6
    assert (pixels[1] - prepare(frames[[0, 13, 26, 39]])).abs().max() < 1e-6
    assert [metadata.frames_indices for metadata in output["video_metadata"]] == [[0, 9], [0, 13, 26, 39]]
    assert "video_num_frames" not in processor([clip, frames], return_tensors="pt")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"do_normalize": False}, lambda x: x / 255, id="rescale_only"),
        pytest.param({"do_rescale": False}, lambda x: (x - 0.5) / 0.5, id="normalize_only"),
        pytest.param({"do_rescale": False, "do_normalize": False}, lambda x: x, id="neither"),
        pytest.param({"rescale_factor": 0.5}, lambda x: (x * 0.5 - 0.5) / 0.5, id="factor"),
        pytest.param(
            {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
            lambda x: (
                (x / 255 - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.4, 0.5, 0.6])[:, None, None]
            ),
            id="by_channel",
        ),
    ],
)
def test_switches_of_rescale_and_normalize(processor, frames, options, expected):
    output = processor(frames, num_frames=2, return_tensors="pt", **options)["pixel_values_videos"][0]
    resized = resize_frames(frames[[0, 39]], (24, 20)).float()
    assert torch.allclose(output.float(), expected(resized), atol=1e-5)


def test_do_resize_off_keeps_the_size(processor, clip, frames):
    for videos in (clip, frames):
        output = processor(videos, do_resize=False, num_frames=2, return_tensors="pt")["pixel_values_videos"]
        assert (output[0] - (frames[[0, 39]].float() / 127.5 - 1)).abs().max() < 1e-6


def test_bilinear_is_pillows_too(processor, clip, frames):
    expected = Image.fromarray(frames[0].permute(1, 2, 0).numpy()).resize((20, 24), Image.Resampling.BILINEAR)
    for videos in (clip, frames):
        output = processor(videos, resample=2, num_frames=1, do_rescale=False, do_normalize=False, return_tensors="pt")
        ours = output["pixel_values_videos"][0, 0].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(ours - np.asarray(expected)).max() <= 1


def test_metadata_becomes_media_info(processor, clip):
    metadata = processor(clip, num_frames=2, return_metadata=True)["video_metadata"][0]
    assert isinstance(metadata, VideoMetadata)
    info = metadata.to_media_info()
    assert info == MediaInfo("video", 64, 48, (0, 39), (0.0, 1.56), source=str(clip), stated_end_seconds=1.6)
    assert metadata.timestamps == [0.0, 1.56]
    assert (metadata.total_num_frames, metadata.fps, metadata.duration) == (40, pytest.approx(25), pytest.approx(1.6))


@pytest.mark.parametrize(
    ("metadata", "seconds", "indices"),
    [
        pytest.param(None, [0.0, 3 / 24], [0, 3], id="none_means_24_a_second"),
        pytest.param({"fps": 2.0}, [0.0, 1.5], [0, 3], id="rate"),
        pytest.param(VideoMetadata(total_num_frames=4, fps=8), [0.0, 3 / 8], [0, 3], id="transformers_metadata"),
        pytest.param({"fps": 10, "frames_indices": [0, 10, 20, 30]}, [0.0, 3.0], [0, 30], id="frames_sampled_before"),
        pytest.param({"frame_seconds": [0, 1, 5, 9]}, [0, 9], [0, 3], id="true_times"),
    ],
)
def test_time_line_of_arrays(processor, frames, metadata, seconds, indices):
    entries = None if metadata is None else [metadata]
    output = processor(frames[:4], video_metadata=entries, num_frames=2, return_metadata=True)
    assert output["video_metadata"][0].frame_seconds == seconds
    assert output["video_metadata"][0].frames_indices == indices
    assert output["video_metadata"][0].to_media_info().width == 64


def test_decoded_videos_can_be_given_back(processor, clip):
    decoded, metadata = processor.decode_videos([clip.read_bytes(), clip], num_frames=[3, 2], time_range=(0.4, 0.8))
    assert [tuple(video.shape) for video in decoded] == [(3, 3, 24, 20), (2, 3, 24, 20)]
    again = processor(
        decoded, video_metadata=metadata, do_sample_frames=False, return_metadata=True, return_tensors="pt"
    )
    straight = processor(
        [clip, clip], num_frames=[3, 2], time_range=(0.4, 0.8), return_metadata=True, return_tensors="pt"
    )
    assert (again["pixel_values_videos"] == straight["pixel_values_videos"]).all()
    assert again["video_metadata"][1] == straight["video_metadata"][1]
    assert again["video_metadata"][0].frames_indices == [10, 15, 20]


@pytest.mark.parametrize(
    "options",
    [{}, {"num_frames": 8, "size": {"height": 38, "width": 40}}, {"fps": 2.0}, {"image_mean": [0.1, 0.2, 0.3]}],
)
def test_saved_and_loaded_it_is_the_same(tmp_path, frames, options):
    processor = LlavaSTVideoProcessor(**options)
    processor.save_pretrained(tmp_path)
    loaded = LlavaSTVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert (loaded.num_frames, loaded.fps) == (processor.num_frames, processor.fps)
    small = {"size": SMALL, "video_fps": 25, "return_tensors": "pt"}
    assert (loaded(frames, **small)["pixel_values_videos"] == processor(frames, **small)["pixel_values_videos"]).all()


def test_input_arrays_are_not_changed(processor, frames):
    before, metadata = frames.clone(), [{"fps": 5.0}]
    processor(frames, video_metadata=metadata, size={"height": 48, "width": 64}, num_frames=40)
    assert (frames == before).all()
    assert metadata == [{"fps": 5.0}]


@pytest.mark.parametrize(
    ("videos", "options", "words"),
    [
        pytest.param("nothing.mp4", {}, "does not exist", id="missing_file"),
        pytest.param("http://127.0.0.1:9/clip.mp4", {}, "allow_url=True", id="address"),
        pytest.param([], {}, "is not a video", id="empty_list"),
        pytest.param(None, {}, "is not a video", id="nothing"),
        pytest.param(3, {}, "is not a video", id="number"),
        pytest.param(np.zeros((0, 8, 8, 3), np.uint8), {}, "no pixels", id="no_frames"),
        pytest.param(np.zeros((2, 8, 8, 3)), {}, "give uint8", id="floats"),
        pytest.param(np.zeros((2, 8, 8, 5), np.uint8), {}, "give (frames, height, width, 3)", id="five_channels"),
        pytest.param(np.zeros((12, 8, 9), np.uint8), {}, "has shape (1, 12, 8, 9)", id="grey_without_channels"),
        pytest.param(
            FOUR_FRAMES, {"video_fps": 10, "frame_seconds": [0, 1, 2, 3]}, "give one of the two", id="two_clocks"
        ),
        pytest.param([Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))], {}, "differ in size", id="sizes"),
        pytest.param(FOUR_FRAMES, {"frame_range": (0, 4)}, "frames are 0 to 3", id="outside"),
        pytest.param(FOUR_FRAMES, {"time_range": (5, 6), "video_fps": 24}, "outside the video", id="too_late"),
        pytest.param(FOUR_FRAMES, {"num_frames": 0}, "num_frames is 0", id="no_sample"),
        pytest.param(FOUR_FRAMES, {"num_frames": [1, 2]}, "2 entries for 1 videos", id="lists"),
        pytest.param(FOUR_FRAMES, {"num_frames": 2, "fps": 2}, "give one of them", id="both"),
        pytest.param(FOUR_FRAMES, {"resample": 0}, "resample is", id="filter"),
        pytest.param(
            FOUR_FRAMES,
            {"video_metadata": [{}, {}]},
            "2 entries for 1 videos",
            id="metadata_count",
        ),
        pytest.param(
            FOUR_FRAMES,
            {"video_metadata": [{"frame_seconds": [1]}]},
            "1 entries for 4",
            id="times",
        ),
    ],
)
def test_unusable_input_is_refused_with_the_fix(processor, videos, options, words):
    with pytest.raises(MediaError) as caught:
        processor(videos, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_problems_of_a_file_reach_the_media_info(processor, tmp_path):
    path = files.encode(tmp_path / "cut.mp4", container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    metadata = processor(path, return_metadata=True)["video_metadata"][0]
    assert metadata.to_media_info().problems == read_video(path, num_frames=5).problems
    assert "cut short" in metadata.problems[0]


def test_metadata_without_times_uses_the_rate():
    metadata = LlavaSTVideoMetadata(total_num_frames=9, fps=2.0, width=4, height=3, frames_indices=[0, 4])
    assert metadata.to_media_info().frame_seconds == (0.0, 2.0)


# ----------------------------------------------------------------------------------------------------
# When frames are that come without a file
# ----------------------------------------------------------------------------------------------------
TWELVE_FRAMES = np.arange(12 * 8 * 8 * 3, dtype=np.uint8).reshape(12, 8, 8, 3)


@pytest.mark.parametrize("video", [TWELVE_FRAMES, list(TWELVE_FRAMES), torch.from_numpy(TWELVE_FRAMES)])
def test_a_rate_or_times_are_taken_with_bare_frames(processor, video):
    by_rate = processor(video, num_frames=3, video_fps=2, return_metadata=True)["video_metadata"][0]
    assert by_rate.frame_seconds == [0.0, 3.0, 5.5]
    seconds = [5 + index / 2 for index in range(12)]
    _, (by_time,) = processor.decode_videos(video, num_frames=3, frame_seconds=seconds)
    assert by_time.frame_seconds == [5.0, 8.0, 10.5]
    assert by_rate.problems == by_time.problems == ()


def test_bare_frames_without_times_are_noted(processor):
    metadata = processor(TWELVE_FRAMES, num_frames=3, return_metadata=True)["video_metadata"][0]
    info = metadata.to_media_info()
    assert info.problems[0].startswith("unknown_rate: ")
    assert "unknown_rate" in str(GroundingResult("", media=info))


@pytest.mark.parametrize("request_of_time", [{"fps": 2}, {"time_range": (0, 1)}])
def test_times_are_not_asked_of_bare_frames(processor, request_of_time):
    with pytest.raises(MediaError, match="give video_fps= or frame_seconds="):
        processor(TWELVE_FRAMES, **request_of_time)
    processor(TWELVE_FRAMES, video_fps=4, **request_of_time)


def test_each_video_has_a_rate_of_its_own(processor, clip):
    _, (bare, file) = processor.decode_videos([TWELVE_FRAMES, clip], num_frames=2, video_fps=[2, None])
    assert (bare.frame_seconds, file.frame_seconds) == ([0.0, 5.5], [0.0, 1.56])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"video_fps": 0}, "video_fps is 0; give a number of frames a second above 0"),
        ({"video_fps": [1, 2]}, "video_fps has 2 entries for 1 videos"),
        ({"frame_seconds": [0.0, 1.0]}, "frame_seconds has 2 entries for 12 frames"),
        ({"frame_seconds": [float(second) for second in range(12, 0, -1)]}, "not numbers in order"),
    ],
)
def test_wrong_times_are_refused(processor, options, words):
    with pytest.raises(MediaError, match=words):
        processor(TWELVE_FRAMES, num_frames=2, **options)


def test_a_rate_beside_a_file_is_refused(processor, clip):
    with pytest.raises(MediaError, match="video_fps is 10, but a file says when its frames are"):
        processor(clip, num_frames=2, video_fps=10)
