"""Questions that were processed one by one make the batch that the processor makes of them together."""

import pytest
import torch
from PIL import Image

from llava_st_hf import InputError
from llava_st_hf.inference.generation import count_beams, generate_answers, join_inputs, prepare_messages
from llava_st_hf.inference.options import AnsweringOptions, Question, ReadingOptions


def write_messages(processor, clip):
    image = Image.new("RGB", (80, 60), "white")
    block = {"type": "image", "image": image}
    return [
        Question("stvg", "a red circle that moves from the left to the right").to_messages(processor, video=clip),
        Question(query="the dog").to_messages(processor, image=image),
        [{"role": "user", "content": [block, {"type": "text", "text": "and"}, block]}],
        [{"role": "user", "content": [{"type": "text", "text": "At <t=0.25>?"}]}],
        Question("elc", start_seconds=1.3, box=(1, 2, 30, 40)).to_messages(processor, video=clip),
    ]


@pytest.mark.parametrize("num_frames", [[8, 8], [8, 5], [3, 6]])
def test_joined_inputs_are_those_of_the_batch(processor, clip, num_frames):
    conversations = write_messages(processor, clip)
    for index, count in zip((0, 4), num_frames, strict=True):
        conversations[index][0]["content"][0]["num_frames"] = count
    alone = [prepare_messages(processor, messages, ReadingOptions()) for messages in conversations]
    joined = join_inputs(alone, processor.tokenizer.pad_token_id)
    expected = prepare_messages(processor, conversations, ReadingOptions())
    assert set(joined) == set(expected)
    for name in expected:
        assert joined[name].dtype == expected[name].dtype
        assert torch.equal(joined[name], expected[name]), name
    assert joined.media == expected.media
    assert joined.contexts == expected.contexts
    texts = join_inputs([alone[1], alone[3]], processor.tokenizer.pad_token_id)
    assert "pixel_values_videos" not in texts and len(texts["pixel_values"]) == 1


def test_an_option_of_generate_is_that_of_the_call_or_of_the_model(model, processor, clip):
    assert count_beams(AnsweringOptions(), model) == 1
    assert count_beams(AnsweringOptions(generate={"num_beams": 3}), model) == 3
    model.generation_config.num_return_sequences = 2
    try:
        inputs = prepare_messages(processor, write_messages(processor, clip)[1], ReadingOptions())
        with pytest.raises(InputError, match="num_return_sequences is 2: a question gets one answer"):
            generate_answers(model, processor, inputs, AnsweringOptions(), inputs)
        assert count_beams(AnsweringOptions(generate={"num_return_sequences": 1}), model) == 1
    finally:
        model.generation_config.num_return_sequences = None
