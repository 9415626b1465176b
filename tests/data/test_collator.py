"""From records to batches: what the model gets, what is learnt, and what becomes of records that cannot be used."""

import io
import json
import math
import os
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data import media_loading
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.readers.st_align import StAlignReader
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.skips import SkippedRecord, SkipReport, TooManySkipsError, count_notes, read_skip_report
from llava_st_hf.processing import video_processing_llava_st
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.notation_llava_st import NOTATION

pytestmark = pytest.mark.usefixtures("one_thread")
TENSORS = ("input_ids", "attention_mask", "labels", "coordinate_offsets")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file of 64x48 noise."""
    path = tmp_path_factory.mktemp("picture") / "noise.png"
    Image.fromarray(draw(48, 64)).save(path)
    return path


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def make_sample(*media: Media, answer: str = "{<t=0.12><t=0.47>}", question: str = "When?", **fields) -> Sample:
    defaults = {"id": "1", "source": "kitchen", "task": "conversation", "media_type": "video" if media else "text"}
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Sample(**{**defaults, "media": media, "messages": messages, **fields})


@pytest.fixture
def mixed(clip, picture):
    """Records of every form that media have."""
    file, image = Media(path=str(clip)), Media(path=str(picture))
    return [
        make_sample(file),
        make_sample(answer="It is 4."),
        make_sample(image, media_type="image", answer="[<x=0.1><y=0.2><x=0.55><y=0.875>]"),
        make_sample(Media(path="name only.mp4", content=clip.read_bytes()), frame_range=(3, 12)),
        make_sample(
            image,
            Media(content=picture.read_bytes()),
            media_type="image",
            question="Is <image>\nlike <image>\n?",
            answer="Yes, they are the same picture, pixel by pixel.",
        ),
        make_sample(Media(frames=draw(30, 36, 40)), video_fps=10.0, answer="From <t=1.5s> on."),
        make_sample(Media(frames=draw(20, 30)), media_type="image"),
    ]


def process_alone(processor, sample: Sample) -> dict:
    """What the processor makes of the record as a user would hand it over."""
    return processor.apply_chat_template(sample.to_messages(), tokenize=True, return_dict=True, return_tensors="pt")


def decode_labels(processor, labels: torch.Tensor) -> str:
    return processor.tokenizer.decode(labels[labels != -100])


def test_a_mixed_batch_is_what_the_processor_makes_of_each(processor, mixed):
    batch = LlavaSTDataCollator(processor)(mixed)
    images, clips = [], []
    for row, sample in enumerate(mixed):
        alone = process_alone(processor, sample)
        length = alone["input_ids"].shape[1]
        for name in ("input_ids", "coordinate_offsets"):
            torch.testing.assert_close(batch[name][row, :length], alone[name][0], rtol=0, atol=0)
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
        assert batch["input_ids"][row, length:].eq(processor.tokenizer.pad_token_id).all()
        assert batch["labels"][row, length:].eq(-100).all()
        assert batch["coordinate_offsets"][row, length:].eq(0).all()
        images += list(alone.get("pixel_values", ()))
        clips += list(alone.get("pixel_values_videos", ()))
    torch.testing.assert_close(batch["pixel_values"], torch.stack(images), rtol=0, atol=0)
    torch.testing.assert_close(batch["pixel_values_videos"], torch.stack(clips), rtol=0, atol=0)
    assert "video_num_frames" not in batch
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        **dict.fromkeys(("input_ids", "attention_mask", "labels"), torch.int64),
        **dict.fromkeys(("coordinate_offsets", "pixel_values", "pixel_values_videos"), torch.float32),
    }


def test_the_loss_of_a_mixed_batch_is_that_of_its_samples(processor, model, mixed):
    collator = LlavaSTDataCollator(processor)
    rows = [collator([sample]) for sample in mixed]
    counts = [int((row["labels"] != -100).sum()) for row in rows]
    with torch.no_grad():
        together = model(**collator(mixed)).loss
        alone = sum(model(**row).loss * count for row, count in zip(rows, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_labels_are_what_the_assistant_says(processor, clip):
    messages = (
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Who is it? At <t=0.5>?"},
        {"role": "assistant", "content": "A child at <t=0.25>."},
        {"role": "user", "content": "And in <video>\nafter {<t=0.1><t=0.2>}?"},
        {"role": "assistant", "content": "{<t=0.5><t=1>}, a dog."},
    )
    batch = LlavaSTDataCollator(processor)([make_sample(Media(path=str(clip)), messages=messages)])
    assert decode_labels(processor, batch["labels"][0]) == (
        "A child at <t_24>.<|im_end|>{<t_49><t_99>}, a dog.<|im_end|>"
    )
    learnt = batch["labels"] != -100
    assert torch.equal(batch["labels"][learnt], batch["input_ids"][learnt])
    assert not torch.isin(batch["labels"], torch.tensor([processor.image_token_id, processor.video_token_id])).any()


def test_coordinates_are_soft_targets(processor):
    """A fraction p of N tokens is the label k and the offset r with p (N - 1) = k + r."""
    fractions = {"t": [0.0, 0.1234567, 0.5, 1.0], "y": [0.031, 0.97], "x": [0.999999, 0.25]}
    answer = " ".join(f"<{axis}={value}>" for axis, values in fractions.items() for value in values)
    batch = LlavaSTDataCollator(processor)([make_sample(answer=answer)])
    ids = batch["labels"][0] - processor.coordinate_token_offset
    is_coordinate = (ids >= 0) & (batch["labels"][0] != -100)
    axes = [axis for axis, values in fractions.items() for _ in values]
    expected = [value * 99 + 100 * "tyx".index(axis) for axis, values in fractions.items() for value in values]
    assert len(axes) == int(is_coordinate.sum())
    bins, offsets = ids[is_coordinate], batch["coordinate_offsets"][0][is_coordinate]
    assert bins.tolist() == [math.floor(value) for value in expected]
    np.testing.assert_allclose(offsets.numpy(), [value - math.floor(value) for value in expected], atol=1e-6)


def test_clips_of_different_lengths(checkpoint, model, clip):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    processor.video_processor.num_frames, processor.video_processor.fps = None, 5
    samples = [make_sample(Media(path=str(clip)), frame_range=limits) for limits in ((0, 9), (0, 39), (7, 7))]
    collator = LlavaSTDataCollator(processor)
    batch = collator(samples)
    assert batch["video_num_frames"].tolist() == [5, 20, 1]
    assert batch["pixel_values_videos"].shape[:2] == (3, 20)
    assert not batch["pixel_values_videos"][0, 5:].any() and batch["pixel_values_videos"][0, :5].any()
    with torch.no_grad():
        alone = torch.stack([model(**collator([sample])).loss for sample in samples]).mean()
        torch.testing.assert_close(model(**batch).loss, alone, rtol=1e-5, atol=1e-6)


def test_num_frames(processor, clip):
    collator = LlavaSTDataCollator(processor, num_frames=7)
    assert collator([make_sample(Media(path=str(clip)))])["pixel_values_videos"].shape[:2] == (1, 7)


def test_frames_kept_as_pictures(processor, tmp_path, monkeypatch):
    """They are one clip, sampled like one, and only what is sampled is opened."""
    frames = draw(60, 33, 47)
    media = []
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{index}.png")
        media.append(Media(path=str(tmp_path / f"{index}.png")))
    opened = []
    monkeypatch.setattr(media_loading, "open_image", lambda picture: opened.append(picture) or picture.copy())
    collator = LlavaSTDataCollator(processor, num_frames=6)
    for limits in (None, (10, 40)):
        opened.clear()
        batch = collator([make_sample(*media, frame_range=limits)])
        expected = collator([make_sample(Media(frames=frames), frame_range=limits)])
        torch.testing.assert_close(batch["pixel_values_videos"], expected["pixel_values_videos"], rtol=0, atol=0)
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert len(opened) == 6
    few = collator([make_sample(*media[:2])])["pixel_values_videos"][0]
    assert torch.equal(few[0], few[2]) and torch.equal(few[3], few[5]) and not torch.equal(few[2], few[3])


def test_every_clip_is_decoded_once(processor, clip, monkeypatch):
    read, calls = video_processing_llava_st.read_video, []

    def count(source, **options):
        calls.append(source)
        return read(source, **options)

    monkeypatch.setattr(video_processing_llava_st, "read_video", count)
    sample = make_sample(Media(path=str(clip)))
    LlavaSTDataCollator(processor)([sample, sample])
    assert calls == [str(clip)] * 2
    calls.clear()
    collator = LlavaSTDataCollator(processor, max_length=50)
    collator([sample])
    assert not calls and dict(collator.skip_report.counts) == {("kitchen", "too_long"): 1}


def test_rows_are_read_as_records(processor, clip):
    collator = LlavaSTDataCollator(processor)
    sample = make_sample(Media(path=str(clip)), frame_range=(0, 20))
    expected = collator([sample])
    batch = collator([sample.to_row()])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


# --------------------------------------------------------------------------------------------------
# Records that cannot be used
# --------------------------------------------------------------------------------------------------
def make_bad_samples(folder, clip, picture) -> dict[str, tuple[str, str, Sample]]:
    """Return for each fault the reason, words of the message and the record."""
    (folder / "text.mp4").write_text("no video")
    (folder / "text.png").write_text("no picture")
    (folder / "empty.mp4").touch()
    (folder / "cut.png").write_bytes(picture.read_bytes()[:200])
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.mp4")
    huge = io.BytesIO()
    Image.new("1", (20_000, 8_000)).save(huge, "PNG")

    def video(path, **fields):
        return make_sample(Media(path=str(path)), **fields)

    def image(*paths, **fields):
        return make_sample(*(Media(path=str(path)) for path in paths), media_type="image", **fields)

    return {
        "missing clip": ("missing_media", "does not exist", video(folder / "none.mp4")),
        "missing image": ("missing_media", "media[1]", image(picture, folder / "none.png")),
        "below a file": ("missing_media", "does not exist", video(clip / "a.mp4")),
        "no video": ("unreadable_media", "cannot be read as a video", video(folder / "text.mp4")),
        "no image": ("unreadable_media", "cannot identify", image(folder / "text.png")),
        "cut image": ("unreadable_media", "cut.png", image(folder / "cut.png")),
        "image as clip": ("unreadable_media", "this is an image", video(picture)),
        "folder as clip": ("unreadable_media", "is a directory", video(folder)),
        "pipe as image": ("unreadable_media", "no regular file", image(folder / "pipe.png")),
        "pipe as clip": ("unreadable_media", "no regular file", video(folder / "pipe.mp4")),
        "null in path": ("unreadable_media", "null", video("a\0.mp4")),
        "long path": ("unreadable_media", "too long", video("a" * 5000)),
        "empty file": ("empty_media", "is an empty file", video(folder / "empty.mp4")),
        "no bytes": ("empty_media", "nothing in it", make_sample(Media(content=b""))),
        "no frames": ("empty_media", "no pixels", make_sample(Media(frames=draw(0, 10, 10)))),
        "behind the end": ("empty_media", "frame_range (50, 60)", video(clip, frame_range=(50, 60))),
        "huge picture": (
            "oversized_media",
            "20000 x 8000",
            make_sample(Media(content=huge.getvalue()), media_type="image"),
        ),
        "address": ("network_media", "download it", video("https://example.org/a.mp4")),
        "data address": ("network_media", "download it", image("data:image/png;base64,AAAA")),
        "late time": ("invalid_field", "outside the clip", video(clip, answer="At <t=99s>.")),
        "wide box": ("invalid_field", "outside the frame", image(picture, answer="At <x=99px>.")),
        "no rate": ("invalid_field", "give video_fps", make_sample(Media(frames=draw(9, 9, 9)), answer="<t=1s>")),
        "sizes differ": (
            "invalid_field",
            "one size",
            make_sample(Media(frames=draw(9, 9)), Media(frames=draw(8, 9))),
        ),
        "long text": ("too_long", "model_max_length", make_sample(answer="carrots " * 9000)),
        "many images": ("too_long", "media take", image(*[picture] * 60)),
    }


BAD_SAMPLES = [
    *("missing clip", "missing image", "below a file", "no video", "no image", "cut image", "image as clip"),
    *("folder as clip", "pipe as image", "pipe as clip", "null in path", "long path", "empty file", "no bytes"),
    *("no frames", "behind the end", "huge picture", "address", "data address", "late time", "wide box", "no rate"),
    *("sizes differ", "long text", "many images"),
]


@pytest.fixture(scope="module")
def bad_samples(tmp_path_factory, clip, picture):
    samples = make_bad_samples(tmp_path_factory.mktemp("bad"), clip, picture)
    assert list(samples) == BAD_SAMPLES
    return samples


@pytest.mark.parametrize("fault", BAD_SAMPLES)
def test_a_bad_record_is_named_and_the_others_go_on(processor, bad_samples, fault, tmp_path):
    reason, words, sample = bad_samples[fault]
    collator = LlavaSTDataCollator(processor, SkipReport(tmp_path / "skipped.jsonl"))
    good = make_sample(answer="Good."), make_sample(answer="Better than good.")
    batch = collator([good[0], replace(sample, id="bad"), good[1]])
    expected = LlavaSTDataCollator(processor)(good)
    assert batch.keys() == expected.keys() and all(torch.equal(batch[name], expected[name]) for name in expected)
    (skipped,) = read_skip_report(tmp_path / "skipped.jsonl")
    assert (skipped.id, skipped.source, skipped.reason) == ("bad", "kitchen", reason)
    assert words in skipped.detail
    assert collator.skip_report.num_used == 2


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_pixels": 64 * 48 * 2 - 1}, "max_pixels=6,143"),
        ({"max_pixels": 100}, "64x48 pixels, more than max_pixels=100"),
        ({"max_file_bytes": 50}, "max_file_bytes=50"),
    ],
)
def test_limits_of_media(processor, picture, limits, words, caplog):
    pair = make_sample(*[Media(path=str(picture))] * 2, media_type="image")
    collator = LlavaSTDataCollator(processor, **limits)
    collator([pair])
    assert dict(collator.skip_report.counts) == {("kitchen", "oversized_media"): 1}
    assert words in caplog.text
    limits = {name: value + 1 for name, value in limits.items()} if "6,143" in words else {}
    assert len(LlavaSTDataCollator(processor, **limits)([pair])["pixel_values"]) == 2


def test_notes_of_readers_are_passed_on(processor, tmp_path):
    note = SkippedRecord("7", "kitchen", "outside_root", "media is '../a.mp4'")
    bad_row = {"id": "8", "source": "kitchen", "task": "tvg", "media_type": "video", "messages": []}
    collator = LlavaSTDataCollator(processor, SkipReport(tmp_path / "skipped.jsonl"))
    batch = collator([note, make_sample(), bad_row, {"id": ["9"]}])
    assert len(batch["input_ids"]) == 1
    first, second, third = read_skip_report(tmp_path / "skipped.jsonl")
    assert first == note
    assert (second.id, second.source, second.reason) == ("8", "kitchen", "missing_media")
    assert (third.id, third.source, third.reason) == ("unknown", "unknown", "invalid_field")


def test_too_many_skips_stop_the_run(processor):
    note = SkippedRecord("7", "kitchen", "missing_media", "media is 'a.mp4'")
    collator = LlavaSTDataCollator(processor, SkipReport(required_sources=["kitchen"]))
    with pytest.raises(TooManySkipsError, match="required source 'kitchen'"):
        collator([note])
    with pytest.raises(TooManySkipsError, match="100 of 100 records"):
        LlavaSTDataCollator(processor)([note] * 100)


@pytest.mark.parametrize("example", [None, 3, "text", [{"id": "1"}]])
def test_what_is_no_record_is_refused(processor, example):
    with pytest.raises(InputError, match="give a Sample"):
        LlavaSTDataCollator(processor)([example])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_length": 0}, "max_length is 0"),
        ({"num_frames": 2.5}, "num_frames is 2.5"),
        ({"max_pixels": True}, "max_pixels is True"),
        ({"skip_report": "skipped.jsonl"}, "skip_report is 'skipped.jsonl': give a SkipReport"),
    ],
)
def test_bad_arguments(processor, options, words):
    with pytest.raises(InputError, match=words):
        LlavaSTDataCollator(processor, **options)


@pytest.mark.parametrize("num_items", [None, 0, torch.tensor(0)])
def test_a_batch_of_nothing_has_no_loss_and_no_gradient(processor, checkpoint, num_items):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    batch = LlavaSTDataCollator(processor)([make_sample(Media(path="none.mp4"))])
    assert set(batch) == set(TENSORS)
    assert batch["input_ids"].shape[0] == 1 and batch["labels"].eq(-100).all() and batch["attention_mask"].all()
    loss = model(**batch, num_items_in_batch=num_items).loss
    assert loss.item() == 0
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients and not any(gradient.any() or gradient.isnan().any() for gradient in gradients)


# --------------------------------------------------------------------------------------------------
# Length
# --------------------------------------------------------------------------------------------------
def cut(processor, sample: Sample, max_length: int, **options) -> dict[str, torch.Tensor]:
    return LlavaSTDataCollator(processor, max_length=max_length, truncation=True, **options)([sample])


def test_max_length_skips(processor, clip, caplog):
    sample = make_sample(Media(path=str(clip)))
    num_tokens = LlavaSTDataCollator(processor)([sample])["input_ids"].shape[1]
    assert LlavaSTDataCollator(processor, max_length=num_tokens)([sample])["input_ids"].shape[1] == num_tokens
    collator = LlavaSTDataCollator(processor, max_length=num_tokens - 1)
    assert collator([sample])["labels"].eq(-100).all()
    assert dict(collator.skip_report.counts) == {("kitchen", "too_long"): 1}
    num_media = 20 + 4 * 9
    assert f"has {num_tokens} tokens ({num_media} of media, {num_tokens - num_media} of text)" in caplog.text


def is_torn(text: str) -> bool:
    """Return whether a text ends inside a span, a box or an entry of a tube."""
    is_open = any(text.count(start) != text.count(end) for start, end in ("{}", "[]"))
    return is_open or re.search(r"<t_\d+>\s*:?\s*$", text) is not None


def test_truncation_cuts_the_end_outside_of_groups(processor, clip):
    """At every length the kept tokens are the first ones, and no span, box or entry of a tube is torn."""
    answer = (
        "A bat {<t=0.1><t=0.5>} <t=0.1>:[<x=0.1><y=0.2><x=0.3><y=0.4>], <t=0.2>:[<x=0.2><y=0.2><x=0.3><y=0.4>]. Then "
        "it falls at [<x=0.2>, <y=0.3>, <x=0.4>, <y=0.6>] and the child picks it up."
    )
    sample = make_sample(Media(path=str(clip)), answer=answer)
    whole = LlavaSTDataCollator(processor)([sample])
    num_tokens = whole["input_ids"].shape[1]
    first = int((whole["labels"][0] != -100).nonzero()[0])
    kept = set()
    for limit in range(first + 1, num_tokens):
        batch = cut(processor, sample, limit)
        length = batch["input_ids"].shape[1]
        assert length <= limit
        for name in TENSORS:
            assert torch.equal(batch[name], whole[name][:, :length])
        text = decode_labels(processor, batch["labels"][0])
        assert not is_torn(text), text
        kept.add(length)
        if not is_torn(decode_labels(processor, whole["labels"][0, :limit])):
            assert length == limit
    assert len(kept) > 20
    assert torch.equal(cut(processor, sample, num_tokens)["input_ids"], whole["input_ids"])


def test_truncation_never_cuts_media_or_every_label(processor, clip, caplog):
    sample = make_sample(Media(path=str(clip)), question="When? " + "Tell me. " * 20)
    whole = LlavaSTDataCollator(processor)([sample])
    first = int((whole["labels"][0] != -100).nonzero()[0])
    assert cut(processor, sample, first)["labels"].eq(-100).all()
    assert "leaves no label" in caplog.text
    last_medium = int((whole["input_ids"][0] == processor.video_token_id).nonzero()[-1])
    for limit in (last_medium, last_medium + 1, 20):
        assert "pixel_values_videos" not in cut(processor, sample, limit)
    late = replace(
        sample,
        messages=(
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Good day"},
            {"role": "user", "content": "<video>\nWhen?"},
            {"role": "assistant", "content": "Now."},
        ),
    )
    whole = LlavaSTDataCollator(processor)([late])
    last_medium = int((whole["input_ids"][0] == processor.video_token_id).nonzero()[-1])
    assert "pixel_values_videos" not in cut(processor, late, last_medium)
    batch = cut(processor, late, last_medium + 1)
    assert decode_labels(processor, batch["labels"][0]) == "Good day<|im_end|>"
    assert "pixel_values_videos" in batch


def test_truncation_of_a_text_beyond_the_context(processor):
    batch = LlavaSTDataCollator(processor, truncation=True)([make_sample(answer="carrots " * 9000)])
    assert batch["input_ids"].shape[1] == processor.tokenizer.model_max_length


def test_truncation_from_the_left_is_refused(checkpoint):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    processor.tokenizer.truncation_side = "left"
    with pytest.raises(InputError, match="truncation_side is 'left'"):
        LlavaSTDataCollator(processor, truncation=True)


# --------------------------------------------------------------------------------------------------
# In a DataLoader and in TRL's trainer
# --------------------------------------------------------------------------------------------------
def test_workers_give_the_same_batches(processor, mixed, tmp_path):
    records = [*mixed, make_sample(Media(path="none.mp4"), id="bad")]
    batches, reports = [], []
    for num_workers in (0, 2):
        path = tmp_path / f"{num_workers}.jsonl"
        collator = LlavaSTDataCollator(processor, SkipReport(path))
        batches.append(list(DataLoader(records, batch_size=3, collate_fn=collator, num_workers=num_workers)))
        reports.append(read_skip_report(path))
    assert [len(part) for part in batches] == [3, 3] and reports[0] == reports[1] and len(reports[0]) == 1
    for here, there in zip(*batches, strict=True):
        assert here.keys() == there.keys() and all(torch.equal(here[name], there[name]) for name in here)


@pytest.mark.slow  # after an error a DataLoader waits seconds for its workers
def test_a_stop_in_a_worker_keeps_its_kind(processor):
    collator = LlavaSTDataCollator(processor, SkipReport(required_sources=["kitchen"]))
    loader = DataLoader([make_sample(Media(path="none.mp4"))], collate_fn=collator, num_workers=1)
    with pytest.raises(TooManySkipsError, match="required source"):
        next(iter(loader))


def test_pickling(processor, mixed):
    collator = LlavaSTDataCollator(processor, SkipReport(max_skip_share=0.5), max_length=300)
    expected = collator(mixed)
    batch = pickle.loads(pickle.dumps(collator))(mixed)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_spawned_workers(processor, mixed):
    collator = LlavaSTDataCollator(processor)
    loader = DataLoader(mixed, batch_size=4, collate_fn=collator, num_workers=2, multiprocessing_context="spawn")
    batches = list(loader)
    for batch, part in zip(batches, (mixed[:4], mixed[4:]), strict=True):
        expected = collator(part)
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def make_trainer(checkpoint, processor, dataset, folder, **arguments):
    datasets = pytest.importorskip("datasets")
    trl = pytest.importorskip("trl")
    from transformers import Trainer

    class LossOfTheModel(trl.SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return Trainer.compute_loss(self, model, inputs, return_outputs, num_items_in_batch)

    config = trl.SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=1,
        logging_steps=1,
        learning_rate=0.0,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        packing=False,
        **arguments,
    )
    is_stream = isinstance(dataset, datasets.IterableDataset)
    trainer = LossOfTheModel(
        model=LlavaSTForConditionalGeneration.from_pretrained(checkpoint),
        args=config,
        data_collator=LlavaSTDataCollator(processor),
        # Its constructor takes data sets of `datasets` only; the rest of it takes any.
        train_dataset=dataset if is_stream else datasets.Dataset.from_list([{"messages": []}]),
        processing_class=processor,
    )
    trainer.train_dataset = dataset
    return trainer


@pytest.mark.parametrize("form", ["records", "stream of rows"])
def test_trl_reports_the_loss_of_the_model(checkpoint, processor, model, mixed, tmp_path, form):
    datasets = pytest.importorskip("datasets")
    samples = [*mixed[:3], make_sample(Media(path="none.mp4"))]
    dataset = samples
    arguments = {"gradient_accumulation_steps": 1, "data_seed": 0, "train_sampling_strategy": "sequential"}
    if form == "stream of rows":
        dataset = datasets.IterableDataset.from_generator(iter_rows, gen_kwargs={"samples": samples})
    trainer = make_trainer(checkpoint, processor, dataset, tmp_path, **arguments)
    trainer.train()
    with torch.no_grad():
        expected = model(**LlavaSTDataCollator(processor)(samples)).loss.item()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-5)
    assert trainer.data_collator.skip_report.num_skipped == 1


def iter_rows(samples):
    yield from (sample.to_row() for sample in samples)


def test_trl_goes_on_over_a_batch_of_nothing(checkpoint, processor, tmp_path):
    dataset = [make_sample(Media(path="none.mp4"))] * 4
    trainer = make_trainer(checkpoint, processor, dataset, tmp_path)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == 0 and trainer.state.log_history[0]["grad_norm"] == 0


# --------------------------------------------------------------------------------------------------
# Real clips
# --------------------------------------------------------------------------------------------------
def test_real_annotations_come_back_in_pixels_and_seconds(processor, real_media_dir):
    """Boxes in pixels and spans in seconds, through the collator and back from its ids and offsets."""
    rows = [json.loads(line) for line in (real_media_dir / "annotations.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("boxes_by_second") or row.get("span_seconds")]
    assert len(rows) >= 15
    collator = LlavaSTDataCollator(processor, num_frames=4)
    paths = {str(real_media_dir / row["file"]) for row in rows}
    known = {path: process_alone(processor, make_sample(Media(path=path))).media[0][0] for path in paths}
    for row in rows:
        path = str(real_media_dir / row["file"])
        info = known[path]
        # One annotation ends behind its clip, another begins before the first frame.
        start, end = (min(max(value, info.start_seconds), info.end_seconds) for value in row["span_seconds"])
        answer = f"{{<t={start}s><t={end}s>}}"
        for second, (x1, y1, x2, y2) in row.get("boxes_by_second", {}).items():
            answer += f" <t={second}s>:[<x={x1}px><y={y1}px><x={x2}px><y={y2}px>]"
        batch = collator([make_sample(Media(path=path), question=row["query"], answer=answer)])
        learnt = batch["labels"][0] >= processor.coordinate_token_offset
        bins = batch["labels"][0][learnt] - processor.coordinate_token_offset
        fractions = (bins % 100 + batch["coordinate_offsets"][0][learnt].double()) / 99
        asked = NOTATION.find_coordinates(answer)
        assert len(asked) == len(fractions)
        for coordinate, fraction in zip(asked, fractions.tolist(), strict=True):
            if coordinate.kind == "t":
                expected_seconds = min(max(coordinate.value, info.start_seconds), info.end_seconds)
                assert info.seconds_at(fraction) == pytest.approx(expected_seconds, abs=1e-3)
            else:
                size = info.width if coordinate.kind == "x" else info.height
                assert fraction * size == pytest.approx(coordinate.value, abs=0.5)


def test_an_event_between_two_sampled_frames_is_learnt_at_the_nearest(processor, clip, tmp_path):
    record = {
        "video": clip.name,
        "query": "she blinks",
        "span_seconds": [1.21, 1.23],
        "boxes": {"1.21": [0, 0, 32, 24], "1.23": [32, 24, 64, 48]},
    }
    (tmp_path / "mine.jsonl").write_text(json.dumps(record))
    (sample,) = UserJsonlReader(tmp_path / "mine.jsonl", "mine", clip.parent, num_frames=3)
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=0)
    batch = LlavaSTDataCollator(processor, report, num_frames=3)([sample])
    assert (report.num_used, report.num_skipped) == (1, 0)
    learnt = processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] >= 0])
    assert learnt.count("<t_") == 3 and learnt.count("<x_") == 2  # a span, and one box


def test_coordinates_that_were_put_right_are_counted_in_the_report(processor, clip, tmp_path):
    record = {
        "id": 7,
        "video": clip.name,
        "conversations": [
            {"from": "human", "value": "<video>\nWhen?"},
            {"from": "gpt", "value": "{<TEMP-OUTPUT><TEMP-OUTPUT>}"},
        ],
        "variables": {"temporal_output_locations": [0.5, 1.02]},
    }
    far = {**record, "id": 8, "variables": {"temporal_output_locations": [0.5, 1.2]}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(far))
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=1)
    LlavaSTDataCollator(processor, report)(list(StAlignReader(tmp_path / "a.jsonl", "kitchen", clip.parent)))
    assert (report.num_used, report.num_skipped) == (1, 1)
    assert count_notes(report.path) == {("kitchen", "clamped_coordinate"): 1}
    (skipped,) = read_skip_report(report.path)
    assert skipped.id == "8" and "variables.temporal_output_locations[1] is 1.2" in skipped.detail
