"""Many questions about one clip: the same answers as one at a time, the clip read and encoded once."""

import pytest
import torch
from PIL import Image

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.processing import video_processing_llava_st
from llava_st_hf.session import GroundingSession


@pytest.fixture(scope="module")
def parts(checkpoint):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint).eval()
    return model, LlavaSTProcessor.from_pretrained(checkpoint)


QUESTIONS = [
    ("stvg", {"query": "a red circle moves"}),
    ("tvg", {"query": "the circle stands still"}),
    ("tr", {"span": (1.0, 2.0)}),
    ("elc", {"start_seconds": 1.0, "box": (12, 92, 68, 148)}),
    ("video_qa", {"query": "what is at <t=1.25s>?"}),
]


@pytest.mark.parametrize("constrained", [True, False])
def test_answers_equal_those_of_a_session_for_each(parts, clip, constrained):
    options = {"max_new_tokens": 96, "constrained": constrained}
    session = GroundingSession(*parts, video=clip, num_frames=8)
    for task, asking in QUESTIONS:
        alone = GroundingSession(*parts, video=clip, num_frames=8).ask(task, **asking, **options)
        assert session.ask(task, **asking, **options).to_dict() == alone.to_dict()


def test_prompt_equals_that_of_the_processor(parts, clip):
    model, processor = parts
    session = GroundingSession(model, processor, video=clip, num_frames=8)
    session.prepare("tvg", query="first")
    inputs = session.prepare("elc", start_seconds=1.3, box=(12, 92, 68, 148))
    expected = processor.apply_chat_template(
        processor.build_messages("elc", video=clip, start_seconds=1.3, box=(12, 92, 68, 148)),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 8},
    )
    for name in ("input_ids", "attention_mask", "coordinate_offsets"):
        torch.testing.assert_close(inputs[name], expected[name])
    assert inputs.media == expected.media
    assert inputs.contexts == expected.contexts


def test_clip_is_decoded_encoded_and_prefilled_once(parts, clip, monkeypatch):
    model, processor = parts
    reads, encoded, prefilled = [], [], []
    read = video_processing_llava_st.read_video
    monkeypatch.setattr(
        video_processing_llava_st, "read_video", lambda *args, **kwargs: (reads.append(1), read(*args, **kwargs))[1]
    )
    hooks = [
        model.model.vision_tower.register_forward_hook(lambda *arguments: encoded.append(1)),
        model.model.language_model.register_forward_pre_hook(
            lambda module, args, kwargs: prefilled.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
        ),
    ]
    session = GroundingSession(model, processor, video=clip, num_frames=8)
    lengths = []
    for query in ("one", "two or more", "three of them or none at all"):
        session.ask("tvg", query=query, max_new_tokens=8)
        lengths.append(session.prepare("tvg", query=query)["input_ids"].shape[1])
    for hook in hooks:
        hook.remove()
    assert len(reads) == 1
    assert len(encoded) == 1
    prefix = session.prefix_length
    assert prefilled[0] == prefix
    assert prefix not in prefilled[1:]
    for length in lengths:
        assert length - prefix in prefilled


def test_an_image_too(parts, tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (80, 60), "white").save(path)
    session = GroundingSession(*parts, image=path)
    first, second = (session.ask("rec", query=query) for query in ("the dog", "the cat"))
    assert not first.problems
    assert len(second.boxes) == 1


def test_constrained_answers_are_refined_and_have_confidences(parts, clip):
    result = GroundingSession(*parts, video=clip, num_frames=8).ask("stvg", query="a circle", max_new_tokens=80)
    (span,) = result.spans
    assert 0 < span.confidence <= 1
    bins = [fraction * 99 for fraction in span.fractions]
    assert any(abs(value - round(value)) > 1e-6 for value in bins)
    assert all(0 < entry.box.confidence <= 1 for entry in result.tubes[0].boxes)
    coarse = GroundingSession(*parts, video=clip, num_frames=8).ask(
        "stvg", query="a circle", max_new_tokens=80, constrained=False
    )
    assert all(span.confidence is None for span in coarse.spans)
