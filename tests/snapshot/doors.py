"""Every way from the snapshot into the package, in plain values: when something is renamed, only this file changes.

What goes in and comes out is text, numbers, lists and dictionaries. Three kinds of objects are handed from one door to
the next without a look inside: processors, records, and media with their size and time line.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import llava_st_hf
from llava_st_hf import LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.media_loading import load_media
from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.data.turns import read_turns
from llava_st_hf.evaluation import metrics
from llava_st_hf.evaluation.blind_baseline import fit_blind_baseline
from llava_st_hf.evaluation.protocols import PROTOCOLS, find_failure
from llava_st_hf.evaluation.questions import Question, read_question, write_messages
from llava_st_hf.evaluation.reference_protocol import convert_answer, parse_box, parse_span
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.answer_scores_llava_st import refine_bin
from llava_st_hf.processing.frame_sampling_llava_st import compute_frame_indices
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.notation_llava_st import NOTATION, CoordinateVocabulary
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.processing.video_decoding_llava_st import read_video

TOKENS = CoordinateVocabulary()


# Processors and tasks -----------------------------------------------------------------------------------------------


def load_processor() -> Any:
    """Load the processor that ships with the package."""
    return LlavaSTProcessor.from_pretrained(Path(llava_st_hf.__file__).parent / "assets" / "llava-st-tiny-shapes")


def load_published_processor(folder: Path, temporal_stride: int, num_frames: int, fast: bool, width: bool) -> Any:
    """Load the processor of a published checkpoint; the switches are those of the fast stream and of width inputs."""
    processor = LlavaSTProcessor.from_pretrained(
        folder, temporal_stride=temporal_stride, splice_fast_tokens=fast, embed_width_inputs=width
    )
    processor.video_processor.num_frames = num_frames
    return processor


def list_tasks() -> dict[str, dict]:
    """Return for each task of ST-Shapes what is fixed about it."""
    return {
        task.name: {
            "title": task.title,
            "description": task.description,
            "media_type": task.media_type,
            "needs": list(task.needs),
            "num_prompts": len(task.prompts),
            "answer_format": task.answer_format.name,
            "example_answer": task.example_answer,
        }
        for task in map(TASKS.get, SHAPES_TASKS)
    }


# Prompts and tokens -------------------------------------------------------------------------------------------------


def build_messages(processor: Any, task: str, **arguments: Any) -> list[dict]:
    """Write the chat messages of a task."""
    return processor.build_messages(task, **arguments)


def get_note(messages: list[dict]) -> dict:
    """Return what the messages carry to the reading of the answer."""
    return messages[-1]["grounding"]


def render(processor: Any, messages: list[dict], open_turn: bool) -> str:
    """Render chat messages as one text, media as placeholders."""
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=open_turn)


def expand(processor: Any, messages: list, open_turn: bool = False, **options: Any) -> dict[str, list]:
    """Return for each conversation ids, offsets, what counts as said by the assistant, and the media."""
    inputs = processor.apply_chat_template(
        messages,
        add_generation_prompt=open_turn,
        tokenize=True,
        return_dict=True,
        return_tensors="np",
        return_assistant_tokens_mask=not open_turn,
        processor_kwargs=options,
    )
    kept = inputs["attention_mask"].astype(bool)
    rows = range(len(kept))
    said = inputs.get("assistant_masks")
    return {
        "input_ids": [inputs["input_ids"][row][kept[row]].tolist() for row in rows],
        "offsets": [inputs["coordinate_offsets"][row][kept[row]].tolist() for row in rows],
        "said": None if said is None else [said[row][kept[row]].tolist() for row in rows],
        "media": list(inputs.media),
    }


def is_refused(processor: Any, messages: list[dict]) -> bool:
    """Tell whether the processor refuses chat messages as something that the user can fix."""
    try:
        processor.apply_chat_template(messages, tokenize=True, return_dict=True)
    except InputError:
        return True
    return False


# Records ------------------------------------------------------------------------------------------------------------


def generate_records(task: str, num_records: int, seed: int, step: int = 1, **options: Any) -> list[Any]:
    """Generate records of ST-Shapes, every one or in steps."""
    dataset = ShapesDataset([task], num_records, seed=seed, **options)
    return [dataset[index] for index in range(0, num_records, step)]


def make_record(task: str, media_type: str, frames: list[np.ndarray], turns: list[str], **fields: Any) -> Any:
    """Make a record of arrays and of the texts of user and assistant in turns."""
    roles = ("user", "assistant")
    messages = tuple({"role": roles[index % 2], "content": text} for index, text in enumerate(turns))
    media = tuple(Media(frames=item) for item in frames)
    fields["video_fps"] = 5.0 if media_type == "video" else None
    return Sample(
        id="1",
        source="snapshot",
        task=task,
        media_type=media_type,
        media=media,
        messages=messages,
        **fields,
    )


def get_messages(record: Any) -> list[dict[str, str]]:
    """Return the conversation of a record as it is written."""
    return [{"role": message["role"], "content": message["content"]} for message in record.messages]


def hash_pixels(record: Any) -> list[str]:
    """Return a hash of the pixels of each medium of a record, which are arrays."""
    return [hashlib.sha256(np.ascontiguousarray(item.frames)).hexdigest()[:16] for item in record.media]


def collate(processor: Any, record: Any, **options: Any) -> dict[str, list]:
    """Make a training batch of one record."""
    batch = LlavaSTDataCollator(processor, **options)([record])
    return {
        "input_ids": batch["input_ids"][0].tolist(),
        "offsets": batch["coordinate_offsets"][0].tolist(),
        "labels": batch["labels"][0].tolist(),
    }


def render_question(processor: Any, record: Any) -> str:
    """Render a record without its last answer."""
    return render(processor, record.to_messages()[:-1], open_turn=True)


def decode(processor: Any, ids: list[int]) -> str:
    """Return the text of generated ids."""
    return processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def get_media(record: Any, num_frames: int) -> tuple:
    """Return sizes and time lines of the media of a record."""
    return probe_media(record, num_frames)


def make_media(width: int, height: int, indices: list[int] | None = None, seconds: list[float] | None = None) -> Any:
    """Make a clip, or without frames an image, of which only size and time line are known."""
    if indices is None:
        return MediaInfo("image", width, height)
    return MediaInfo("video", width, height, tuple(indices), tuple(seconds))


# Answers ------------------------------------------------------------------------------------------------------------


def parse(text: str, medium: Any, task: str | None, start_seconds: float | None = None) -> Any:
    """Read an answer."""
    answer_format = None if task is None else TASKS[task].answer_format
    return parse_answer(text, medium, answer_format=answer_format, start_seconds=start_seconds, task=task)


def to_plain(result: Any) -> dict:
    """Return a result as plain values, its words and the texts of its groups included."""
    medium = result.media
    groups = [*result.spans, *result.boxes, *result.tubes]
    values = result.to_dict()
    values.pop("notes")  # of how the answer came, not of what it says
    return {
        **values,
        "plain_text": result.plain_text,
        "texts": [_try_to_write(group, medium) for group in groups],
    }


def _try_to_write(group: Any, medium: Any) -> str | None:
    """Return the continuous form of a span, box or tube; `None` where it has no area at that precision."""
    try:
        return group.to_text(medium)
    except InputError:
        return None


def to_coco(result: Any) -> dict:
    """Return the boxes of a result as COCO annotations."""
    return result.to_coco()


def read_conversation(record: Any, media: tuple) -> list[tuple[Any, Any]]:
    """Read what the questions and the answers of a record say."""
    return [(turn.question, turn.answer) for turn in read_turns(record, media)]


def describe_question(record: Any, media: tuple) -> dict:
    """Return start, span and box that the last question of a record gives, as fractions."""
    question = read_question(record, media, TOKENS)
    return {"start": question.start, "span": question.span, "box": question.box}


# Scores -------------------------------------------------------------------------------------------------------------


def list_protocols(task: str) -> list[str]:
    """Return the names of the protocols that score a task."""
    return [name for name, protocol in PROTOCOLS.items() if protocol.get_measure_names(task)]


def score(protocol: str, task: str, answer: Any, truth: Any) -> dict[str, float | None]:
    """Score one answer."""
    return PROTOCOLS[protocol].score(task, answer, truth, TOKENS)


def name_failure(task: str, answer: Any) -> str | None:
    """Say why an answer lacks something."""
    return find_failure(task, answer)


def compute_figures(protocol: str, task: str, scores: list[dict]) -> dict[str, float]:
    """Sum up the scores of many answers."""
    return PROTOCOLS[protocol].compute_metrics(task, scores)


def fit_blind_answer(task: str, records: list[Any]) -> Any:
    """Find the best answer that ignores the picture."""
    return fit_blind_baseline(task, records)


def write_blind_answer(constant: Any, task: str, question: dict, medium: Any) -> str:
    """Write that answer to one question."""
    return constant.write(Question(task, "", **question), medium, TOKENS)


def convert_published_answer(text: str, num_tokens: int | None) -> str:
    """Write the tokens of an answer as numbers, as the published scorer does."""
    return convert_answer(text, None if num_tokens is None else CoordinateVocabulary(num_tokens, num_tokens))


def parse_published_span(text: str) -> list[float]:
    """Read a span as the published scorer does."""
    return list(parse_span(text))


def parse_published_box(text: str) -> list[float] | None:
    """Read a box as the published scorer does."""
    return parse_box(text)


def compute_iou(box: list[float], other: list[float]) -> float:
    """Return the IoU of two boxes, or of two spans."""
    return float((metrics.compute_temporal_iou if len(box) == 2 else metrics.compute_box_iou)(box, other))


# Grammar ------------------------------------------------------------------------------------------------------------


def constrain(
    processor: Any, record: Any, scorer: Any, num_frames: int, max_new_tokens: int, every_frame: bool
) -> tuple[list[int], list[list[int]], dict]:
    """
    Answer a question greedily within the grammar of its task.

    `scorer(step, size)` gives the scores of a vocabulary. Returns the ids of the question and of the answer, the ids
    that were allowed at each step, and the answer as it is read.
    """
    media = load_media(record, processor.video_processor, num_frames=num_frames)
    sampled = {"video_metadata": media.video_metadata, "do_sample_frames": False} if media.video_metadata else {}
    inputs = processor.apply_chat_template(
        write_messages(record, media, TOKENS),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=sampled,
    )
    arguments = processor.build_constraints(inputs, max_new_tokens=max_new_tokens, every_frame=every_frame)
    (grammar,) = arguments["logits_processor"]
    ids, allowed, end = inputs["input_ids"], [], processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    for step in range(max_new_tokens):
        scores = grammar(ids, torch.from_numpy(scorer(step, len(processor.tokenizer)))[None])
        allowed.append(torch.isfinite(scores[0]).nonzero().flatten().tolist())
        ids = torch.cat([ids, scores.argmax(-1, keepdim=True)], dim=-1)
        if ids[0, -1] == end:
            break
    (result,) = processor.post_process_grounding(ids, inputs)
    return ids[0].tolist(), allowed, to_plain(result)


# Numbers ------------------------------------------------------------------------------------------------------------


def split_into_bins(fractions: list[float], num_bins: int) -> list[tuple[int, float]]:
    """Return the token and the offset of each fraction."""
    vocabulary = CoordinateVocabulary(num_bins, num_bins)
    return [vocabulary.split("t", fraction) for fraction in fractions]


def write_coordinate(axis: str, value: float, unit: str) -> str:
    """Write one coordinate in the continuous form."""
    return NOTATION.write_coordinate(axis, value, unit)


def refine(probabilities: list[float], winner: int) -> list[float]:
    """Return fraction and confidence of a coordinate whose scores are known."""
    return list(refine_bin(probabilities, winner))


def spread_frames(num_frames: int, first: int, last: int) -> list[int]:
    """Return the indices of frames that are spread over a clip."""
    return compute_frame_indices(num_frames, first, last).tolist()


def read_clip(path: Path, num_frames: int) -> dict:
    """Sample the frames of a video file, at their own size."""
    video = read_video(path, num_frames=num_frames)
    return {
        "frame_indices": [int(index) for index in video.frame_indices],
        "frame_seconds": [float(seconds) for seconds in video.frame_seconds],
        "size": [video.width, video.height],
        "total_num_frames": video.total_num_frames,
        "frames_per_second": float(video.fps),
        "duration_seconds": float(video.duration_seconds),
        "pixels": video.frames.numpy(),
    }


def make_picture(width: int, height: int) -> Any:
    """Make a black image."""
    return Image.new("RGB", (width, height))
