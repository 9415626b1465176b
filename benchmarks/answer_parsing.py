"""Reads and scores answers of many boxes and prints what that costs, in milliseconds an answer and as ratios.

An answer is a span and a tube in coordinate tokens, about a clip of 100 sampled frames. `parse_answer` reads it, and
both protocols score it against a true tube of as many boxes; all run in turn in this process, on one core. An answer
that comes with scores is read box by box, which costs more; so does the truth, whose numbers are written in full.

    OMP_NUM_THREADS=1 python benchmarks/answer_parsing.py [--boxes 100] [--repeats 200]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from llava_st_hf.evaluation.protocols import PROTOCOLS
from llava_st_hf.processing import MediaInfo, parse_answer
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary, write_span, write_tube


def make_clip(num_frames: int) -> MediaInfo:
    """Make a clip of 1,000 frames at 25 a second, of which some are sampled."""
    indices = tuple(np.linspace(0, 999, num_frames).round().astype(int).tolist())
    return MediaInfo("video", 640, 360, indices, tuple(index / 25 for index in indices))


def write_answer(num_boxes: int, seed: int, vocabulary: CoordinateVocabulary | None) -> str:
    """Write a span and a tube of boxes that lie evenly over the clip, in tokens where a vocabulary is given."""
    corners = np.random.default_rng(seed).uniform(0, 0.5, (num_boxes, 2))
    boxes = np.concatenate([corners, corners + 0.4], axis=1).tolist()
    entries = list(zip(np.linspace(0, 1, num_boxes).tolist(), boxes, strict=True))
    return f"{write_span(0.0, 1.0, vocabulary)} {write_tube(entries, vocabulary)}"


def measure(work: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of CPU time of each piece of work, all in turn."""
    spent = {name: [] for name in work}
    for _ in range(repeats):
        for name, run in work.items():
            start = time.process_time_ns()
            run()
            spent[name].append((time.process_time_ns() - start) / 1e6)
    return {name: statistics.median(values) for name, values in spent.items()}


def measure_answer(num_boxes: int, repeats: int) -> dict[str, float]:
    """Measure one answer; with more boxes than 100 the vocabulary has as many time tokens."""
    vocabulary = CoordinateVocabulary(num_temporal_tokens=max(100, num_boxes))
    clip = make_clip(vocabulary.num_temporal_tokens)
    text, scored = write_answer(num_boxes, 0, vocabulary), PROTOCOLS["default"]
    options = {"answer_format": "span_and_tube", "vocabulary": vocabulary}
    written = write_answer(num_boxes, 1, None)
    truth = parse_answer(written, clip, **options)
    true_of_tokens = parse_answer(write_answer(num_boxes, 1, vocabulary), clip, **options)
    answer = parse_answer(text, clip, **options)
    assert not answer.problems and len(answer.tubes[0].boxes) == num_boxes
    return measure(
        {
            "parse": lambda: parse_answer(text, clip, **options),
            "parse, box by box": lambda: parse_answer(text, clip, **options, refinements={-1: (0.0, None)}),
            "parse the truth": lambda: parse_answer(written, clip, **options),
            "parse and score": lambda: scored.score("stvg", parse_answer(text, clip, **options), truth, vocabulary),
            "published score": lambda: PROTOCOLS["reference"].score("stvg", answer, true_of_tokens, vocabulary),
        },
        repeats,
    )


def main() -> None:
    """Print the costs and how they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("boxes", 100), ("repeats", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    costs = measure_answer(options.boxes, options.repeats)
    for name, milliseconds in costs.items():
        print(f"{name}: {milliseconds:.3f} ms an answer of {options.boxes} boxes")
    print(f"parse and score / published score: {costs['parse and score'] / costs['published score']:.2f}")
    few, many = measure_answer(10, options.repeats), measure_answer(400, options.repeats)
    for name in ("parse", "parse, box by box", "parse and score"):
        print(f"{name}, 400 boxes / 10: {many[name] / few[name]:.1f}")


if __name__ == "__main__":
    main()
