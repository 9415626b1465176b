"""Reads and prepares 100 frames of real clips, and compares with decord, torchcodec and the PIL image processor.

    python benchmarks/video_reading.py --media ../shared/real_media

Every figure is a ratio within one run: the contestants take turns, and the median over the turns is printed. Targets:
reading takes at most 1.0 of the faster decoder's time for the same frames, and resize and normalise together are at
least 4 times faster than the PIL image processor.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import SiglipImageProcessor

from llava_st_hf.processing import LlavaSTVideoProcessor, read_video
from llava_st_hf.processing.frame_sampling_llava_st import compute_frame_indices

try:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
except ImportError:  # before the PIL processor had a name of its own
    SiglipImageProcessorPil = SiglipImageProcessor


def find_decoders() -> dict[str, Callable]:
    """Return {name: function of a path and frame indices that decodes them}; says which ones are missing."""
    decoders = {}
    try:
        import decord

        decoders["decord"] = lambda path, indices: decord.VideoReader(path).get_batch(indices).asnumpy()
    except (ImportError, OSError) as error:
        print(f"decord is skipped: {str(error).splitlines()[0]}")
    try:
        from torchcodec.decoders import VideoDecoder

        decoders["torchcodec"] = lambda path, indices: VideoDecoder(path).get_frames_at(indices).data
        decoders["torchcodec_all_threads"] = lambda path, indices: (
            VideoDecoder(path, num_ffmpeg_threads=0).get_frames_at(indices).data
        )
    except (ImportError, OSError, RuntimeError) as error:
        print(f"torchcodec is skipped: {str(error).splitlines()[0]}")
    return decoders


def measure(contestants: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Run the contestants in turn and return each one's seconds; one turn of warming up is not counted."""
    seconds = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def compare_clip(path: str, num_frames: int, decoders: dict[str, Callable], turns: int) -> dict[str, float]:
    """Return the ratios of one clip."""
    whole = read_video(path, num_frames=num_frames)
    indices = compute_frame_indices(num_frames, 0, whole.total_num_frames - 1).tolist()
    processor = LlavaSTVideoProcessor(num_frames=num_frames)
    pil_processor = SiglipImageProcessorPil(size={"height": 384, "width": 384}, resample=3)
    frames = whole.frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels-last, as decoders give them
    pictures = list(frames.permute(0, 2, 3, 1).numpy())
    contestants = {
        "read": lambda: read_video(path, num_frames=num_frames),
        "read_and_prepare": lambda: processor(path, return_tensors="pt"),
        "prepare": lambda: processor(frames, do_sample_frames=False, return_tensors="pt"),
        "pil_prepare": lambda: pil_processor(pictures, return_tensors="pt"),
        **{name: lambda decode=decode: decode(path, indices) for name, decode in decoders.items()},
    }
    seconds = measure(contestants, turns)

    def ratio(ours: str, *theirs: str) -> float:
        sums = [sum(parts) for parts in zip(*(seconds[name] for name in theirs), strict=True)]
        return statistics.median(mine / other for mine, other in zip(seconds[ours], sums, strict=True))

    row = {f"read/{name}": ratio("read", name) for name in decoders}
    if decoders:
        row["read/fastest"] = max(row.values())
        row["both/fastest+pil"] = max(ratio("read_and_prepare", name, "pil_prepare") for name in decoders)
    row["pil/prepare"] = 1 / ratio("prepare", "pil_prepare")
    return row


def main() -> None:
    """Print a table with a row for each clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, default=Path("../shared/real_media"), help="folder of .mp4 files")
    parser.add_argument("--num-frames", type=int, default=100)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    decoders = find_decoders()
    print(f"{torch.get_num_threads()} torch threads, {arguments.num_frames} frames, median of {arguments.turns} turns")
    for number, path in enumerate(sorted(arguments.media.glob("*.mp4"))):
        row = compare_clip(str(path), arguments.num_frames, decoders, arguments.turns)
        if number == 0:
            print(f"{'clip':18s}" + "".join(f"{name:>29s}" for name in row))
        print(f"{path.name[:17]:18s}" + "".join(f"{value:29.2f}" for value in row.values()), flush=True)


if __name__ == "__main__":
    main()
