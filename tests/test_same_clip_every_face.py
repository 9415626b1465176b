"""One contract for all faces: a clip gives the same tokens and the same seconds in whatever form it is handed over."""

import base64
import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import video_files as files
from PIL import Image

from llava_st_cli import main
from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.evaluation.answering import Answerer
from llava_st_hf.inference.options import AnsweringOptions
from llava_st_hf.inference.pipeline import SpatialTemporalGroundingPipeline
from llava_st_hf.inference.session import GroundingSession

pytestmark = pytest.mark.usefixtures("one_thread")
NUM_FRAMES = 8
MAX_NEW_TOKENS = 64
MILLISECOND = Fraction(1, 1000)
# Time stamps in milliseconds of the frames of each clip; 36 divide into the 7 steps of 8 frames without a rest.
STAMPS = {
    "30 a second": [round(index * 1000 / 30) for index in range(36)],
    "1 a second": [index * 1000 for index in range(36)],
    "variable rate": np.cumsum([0, *(40 + 37 * index % 400 for index in range(35))]).tolist(),
    "from 5 s on": [5000 + index * 100 for index in range(36)],
}


@dataclass
class Clip:
    """A file, and what a full decode of it gives."""

    path: Path
    pictures: list[str]  # its frames as files

    @cached_property
    def decoded(self) -> tuple[np.ndarray, list[float]]:
        frames, seconds = files.decode_everything(self.path)
        return np.ascontiguousarray(frames.transpose(0, 2, 3, 1)), seconds

    @property
    def query(self) -> str:
        """A question with a time of the file in it, between two frames."""
        seconds = self.decoded[1]
        return f"what follows <t={(seconds[20] + seconds[21]) / 2:.4f}s>"


def write_clip(folder: Path, stamps: list[int], indices: range | list[int] = range(36)) -> Clip:
    """Write some of 36 pictures with their time stamps, without loss, as a file and one by one."""
    path = folder / "clip.mkv"
    # Lossless RGB: what is decoded are the pictures themselves.
    files.encode(path, num_frames=len(stamps), codec="ffv1", pix_fmt="bgr0", pts=stamps, time_base=MILLISECOND)
    clip, pictures = Clip(path, []), []
    for index, frame in enumerate(clip.decoded[0]):
        pictures.append(str(folder / f"{index:03}.png"))
        Image.fromarray(frame).save(pictures[-1])
    return Clip(path, pictures)


@pytest.fixture(scope="module", params=STAMPS)
def clip(request, tmp_path_factory) -> Clip:
    return write_clip(tmp_path_factory.mktemp("clip"), STAMPS[request.param])


@pytest.fixture(scope="module")
def parts(checkpoint):
    return LlavaSTForConditionalGeneration.from_pretrained(checkpoint).eval(), LlavaSTProcessor.from_pretrained(
        checkpoint
    )


def list_forms(clip: Clip, processor: LlavaSTProcessor) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the clip in every form, each with what says when its frames are."""
    frames, seconds = clip.decoded
    whole = {"frame_seconds": seconds}
    # The frames that the model sees, chosen before.
    places = np.rint(np.linspace(0, len(frames) - 1, NUM_FRAMES)).astype(int)
    return {
        "path": (str(clip.path), {}),
        "Path": (clip.path, {}),
        "bytes": (clip.path.read_bytes(), {}),
        "dictionary": ({"bytes": clip.path.read_bytes(), "path": None}, {}),
        "array": (frames, whole),
        "tensor, channels first": (torch.from_numpy(frames).permute(0, 3, 1, 2), whole),
        "list of arrays": (list(frames), whole),
        "list of pictures": ([Image.fromarray(frame) for frame in frames], whole),
        "list of picture files": (clip.pictures, whole),
        "list of the bytes of pictures": ([Path(path).read_bytes() for path in clip.pictures], whole),
        "with alpha": (np.concatenate([frames, np.full_like(frames[..., :1], 255)], axis=-1), whole),
        "data URI": (f"data:video/x-matroska;base64,{base64.b64encode(clip.path.read_bytes()).decode()}", {}),
        "file address": (clip.path.as_uri(), {"file_roots": [clip.path.parent]}),
        "sampled before": (frames[places], {"frame_seconds": [seconds[place] for place in places]}),
    }


def ask_processor(parts, video: Any, query: str, **reading: Any) -> tuple[dict, Any]:
    """Return the inputs of the bare processor, and the answer to them."""
    model, processor = parts
    inputs = processor.apply_chat_template(
        processor.build_messages("tvg", video=video, query=query),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": NUM_FRAMES, **reading},
    )
    constraints = processor.build_constraints(inputs, max_new_tokens=MAX_NEW_TOKENS)
    outputs = model.generate(**inputs, **constraints, do_sample=False, return_dict_in_generate=True)
    return inputs, processor.post_process_grounding(outputs, inputs)[0]


def describe(result: Any) -> tuple:
    """Return what is the same for every form: the text, the seconds, and when the sampled frames are."""
    spans = [(span.start_seconds, span.end_seconds) for span in result.spans]
    return result.text, round_seconds(spans), result.media.frame_seconds


def round_seconds(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of a cache that was filled in two steps the last digits of a refined time differ."""
    return [(round(start, 5), round(end, 5)) for start, end in spans]


@pytest.fixture(scope="module")
def expected(parts, clip):
    """Inputs and answer of the file by its path, at the bare processor."""
    inputs, result = ask_processor(parts, str(clip.path), clip.query)
    seconds = clip.decoded[1]
    (media,) = inputs.media[0]
    # The reference itself: frames that are spread evenly over the file, at the times of a full decode.
    assert list(media.frame_indices) == [5 * step for step in range(NUM_FRAMES)]
    assert list(media.frame_seconds) == [seconds[index] for index in media.frame_indices]
    (span,) = result.spans
    assert seconds[0] <= span.start_seconds <= span.end_seconds <= seconds[-1]
    return inputs, result


def check_inputs(inputs: dict, expected: dict) -> None:
    for name in ("input_ids", "coordinate_offsets"):
        assert torch.equal(inputs[name], expected[name]), name
    assert torch.equal(inputs["pixel_values_videos"], expected["pixel_values_videos"])


def test_processor(parts, clip, expected):
    for name, (video, times) in list_forms(clip, parts[1]).items():
        inputs, result = ask_processor(parts, video, clip.query, **times)
        check_inputs(inputs, expected[0])
        assert describe(result) == describe(expected[1]), name
        if name != "sampled before":
            assert inputs.media[0][0].frame_indices == expected[0].media[0][0].frame_indices, name


def test_processor_with_what_was_decoded_before(parts, clip, expected):
    frames, metadata = parts[1].video_processor.decode_videos(str(clip.path), num_frames=NUM_FRAMES)
    inputs, result = ask_processor(
        parts, frames[0], clip.query, video_metadata=metadata, do_sample_frames=False, num_frames=None
    )
    check_inputs(inputs, expected[0])
    assert describe(result) == describe(expected[1])


def test_block_of_a_chat(parts, clip, expected):
    processor = parts[1]
    for name, (video, times) in list_forms(clip, processor).items():
        (message,) = processor.build_messages("tvg", video=video, query=clip.query)
        options = {key: times.pop(key) for key in ("file_roots",) if key in times}  # of the call, not of a message
        message["content"][0] |= {"num_frames": NUM_FRAMES, **times}
        inputs = processor.apply_chat_template(
            [message],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
        check_inputs(inputs, expected[0])
        assert inputs.media[0][0].frame_seconds == expected[0].media[0][0].frame_seconds, name


def test_session(parts, clip, expected):
    for name, (video, times) in list_forms(clip, parts[1]).items():
        session = GroundingSession(*parts, video=video, num_frames=NUM_FRAMES, **times)
        result = session.ask("tvg", query=clip.query, max_new_tokens=MAX_NEW_TOKENS)
        assert describe(result) == describe(expected[1]), name


def test_pipeline(parts, clip, expected):
    model, processor = parts
    pipeline = SpatialTemporalGroundingPipeline(model=model, processor=processor, device="cpu")
    options = {"task": "tvg", "max_new_tokens": MAX_NEW_TOKENS}
    for name, (video, times) in list_forms(clip, processor).items():
        item = {"video": video, "text": clip.query, "num_frames": NUM_FRAMES, **times}
        assert describe(pipeline(item, **options)) == describe(expected[1]), name


def test_command_line(checkpoint, clip, expected, tmp_path, capsys):
    answer = tmp_path / "answer.json"
    arguments = ["--task", "tvg", "--frames", NUM_FRAMES, "--max-new-tokens", MAX_NEW_TOKENS, "--json", answer]
    arguments = ["ground", clip.path, clip.query, *arguments, "--model", checkpoint]
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    told = json.loads(answer.read_text())
    spans = [(span["start_seconds"], span["end_seconds"]) for span in told["spans"]]
    assert (told["text"], round_seconds(spans), tuple(told["media"]["frame_seconds"])) == describe(expected[1])


def list_records(clip: Clip, processor: LlavaSTProcessor) -> dict[str, Sample]:
    """Return a record about the clip for every form that records take."""
    frames, seconds = clip.decoded
    (message,) = processor.build_messages("tvg", video="clip", query=clip.query)
    question = message["content"][1]["text"]
    answer = f"{{<t={seconds[7]:.4f}s><t={seconds[-1]:.4f}s>}}"
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    times = {"frame_seconds": tuple(seconds)}
    places = [5 * step for step in range(NUM_FRAMES)]
    forms = {
        "path": ((Media(path=str(clip.path)),), {}),
        "bytes": ((Media(content=clip.path.read_bytes()),), {}),
        "array": ((Media(frames=frames),), times),
        "arrays of frames": (tuple(Media(frames=frame) for frame in frames), times),
        "pictures": (tuple(Media(path=path) for path in clip.pictures), times),
        "sampled before": ((Media(frames=frames[places]),), {"frame_seconds": tuple(seconds[i] for i in places)}),
    }
    return {
        name: Sample("1", "mine", "tvg", "video", media, messages, **given) for name, (media, given) in forms.items()
    }


def test_evaluation(parts, clip, expected):
    answerer = Answerer(*parts, constrained=True, max_new_tokens=MAX_NEW_TOKENS, num_frames=NUM_FRAMES)
    for name, record in list_records(clip, parts[1]).items():
        (answered,) = answerer.answer([record])
        assert describe(answered.result) == describe(expected[1]), name


def test_training_collator(parts, clip, expected):
    collator = LlavaSTDataCollator(parts[1], num_frames=NUM_FRAMES)
    batches = {name: collator([record]) for name, record in list_records(clip, parts[1]).items()}
    asked = expected[0]["input_ids"]
    for name, batch in batches.items():
        # The question as it is asked, and then the answer that is learnt.
        assert torch.equal(batch["input_ids"][:, : asked.shape[1]], asked), name
        assert torch.equal(batch["pixel_values_videos"], expected[0]["pixel_values_videos"]), name
        for part, values in batches["path"].items():
            assert torch.equal(batch[part], values), (name, part)


def test_a_rate_is_the_same_as_times(parts, tmp_path):
    clip = write_clip(tmp_path, STAMPS["1 a second"])
    frames, _ = clip.decoded
    inputs, result = ask_processor(parts, str(clip.path), clip.query)
    by_rate = ask_processor(parts, frames, clip.query, video_fps=1)
    check_inputs(by_rate[0], inputs)
    assert describe(by_rate[1]) == describe(result)
    record = list_records(clip, parts[1])["path"]
    kept = Sample("1", "mine", "tvg", "video", (Media(frames=frames),), record.messages, video_fps=1)
    bare = Sample("1", "mine", "tvg", "video", (Media(frames=frames),), record.messages)
    collate = LlavaSTDataCollator(parts[1], num_frames=NUM_FRAMES)
    collate_at_rate = LlavaSTDataCollator(parts[1], num_frames=NUM_FRAMES, video_fps=1)
    for batch in (collate([kept]), collate_at_rate([bare])):
        assert torch.equal(batch["input_ids"], collate([record])["input_ids"])


@pytest.mark.parametrize("name", STAMPS)
def test_a_random_subset_of_frames_is_the_file_of_these_frames(parts, name, tmp_path):
    """What was left out is left out: the frames that remain keep their times, in every form."""
    chosen = sorted(np.random.default_rng(0).choice(36, 19, replace=False).tolist())
    whole = write_clip(tmp_path, STAMPS[name])
    frames, seconds = (np.asarray(part)[chosen] for part in whole.decoded)
    subset = tmp_path / "subset.mkv"
    stamps = [STAMPS[name][index] for index in chosen]
    # The pictures of the whole clip, as the encoder draws by number.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "draw_frame", lambda index, width, height: frames[index])
        files.encode(subset, num_frames=19, codec="ffv1", pix_fmt="bgr0", pts=stamps, time_base=MILLISECOND)
    query = f"what follows <t={seconds[9]:.4f}s>"
    expected, answer = ask_processor(parts, str(subset), query)
    assert set(expected.media[0][0].frame_seconds) <= set(seconds.tolist())
    for form in (frames, list(frames), [Image.fromarray(frame) for frame in frames]):
        inputs, result = ask_processor(parts, form, query, frame_seconds=seconds.tolist())
        check_inputs(inputs, expected)
        assert describe(result) == describe(answer)
        session = GroundingSession(*parts, video=form, num_frames=NUM_FRAMES, frame_seconds=seconds.tolist())
        assert describe(session.answer(session.prepare("tvg", query=query), AnsweringOptions(max_new_tokens=64))) == (
            describe(answer)
        )
