"""Makes ST-Shapes clips and prints how many a second, and what that costs beside decoding the same clips as H.264.

Everything counts: scene, pixels, questions, answers and the check of the record. Both run in turn in this process, on
one core.

    OMP_NUM_THREADS=1 python benchmarks/shapes_rendering.py [--clips 300] [--repeats 5] [--size 72] [--frames 20]
"""

import argparse
import io
import statistics
import time

import av

from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset, encode_sample
from llava_st_hf.processing import get_task


def decode(content: bytes) -> None:
    """Decode all frames of a clip to RGB, on one thread."""
    with av.open(io.BytesIO(content)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def measure(dataset: ShapesDataset, first: int, last: int) -> tuple[float, float]:
    """Return the seconds that it takes to make the clips from `first` to before `last`, and to decode them."""
    start = time.perf_counter()
    samples = [dataset.read(index) for index in range(first, last)]
    making = time.perf_counter() - start
    files = [encode_sample(sample).media[0].content for sample in samples]
    start = time.perf_counter()
    for content in files:
        decode(content)
    return making, time.perf_counter() - start


def main() -> None:
    """Print the rate and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clips", 300), ("repeats", 5), ("size", 72), ("frames", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--difficulty", choices=("easy", "standard"), default="standard")
    options = parser.parse_args()
    settings = {
        "seed": options.seed,
        "num_frames": options.frames,
        "size": options.size,
        "difficulty": options.difficulty,
    }
    tasks = [name for name in SHAPES_TASKS if get_task(name).media_type == "video"]
    num_clips = options.clips * options.repeats
    dataset = ShapesDataset(tasks, num_clips, **settings)
    measure(dataset, 0, min(20, num_clips))
    pairs = [measure(dataset, first, first + options.clips) for first in range(0, num_clips, options.clips)]
    ratios = [making / decoding for making, decoding in pairs]
    print(
        f"{options.frames} frames of {options.size}x{options.size}, {options.difficulty}: "
        f"{options.clips / statistics.median(making for making, _ in pairs):.0f} clips a second; "
        f"time / H.264 decode of the same clips = {statistics.median(ratios):.2f} "
        f"(min {min(ratios):.2f}, max {max(ratios):.2f}, {options.repeats} pairs)"
    )


if __name__ == "__main__":
    main()
