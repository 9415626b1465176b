"""Many questions about one clip: the same answers as one at a time, the clip read and encoded once."""

import numpy as np
import pytest
import torch
from PIL import Image

from llava_st_hf import InputError, LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.inference.generation import prepare_messages
from llava_st_hf.inference.options import AnsweringOptions, ReadingOptions
from llava_st_hf.inference.session import GroundingSession
from llava_st_hf.processing import GroundingContext, video_processing_llava_st


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


def direct(parts, clip, num_beams: int, **asking):
    """The same question through the processor and generate."""
    model, processor = parts
    inputs = processor.apply_chat_template(
        processor.build_messages("stvg", video=clip, **asking),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"num_frames": 8},
    )
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    outputs = model.generate(**inputs, do_sample=False, num_beams=num_beams, **constraints)
    return processor.post_process_grounding(outputs, inputs)[0]


def test_beams_equal_those_of_generate(parts, clip):
    session = GroundingSession(*parts, video=clip, num_frames=8)
    session.ask("tvg", query="a warm-up", max_new_tokens=16)
    expected = direct(parts, clip, 3, query="a circle").text
    options = {"generate": {"num_beams": 3}, "max_new_tokens": 60}
    assert session.ask("stvg", query="a circle", **options).text == expected
    model, _ = parts
    model.generation_config.num_beams = 3  # as a checkpoint may have it
    try:
        assert session.ask("stvg", query="a circle", max_new_tokens=60).text == expected
        assert not session.ask("stvg", query="a circle", max_new_tokens=60, constrained=False).tubes
    finally:
        model.generation_config.num_beams = 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_return_sequences": 2}, "num_return_sequences is 2"),
        ({"use_cache": False}, "use_cache"),
        ({"cache_implementation": "static"}, "cache_implementation"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens is set: assisted decoding"),
        ({"assistant_model": "another"}, "assistant_model is set: assisted decoding"),
    ],
)
def test_what_a_session_cannot_do_is_refused_and_leaves_it_usable(parts, clip, options, words):
    session = GroundingSession(*parts, video=clip, num_frames=8)
    with pytest.raises(InputError, match=words):
        session.ask("tvg", query="a circle", generate=options)
    assert session.ask("tvg", query="a circle", max_new_tokens=16).spans


def test_a_task_and_a_query_in_order(parts, clip):
    session = GroundingSession(*parts, video=clip, num_frames=8)
    given = session.ask("tvg", "a circle", max_new_tokens=16)
    assert given.to_dict() == session.ask("tvg", query="a circle", max_new_tokens=16).to_dict()
    with pytest.raises(InputError, match="task is 'a red circle': the task comes before the query, choose one of"):
        session.ask("a red circle", "tvg")


def test_an_unknown_option_of_reading_is_refused(parts, clip):
    with pytest.raises(InputError, match="num_frame is no option here: give num_frames"):
        GroundingSession(*parts, video=clip, num_frame=8)


def test_inputs_that_were_handed_out_stay_as_they_are(parts, clip):
    session = GroundingSession(*parts, video=clip, num_frames=8)
    inputs = session.prepare("tvg", query="a circle")
    before = inputs["pixel_values_videos"].clone()
    session.ask("tvg", query="a square", max_new_tokens=16)
    assert torch.equal(inputs["pixel_values_videos"], before)


def test_own_logits_processors_are_called(parts, clip):
    calls = []
    session = GroundingSession(*parts, video=clip, num_frames=8)
    own = [lambda input_ids, scores: (calls.append(1), scores)[1]]
    session.ask("tvg", query="a circle", max_new_tokens=16, generate={"logits_processor": own})
    assert calls


def test_a_model_that_was_moved_is_named(checkpoint, clip):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint).eval()
    session = GroundingSession(model, LlavaSTProcessor.from_pretrained(checkpoint), video=clip, num_frames=8)
    session.ask("tvg", query="a circle", max_new_tokens=16)
    model.to(torch.bfloat16)
    with pytest.raises(InputError, match="begin a new GroundingSession"):
        session.ask("tvg", query="a circle", max_new_tokens=16)


def test_frames_need_times(parts):
    """In a session as in a pipeline: what is answered in seconds is not counted with an invented rate."""
    frames = np.zeros((12, 24, 32, 3), dtype=np.uint8)
    with pytest.raises(InputError, match=r"give video_fps=\.\.\. \(frames a second\) or frame_seconds="):
        GroundingSession(*parts, video=frames, num_frames=4).prepare("tvg", query="it")
    for times in ({"video_fps": 2.0}, {"frame_seconds": [index / 2 for index in range(12)]}):
        inputs = GroundingSession(*parts, video=frames, num_frames=4, **times).prepare("tvg", query="it")
        assert inputs.media[0][0].frame_seconds == (0.0, 2.0, 3.5, 5.5)
    block = {"type": "video", "video": frames, "video_fps": 2.0, "num_frames": 4}
    messages = [{"role": "user", "content": [block, {"type": "text", "text": "What happens?"}]}]
    inputs = parts[1].apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert inputs.media[0][0].frame_seconds == (0.0, 2.0, 3.5, 5.5)


def test_coordinates_before_the_clip_count(parts, clip):
    """They are part of what is read once, and finer than their bins as elsewhere."""
    model, processor = parts
    blocks = [
        {"type": "text", "text": "Think of <t=0.4146>, here:"},
        {"type": "video", "video": str(clip), "num_frames": 8},
        {"type": "text", "text": "when?"},
    ]
    inputs = prepare_messages(processor, [{"role": "user", "content": blocks}], ReadingOptions())
    inputs.set_questions(inputs.media, [GroundingContext(task="tvg")])
    result = GroundingSession.from_inputs(model, processor, inputs).answer(inputs, AnsweringOptions(max_new_tokens=16))
    outputs = model.generate(**inputs, **processor.build_constraints(inputs, max_new_tokens=16), do_sample=False)
    assert [result] == processor.post_process_grounding(outputs, inputs)
    plain = inputs["coordinate_offsets"]
    assert plain.any()
    changed = model.generate(
        **{**inputs, "coordinate_offsets": torch.zeros_like(plain)},
        **processor.build_constraints(inputs, max_new_tokens=16),
        do_sample=False,
    )
    assert [result] != processor.post_process_grounding(changed, inputs)
