"""Scores answers of many boxes to many STVG items on one core, and prints seconds and peak memory.

Each item is a clip of 100 frames with a true tube of 100 boxes, each answer a span and 100 boxes. Measured is what
`llava-st evaluate --predictions` does with our own protocol, from results to metrics with their confidence intervals;
making the results is measured apart from it.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py [--items 100000] [--boxes 100]
"""

import argparse
import resource
import time

import numpy as np

from llava_st_hf.evaluation.metrics.uncertainty import compute_interval
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.evaluation.scoring import score_answer
from llava_st_hf.evaluation.truths import Truth
from llava_st_hf.processing import GroundingResult, MediaInfo, Span, Tube
from llava_st_hf.processing.grounding_results_llava_st import TubeArrays


def make_result(media: MediaInfo, boxes: np.ndarray, shift: float) -> GroundingResult:
    """Make a result with a box at each of the first frames."""
    count = len(boxes)
    seconds, frames = np.array(media.frame_seconds[:count]), np.array(media.frame_indices[:count])
    spans = (Span(float(seconds[0]) + shift, float(seconds[-1]) + shift),)
    tubes = (Tube.from_arrays(TubeArrays(seconds, frames, boxes + shift)),)
    return GroundingResult("", spans=spans, tubes=tubes, media=media)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=100)
    arguments = parser.parse_args()
    frames = tuple(range(0, arguments.boxes * 10, 10))
    media = MediaInfo("video", 640, 360, frames, tuple(frame / 25 for frame in frames))
    generator, protocol = np.random.default_rng(0), PROTOCOLS["default"]
    corners = generator.uniform(0, 200, (arguments.boxes, 2))
    boxes = np.concatenate([corners, corners + 100], axis=1)
    scores, scoring, making = [], 0.0, 0.0
    for shift in generator.uniform(0, 20, arguments.items):
        start = time.process_time()
        answer, truth = make_result(media, boxes, float(shift)), Truth("stvg", make_result(media, boxes, 0.0))
        made = time.process_time()
        scores.append(score_answer(answer, truth, protocol))
        making, scoring = making + made - start, scoring + time.process_time() - made
    start = time.process_time()
    metrics = protocol.compute_metrics("stvg", scores)
    intervals = {name: compute_interval(values) for name, values in protocol.list_values("stvg", scores).items()}
    summing = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{arguments.items:,} items of {arguments.boxes} boxes: scored in {scoring:.1f} s, summed in {summing:.1f} s"
    )
    print(f"results made in {making:.1f} s; peak memory of the process {peak:,.0f} MiB")
    print(f"m_vIoU {metrics['m_vIoU']:.4f}, between {intervals['m_vIoU'].low:.4f} and {intervals['m_vIoU'].high:.4f}")


if __name__ == "__main__":
    main()
