"""Eight questions about one clip against one question, on a model with the published proportions of vision to text.

The sizes are those of the published 7B model divided: widths by 8, layers by 3 (vision tower 9 of 27, language model 9
of 28), 100 frames of 27x27 patches. The clip is random frames in memory; answers are spans, as long as the grammar
makes them. Both run in turn in this process.

    python benchmarks/many_questions.py [--questions 8] [--repeats 3] [--frames 100]
"""

import argparse
import statistics
import time

import numpy as np

from llava_st_hf import (
    GroundingSession,
    LlavaSTConfig,
    LlavaSTForConditionalGeneration,
    LlavaSTProcessor,
    LlavaSTVideoProcessor,
)
from llava_st_hf.demo import SHIPPED_CHECKPOINT

IMAGE_SIZE, PATCH_SIZE = 378, 14


def make_parts(frames: int) -> tuple[LlavaSTForConditionalGeneration, LlavaSTProcessor]:
    """Build the model and its processor."""
    small = LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT)
    tokenizer = small.tokenizer
    config = LlavaSTConfig(
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 144,
            "intermediate_size": 538,
            "num_hidden_layers": 9,
            "num_attention_heads": 2,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "vision_use_head": False,
        },
        text_config={
            "model_type": "qwen2",
            "hidden_size": 448,
            "intermediate_size": 2368,
            "num_hidden_layers": 9,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": small.coordinate_token_offset,
        },
        image_token_id=small.image_token_id,
        video_token_id=small.video_token_id,
        packer_hidden_size=128,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    video_processor = LlavaSTVideoProcessor(size=size, num_frames=frames)
    processor = LlavaSTProcessor.from_config(config, tokenizer, video_processor=video_processor)
    return LlavaSTForConditionalGeneration(config).eval(), processor


def seconds(parts: tuple, clip: np.ndarray, questions: int) -> float:
    """Time a session of so many questions, the reading and encoding of the clip included."""
    start = time.perf_counter()
    session = GroundingSession(*parts, video=clip, video_fps=25.0)
    for index in range(questions):
        session.ask("tvg", query=f"event number {index} happens", max_new_tokens=16)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turn and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("questions", 8), ("repeats", 3), ("frames", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    parts = make_parts(options.frames)
    shape = (options.frames, 90, 160, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    seconds(parts, clip, 1)
    ratios = [seconds(parts, clip, options.questions) / seconds(parts, clip, 1) for _ in range(options.repeats)]
    print(
        f"{options.questions} questions about one clip of {options.frames} frames: "
        f"time / that of one question = {statistics.median(ratios):.2f} "
        f"(min {min(ratios):.2f}, max {max(ratios):.2f}, {options.repeats} pairs)"
    )


if __name__ == "__main__":
    main()
