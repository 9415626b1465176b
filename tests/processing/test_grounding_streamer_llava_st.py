"""Streams: the text of a constrained answer as it comes, and its spans and boxes as each of them is complete."""

import threading

import pytest
import torch
from transformers import TextIteratorStreamer, TextStreamer

from llava_st_hf import (
    GroundingSession,
    GroundingStreamer,
    SpatialTemporalGroundingPipeline,
)

QUESTIONS = [
    ("stvg", {"query": "a red circle"}),
    ("svg", {"query": "the circle", "span_fractions": (0.1, 0.5)}),
    ("elc", {"start_seconds": 1.0, "box": (10, 10, 50, 50)}),
    ("dvc", {}),
    ("rec", {"query": "the dog"}),
]


def ask(processor, clip, task="stvg", **asking):
    medium = {"image": torch.zeros(3, 60, 80, dtype=torch.uint8)} if task == "rec" else {"video": clip}
    return processor.apply_chat_template(
        processor.build_messages(task, **medium, **asking),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def list_numbers(result) -> list:
    """All that a stream hands over, in the order of the answer: spans come before the boxes of their tube."""
    return [*result.spans, *result.boxes, *(entry for tube in result.tubes for entry in tube.boxes)]


def test_text_streams_and_ends(processor, model, clip):
    inputs = ask(processor, clip, query="a red circle")
    streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=60)
    outputs = []

    def generate():
        constraints = processor.build_constraints(inputs, max_new_tokens=80)
        outputs.append(model.generate(**inputs, **constraints, streamer=streamer, do_sample=False))

    thread = threading.Thread(target=generate)
    thread.start()
    text = "".join(streamer)
    thread.join()
    (result,) = processor.post_process_grounding(outputs[0], inputs)
    assert text == result.text
    assert result.tubes and not result.problems


@pytest.mark.parametrize(("task", "asking"), QUESTIONS, ids=[task for task, _ in QUESTIONS])
def test_spans_and_boxes_are_those_of_the_result(processor, model, clip, task, asking):
    """To the bit: refined, with the same confidences."""
    inputs, found = ask(processor, clip, task, **asking), []
    constraints = processor.build_constraints(inputs, max_new_tokens=90)
    outputs = model.generate(**inputs, **constraints, streamer=GroundingStreamer(found.append, processor, inputs))
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert found == list_numbers(result)
    assert found


class Watched(GroundingStreamer):
    """Notes how many tokens had come when each span or box was handed over."""

    num_tokens = 0

    def put(self, value, coordinate_scores=None):
        self.num_tokens += value.numel() if value.ndim == 1 else 0
        super().put(value, coordinate_scores)


def test_each_comes_when_its_bracket_closes(processor, model, clip):
    inputs, moments = ask(processor, clip, query="a red circle"), []
    streamer = Watched(lambda found: moments.append(streamer.num_tokens), processor, inputs)
    outputs = model.generate(**inputs, **processor.build_constraints(inputs, max_new_tokens=120), streamer=streamer)
    ids = outputs.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    pieces = [processor.tokenizer.decode([token_id]) for token_id in ids]
    closing = [number for number, piece in enumerate(pieces, start=1) if "}" in piece or "]" in piece]
    assert len(moments) > 2
    assert moments == closing


def test_a_session_and_a_pipeline_say_what_is_asked(processor, model, clip):
    ask_about_clip = SpatialTemporalGroundingPipeline(model=model, processor=processor)
    session, found = GroundingSession(model, processor, video=clip), []
    streamer = GroundingStreamer(found.append)
    for query in ("a red circle", "a dog"):
        result = session.ask("stvg", query=query, max_new_tokens=80, generate={"streamer": streamer})
        assert found == list_numbers(result)
        found.clear()
    results = ask_about_clip(clip, ["a red circle", "a dog"], max_new_tokens=80, streamer=streamer)
    assert found == [number for result in results for number in list_numbers(result)]


@pytest.mark.parametrize("options", [{}, {"prompt_lookup_num_tokens": 3}], ids=["one_by_one", "several_at_once"])
def test_without_scores_the_numbers_are_those_of_the_bins(processor, model, clip, options):
    inputs, found = ask(processor, clip, query="a red circle"), []
    streamer = GroundingStreamer(found.append, processor, inputs)
    constrained = processor.build_logits_processor(inputs, max_new_tokens=80)
    options |= {"max_new_tokens": 80, "do_sample": False, "logits_processor": [constrained]}
    outputs = model.generate(**inputs, **options, streamer=streamer)
    (result,) = processor.post_process_grounding(outputs, inputs)
    assert found == list_numbers(result)
    assert len(found) > 2 and found[0].confidence is None
    (note,) = result.notes
    assert "the coordinates are those of the bins" in note and f"note: {note}" in str(result)


def feed(processor, inputs, text: str) -> list:
    found = []
    streamer = GroundingStreamer(found.append, processor, inputs)
    streamer.put(inputs["input_ids"])
    for token_id in processor.tokenizer.encode(text):
        streamer.put(torch.tensor([token_id]))
    streamer.end()
    return found


@pytest.mark.parametrize(
    ("text", "num_spans", "num_boxes"),
    [
        ("", 0, 0),
        ("No such thing.", 0, 0),
        ("{<t_1><t_5>} <t_1>:[<x_1><y_2><x_3><y_4>], <t_2>:[<x_1><y_2><x_3", 1, 1),  # cut inside a box
        ("{<t_1><t_5>} <t_1>:[<x_1><y_2><x_3><y_4>", 1, 1),  # all but its bracket is there
        ("{<t_5><t_1>} [<x_1><y_2><x_3><y_4>] and {<t_1><t_5>}", 1, 1),  # reversed: left out
        ("{<t=0.25><t=0.5>} words [0.1, 0.2, 0.3, 0.45] more", 1, 1),
        ("at <t_4>, or <t_5>, nothing", 0, 0),
    ],
)
def test_answers_that_a_model_might_write(processor, clip, text, num_spans, num_boxes):
    inputs = ask(processor, clip, query="a red circle")
    found = feed(processor, inputs, text)
    assert [type(item).__name__ == "Span" for item in found].count(True) == num_spans
    assert len(found) == num_spans + num_boxes
    (result,) = processor.post_process_grounding([text], inputs)
    assert sorted(map(repr, found)) == sorted(map(repr, list_numbers(result)))


def test_a_streamer_of_text_follows_one_answer(processor, model, clip):
    inputs = ask(processor, clip, query="a red circle")
    constraints = processor.build_constraints(inputs, max_new_tokens=80)
    with pytest.raises(ValueError, match="`num_beams` is set to 1"):
        model.generate(**inputs, **constraints, num_beams=2, streamer=TextStreamer(processor.tokenizer))
