"""Scores answers of many boxes to many STVG items on one core, and prints seconds and peak memory.

Each item is a clip of 100 seen frames with a true tube of 100 boxes, each answer a span and 100 boxes; what is
measured is our own protocol from results to metrics, with the confidence interval of each value, and the making of the
results apart from it.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py [--items 100000] [--boxes 100]
"""

import argparse
import resource
import time

import numpy as np

from llava_st_hf.evaluation.metrics.uncertainty import compute_interval
from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult, Span, Tube, TubeArrays
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary


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
    generator, protocol, vocabulary = np.random.default_rng(0), PROTOCOLS["default"], CoordinateVocabulary()
    corners = generator.uniform(0, 200, (arguments.boxes, 2))
    boxes = np.concatenate([corners, corners + 100], axis=1)
    scores, scoring, making = [], 0.0, 0.0
    for shift in generator.uniform(0, 20, arguments.items):
        start = time.process_time()
        answer, truth = make_result(media, boxes, float(shift)), make_result(media, boxes, 0.0)
        made = time.process_time()
        scores.append(protocol.score("stvg", answer, truth, vocabulary))
        making, scoring = making + made - start, scoring + time.process_time() - made
    start = time.process_time()
    metrics = protocol.compute_metrics("stvg", scores)
    intervals = {name: compute_interval([score[name] for score in scores]) for name in scores[0]}
    summing = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{arguments.items:,} items of {arguments.boxes} boxes: scored in {scoring:.1f} s, summed in {summing:.1f} s"
    )
    print(f"results made in {making:.1f} s; peak memory of the process {peak:,.0f} MiB")
    print(f"m_vIoU {metrics['m_vIoU']:.4f}, between {intervals['viou'].low:.4f} and {intervals['viou'].high:.4f}")


if __name__ == "__main__":
    main()
