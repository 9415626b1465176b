"""Questions are asked as the record writes them, without the truth."""

import numpy as np
import pytest

from llava_st_hf.data.media_loading import load_media
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.evaluation.questions import read_question, read_truth, write_messages
from llava_st_hf.processing.media_llava_st import InputError, MediaInfo
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

CLIP = MediaInfo("video", 72, 72, tuple(range(20)), tuple(index / 5 for index in range(20)))


def make_sample(task: str, *texts: str, frame_range: tuple[int, int] | None = None) -> Sample:
    frames = np.zeros((20, 72, 72, 3), dtype=np.uint8)
    roles = ["user", "assistant"] * (len(texts) // 2)
    messages = tuple({"role": role, "content": text} for role, text in zip(roles, texts, strict=True))
    media = (Media(frames=frames),)
    return Sample("7", "test", task, "video", media, messages, frame_range, video_fps=5.0)


ELC = make_sample(
    "elc",
    "Starts in <t=0.2>, what of [<x=0.1><y=0.2><x=0.5><y=0.6>]?",
    "Ends in <t=0.8>, it grows. Object bounding box: <t=0.2>:[<x=0.1><y=0.2><x=0.5><y=0.6>]",
)


def test_what_a_question_gives():
    question = read_question(ELC, (CLIP,), CoordinateVocabulary())
    assert (question.start, question.span, question.box) == (0.2, None, (0.1, 0.2, 0.5, 0.6))
    svg = make_sample("svg", "Between {<t=1.0s><t_99>}, where?", "<t=0.2>:[<x=0.1><y=0.2><x=0.5><y=0.6>]")
    question = read_question(svg, (CLIP,), CoordinateVocabulary())
    assert question.span == (pytest.approx(5 / 19), 1.0)
    assert question.box is None


def test_the_truth_is_not_asked(processor):
    sample = make_sample("tvg", "When first?", "{<t=0.1><t=0.2>}", "And then?", "{<t=0.3><t=0.4>}")
    messages = write_messages(sample, load_media(sample, processor.video_processor), CoordinateVocabulary())
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[-1]["content"] == [{"type": "text", "text": "And then?"}]
    assert messages[0]["content"][0]["type"] == "video"
    assert read_truth(sample, (CLIP,)).spans[0].fractions == (0.3, 0.4)


def test_note_for_reading_the_answer(processor):
    (message,) = write_messages(ELC, load_media(ELC, processor.video_processor), CoordinateVocabulary())
    assert message["grounding"] == {"task": "elc", "start_fraction": 0.2}


def test_part_of_a_clip_is_cut_once(processor):
    sample = make_sample("tvg", "When?", "{<t=0.0><t=1.0>}", frame_range=(5, 14))
    loaded = load_media(sample, processor.video_processor)
    assert "frame_range" not in write_messages(sample, loaded, CoordinateVocabulary())[0]["content"][0]
    assert (loaded.video_metadata[0].frames_indices[0], loaded.video_metadata[0].frames_indices[-1]) == (5, 14)


def test_truth_that_cannot_be_scored():
    sample = make_sample("stvg", "When and where?", "{<t=0.1><t=0.2>}")
    with pytest.raises(InputError, match=r"the truth of item '7' of 'test' cannot be scored \(missing_tube\)"):
        read_truth(sample, (CLIP,))
