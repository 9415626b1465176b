import base64
import copy
import io
import json
import math
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from parity_cases import ParityModel, fill_variables
from PIL import Image
from safetensors.numpy import load_file
from tokenizers import pre_tokenizers
from transformers import AutoProcessor, PreTrainedConfig, Qwen2Tokenizer, SiglipImageProcessorPil
from transformers.dynamic_module_utils import get_imports
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from llava_st_hf import GroundingResult, LlavaSTConfig
from llava_st_hf.processing import processing_llava_st
from llava_st_hf.processing.batch_feature_llava_st import GroundingContext, LlavaSTBatchFeature
from llava_st_hf.processing.grounding_results_llava_st import Box, Span
from llava_st_hf.processing.media_llava_st import InputError, MediaError, MediaInfo, PromptError
from llava_st_hf.processing.processing_llava_st import LlavaSTProcessor
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.processing.tokenization_llava_st import add_coordinate_tokens, add_media_tokens
from llava_st_hf.processing.video_processing_llava_st import LlavaSTVideoProcessor

NUM_FRAMES = 7
IMAGE_TOKENS = 49  # 7 x 7 patches
FAST_TOKENS = NUM_FRAMES * 4  # 7 -> 3 -> 2 cells per side
SLOW_TOKENS = 2 * 9  # 7 frames in groups of 5
VIDEO_TOKENS = FAST_TOKENS + SLOW_TOKENS
RAW_TOKENS = ["<vid_start>", "<vid_end>", "<vid_patch>", "<WIDTH-INPUT>"]


def make_processor(**kwargs) -> LlavaSTProcessor:
    """A processor of the new layout with a tokenizer of single bytes."""
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Qwen2Tokenizer(
        vocab=letters, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096
    )
    tokenizer.add_tokens(["<|im_start|>"], special_tokens=True)
    tokenizer.add_tokens(RAW_TOKENS, special_tokens=True)
    add_media_tokens(tokenizer)
    add_coordinate_tokens(tokenizer, 10, 20)
    size = {"height": 28, "width": 28}
    arguments = {
        "image_processor": SiglipImageProcessorPil(size=size),
        "tokenizer": tokenizer,
        "video_processor": LlavaSTVideoProcessor(size=size, num_frames=NUM_FRAMES),
        "patch_size": 4,
        "fast_spatial_stride": 2,
        "num_temporal_tokens": 10,
        "num_spatial_tokens": 20,
    }
    return LlavaSTProcessor(**{**arguments, **kwargs})


@pytest.fixture(scope="module")
def processor() -> LlavaSTProcessor:
    return make_processor()


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """49 frames of 60 x 40 pixels; without metadata they count as 24 a second: 0 to 2 seconds."""
    return np.random.default_rng(0).integers(0, 255, (49, 40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (50, 100, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def mp4(tmp_path_factory, video):
    path = tmp_path_factory.mktemp("media") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 60, 40
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def user(*content) -> dict:
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in content]
    return {"role": "user", "content": blocks}


def assistant(text) -> dict:
    return {"role": "assistant", "content": text}


def tokenize(processor, messages, **kwargs):
    arguments = {"tokenize": True, "return_dict": True, "return_tensors": "pt", **kwargs}
    return processor.apply_chat_template(messages, **arguments)


def coordinates_of(processor, inputs, row=0) -> list[tuple[str, float]]:
    """The coordinate tokens of a row with their offsets."""
    ids, offsets = inputs["input_ids"][row], inputs["coordinate_offsets"][row]
    is_coordinate = ids >= processor.coordinate_token_offset
    assert not offsets[~is_coordinate].any()
    names = processor.tokenizer.convert_ids_to_tokens(ids[is_coordinate].tolist())
    return list(zip(names, offsets[is_coordinate].tolist(), strict=True))


# ------------------------------------------------------------------------------------------------ parity


def find_models(parity_dir):
    models = sorted(path.parent for path in parity_dir.glob("*/*/cases") if path.is_dir())
    assert models, "no model among the recorded data"
    return models


def write_inline(conversation, variables):
    """Write the fractions of a recorded conversation into the places of its template tokens."""
    axes = {"TEMP": ("temporal", "t"), "HEIGHT": ("spatial_height", "y"), "WIDTH": ("spatial_width", "x")}
    left = {name: iter(values) for name, values in fill_variables(variables).items()}

    def fill(match):
        name, letter = axes[match[1]]
        return f"<{letter}={next(left[f'{name}_{match[2].lower()}_locations'])!r}>"

    written = []
    for turn in conversation:
        text = re.sub(r"<(TEMP|HEIGHT|WIDTH)-(INPUT|OUTPUT)>", fill, turn["value"] or "")
        text = re.sub(r"<(TEMP|HEIGHT|WIDTH)-(\d+)>", lambda m: f"<{axes[m[1]][1]}_{int(m[2])}>", text)
        written.append((turn["from"], text))
    return written


def to_messages(written):
    media = {
        "image": {"type": "image", "image": Image.new("RGB", (50, 40))},
        "video": {"type": "video", "video": np.zeros((30, 8, 8, 3), np.uint8)},
    }
    messages = []
    for speaker, text in written:
        match = re.match(r"<(image|video)>\n", text)
        content = [media[match[1]]] if match else []
        content.append({"type": "text", "text": text[match.end() :] if match else text})
        messages.append({"role": "user" if speaker == "human" else "assistant", "content": content})
    return messages


def expect_ids(ids, special, published, written):
    """Translate recorded ids: blocks of media to placeholders, templates to coordinates. Returns ids and offsets."""
    names = {token_id: name for name, token_id in special["ids"].items()}
    sizes = {
        "t": special["num_temporal_tokens"],
        "y": special["num_spatial_tokens"],
        "x": special["num_spatial_tokens"],
    }
    bases = dict(zip("tyx", (special["coordinate_base"][name] for name in ("TEMP", "HEIGHT", "WIDTH")), strict=True))
    fractions = iter(re.findall(r"<([tyx])=([^>]+)>", "".join(text for _, text in written)))
    expected, offsets, block = [], [], None
    for token_id in ids:
        name = names.get(token_id, "")
        offset = 0.0
        if name in ("<im_start>", "<slow_vid_start>") or (name == "<vid_start>" and published.splice_fast_tokens):
            block = published.image_token_id if name == "<im_start>" else published.video_token_id
        new_id = token_id if block is None else block
        if name in ("<im_end>", "<slow_vid_end>", "<vid_end>"):
            block = None
        if match := re.fullmatch(r"<(TEMP|HEIGHT|WIDTH)-(INPUT|OUTPUT)>", name):
            axis, value = next(fractions)
            assert axis == {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}[match[1]]
            if name != "<WIDTH-INPUT>" or published.embed_width_inputs:
                position = float(value) * (sizes[axis] - 1)
                new_id, offset = bases[axis] + math.floor(position), position - math.floor(position)
        expected.append(new_id)
        offsets.append(offset)
    assert next(fractions, None) is None
    return expected, offsets


def test_every_recorded_case(parity_dir):
    """Ids of all recorded cases, and the offsets that stand for their template tokens."""
    num_checked = 0
    for model in find_models(parity_dir):
        special = json.loads((model / "special_tokens.json").read_text())
        processors = {}
        for path in sorted((model / "cases").glob("*.json")):
            case = json.loads(path.read_text())
            if case["use_downsample_image"]:
                continue
            switches = (case["fast_overwrite_fix"], case["width_input_fix"])
            if switches not in processors:
                processors[switches] = ParityModel(model).load_processor(
                    splice_fast_tokens=switches[0], embed_width_inputs=switches[1]
                )
            published = processors[switches]
            ids = load_file(path.with_suffix(".safetensors"))["input_ids"].tolist()
            written = [write_inline(s["templated_conversation"], s["variables"]) for s in case["samples"]]
            generates = [texts[-1] == ("gpt", "") for texts in written]
            written = [texts[:-1] if open_turn else texts for texts, open_turn in zip(written, generates, strict=True)]
            inputs = tokenize(
                published, [to_messages(texts) for texts in written], add_generation_prompt=all(generates)
            )
            for row, texts in enumerate(written):
                expected, offsets = expect_ids(ids[row], special, published, texts)
                # The recorded batch is padded on the right with an id that its mask hides.
                mask = inputs["attention_mask"][row].bool()
                length = int(mask.sum())
                assert inputs["input_ids"][row][mask].tolist() == expected[:length], (path, row)
                assert set(ids[row][length:]) <= {published.tokenizer.pad_token_id}
                np.testing.assert_allclose(
                    inputs["coordinate_offsets"][row][mask], offsets[:length], atol=1e-6, err_msg=str(path)
                )
                num_checked += 1
    assert num_checked >= 15


def test_every_recorded_text(parity_dir):
    """The text pipeline of the published code, in training and at inference."""
    num_checked = 0
    for path in sorted(parity_dir.glob("*/unit/text_pipeline.json")):
        recorded = json.loads(path.read_text())
        model = (path.parent / recorded["tokenizer"]).resolve().parent
        special = json.loads((model / "special_tokens.json").read_text())
        published = ParityModel(model).load_processor()
        for case in recorded["cases"]:
            # As the published code moved and cleaned it; the template has a medium only where it is given.
            conversation = [
                {"from": turn["from"], "value": re.sub(r"<(im|vid)_start>.*<\w*_end>", put_back, turn["value"])}
                for turn in case["train_expanded"]
            ]
            variables = {
                f"{name}_{side}_locations": [0.1, 0.2, 0.7, 0.9]
                for name in ("temporal", "spatial_height", "spatial_width")
                for side in ("input", "output")
            }
            written = write_inline(conversation, variables)
            messages = to_messages(written)
            for key, turns, open_turn in (("train", len(messages), False), ("infer", 1, True)):
                inputs = tokenize(published, messages[:turns], add_generation_prompt=open_turn)
                texts = written[:turns]
                expected, offsets = expect_ids(case[f"{key}_input_ids"], special, published, texts)
                assert inputs["input_ids"][0].tolist() == expected, (path, case["name"], key)
                np.testing.assert_allclose(inputs["coordinate_offsets"][0], offsets, atol=1e-6)
            num_checked += 1
    assert num_checked >= 8


def put_back(match):
    return "<image>" if match[1] == "im" else "<video>"


def test_published_sizes(parity_dir):
    for model in find_models(parity_dir):
        special = json.loads((model / "special_tokens.json").read_text())
        overrides = json.loads((model / "tiny_overrides.json").read_text())
        published = ParityModel(model).load_processor()
        frames = overrides["fast_frame_num"]
        fast, slow = published.media_token_counter.count_video(frames)
        placeholder = special["placeholder"]
        assert (fast, slow) == (placeholder["fast_tokens"], placeholder["slow_tokens"])
        assert published.media_token_counter.count_image() == placeholder["image_tokens"]
        assert published.coordinate_token_offset == special["coordinate_base"]["TEMP"]
        assert (published.splice_fast_tokens, published.embed_width_inputs) == (False, False)


def test_image_pixels_are_the_reference(parity_dir):
    """Resize and normalization as the reference did them, of files and of arrays."""
    num_checked = 0
    for folder in parity_dir.glob("*/unit"):
        tensors = load_file(folder / "image_processor.safetensors")
        for row in json.loads((folder / "image_processor.json").read_text()):
            height, width = row["size"]
            key = f"{row['image']}.out_{height}"
            image = folder / row["input_file"] if "input_file" in row else tensors[f"{row['image']}.input_uint8"]
            size = {"height": height, "width": width}
            small = make_processor(image_processor=SiglipImageProcessorPil(size=size), patch_size=height)
            pixels = small(text="<image>", images=image, return_tensors="pt")["pixel_values"]
            stride = 16 if "::16" in row["stored"] else 1
            np.testing.assert_allclose(pixels[0, :, ::stride, ::stride], tensors[key], atol=1e-5, err_msg=key)
            num_checked += 1
    assert num_checked >= 4


# ------------------------------------------------------------------------------------ numbers of tokens


def test_published_numbers_of_tokens():
    size = {"height": 384, "width": 384}
    full = make_processor(
        image_processor=SiglipImageProcessorPil(size=size),
        video_processor=LlavaSTVideoProcessor(size=size),
        patch_size=14,
        fast_spatial_stride=3,
    )
    assert full.media_token_counter.count_video(100) == (900, 1620)
    data = full._get_num_multimodal_tokens(image_sizes=[(480, 640)], video_sizes=[(100, 360, 640), (1, 9, 9)])
    assert data["num_image_tokens"] == [729] and data["num_image_patches"] == [1]
    assert data["num_video_tokens"] == [2520, 9 + 81]
    full.splice_fast_tokens = False
    assert full._get_num_multimodal_tokens(video_sizes=[(100, 1, 1)])["num_video_tokens"] == [1620]


@pytest.mark.parametrize(("num_frames", "num_groups"), [(1, 1), (5, 1), (6, 2), (7, 2), (11, 3)])
def test_any_number_of_frames(processor, video, num_frames, num_groups):
    inputs = processor(text="<video>", videos=video, num_frames=num_frames, return_tensors="pt")
    assert inputs["pixel_values_videos"].shape == (1, num_frames, 3, 28, 28)
    assert (inputs["input_ids"] == processor.video_token_id).sum() == num_frames * 4 + num_groups * 9


def test_videos_of_different_length(processor, video):
    inputs = processor(text=["<video>", "<video>"], videos=[video, video], num_frames=[3, 7], return_tensors="pt")
    assert inputs["video_num_frames"].tolist() == [3, 7]
    counts = (inputs["input_ids"] == processor.video_token_id).sum(-1)
    assert counts.tolist() == [3 * 4 + 9, 7 * 4 + 18]
    assert [len(media[0].frame_indices) for media in inputs.media] == [3, 7]


@pytest.mark.parametrize(("num_frames", "raw"), [(1, ["<vid_start>", *["<vid_patch>"] * 2, "<vid_end>"]), (7, None)])
def test_raw_fast_tokens(video, num_frames, raw):
    raw = raw or ["<vid_start>", *["<vid_patch>"] * (FAST_TOKENS - 2), "<vid_end>"]
    published = make_processor(splice_fast_tokens=False)
    inputs = published(text="a<video>b", videos=video, num_frames=num_frames)
    tokens = published.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    num_slow = 9 * math.ceil(num_frames / 5)
    assert tokens == ["a", *raw, *["<video>"] * num_slow, "b"]


def test_one_raw_fast_token(video):
    published = make_processor(splice_fast_tokens=False, fast_spatial_stride=3)  # one fast token per frame
    inputs = published(text="<video>", videos=video, num_frames=1)
    tokens = published.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert tokens == ["<vid_start>", *["<video>"] * 9]


@pytest.mark.parametrize(
    ("switch", "words"), [("splice_fast_tokens", "<vid_start>"), ("embed_width_inputs", "<WIDTH-INPUT>")]
)
def test_quirks_need_their_tokens(switch, words):
    tokenizer = Qwen2Tokenizer(vocab={"a": 0}, merges=[])
    add_media_tokens(tokenizer)
    add_coordinate_tokens(tokenizer, 10, 20)
    with pytest.raises(InputError, match=words):
        make_processor(tokenizer=tokenizer, **{switch: False})


# ------------------------------------------------------------------------------------------ coordinates


def test_continuous_coordinates_become_tokens_and_offsets(processor):
    inputs = processor(text="{<t=0.5><t=1>} [<x=0.1><y=0.25><x_7><y=0.5>]", return_tensors="pt")
    expected = [("<t_4>", 0.5), ("<t_9>", 0), ("<x_1>", 0.9), ("<y_4>", 0.75), ("<x_7>", 0), ("<y_9>", 0.5)]
    found = coordinates_of(processor, inputs)
    assert [name for name, _ in found] == [name for name, _ in expected]
    np.testing.assert_allclose([o for _, o in found], [o for _, o in expected], atol=1e-6)
    assert inputs["coordinate_offsets"].dtype == torch.float32
    assert inputs["coordinate_offsets"].shape == inputs["input_ids"].shape


def test_every_discrete_token_keeps_its_index_and_has_no_offset(processor):
    text = "".join(f"<t_{i}>" for i in range(10)) + "".join(f"<{a}_{i}>" for a in "yx" for i in range(20))
    inputs = processor(text=text, return_tensors="pt")
    first = processor.coordinate_token_offset
    assert inputs["input_ids"][0].tolist() == list(range(first, first + 50))
    assert not inputs["coordinate_offsets"].any()


def test_seconds_and_pixels_are_of_the_nearest_medium_before(processor, video, image):
    text = "<x=30px><image><x=50px><video><x=15px><t=1.0s><image><x=50px><t=0.5s>"
    small = Image.new("RGB", (200, 10))
    inputs = processor(text=text, images=[image, small], videos=video, return_tensors="pt")
    found = [(n[1], int(n[3:-1]) + o) for n, o in coordinates_of(processor, inputs)]
    expected = [("x", 30 / 100), ("x", 50 / 100), ("x", 15 / 60), ("t", 0.5), ("x", 50 / 200), ("t", 0.25)]
    for (axis, position), (wanted_axis, fraction) in zip(found, expected, strict=True):
        assert axis == wanted_axis
        assert position == pytest.approx(fraction * (9 if axis == "t" else 19), abs=1e-5)
    assert [medium.media_type for medium in inputs.media[0]] == ["image", "video", "image"]
    assert [medium.width for medium in inputs.media[0]] == [100, 60, 200]


def test_units_are_of_the_own_sample(processor, image):
    small = Image.new("RGB", (200, 10))
    inputs = processor(
        text=["<image><x=50px>", "<image><x=50px>"], images=[[image], [small]], return_tensors="pt", padding=True
    )
    positions = [int(coordinates_of(processor, inputs, row)[0][0][3:-1]) for row in range(2)]
    assert positions == [9, 4]


def test_width_inputs_stay_raw_outside_answers():
    published = make_processor(embed_width_inputs=False)
    box = "[<x=0.1><y=0.2><x=0.3><y=0.4>]"
    messages = [user(f"{box} {{<t=0.1><t=0.2>}} <x_3> "), assistant(box)]
    inputs = tokenize(published, messages)
    names = [name for name, _ in coordinates_of(published, inputs)]
    assert names == ["<y_3>", "<y_7>", "<t_0>", "<t_1>", "<x_3>", "<x_1>", "<y_3>", "<x_5>", "<y_7>"]
    raw = published.tokenizer.convert_tokens_to_ids("<WIDTH-INPUT>")
    assert (inputs["input_ids"] == raw).sum() == 2
    offsets = [offset for _, offset in coordinates_of(published, inputs)]
    np.testing.assert_allclose(offsets, [0.8, 0.6, 0.9, 0.8, 0, 0.9, 0.8, 0.7, 0.6], atol=1e-5)


def test_open_answer_counts_as_answer():
    published = make_processor(embed_width_inputs=False)
    messages = [user("Where?"), assistant("At <x=0.5>")]
    inputs = tokenize(published, messages, continue_final_message=True)
    assert [name for name, _ in coordinates_of(published, inputs)] == ["<x_9>"]


def test_answers_are_not_held_to_the_format_of_prompts(processor):
    messages = [user("Where?"), assistant("[<x_9><y_9><x_3><y_3>] {<t=0.9><t=0.1>}"), user("And then?")]
    assert len(coordinates_of(processor, tokenize(processor, messages))) == 6


def test_thousands_of_coordinates():
    entry = "<t=0.5>:[<x=0.1><y=0.2><x=0.3><y=0.4>], "
    processor = make_processor()
    processor.tokenizer.model_max_length = 10**6
    inputs = processor(text=entry * 1000, return_tensors="pt")
    assert len(coordinates_of(processor, inputs)) == 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<video>{<t=0.5><t=0.1>}", "ends before it starts"),
        ("<video>{<t=1.5s><t=0.5s>}", "ends before it starts"),
        ("<video>{<t=1.5s><t=0.1>}", "ends before it starts"),
        ("<video>{<t=0.5>}", "1 coordinate"),
        ("<video>{<t=0.1><t=0.2><t=0.3>}", "3 coordinates"),
        ("<video>[<x=30px><y=0.1><x=0.4><y=0.5>]", "no area"),
        ("<video>[<x=0.1><y=0.1>]", "2 coordinates"),
        ("<video><t=abc>", "not a finite number"),
        ("<video><t=nan>", "not a finite number"),
        ("<video><y=2>", "outside 0 to 1"),
        ("<video><t_10>", "from 0 to 9"),
        ("<video><x_20>", "from 0 to 19"),
        ("<video><t=9s>", "outside the clip"),
        ("<video><x=61px>", "60x40"),
        ("<video><video>", "2 <video> placeholders but 1 video given"),
        ("no placeholder", "0 <video> placeholders but 1 video given"),
        ("<video><image>", "1 <image> placeholder but 0 images given"),
        ("<video> at <q=1s>", "<q=1s> is no coordinate: the axes are t (time)"),
        ("<video> a\udcff", "holds '\\udcff' at character 9"),
    ],
)
def test_bad_prompts(processor, video, text, words):
    with pytest.raises(InputError) as error:
        processor(text=text, videos=video)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_prompt_names_its_sample(processor, image):
    with pytest.raises(PromptError, match="prompt 1 has 0 <image> placeholders but 1 image given"):
        processor(text=["<image><image>", "no"], images=[[image, image], [image]])
    with pytest.raises(PromptError, match="all prompts together has 1 <image> placeholder but 2"):
        processor(text=["<image>", "no"], images=[image, image])


def test_placeholder_typed_by_a_user(processor, video):
    messages = [user({"type": "video", "video": video}, "What does <video> mean?")]
    with pytest.raises(PromptError, match="control token <video>"):
        tokenize(processor, messages)
    inputs = tokenize(processor, messages, sanitize_control_tokens=True)
    assert (inputs["input_ids"] == processor.video_token_id).sum() == VIDEO_TOKENS
    assert "<video> mean" in processor.decode(inputs["input_ids"][0], skip_special_tokens=True)


def test_too_many_tokens(processor, video):
    with pytest.raises(PromptError, match=r"4146 tokens, 46 of them for media.*4096.*num_frames"):
        processor(text="<video>" + "a" * 4100, videos=video)


def test_too_many_tokens_is_one_message(monkeypatch):
    warned = []
    monkeypatch.setattr("transformers.tokenization_utils_base.logger.warning", lambda *words: warned.append(words))
    with pytest.raises(PromptError, match="5000 tokens"):
        make_processor()(text="a" * 5000)  # a tokenizer of its own, because each warns once only
    assert not warned


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_frames": 16384}, PromptError, r"95029 tokens for media alone.*4096.*num_frames"),
        ({"videos_kwargs": {"num_frames": [16384]}}, PromptError, "95029 tokens for media alone"),
        ({"num_frames": 99, "truncation": True, "max_length": 99}, PromptError, "cuts into the 576 tokens"),
        ({"fps": 5000}, MediaError, "fps=5000 means 10001 frames; lower it to have 705 at most"),
        ({"num_frames": None}, MediaError, "49 frames are more than the 16 of one call"),
    ],
)
def test_too_many_tokens_end_before_decoding(mp4, options, error, words, monkeypatch):
    def decode(*args):
        raise AssertionError("a frame was decoded")

    monkeypatch.setattr("llava_st_hf.processing.video_decoding_llava_st.FrameDecoder.decode_chosen", decode)
    processor = make_processor()
    if options == {"num_frames": None}:
        processor.tokenizer.model_max_length = 100
    with pytest.raises(error, match=words) as caught:
        processor(text="<video>", videos=mp4, **options)
    assert "\n" not in str(caught.value)


def test_tokens_of_media_are_counted_per_sample(processor, image, video):
    wide = [image] * 83  # 4067 tokens
    inputs = processor(text=["<image>" * 83, "<image>" * 83], images=[wide, wide])
    assert [len(row) for row in inputs["input_ids"]] == [4067, 4067]
    with pytest.raises(PromptError, match="prompt 1 has 4116 tokens for media alone"):
        processor(text=["<image>", "<image>" * 84], images=[[image], [image] * 84])
    with pytest.raises(PromptError, match="prompt 0 has 5800 tokens for media alone"):
        processor(text=["<video>", "<video>"], videos=[[video], [video]], num_frames=[1000, 2])


@pytest.mark.parametrize(
    "options",
    [{"num_frames": 5}, {"fps": 2.0}, {"time_range": (0, 1)}, {"videos_kwargs": {"frame_range": (0, 1)}}],
)
def test_options_of_videos_need_a_video(processor, image, options):
    name = next(iter(options.get("videos_kwargs", options)))
    with pytest.raises(MediaError, match=f"{name} is .*, but there is no video: leave it out or give a video"):
        processor(text="<image>", images=image, **options)
    with pytest.raises(MediaError, match="there is no video"):
        tokenize(processor, [user({"type": "image", "image": image}, "a")], processor_kwargs=options)
    processor(text="<image>", images=image, num_frames=None)


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("num_frame", 3, "give num_frames, as it is called here"),
        ("video_start", 1.0, "give time_range, in seconds, as it is called here"),
        ("zzz", "a", "leave it out"),
    ],
)
def test_an_argument_that_nothing_comes_of_is_refused(processor, name, value, fix):
    found = f"{name} is {value!r}, which is no argument of the processor: {fix}"
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=re.escape(found)):
        processor(text="<video>\nWhat?", videos=[frames], **{name: value})
    for kind in ("videos_kwargs", "text_kwargs"):
        with pytest.raises(InputError, match=f"{name} is .*, which is no argument of the processor: "):
            processor(text="<video>\nWhat?", videos=[frames], **{kind: {name: value}})
    messages = processor.build_messages("video_qa", video=frames, query="What?")
    with pytest.raises(InputError, match=re.escape(found)):
        processor.apply_chat_template(messages, tokenize=True, return_dict=True, processor_kwargs={name: value})


def test_truncation_never_cuts_media(processor, video):
    inputs = processor(
        text="<video>" + "a" * 100 + "<t=0.5>", videos=video, truncation=True, max_length=60, return_tensors="pt"
    )
    assert inputs["input_ids"].shape == inputs["coordinate_offsets"].shape == (1, 60)
    with pytest.raises(PromptError, match="max_length is 40, which cuts into the 46 tokens"):
        processor(text="<video>a", videos=video, truncation=True, max_length=40)
    with pytest.raises(PromptError, match="cuts into"):
        make_processor(splice_fast_tokens=False)(
            text="aaa<video>" + "a" * 40, videos=video, truncation=True, max_length=48
        )


@pytest.mark.parametrize(("side", "expected"), [("right", ["<t_1>", "<t_2>"]), ("left", ["<t_3>", "<t_4>"])])
def test_offsets_follow_truncation(side, expected):
    processor = make_processor()
    processor.tokenizer.truncation_side = side
    text = "<t=0.15><t=0.25><t=0.35><t=0.5>"
    inputs = processor(text=text, truncation=True, max_length=2, return_tensors="pt")
    found = coordinates_of(processor, inputs)
    assert [name for name, _ in found] == expected
    offsets = {"<t_1>": 0.35, "<t_2>": 0.25, "<t_3>": 0.15, "<t_4>": 0.5}
    np.testing.assert_allclose([o for _, o in found], [offsets[name] for name in expected], atol=1e-6)


@pytest.mark.parametrize("call", [{}, {"text": "a", "audio": [1]}, {"text": [1]}])
def test_refuses_other_calls(processor, call):
    with pytest.raises(InputError):
        processor(**call)


# -------------------------------------------------------------------------------------------------- chat


def test_chat_format(processor, video, image):
    messages = [
        user({"type": "image", "image": image}, "One?"),
        assistant("1"),
        user("\nTwo ", {"type": "video", "video": video}, "three?"),
    ]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nOne?<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\n\nTwo <video>\nthree?<|im_end|>\n<|im_start|>assistant\n"
    )
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert processor.apply_chat_template(system) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )


def test_chat_refuses_other_blocks(processor):
    with pytest.raises(Exception, match="'audio'"):
        processor.apply_chat_template([user({"type": "audio", "audio": "x.wav"})])
    with pytest.raises(PromptError, match="empty"):
        processor.apply_chat_template([])


def test_batch_of_all_kinds_equals_single_samples(processor, video, image):
    block = {"type": "video", "video": video}
    picture = {"type": "image", "image": image}
    conversations = [
        [user(block, "When {<t=0.5s><t=1.0s>}?")],
        [user("Only text <y=0.3>")],
        [user(picture, "Where [<x=5px><y=5px><x=50px><y=25px>]?")],
        [user(picture, block, picture, "A long question about several media, <x=0.5>")],
    ]
    batch = tokenize(processor, conversations, add_generation_prompt=True)
    assert batch["pixel_values"].shape[0] == 3 and batch["pixel_values_videos"].shape[0] == 2
    assert [len(media) for media in batch.media] == [1, 0, 1, 3]
    assert batch["attention_mask"][:, -1].all()  # padded on the left
    for row, conversation in enumerate(conversations):
        single = tokenize(processor, conversation, add_generation_prompt=True)
        length = single["input_ids"].shape[1]
        for key in ("input_ids", "attention_mask", "coordinate_offsets"):
            assert torch.equal(batch[key][row, -length:], single[key][0]), (key, row)
        assert not batch["attention_mask"][row, :-length].any()
        assert not batch["coordinate_offsets"][row, :-length].any()
        assert batch.media[row] == single.media[0]
    closed = tokenize(processor, conversations)
    assert closed["attention_mask"][:, 0].all()  # nothing is to be continued: the tokenizer's side, right
    left = tokenize(processor, conversations, processor_kwargs={"padding_side": "left"})
    for row in range(4):
        assert coordinates_of(processor, closed, row) == coordinates_of(processor, left, row)


def test_without_tensors_nothing_is_padded(processor):
    inputs = processor(text=["a<t=0.5>", "b"])
    assert [len(row) for row in inputs["input_ids"]] == [2, 1]
    assert inputs["coordinate_offsets"] == [[0.0, 0.5], [0.0]]
    arrays = processor(text=["a<t=0.5>", "b"], return_tensors="np")
    assert arrays["coordinate_offsets"].dtype == np.float32 and arrays["coordinate_offsets"].shape == (2, 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_assistant_mask_is_the_answers(processor, video, image, side):
    answers = ["It is {<t=0.25><t_9>}.", "A [<x=0.1><y=0.2><x=0.3><y=0.4>] and <t=0.123456>."]
    conversations = [
        [user({"type": "video", "video": video}, "When <t=0.5s>?"), assistant(answers[0]), user("Sure?")],
        [
            user({"type": "image", "image": image}, "Where [<x=5px><y=5px><x=50px><y=25px>]?"),
            assistant(answers[1]),
            user("And <t_1>?"),
            assistant("no"),
        ],
    ]
    inputs = tokenize(
        processor, conversations, return_assistant_tokens_mask=True, processor_kwargs={"padding_side": side}
    )
    decoded = [
        processor.decode(ids[mask.bool()])
        for ids, mask in zip(inputs["input_ids"], inputs["assistant_masks"], strict=True)
    ]
    assert decoded == [
        "It is {<t_2><t_9>}.<|im_end|>",
        "A [<x_1><y_3><x_5><y_7>] and <t_1>.<|im_end|>no<|im_end|>",
    ]


def test_types_of_tokens(processor, video, image):
    inputs = processor(text="<image>a<video>", images=image, videos=video, return_mm_token_type_ids=True)
    assert inputs["mm_token_type_ids"] == [[1] * IMAGE_TOKENS + [0] + [2] * VIDEO_TOKENS]


def test_names_of_inputs(processor):
    names = processor.model_input_names
    assert len(names) == len(set(names))
    assert {"input_ids", "pixel_values", "pixel_values_videos", "coordinate_offsets", "video_num_frames"} <= set(names)


# ------------------------------------------------------------------------------------------------- media


def test_files_in_every_form(processor, mp4):
    forms = [str(mp4), mp4, mp4.read_bytes(), {"bytes": mp4.read_bytes(), "path": None}, {"path": str(mp4)}]
    pixels = []
    for form in forms:
        inputs = processor(text="<video>", videos=form, return_tensors="pt")
        chat = tokenize(processor, [user({"type": "video", "video": form}, "a")])
        assert torch.equal(inputs["pixel_values_videos"], chat["pixel_values_videos"])
        assert chat.media[0][0].frame_seconds[-1] == pytest.approx(2.0)
        pixels.append(inputs["pixel_values_videos"])
    assert all(torch.equal(pixels[0], other) for other in pixels)
    several = processor(text="<video><video>", videos=[mp4, mp4.read_bytes()], return_tensors="pt")
    assert several["pixel_values_videos"].shape[0] == 2


def test_lists_of_frames(processor, video):
    frames = [Image.fromarray(frame) for frame in video]
    whole = processor(text="<video>", videos=video, return_tensors="pt")["pixel_values_videos"]
    for form in (frames, [frames], list(video), [[frames]]):
        inputs = processor(text="<video>", videos=form, return_tensors="pt")
        assert torch.equal(inputs["pixel_values_videos"], whole)


def test_chooses_frames_per_call_and_per_block(processor, mp4):
    inputs = tokenize(processor, [user({"type": "video", "video": mp4}, "a")], processor_kwargs={"num_frames": 3})
    assert inputs.media[0][0].frame_indices == (0, 24, 48)
    first = {"type": "video", "video": mp4, "frame_range": [10, 20], "num_frames": 3}
    second = {"type": "video", "video": mp4, "frame_range": None}
    inputs = tokenize(processor, [[user(first, "a")], [user(second, "b <t=0s>")]])
    assert inputs.media[0][0].frame_indices == (10, 15, 20)
    assert len(inputs.media[1][0].frame_indices) == NUM_FRAMES
    assert inputs["video_num_frames"].tolist() == [3, NUM_FRAMES]
    third = {"type": "video", "video": mp4, "fps": 2}
    inputs = tokenize(processor, [[user(first, "a")], [user(second, third, "b")]])
    assert inputs["video_num_frames"].tolist() == [3, NUM_FRAMES, 5]
    inputs = tokenize(processor, [[user(first, second, "a")]], processor_kwargs={"fps": 2})
    assert inputs["video_num_frames"].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("video", {"nframes": 8}, r"'video' with nframes=8: give num_frames, as it is called here"),
        ("video", {"video_start": 1.0, "video_end": 2.0}, "with video_start=1.0: give time_range, in seconds"),
        ("video", {"max_pixels": 50176}, "with max_pixels=50176: every frame is resized to the square"),
        ("video", {"resized_height": 280}, "with resized_height=280: every frame is resized"),
        (
            "video",
            {"base64": "AAAA" * 99},
            r"with base64='AAAA.{,60}: leave it out; a block may have type, video",
        ),
        ("image", {"min_pixels": 3136}, "'image' with min_pixels=3136: every frame is resized"),
        ("image", {"num_frames": 8}, "'image' with num_frames=8: leave it out; a block may have type, image, url"),
    ],
)
def test_a_key_of_a_block_acts_or_is_refused(processor, mp4, kind, given, words):
    medium = {"video": mp4, "image": np.zeros((30, 40, 3), np.uint8)}[kind]
    for tokenizes in (True, False):
        messages = [user({"type": kind, kind: medium, **given}, "a")]
        with pytest.raises(MediaError, match=words):
            processor.apply_chat_template(messages, tokenize=tokenizes, return_dict=tokenizes)
    empty = dict.fromkeys(given)  # as the rows of a table have it
    assert tokenize(processor, [user({"type": kind, kind: medium, **empty}, "a")]).media


def test_metadata_only_when_asked(processor, video):
    assert "video_metadata" not in processor(text="<video>", videos=video)
    assert len(processor(text="<video>", videos=video, return_metadata=True)["video_metadata"]) == 1


@pytest.mark.parametrize("url", ["http://host/x.jpg", "HTTPS://host/x.mp4"])
def test_network_only_when_allowed(processor, url):
    with pytest.raises(MediaError, match="allow_url=True"):
        processor(text="<image>", images=url)
    with pytest.raises(MediaError, match="allow_url=True"):
        processor(text="<video>", videos=[url])
    with pytest.raises(MediaError, match="allow_url=True"):
        tokenize(processor, [user({"type": "image", "url": url})])


def test_network_when_allowed(processor, image, monkeypatch):
    asked = []
    image.save(file := io.BytesIO(), "PNG")
    monkeypatch.setattr(
        "llava_st_hf.processing.image_loading_llava_st.fetch_media",
        lambda url, allow_url: asked.append((url, allow_url)) or file.getvalue(),
    )
    inputs = processor(text="<image>", images="https://host/x.jpg", allow_url=True)
    assert asked == [("https://host/x.jpg", True)] and inputs.media[0][0].source == "https://host/x.jpg"
    limits = {"max_bytes": 10**6}
    for block in (
        {"type": "image", "url": "https://host/y.jpg"},
        {"type": "image_url", "image_url": "https://host/y.jpg"},
    ):
        tokenize(processor, [user(block, "a")], processor_kwargs={"allow_url": limits})
        assert asked[-1] == ("https://host/y.jpg", limits)


@pytest.mark.parametrize("address", ["https://host/a.wav", "/etc/passwd"])
def test_sound_is_refused_before_it_is_opened(processor, address, monkeypatch):
    monkeypatch.setattr("transformers.processing_utils.load_audio", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(InputError, match="audio is given, which this model does not hear"):
        tokenize(processor, [user({"type": "audio", "audio": address}, "a")])
    with pytest.raises(InputError, match="audio is given, which this model does not hear"):
        tokenize(processor, [user({"type": "video", "video": address}, "a")], load_audio_from_video=True)


def test_images_in_every_form(processor, image, tmp_path):
    path = tmp_path / "picture.png"
    image.save(path)
    content = path.read_bytes()
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    array = np.asarray(image)
    expected = processor(text="<image>", images=image, return_tensors="pt")["pixel_values"]
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for form in (path, str(path), content, memoryview(content), uri, {"bytes": content}, array, tensor, [[image]]):
        inputs = processor(text="<image>", images=form, return_tensors="pt")
        assert torch.equal(inputs["pixel_values"], expected)
        assert (inputs.media[0][0].width, inputs.media[0][0].height) == (100, 50)
    grey = processor(text="<image>", images=array[..., 0], return_tensors="pt")
    assert grey["pixel_values"].shape == (1, 3, 28, 28)


def test_turned_photograph_is_shown_upright(processor, image):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise for display
    buffer = io.BytesIO()
    image.save(buffer, "png", exif=exif)
    inputs = processor(text="<image>[<x=0><y=0><x=50px><y=100px>]", images=buffer.getvalue(), return_tensors="pt")
    assert (inputs.media[0][0].width, inputs.media[0][0].height) == (50, 100)
    assert [name for name, _ in coordinates_of(processor, inputs)][2:] == ["<x_19>", "<y_19>"]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("missing.jpg", "missing.jpg does not exist"),
        (b"no image", "cannot be read as an image"),
        ("data:image/png;base64,@@", "base64"),
        (np.zeros((7, 9, 11), np.uint8), "(7, 9, 11)"),
        (3, "an image is a int"),
    ],
)
def test_unreadable_images(processor, images, words):
    with pytest.raises(MediaError) as error:
        processor(text="<image>", images=images)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_truncated_image(processor, image):
    buffer = io.BytesIO()
    image.save(buffer, "jpeg")
    with pytest.raises(MediaError, match="cannot be read as an image"):
        processor(text="<image>", images=buffer.getvalue()[:400])


@pytest.mark.parametrize("videos", ["missing.mp4", b"no video", 3])
def test_unreadable_videos(processor, videos):
    with pytest.raises(MediaError) as error:
        processor(text="<video>", videos=videos)
    assert "\n" not in str(error.value)


def test_real_media(processor, real_media_dir):
    for row in map(json.loads, (real_media_dir / "annotations.jsonl").read_text().splitlines()):
        if row["task"] == "stvg" and "0" in row.get("boxes_by_second", {}):
            messages = processor.build_messages(
                "elc", video=real_media_dir / row["file"], start_seconds=0.5, box=row["boxes_by_second"]["0"]
            )
            inputs = tokenize(processor, messages, add_generation_prompt=True)
            (clip,) = inputs.media[0]
            positions = [int(n[3:-1]) + o for n, o in coordinates_of(processor, inputs)]
            sizes = [clip.width, clip.height] * 2
            expected = [p / s * 19 for p, s in zip(row["boxes_by_second"]["0"], sizes, strict=True)]
            np.testing.assert_allclose(positions[1:], expected, atol=1e-4)
            assert positions[0] / 9 == pytest.approx(clip.fraction_at(0.5), abs=1e-5)
            return
    pytest.skip("no clip with a box at its start")


# ---------------------------------------------------------------------------------------- batch feature


def test_inputs_are_tensors_only(processor, video):
    inputs = tokenize(processor, processor.build_messages("tvg", video=video, query="a dog"))
    assert all(isinstance(value, torch.Tensor) for value in inputs.values())
    assert inputs.contexts == [GroundingContext("tvg", "a dog")]
    for other in (inputs.to("cpu"), inputs.to(torch.float16), pickle.loads(pickle.dumps(inputs)), copy.copy(inputs)):
        assert isinstance(other, LlavaSTBatchFeature)
        assert other.media == inputs.media and other.contexts == inputs.contexts
    assert inputs["pixel_values_videos"].dtype == torch.float16
    assert inputs["coordinate_offsets"].dtype == torch.float32


def test_save_and_load(processor, video, image, tmp_path):
    class ProcessingTestConfig(PreTrainedConfig):
        model_type = "llava_st_processing_test"

    AutoProcessor.register(ProcessingTestConfig, LlavaSTProcessor, exist_ok=True)
    classes = {"torchvision": LlavaSTVideoProcessor, "pil": LlavaSTVideoProcessor}
    AutoVideoProcessor.register(ProcessingTestConfig, video_processor_classes=classes, exist_ok=True)
    saved = make_processor(splice_fast_tokens=False, embed_width_inputs=False, temporal_stride=3)
    saved.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == saved.chat_template
    messages = [user({"type": "video", "video": video}, {"type": "image", "image": image}, "a <x=0.5> {<t=0s><t=1s>}")]
    for loaded in (AutoProcessor.from_pretrained(tmp_path), LlavaSTProcessor.from_pretrained(tmp_path)):
        assert isinstance(loaded, LlavaSTProcessor)
        # Where the code is to be found is written when a processor is saved, and not read into a loaded one.
        assert loaded.to_dict() | {"auto_map": saved.auto_map} == saved.to_dict()
        assert loaded.chat_template == saved.chat_template
        before, after = tokenize(saved, messages), tokenize(loaded, messages)
        assert all(torch.equal(before[key], after[key]) for key in before)
    overridden = LlavaSTProcessor.from_pretrained(tmp_path, splice_fast_tokens=True)
    assert overridden.splice_fast_tokens and not overridden.embed_width_inputs


def test_code_on_the_hub_needs_core_packages_only():
    """The loader of remote code refuses files that import a package which is not installed."""
    core = {"av", "huggingface_hub", "numpy", "PIL", "safetensors", "tokenizers", "torch", "tqdm", "transformers"}
    files = list(Path(processing_llava_st.__file__).parent.glob("*_llava_st.py"))
    assert len(files) > 10
    for path in files:
        assert set(get_imports(path)) - core <= sys.stdlib_module_names, path.name


def test_published_processor_saves_as_a_new_one(parity_dir, tmp_path):
    model = find_models(parity_dir)[0]
    published = LlavaSTProcessor.from_pretrained(model)
    published.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings["splice_fast_tokens"] is False and settings["embed_width_inputs"] is False
    tokenizer = Qwen2Tokenizer.from_pretrained(tmp_path)
    assert tokenizer.convert_tokens_to_ids("<t_0>") == published.coordinate_token_offset


def test_sizes_and_ids_are_those_of_the_config(checkpoint):
    config, tokenizer = LlavaSTConfig.from_pretrained(checkpoint), Qwen2Tokenizer.from_pretrained(checkpoint)
    made = LlavaSTProcessor.from_config(config, tokenizer)
    names = ("spatial_stride", "fast_spatial_stride", "temporal_stride", "num_temporal_tokens", "num_spatial_tokens")
    names += ("coordinate_token_offset", "image_token_id", "video_token_id", "splice_fast_tokens")
    for name in names:
        assert getattr(made, name) == getattr(config, name), name
    assert made.patch_size == config.vision_config.patch_size
    assert dict(made.image_processor.size) == dict(made.video_processor.size) == {"height": 54, "width": 54}
    assert made.video_processor.num_frames == config.num_temporal_tokens
    for part in (made.image_processor, made.video_processor):
        assert list(part.image_mean) == list(part.image_std) == [0.5] * 3
    assert tokenizer.chat_template == made.chat_template
    assert LlavaSTProcessor.from_config(config, tokenizer, temporal_stride=2).temporal_stride == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coordinate_token_offset": 3}, "coordinate_token_offset is 3 in the config and"),
        ({"image_token_id": 4}, "image_token_id is 4 in the config and"),
        ({"num_temporal_tokens": 7}, "do not have consecutive ids"),
        ({"num_spatial_tokens": 101}, "lacks 2 coordinate tokens"),
        ({"video_processor": LlavaSTVideoProcessor()}, "LlavaSTVideoProcessor has the size .*384.* needs .*54"),
    ],
)
def test_a_processor_that_does_not_fit_the_model(checkpoint, change, words):
    config, tokenizer = LlavaSTConfig.from_pretrained(checkpoint), Qwen2Tokenizer.from_pretrained(checkpoint)
    parts = {"video_processor": change.pop("video_processor")} if "video_processor" in change else {}
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(InputError, match=words):
        LlavaSTProcessor.from_config(config, tokenizer, **parts)


# ------------------------------------------------------------------------------------------------- tasks


@pytest.mark.parametrize("name", TASKS)
def test_every_task_from_messages_to_result(processor, video, image, name):
    task = TASKS[name]
    fields = {
        "query": {"query": "the dog"},
        "span": {"span": (0.5, 1.0)},
        "box": {"box": (5, 5, 30, 20)},
        "start": {"start_seconds": 0.5},
    }
    arguments = {key: value for need in task.needs for key, value in fields[need].items()}
    medium = {"image": image} if task.media_type == "image" else {"video": video}
    messages = processor.build_messages(name, **medium, **arguments)
    assert json.dumps(messages[0]["grounding"]) and "grounding" not in processor.apply_chat_template(messages)
    inputs = tokenize(processor, messages, add_generation_prompt=True)
    answer = re.sub(r"_\d+", lambda match: f"_{int(match[0][1:]) // 12}", task.example_answer)
    (result,) = processor.post_process_grounding([answer], inputs)
    assert result.task == name and result.query == arguments.get("query")
    assert result.media == inputs.media[0][0]
    if task.answer_format.name == "end_caption_and_tube":
        assert result.spans[0].start_seconds == 0.5


def test_elc_prompt_and_start_as_fraction(processor, video):
    messages = processor.build_messages("elc", video=video, start_fraction=0.25, box_fractions=(0.1, 0.2, 0.5, 0.6))
    text = messages[0]["content"][1]["text"]
    assert text.startswith(
        " Starts in <t=0.25> , what happened about the subject/object within the specified region  [<x=0.1><y=0.2>"
    )
    inputs = tokenize(processor, messages, add_generation_prompt=True)
    (result,) = processor.post_process_grounding(["Ends in <t_9>, a dog barks."], inputs)
    assert (result.spans[0].start_seconds, result.spans[0].end_seconds) == (pytest.approx(0.5), pytest.approx(2.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "nothing"}, "choose one of"),
        ({"task": "tvg", "query": "x"}, "no medium given"),
        ({"task": "tvg", "query": "x", "image": "x.jpg"}, "needs video=..."),
        ({"task": "rec", "query": "x", "image": "x.jpg", "video": "x.mp4"}, "no other medium"),
        ({"task": "tvg", "video": "x.mp4"}, "needs a query"),
        ({"task": "tvg", "video": "x.mp4", "query": " "}, "needs a query"),
        ({"task": "elc", "video": "x.mp4", "box": (1, 1, 2, 2)}, "needs a start: give start_seconds="),
        ({"task": "tvg", "video": "x.mp4", "query": "a <video>"}, "control token <video>"),
        ({"task": "tvg", "video": "x.mp4", "query": "a <|im_end|>"}, "control token <|im_end|>"),
        ({"task": "tvg", "video": "x.mp4", "query": "<|im_start|>"}, "control token <|im_start|>"),
        ({"task": "tvg", "video": "x.mp4", "query": "<vid_patch>"}, "control token <vid_patch>"),
        ({"task": "tvg", "video": "x.mp4", "query": "<|IM_END|>"}, "control token <|im_end|>"),
        ({"task": "tvg", "video": "x.mp4", "query": "at <t=2>"}, "outside 0 to 1"),
        ({"task": "tr", "video": "x.mp4", "span": (2, 1)}, "ends before it starts"),
        ({"task": "tr", "video": "x.mp4", "span": (1, math.nan)}, "not a finite number"),
        ({"task": "tr", "video": "x.mp4", "span": (1,)}, "give 2 numbers"),
        ({"task": "tr", "video": "x.mp4", "span": (0, 1), "span_fractions": (0, 1)}, "one of them"),
        ({"task": "tr", "video": "x.mp4", "span_fractions": (0, 1.5)}, "outside 0 to 1"),
        ({"task": "tr", "video": "x.mp4", "span_fractions": Span(0.1, 0.5)}, "span_fractions is Span"),  # seconds
        ({"task": "rc", "image": "x.jpg", "box": (5, 5, 5, 9)}, "no area"),
        ({"task": "rc", "image": "x.jpg", "box": (5, 5, 9, math.inf)}, "not a finite number"),
        ({"task": "dvc", "video": "x.mp4", "query": "x"}, "takes no query"),
        ({"task": ["tvg"], "video": "x.mp4", "query": "x"}, "task is ['tvg']"),
        ({"task": "tvg", "video": "x.mp4", "query": 5}, "query is 5: give it as text"),
        ({"task": "tvg", "video": "x.mp4", "query": "a\udcff"}, "query holds '\\udcff' at character 1"),
        ({"task": "tvg", "video": "x.mp4", "query": "at <t:3>"}, "<t:3> is no coordinate"),
        ({"task": "rec", "image": "x.jpg", "query": "x", "variant": "a"}, "variant is 'a'"),
        ({"task": "tr", "video": "x.mp4", "span": 3.0}, "span is 3.0: give 2 numbers"),
        ({"task": "rc", "image": "x.jpg", "box": "1234"}, "box is '1234': give 4 numbers"),
        ({"task": "elc", "video": "x.mp4", "box": (1, 1, 2, 2), "start_seconds": "a"}, "start_seconds is 'a'"),
    ],
)
def test_messages_refuse(processor, arguments, words):
    with pytest.raises(PromptError) as error:
        processor.build_messages(**arguments)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_is_typed_is_asked_as_the_published_questions_have_it(processor):
    messages = processor.build_messages("stvg", video="x.mp4", query="She cuts the carrots.")
    assert "can we see she cuts the carrots occurring?" in messages[0]["content"][1]["text"]
    assert messages[0]["grounding"]["query"] == "She cuts the carrots."


def test_span_outside_the_clip_is_found_when_the_clip_is_known(processor, video):
    messages = processor.build_messages("tr", video=video, span=Span(1.0, 30.0))
    with pytest.raises(MediaError, match="outside the clip"):
        tokenize(processor, messages)
    messages = processor.build_messages("rc", image=Image.new("RGB", (20, 20)), box=Box(1, 1, 30, 10))
    with pytest.raises(PromptError, match="20x20"):
        tokenize(processor, messages)


# ----------------------------------------------------------------------------------------------- answers


def encode(processor, text):
    return processor.tokenizer(text).input_ids


@pytest.fixture
def asked(processor, video):
    """Inputs of two questions about a clip of 2 seconds and 60 x 40 pixels."""
    conversations = [
        processor.build_messages("tvg", video=video, query="a dog"),
        processor.build_messages("stvg", video=video, query="a cat in a hat"),
    ]
    return tokenize(processor, conversations, add_generation_prompt=True)


ANSWERS = [
    "{<t_0><t_9>}<|im_end|>",
    "{<t_0><t_3>} <t_0>:[<x_0><y_0><x_19><y_19>], <t_3>:[<x_0><y_0><x_19><y_19>]<|im_end|>",
]


@pytest.mark.parametrize("form", ["new", "with_prompt", "array", "lists", "output", "text", "vllm", "other engine"])
def test_reads_outputs_in_every_form(processor, asked, form):
    rows = [encode(processor, answer) for answer in ANSWERS]
    width = max(map(len, rows))
    new = torch.tensor([row + [processor.tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    outputs = {
        "new": new,
        "with_prompt": torch.cat([asked["input_ids"], new], dim=1),
        "array": new.numpy(),
        "lists": rows,
        "output": SimpleNamespace(sequences=new, scores=None),
        "text": [answer.removesuffix("<|im_end|>") for answer in ANSWERS],
        "vllm": [SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(row), text="spaced")]) for row in rows],
        "other engine": [
            SimpleNamespace(outputs=[SimpleNamespace(text=answer.removesuffix("<|im_end|>"))]) for answer in ANSWERS
        ],
    }[form]
    first, second = processor.post_process_grounding(outputs, asked)
    assert first.text == "{<t_0><t_9>}" and first.problems == () and first.task == "tvg"
    assert (first.spans[0].start_seconds, first.spans[0].end_seconds) == (0.0, pytest.approx(2.0))
    assert second.query == "a cat in a hat"
    assert second.tubes[0].boxes[0].box.xyxy == pytest.approx((0, 0, 60, 40))


def test_reads_a_single_row(processor, image):
    inputs = tokenize(processor, processor.build_messages("rec", image=image, query="dog"), add_generation_prompt=True)
    outputs = torch.tensor(encode(processor, "[<x_0><y_0><x_19><y_19>]"))
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert result.boxes[0].xyxy == pytest.approx((0, 0, 100, 50))


def test_reads_several_answers_per_question(processor, asked):
    texts = ["{<t_0><t_1>}", "{<t_0><t_2>}", "{<t_0><t_3>}", "{<t_0><t_4>}"]
    results = processor.post_process_grounding(texts, asked)
    assert [result.task for result in results] == ["tvg", "tvg", "stvg", "stvg"]
    answers = [SimpleNamespace(text=text) for text in texts]
    requests = [SimpleNamespace(outputs=answers[:2]), SimpleNamespace(outputs=answers[2:])]
    assert processor.post_process_grounding(requests, asked) == results
    uneven = [SimpleNamespace(outputs=answers[:1]), SimpleNamespace(outputs=answers[1:])]
    with pytest.raises(InputError, match="different numbers of answers"):
        processor.post_process_grounding(uneven, asked)


def test_explicit_arguments_win(processor, asked):
    results = processor.post_process_grounding(["Ends in <t_9>, it runs."] * 2, asked, "elc", "it", 0.5)
    assert [(r.task, r.query, r.spans[0].start_seconds) for r in results] == [("elc", "it", 0.5)] * 2


def test_context_can_be_given_later(processor, video):
    inputs = processor(text="<video>When?", videos=video, return_tensors="pt")
    (result,) = processor.post_process_grounding(["no idea"], inputs, task="tvg")
    assert [problem.kind for problem in result.problems] == ["missing_span"]
    assert processor.post_process_grounding(["no idea"], inputs)[0].problems == ()


def test_answer_without_media(processor):
    (result,) = processor.post_process_grounding(["Hello."], tokenize(processor, [user("Hi")]))
    assert result.text == "Hello." and result.media is None


def test_context_survives_a_table(processor, video):
    """A table of messages fills every missing key with None."""
    (message,) = processor.build_messages("tvg", video=video, query="dog")
    message["grounding"].update(start_seconds=None, other=None)
    text = {"type": "text", "text": "And?", "video": None}
    message["content"][1]["video"] = None
    later = {"role": "user", "content": [text], "grounding": None}
    reply = {"role": "assistant", "content": [{"type": "text", "text": "Yes."}], "grounding": None}
    inputs = tokenize(processor, [message, reply, later])
    assert inputs.contexts == [GroundingContext("tvg", "dog")]


def test_answer_is_about_the_last_medium_unless_told(processor, image):
    small = Image.new("RGB", (20, 20))
    inputs = processor(text="<image><image>", images=[image, small])
    answer = ["[<x_0><y_0><x_19><y_19>]"]
    assert processor.post_process_grounding(answer, inputs, "rec")[0].boxes[0].x2 == pytest.approx(20)
    assert processor.post_process_grounding(answer, inputs, "rec", media_index=0)[0].boxes[0].x2 == pytest.approx(100)


def test_answers_and_inputs_have_to_belong_together(processor, asked):
    with pytest.raises(InputError, match="3 rows and inputs 2 samples"):
        processor.post_process_grounding(["a", "b", "c"], asked)
    with pytest.raises(InputError, match="dict without media"):
        processor.post_process_grounding(["a"], {name: values.clone() for name, values in asked.items()})
    with pytest.raises(PromptError, match="choose one of"):
        processor.post_process_grounding(["a", "b"], asked, task="nothing")


def test_garbage_never_raises(processor, asked):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randint(0, len(processor.tokenizer), (2, 200), generator=generator)
    assert len(processor.post_process_grounding(outputs, asked)) == 2
    texts = ["<t=abc> {<t=5s>} <x_999>", "{<t_9><t_0>} [" * 50]
    assert len(processor.post_process_grounding(texts, asked)) == 2


def test_scores_refine_coordinates(processor, video):
    inputs = tokenize(processor, processor.build_messages("tvg", video=video, query="dog"), add_generation_prompt=True)
    row = encode(processor, "At {<t_4><t_9>}<|im_end|>")
    vocabulary = len(processor.tokenizer)
    probabilities = torch.full((len(row), vocabulary), 1e-9)
    first = processor.coordinate_token_offset
    for step, token_id in enumerate(row):
        probabilities[step, token_id] = 1.0
        if token_id >= first:
            probabilities[step, token_id], probabilities[step, token_id - 1] = 0.6, 0.2
    scores = tuple(step[None].log() for step in probabilities)
    outputs = SimpleNamespace(sequences=torch.tensor([row]), scores=scores)
    (span,) = processor.post_process_grounding(outputs, inputs)[0].spans
    assert span.start_seconds == pytest.approx(2 * 3.75 / 9, abs=1e-4)
    assert span.end_seconds == pytest.approx(2 * 8.75 / 9, abs=1e-4)
    assert span.confidence == pytest.approx(1.0, abs=1e-4)  # softmax of 0.6 and 0.2: nothing else is likely
    # After a beam search the scores of an answer are those of other rows.
    outputs.scores = [torch.cat([torch.zeros_like(step), step]) for step in outputs.scores]
    outputs.beam_indices = torch.ones(1, len(outputs.scores), dtype=torch.long)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert result.spans == (span,) and not result.notes
    (plain,) = processor.post_process_grounding(outputs.sequences, inputs)
    assert plain.spans[0].confidence is None and plain.spans[0].start_seconds == pytest.approx(2 * 4 / 9)
    assert plain.notes[0].startswith("the coordinates are those of the bins")
    assert GroundingResult.from_dict(plain.to_dict()) == plain


def test_media_info_of_arrays(processor, video):
    inputs = processor(text="<video>", videos=video, num_frames=3, video_fps=24)
    assert inputs.media == [(MediaInfo("video", 60, 40, (0, 24, 48), (0.0, 1.0, 2.0)),)]
