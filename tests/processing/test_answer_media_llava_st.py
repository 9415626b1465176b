"""Answers are put back onto the media that inputs know, or that the caller names."""

import pytest
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from llava_st_hf import InputError, MediaInfo

ANSWER = "{<t_0><t_99>} [<x_0><y_0><x_99><y_99>]"


@pytest.fixture(scope="module")
def inputs(processor, clip):
    messages = processor.build_messages("elc", video=clip, start_seconds=1.0, box=(0, 0, 9, 9))
    return processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.new("RGB", (80, 60)).save(path)
    return path


def read(processor, *arguments, answers=(ANSWER,), **options):
    """Return, for each answer, the size of its medium, the ends of its span and what it is about."""
    results = processor.post_process_grounding(list(answers), *arguments, **options)
    return [
        (
            result.boxes[0].xyxy[2:],
            result.spans and (result.spans[0].start_seconds, pytest.approx(result.spans[0].end_seconds)),
            result.media.source,
        )
        for result in results
    ]


def test_a_dictionary_of_the_inputs_knows_the_media_and_the_question(processor, inputs):
    ends = ["Ends in <t_99>, it stops."]
    expected = processor.post_process_grounding(ends, inputs)
    assert expected[0].task == "elc" and expected[0].spans[0].start_seconds == 1.0
    assert processor.post_process_grounding(ends, {**inputs}) == expected
    assert processor.post_process_grounding(ends, {**inputs.to("cpu")}) == expected
    answer = torch.tensor([processor.tokenizer(ends[0]).input_ids])
    outputs = torch.cat([inputs["input_ids"], answer], dim=1)
    assert processor.post_process_grounding(outputs, {**inputs}) == expected
    named = processor.build_constraints({**inputs}, max_new_tokens=64)["logits_processor"][0].grammars
    known = processor.build_constraints(inputs, max_new_tokens=64)["logits_processor"][0].grammars
    assert named[0].first_time == known[0].first_time


def test_media_may_be_given_in_every_form(processor, inputs, clip, picture):
    whole = ((320, 240), (0.0, 3.9), str(clip))
    (info,) = inputs.media[0]
    for media in (info, [info], inputs.media, clip, str(clip), [clip], [(info,)]):
        assert read(processor, media=media) == [whole]
    assert read(processor, media=clip.read_bytes()) == [((320, 240), (0.0, 3.9), None)]
    assert read(processor, media=picture) == [((80, 60), (), str(picture))]
    assert read(processor, media=Image.open(picture)) == [((80, 60), (), None)]
    assert read(processor, media=[clip, picture], answers=[ANSWER] * 2) == [whole, ((80, 60), (), str(picture))]
    assert read(processor, media=clip, answers=[ANSWER] * 3) == [whole] * 3
    assert read(processor, media=[(info, MediaInfo("image", 9, 9))], media_index=0) == [whole]
    moved = {name: values.clone() for name, values in inputs.items()}
    assert read(processor, moved, media=inputs.media) == [whole]
    part = MediaInfo("video", 10, 10, (0, 9), (1.0, 2.0))
    assert read(processor, inputs, media=part) == [((10, 10), (1.0, 2.0), None)]  # what is said counts first


def test_a_file_is_taken_to_be_sampled_as_the_processor_does(processor, inputs, clip):
    (result,) = processor.post_process_grounding([ANSWER], media=clip)
    assert result.media == inputs.media[0][0]


def test_media_may_be_given_as_transformers_does(processor, inputs):
    image, clip = ((80, 60), (), None), ((80, 60), (0.0, 2.0), None)
    metadata = VideoMetadata(total_num_frames=100, fps=25, width=320, height=240, frames_indices=[0, 25, 50])
    for sizes in ([(60, 80)], torch.tensor([[60, 80]])):
        assert read(processor, target_sizes=sizes) == [image]
        assert read(processor, target_sizes=sizes, video_metadata=[metadata]) == [clip]
    values = {"total_num_frames": 100, "fps": 25, "frames_indices": [0, 25, 50]}
    for given in (values, [values]):
        assert read(processor, target_sizes=[(60, 80)], video_metadata=given) == [clip]
    assert read(processor, video_metadata=[metadata]) == [((320, 240), (0.0, 2.0), None)]
    both = {"target_sizes": [(60, 80), (60, 80)], "video_metadata": [metadata, None]}
    assert read(processor, answers=[ANSWER] * 2, **both) == [clip, image]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "inputs is missing: give"),
        ({"inputs": {"input_ids": torch.zeros(1, 3)}}, "inputs is a dict without media"),
        ({"media": 3}, "media is a int"),
        ({"media": "missing.mp4"}, "missing.mp4 does not exist"),
        ({"media": ["missing.png"]}, "missing.png does not exist"),
        ({"media": []}, "1 rows and inputs 0 samples"),
        (
            {"target_sizes": [(6, 8)], "video_metadata": [None, None]},
            "target_sizes has 1 entries and video_metadata 2",
        ),
        ({"video_metadata": [None]}, "give target_sizes for it"),
        ({"video_metadata": {"fps": 25, "frames_indices": [0]}}, "no height: give target_sizes"),
        ({"video_metadata": {"fps": 25}, "target_sizes": [(6, 8)]}, "no frames_indices"),
        ({"video_metadata": {"frames_indices": [0]}, "target_sizes": [(6, 8)]}, "neither frame_seconds nor fps"),
        ({"video_metadata": {"speed": 3}}, "unknown fields"),
    ],
)
def test_what_an_answer_is_about_must_be_said(processor, options, words):
    with pytest.raises(InputError, match=words):
        processor.post_process_grounding([ANSWER], **options)
