import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from video_files import encode

from llava_st_hf import LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.mixture_spec import MixtureSpec
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset
from llava_st_hf.data.skips import RecordError, SkippedRecord, SkipReport, TooManySkipsError, read_skip_report
from llava_st_hf.data.tools.check import (
    CheckSummary,
    ChosenRecords,
    CoordinateRange,
    TokenCounter,
    check_media,
    check_records,
    summarize_counts,
)
from llava_st_hf.processing.media_llava_st import InputError

BLACK = (Media(frames=np.zeros((8, 8, 3), dtype=np.uint8)),)


def make(task="tvg", media_type="video", media=(), question="When?", answer="{<t=0.25><t=0.5>}", **fields):
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    fields = {"id": "1", "source": "kitchen", "messages": messages, **fields}
    return Sample(task=task, media_type=media_type, media=media, **fields)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """A clip of 20 seconds, a frame a second."""
    path = tmp_path_factory.mktemp("long") / "a.mp4"
    return encode(path, num_frames=20, pts=list(range(20)), time_base=Fraction(1, 1), params="bframes=0")


def check(records, **options):
    return check_records(records, SkipReport(max_skip_share=1), **options)


def test_a_level_of_decoding_that_there_is_not(records):
    with pytest.raises(InputError, match="decode is 'headers': give one of none, header, full"):
        check(records, decode="headers")


def test_counts_and_skips_by_source(records, tmp_path):
    report = SkipReport(tmp_path / "skipped.jsonl", max_skip_share=1)
    summary = check_records(records, report)
    assert summary.counts["kitchen", "tvg"] == 2
    assert summary.counts["photographs", "stvg"] == 1
    assert summary.skips == {("kitchen", "missing_media"): 1, ("kitchen", "empty_media"): 1}
    assert (summary.num_used, summary.num_skipped, summary.skip_share) == (9, 2, 2 / 11)
    assert (report.num_used, report.num_skipped) == (9, 2)
    assert [note.id for note in read_skip_report(tmp_path / "skipped.jsonl")] == ["gone", "empty"]


def test_ids_that_repeat_are_a_warning():
    records = [make(media=BLACK, id=name) for name in ("1", "2", "1", "3", "1")]
    records.append(make(media=BLACK, id="2", source="elsewhere"))
    summary = check(records, decode="none")
    assert summary.num_used == 6
    assert summary.warnings["kitchen", "repeated_id"] == 3
    assert ("elsewhere", "repeated_id") not in summary.warnings


def test_many_processes_find_what_one_finds(records, processor):
    many = records * 12
    alone, together = check(many, processor=processor), check(many, processor=processor, num_workers=2)
    assert together == alone
    assert alone.num_used == 9 * 12


def test_a_report_may_stop_it(records):
    with pytest.raises(TooManySkipsError):
        check_records(records, SkipReport(required_sources=["kitchen"]))


class Interrupted(list):
    """Records of which the 130th is never reached, as by Ctrl-C."""

    def __getitem__(self, index):
        if index == 130:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_interrupted_check_says_what_it_saw(records):
    summary, done = CheckSummary(), []
    with pytest.raises(KeyboardInterrupt):
        check_records(Interrupted(records[4:5] * 200), SkipReport(), summary=summary, progress=done.append)
    assert sum(done) == summary.num_used == 128


@pytest.mark.parametrize("task", sorted(SHAPES_TASKS))
def test_tokens_are_those_of_a_batch_for_training(processor, task):
    sample = ShapesDataset([task], num_samples=1, seed=3)[0]
    batch = LlavaSTDataCollator(processor)([sample])
    assert TokenCounter(processor).count(sample) == batch["input_ids"].shape[1]


def test_tokens_of_several_images_and_of_text(processor, records):
    collator, counter = LlavaSTDataCollator(processor), TokenCounter(processor)
    for sample in (records[2], records[3], records[4]):
        assert counter.count(sample) == collator([sample])["input_ids"].shape[1]


def test_tokens_of_a_clip_sampled_at_a_rate(checkpoint, clip):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    processor.video_processor.num_frames, processor.video_processor.fps = None, 2.0
    sample = make(media=(Media(path=str(clip)),))
    counted = TokenCounter(processor).count(sample)
    assert counted == LlavaSTDataCollator(processor)([sample])["input_ids"].shape[1]
    summary = check([sample], processor=processor, decode="full")
    assert summary.num_tokens == {"tvg": Counter({counted: 1})}


def test_published_positions_that_carry_no_picture_count(checkpoint, records):
    processor = LlavaSTProcessor.from_pretrained(checkpoint)
    with_fast = TokenCounter(processor).count(records[0])
    processor.splice_fast_tokens = False
    processor.tokenizer.add_tokens(["<vid_start>", "<vid_patch>", "<vid_end>"])
    assert TokenCounter(processor).count(records[0]) == with_fast


def test_a_record_longer_than_the_context_is_left_out(processor, clip):
    sample = make("conversation", "text", question="why " * 5000, answer="So.")
    summary = check([sample], processor=processor)
    assert summary.skips == {("kitchen", "too_long"): 1}
    assert summary.num_tokens == {} and summary.counts == {}
    assert check([sample]).num_used == 1


def write_broken(path, clip):
    if path.name == "huge.png":
        Image.new("1", (12_000, 12_000)).save(path)
    elif path.name == "cut.png":
        Image.effect_noise((64, 64), 50).convert("RGB").save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif path.name == "cut.mp4":
        path.write_bytes(clip.read_bytes()[:3000])
    elif path.stem != "missing":
        path.write_bytes(b"" if path.stem == "empty" else b"nothing to see " * 100)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        # What each of the three ways to look finds.
        ("missing.mp4", ("missing_media", "missing_media", "missing_media")),
        ("missing.png", ("missing_media", "missing_media", "missing_media")),
        ("empty.mp4", ("empty_media", "empty_media", "empty_media")),
        ("text.mp4", (None, "unreadable_media", "unreadable_media")),
        ("text.png", (None, "unreadable_media", "unreadable_media")),
        ("cut.mp4", (None, "unreadable_media", "unreadable_media")),
        ("huge.png", (None, "oversized_media", "oversized_media")),
        ("cut.png", (None, None, "unreadable_media")),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_media_by_reason(tmp_path, clip, name, reasons):
    path = tmp_path / name
    write_broken(path, clip)
    is_image = name.endswith(".png")
    sample = make(*(("conversation", "image") if is_image else ("tvg", "video")), media=(Media(path=str(path)),))
    for decode, reason in zip(("none", "header", "full"), reasons, strict=True):
        if reason is None:
            check_media(sample, decode)
            continue
        with pytest.raises(RecordError) as error:
            check_media(sample, decode)
        assert error.value.reason == reason
        if path.exists():
            with pytest.raises(RecordError) as error:
                check_media(replace(sample, media=(Media(content=path.read_bytes()),)), decode)
            assert error.value.reason == reason


def test_a_look_at_the_headers_decodes_nothing(monkeypatch, clip, pictures):
    monkeypatch.setattr("llava_st_hf.data.tools.check.load_media", lambda *arguments: pytest.fail("decoded"))
    check_media(make(media=(Media(path=str(clip)),)), "header")
    check_media(make(media=tuple(Media(path=path) for path in pictures)), "header")


def test_frames_outside_the_clip_are_found_by_decoding(clip):
    sample = make(media=(Media(path=str(clip)),), frame_range=(0, 4000))
    assert check([sample], decode="full").skips == {("kitchen", "empty_media"): 1}


def test_times_outside_the_clip_are_found_by_decoding(clip):
    sample = make(media=(Media(path=str(clip)),), answer="{<t=1s><t=90s>}")
    assert check([sample], decode="full").skips == {("kitchen", "invalid_field"): 1}
    assert check([sample], decode="header").num_used == 1


def test_coordinates_by_axis_and_unit(clip):
    media = (Media(path=str(clip)),)
    records = [
        make(media=media, answer="{<t=0.25><t=1.0>}"),
        make(media=media, answer="{<t=0s><t=3.5s>}"),
        make(
            "rec",
            "image",
            (Media(frames=np.zeros((8, 8, 3), dtype=np.uint8)),),
            "Where?",
            "[<x=0><y=0.5><x=0.75><y=1>]",
        ),
    ]
    found = check(records).coordinates
    assert found["t", "fraction"] == CoordinateRange(2, 0.25, 1.0, 1)
    assert found["t", "seconds"] == CoordinateRange(2, 0.0, 3.5, 1)
    assert found["x", "fraction"] == CoordinateRange(2, 0.0, 0.75, 1)
    assert found["y", "fraction"] == CoordinateRange(2, 0.5, 1.0, 1)
    assert found["t", "fraction"].share_at_edges == 0.5


def test_answers_that_do_not_fit_their_task_are_warned_of(clip):
    media = (Media(path=str(clip)),)
    summary = check(
        [
            make(media=media, id="good"),
            make(media=media, id="words", answer="At noon."),
            make(media=media, id="more", answer="Then."),
            make(media=media, id="two", answer="{<t=0.1><t=0.2>} {<t=0.3><t=0.4>}"),
        ]
    )
    assert summary.num_used == 4
    assert summary.warnings == {("kitchen", "missing_span"): 2, ("kitchen", "extra_span"): 1}
    assert summary.examples["kitchen", "missing_span"].startswith("record 'words': ")


def test_what_a_reader_put_right_is_counted(clip):
    media = (Media(path=str(clip)),)
    notes = (("clamped_coordinate", "variables.a[0] is 1.02, which counts as the edge"),)
    summary = check([make(media=media, id="a", notes=notes), make(media=media, id="b")])
    assert summary.warnings == {("kitchen", "clamped_coordinate"): 1}
    assert summary.examples["kitchen", "clamped_coordinate"].startswith("record 'a': variables.a[0] is 1.02")


def test_units_of_a_source_that_may_be_others_are_warned_of(tmp_path, long_clip):
    media = (Media(path=str(long_clip)),)
    short = [make(media=media, id=str(n), answer=f"{{<t=0.{n}><t=0.{n}4>}}") for n in range(1, 4)]
    for decode in ("header", "full"):
        assert check(short, decode=decode).warnings == {("kitchen", "short_spans"): 3}
    assert not check(short, decode="none").warnings
    assert not check([*short, make(media=media, id="long", answer="{<t=0.1><t=0.9>}")]).warnings


def test_a_conversation_need_not_point_at_something_in_every_turn():
    texts = ("What is there?", "A dog [<x=0.1><y=0.1><x=0.5><y=0.5>].", "Is it large?", "Yes.")
    turns = tuple({"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(texts))
    assert not check([make("igc", "image", BLACK, messages=turns)]).warnings
    assert check([make("igc", "image", BLACK, messages=turns[2:])]).warnings == {("kitchen", "missing_box"): 1}


def test_a_damaged_clip_that_can_be_read_is_warned_of(clip):
    data = bytearray(clip.read_bytes())
    start = data.index(b"mdat") + len(data) // 3
    data[start : start + 400] = bytes(400)
    summary = check([make(media=(Media(content=bytes(data)),))], decode="full")
    assert summary.warnings["kitchen", "damaged_media"] == 1


def test_summaries_of_parts_make_the_whole(records):
    whole, parts = check(records), CheckSummary()
    for half in (records[:5], records[5:]):
        parts.merge(check(half))
    assert parts == whole
    assert json.loads(json.dumps(whole.to_dict()))["num_used"] == 9


@pytest.mark.parametrize("numbers", [[7], [1, 2], list(range(100)), [1] * 96 + [9] * 4])
def test_quantiles_of_counts(numbers):
    expected = np.quantile(numbers, (0, 0.5, 0.95, 1), method="inverted_cdf")
    assert list(summarize_counts(Counter(numbers)).values()) == expected.tolist()


def write_canonical(path, ids, source="s"):
    rows = []
    for name in ids:
        sample = make("conversation", "text", id=name, source=source, question="Why?", answer="Because.")
        rows.append(json.dumps(sample.to_row()))
    path.write_text("\n".join(rows) + "\n")


def test_a_mixture_is_read_once_as_it_was_chosen(tmp_path):
    write_canonical(tmp_path / "a.jsonl", [f"a{k}" for k in range(10)])
    write_canonical(tmp_path / "b.jsonl", ["b0", "b1"])
    (tmp_path / "empty.jsonl").write_text("")
    content = {
        "datasets": [
            {"json_path": "a.jsonl", "sampling_strategy": "end:3", "weight": 5},
            {"json_path": "b.jsonl"},
            {"json_path": "a.jsonl", "sampling_strategy": "random:20%", "seed": 4},
        ]
    }
    records = ChosenRecords(MixtureSpec.from_dict(content, tmp_path))
    ids = [records[index].id for index in range(len(records))]
    assert ids[:5] == ["a7", "a8", "a9", "b0", "b1"]
    assert len(ids) == 7 and set(ids[5:]) <= {f"a{k}" for k in range(10)}
    with pytest.raises(IndexError):
        records[7]
    assert not any(isinstance(records[index], SkippedRecord) for index in range(7))


def test_a_mixture_that_cannot_be_opened_names_the_source(tmp_path):
    spec = MixtureSpec.from_dict({"datasets": [{"json_path": "missing.jsonl", "source": "gone"}]}, tmp_path)
    with pytest.raises(InputError, match="'gone'"):
        ChosenRecords(spec)
