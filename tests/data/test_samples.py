"""The canonical record: what it accepts, what it refuses with which words, rows and messages."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from llava_st_hf import LlavaSTProcessor
from llava_st_hf.data.samples import MAX_MESSAGES, MAX_TEXT_CHARACTERS, Media, Sample, get_features
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.tasks_llava_st import TASKS

QUESTION, ANSWER = {"role": "user", "content": "When?"}, {"role": "assistant", "content": "{<t=0.1><t=0.5>}"}


def make_sample(**fields) -> Sample:
    defaults = {"id": "1", "source": "kitchen", "task": "tvg", "media_type": "video", "media": (Media(path="a.mp4"),)}
    return Sample(**{**defaults, "messages": (QUESTION, ANSWER), **fields})


def make_text(*contents: str, roles: tuple[str, ...] = ("user", "assistant"), **fields) -> Sample:
    messages = tuple({"role": role, "content": content} for role, content in zip(roles, contents, strict=True))
    return make_sample(task="conversation", media_type="text", media=(), messages=messages, **fields)


def nest(depth: int) -> list:
    nested: list = []
    for _ in range(depth):
        nested = [nested]
    return nested


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_has_a_record(task):
    wanted = TASKS[task].media_type
    media_type = "video" if wanted == "any" else wanted
    assert make_sample(task=task, media_type=media_type).task == task


@pytest.mark.parametrize(
    ("fields", "reason", "field", "words"),
    [
        ({"id": ""}, "invalid_field", "id", "id is ''"),
        ({"id": 7}, "invalid_field", "id", "id is 7"),
        ({"id": "half \ud800"}, "invalid_field", "id", "half a character"),
        ({"source": "a" * 1001}, "invalid_field", "source", "1 to 1,000 characters"),
        ({"task": "everything"}, "invalid_field", "task", "choose one of video_captioning"),
        ({"task": ["tvg"]}, "invalid_field", "task", "task is ['tvg']"),
        ({"task": "rec"}, "invalid_field", "media_type", "task 'rec' needs image"),
        ({"media_type": "sound"}, "invalid_field", "media_type", "choose one of video, image, text"),
        ({"media": ()}, "missing_media", "media", "give at least one"),
        ({"media_type": "text", "task": "conversation"}, "invalid_field", "media", "none for text"),
        ({"frame_range": (5, 2)}, "invalid_field", "frame_range", "frame_range is (5, 2)"),
        ({"frame_range": (0, 2.5)}, "invalid_field", "frame_range", "whole numbers"),
        ({"frame_range": (False, True)}, "invalid_field", "frame_range", "whole numbers"),
        ({"frame_range": (1, 2, 3)}, "invalid_field", "frame_range", "first and the last"),
        ({"frame_range": "all"}, "invalid_field", "frame_range", "'all'"),
        ({"messages": "text"}, "invalid_field", "messages", "a list of role and content"),
        ({"messages": ()}, "invalid_field", "messages", "take turns"),
        ({"messages": (QUESTION,)}, "invalid_field", "messages", "take turns"),
        ({"messages": (ANSWER, QUESTION)}, "invalid_field", "messages", "take turns"),
        ({"messages": (QUESTION, {"role": "assistant"})}, "invalid_field", "messages[1].content", "None"),
        ({"messages": (QUESTION, ANSWER) * (MAX_MESSAGES // 2 + 1)}, "too_long", "messages", "split the record"),
    ],
)
def test_what_a_record_refuses(fields, reason, field, words):
    with pytest.raises(RecordError) as caught:
        make_sample(**fields)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("  ", "not empty"),
        ("{<t=0.5><t=0.1>}", "ends before it starts"),
        ("[<x=0.5><y=0.1><x=0.2><y=0.3>]", "no area"),
        ("{<t=0.1>}", "a start and an end"),
        ("<t=1.01>", "outside 0 to 1"),
        ("<x=nan>", "not a finite number"),
        ("<|im_end|>", "holds '<|im_end|>': leave out the control token"),
        ("half \ud800", "half a character"),
        ("<video>", "placeholders"),
    ],
)
def test_what_the_assistant_cannot_say(answer, words):
    with pytest.raises(RecordError, match="messages") as caught:
        make_text("When?", answer)
    assert caught.value.reason == "invalid_field" and words in str(caught.value)


def test_units_are_left_to_the_medium():
    """Groups in seconds and pixels are checked as far as they can be, mixed ones when the medium is known."""
    answer = "{<t=3s><t=9s>} [<x=5px><y=0.2><x=0.9><y=30px>]"
    coordinates = make_sample(messages=(QUESTION, {**ANSWER, "content": answer})).find_coordinates()[1]
    assert [(item.kind, item.value, item.unit) for item in coordinates] == [
        *(("t", 3.0, "seconds"), ("t", 9.0, "seconds")),
        *(("x", 5.0, "pixels"), ("y", 0.2, "fraction"), ("x", 0.9, "fraction"), ("y", 30.0, "pixels")),
    ]
    with pytest.raises(RecordError, match="ends before it starts"):
        make_sample(messages=(QUESTION, {**ANSWER, "content": "{<t=9s><t=3s>}"}))


def test_the_length_of_all_messages_counts():
    half = "a" * (MAX_TEXT_CHARACTERS // 2)
    assert make_text(half, half)
    with pytest.raises(RecordError) as caught:
        make_text(half, half + "a")
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        ({}, "missing_media"),
        ({"path": 7}, "invalid_field"),
        ({"path": b"a.mp4"}, "invalid_field"),
        ({"path": "\udcff.mp4"}, "invalid_field"),  # a name on the disk that is no UTF-8
        ({"content": "text"}, "invalid_field"),
        ({"frames": [[0]]}, "invalid_field"),
        ({"frames": np.zeros((2, 4, 4, 3), dtype=np.float32)}, "invalid_field"),
        ({"frames": np.zeros((4, 4), dtype=np.uint8)}, "invalid_field"),
        ({"frames": np.zeros((2, 3, 4, 4), dtype=np.uint8)}, "invalid_field"),
    ],
)
def test_media_of_a_wrong_kind(media, reason):
    with pytest.raises(RecordError) as caught:
        Media(**media)
    assert caught.value.reason == reason and caught.value.field == "media"


@pytest.mark.parametrize("value", [None, 7, math.nan, "text", [], {}, nest(300), [nest(300)], {"a": nest(300)}])
@pytest.mark.parametrize("name", ["id", "source", "task", "media_type", "media", "frame_range", "messages"])
def test_rows_with_a_wrong_column(name, value):
    row = make_sample().to_row()
    if row[name] is None and value is None:
        row[name] = 7
    elif (name, value) in (("id", "text"), ("source", "text"), ("frame_range", None)):
        value = row[name] = {}
    else:
        row[name] = value
    with pytest.raises(RecordError) as caught:
        Sample.from_row(row)
    assert caught.value.reason in ("invalid_field", "missing_media") and len(str(caught.value)) < 500


@pytest.mark.parametrize("row", [None, 3, "text", [], nest(300)])
def test_what_is_no_row(row):
    with pytest.raises(RecordError, match="give an object"):
        Sample.from_row(row)


TIMES = ("video_fps", "frame_seconds")


@pytest.mark.parametrize("times", [{"video_fps": 12.5}, {"frame_seconds": (-0.5, 0.0, 7.25)}])
def test_the_times_of_frames_go_with_them(times):
    sample = make_sample(media=tuple(Media(path=f"{number}.png") for number in range(3)), **times)
    assert Sample.from_row(sample.to_row()) == sample
    messages = sample.to_messages()
    (name,) = times
    assert messages[0]["content"][0][name] == times[name]
    assert name not in sample.to_messages(["other"])[0]["content"][0]
    again = Sample.from_messages(messages, sample.id, sample.source, sample.task)
    assert again == sample and again.has_times and not replace(sample, **{name: None}).has_times


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"video_fps": 0}, "video_fps is 0; give a number"),
        ({"video_fps": "fast"}, "video_fps is 'fast'; give a number"),
        ({"frame_seconds": 3.0}, "give the time of each"),
        ({"frame_seconds": (0.0, 1.0)}, "give a time for each of the 3 frames"),
        ({"frame_seconds": (0.0, 2.0, 1.0)}, "are not numbers in order"),
        ({"frame_seconds": (0.0, 2.0, "x")}, "are not numbers in order"),
        ({"frame_seconds": (0.0, 1.0, 2.0), "video_fps": 1}, "give one of the two"),
        ({"video_fps": 1, "media": (Media(path="a.mp4"),)}, "a file says it by itself"),
    ],
)
def test_times_that_cannot_be_are_refused(fields, found):
    with pytest.raises(RecordError, match=found):
        make_sample(**{"media": tuple(Media(path=f"{number}.png") for number in range(3)), **fields})


def test_rows_there_and_back():
    sample = make_sample(media=(Media(path="a.mp4", content=b"abc"),), frame_range=(3, 9))
    row = sample.to_row()
    assert list(row) == ["id", "source", "task", "media_type", "media", "frame_range", *TIMES, "messages"]
    assert Sample.from_row({**row, "surplus": 1}) == sample
    assert Sample.from_row(make_text("Hi", "Hello").to_row()) == make_text("Hi", "Hello")
    with pytest.raises(RecordError, match="encode them"):
        make_sample(media=(Media(frames=np.zeros((2, 4, 4, 3), dtype=np.uint8)),)).to_row()


def test_rows_pass_through_arrow():
    datasets = pytest.importorskip("datasets")
    rows = [
        make_sample(media=(Media(content=b"\0\xff"),), frame_range=(3, 9)).to_row(),
        make_text("Hi", "Hey").to_row(),
    ]
    stored = datasets.Dataset.from_list(rows, features=get_features())
    assert stored.features == get_features()
    assert list(stored) == rows
    assert [Sample.from_row(row).to_row() for row in stored] == rows


def test_messages_put_media_at_the_front():
    sample = make_sample(frame_range=(3, 9))
    block = {"type": "video", "video": "a.mp4", "frame_range": [3, 9]}
    assert sample.to_messages() == [
        {"role": "user", "content": [block, {"type": "text", "text": "When?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "{<t=0.1><t=0.5>}"}]},
    ]
    assert sample.to_messages(["other"])[0]["content"][0]["video"] == "other"
    assert json.loads(json.dumps(sample.to_messages())) == sample.to_messages()


def test_messages_put_media_where_the_text_says():
    media = (Media(path="a.png"), Media(content=b"b"))
    texts = ("Is <image>\nlike", "No.", "And now <image>?", "Yes.")
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=True)]
    messages[0]["content"] += " that?"
    first, _, third, _ = make_sample(
        task="conversation", media_type="image", media=media, messages=tuple(messages)
    ).to_messages()
    assert first["content"] == [
        {"type": "text", "text": "Is "},
        {"type": "image", "image": "a.png"},
        {"type": "text", "text": "like that?"},
    ]
    assert [block["type"] for block in third["content"]] == ["text", "image", "text"]
    assert third["content"][1]["image"] == b"b"


@pytest.mark.parametrize("question", ["<image>", "<video> <video>", "<image><video>"])
def test_placeholders_fit_the_media(question):
    with pytest.raises(RecordError, match="placeholders"):
        make_sample(messages=({**QUESTION, "content": question + " When?"}, ANSWER))


def test_pictures_of_a_clip_are_one_block():
    sample = make_sample(media=(Media(path="1.png"), Media(path="2.png")))
    assert sample.to_messages()[0]["content"][0] == {"type": "video", "video": ["1.png", "2.png"]}
    images = make_sample(task="dgc", media_type="image", media=sample.media)
    assert [block.get("image") for block in images.to_messages()[0]["content"]] == ["1.png", "2.png", None]


def test_a_system_message_stands_at_the_front_only():
    sample = make_text("Be brief.", "Hi", "Hello", roles=("system", "user", "assistant"))
    assert [message["role"] for message in sample.to_messages()] == ["system", "user", "assistant"]
    with pytest.raises(RecordError, match="take turns"):
        make_text("Hi", "Be brief.", "Hello", roles=("user", "system", "assistant"))


@pytest.mark.parametrize(
    "sample",
    [
        make_sample(),
        make_sample(frame_range=(3, 9)),
        make_sample(media=(Media(content=b"clip"),)),
        make_sample(media=tuple(Media(path=f"{number}.png") for number in range(3))),
        make_sample(messages=({"role": "system", "content": "Be brief."}, QUESTION, ANSWER)),
        make_sample(messages=({"role": "user", "content": "Look: <video>\nWhen?"}, ANSWER, QUESTION, ANSWER)),
        make_sample(task="rec", media_type="image", media=(Media(path="a.jpg"), Media(path="b.jpg"))),
        make_sample(
            task="igc",
            media_type="image",
            media=(Media(path="a.jpg"), Media(path="b.jpg")),
            messages=({"role": "user", "content": "<image>\nor <image>\n?"}, {"role": "assistant", "content": "a"}),
        ),
        make_text("Who?", "I."),
    ],
    ids=range(9),
)
def test_messages_and_back(sample):
    again = Sample.from_messages(sample.to_messages(), sample.id, sample.source, sample.task)
    assert again == sample


def test_messages_of_a_prompt_and_an_answer(checkpoint):
    messages = LlavaSTProcessor.from_pretrained(checkpoint).build_messages("tvg", video="a.mp4", query="the dog barks")
    sample = Sample.from_messages([*messages, ANSWER], "1", "kitchen", "tvg")
    assert sample.media == (Media(path="a.mp4"),)
    assert "'the dog barks'" in sample.messages[0]["content"] and sample.messages[1] == ANSWER


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "messages[0].content holds None"),
        ([{"type": "audio", "audio": "a.wav"}], "give blocks of type text, image or video"),
        ([{"type": "video"}], "messages[0].content holds {'type': 'video'}"),
        (
            [{"type": "video", "video": "a.mp4"}, {"type": "image", "image": "b.jpg"}],
            "hold ['video', 'image']: give one video",
        ),
        ([{"type": "video", "video": "a.mp4"}] * 2, "give one video, or images alone"),
        ([{"type": "video", "video": 3}], "media is 3: give a uint8 array"),
    ],
)
def test_messages_that_are_no_record(content, words):
    with pytest.raises(RecordError) as caught:
        Sample.from_messages([{"role": "user", "content": content}, ANSWER], "1", "kitchen", "tvg")
    assert words in str(caught.value)
