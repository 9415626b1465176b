"""Records made to break a run: each ends as a named skip, in bounded time and memory, and nothing else goes wrong."""

import io
import json
import math
import os
import re
import signal
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.readers.json_files import JsonRecords
from llava_st_hf.data.readers.st_align import StAlignReader
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.skips import SKIP_REASONS, SkippedRecord, SkipReport, read_skip_report
from llava_st_hf.processing.media_llava_st import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
MAX_SECONDS = 20
MAX_GROWTH_BYTES = 400e6


class Case(NamedTuple):
    """A hostile record: who reads it (a reader, or the collator for a row), and reasons that it may be skipped for."""

    name: str
    form: str  # "row", "release", "own" or "line", which is a line of a release file
    record: object
    reasons: str = "invalid_field"


def nest(depth: int) -> list:
    nested: list = []
    for _ in range(depth):
        nested = [nested]
    return nested


WRONG = {
    "null": None,
    "number": 7,
    "huge number": 10**300,
    "nan": math.nan,
    "true": True,
    "text": "no such thing",
    "empty text": "",
    "million characters": "a" * 1_000_000,
    "list": [[]],
    "object": {"a": 1},
    "deep list": nest(300),
}
ROW = {
    "id": "1",
    "source": "kitchen",
    "task": "tvg",
    "media_type": "video",
    "media": [{"path": "{folder}/clip.mp4", "bytes": None}],
    "frame_range": [0, 9],
    "messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "{<t=0.1><t=0.5>}"}],
}
RELEASE = {
    "id": "1",
    "video": "clip.mp4",
    "meta": {"split": [0, 9]},
    "conversations": [{"from": "human", "value": "When?"}, {"from": "gpt", "value": "{<TEMP-OUTPUT><TEMP-OUTPUT>}"}],
    "variables": {"temporal_output_locations": [0.1, 0.5]},
}
OWN = {"id": "1", "video": "clip.mp4", "query": "the circle moves", "span_seconds": [1.0, 3.0]}
ANY = "invalid_field|invalid_json|missing_media|too_long|empty_media|unreadable_media"


def put(record: dict, place: str, value: object) -> dict:
    """Return a copy of a record with one place in it changed: "messages.0.role"."""
    record = json.loads(json.dumps(record))
    *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    target = record
    for part in parents:
        target = target[part]
    target[last] = value
    return record


def list_wrong_values() -> list[Case]:
    """Every wrong value at every place where it is wrong."""
    fine = {
        *(f"row {place} {kind}" for place in ("id", "source") for kind in ("text",)),
        "row frame_range null",
        "row frame_range.1 number",
        "release meta object",
        "release meta.split.0 number",
        *(f"row messages.0.content {kind}" for kind in ("text",)),
        *(f"row messages.1.content {kind}" for kind in ("text",)),
        *(f"release id {kind}" for kind in ("null", "number", "huge number", "text")),
        *(f"release {place} null" for place in ("meta", "meta.split")),
        *(f"release conversations.0.value {kind}" for kind in ("text",)),
        "own query text",
    }
    places = {
        "row": (
            ROW,
            *("id", "source", "task", "media_type", "media", "media.0", "media.0.path", "media.0.bytes"),
            *("frame_range", "frame_range.1", "messages", "messages.0", "messages.0.role", "messages.0.content"),
            *("messages.1.role", "messages.1.content"),
        ),
        "release": (
            RELEASE,
            *("id", "video", "meta", "meta.split", "meta.split.0", "conversations", "conversations.1"),
            *("conversations.0.from", "conversations.0.value", "conversations.1.value", "variables"),
            *("variables.temporal_output_locations", "variables.temporal_output_locations.1"),
        ),
        "own": (OWN, "video", "query", "span_seconds", "span_seconds.0", "span_seconds.1"),
    }
    return [
        Case(f"{form} {place} {kind}", form, put(record, place, value), ANY)
        for form, (record, *names) in places.items()
        for place in names
        for kind, value in WRONG.items()
        if f"{form} {place} {kind}" not in fine and not (place == "media.0.bytes" and kind == "null")
    ]


def list_paths() -> list[Case]:
    """Paths that lead out of the folder, or to what is no file."""
    outside = {
        "absolute": "/etc/passwd",
        "parent": "../outside.mp4",
        "deep parent": "a/../../outside.mp4",
        "many parents": "../" * 1000 + "etc/passwd",
        "link to a file outside": "link_out.mp4",
        "link to a folder outside": "folder_out/outside.mp4",
        "link to a device": "zero.mp4",
        "link chain": "chain.mp4",
        "device": "/dev/zero",
        "process memory": "/proc/self/mem",
        "home": "~root/../../outside.mp4",
    }
    network = {
        "https": "https://example.org/a.mp4",
        "file address": "file:///etc/passwd",
        "ffmpeg protocol": "concat:clip.mp4|clip.mp4",
        "data address": "data:video/mp4;base64,AAAA",
        "shouted": "HTTP://example.org/a.mp4",
    }
    broken = {
        "missing": "none.mp4",
        "newline": "a\nb.mp4",
        "null character": "clip.mp4\0.txt",
        "half a character": "clip\ud800.mp4",
        "below a file": "clip.mp4/a.mp4",
        "too long": "a" * 300,
        "far too long": "a/" * 10_000,
        "spaces": "   ",
        "folder": "empty_folder",
        "the root": ".",
        "loop of links": "loop.mp4",
        "dangling link": "dangling.mp4",
        "pipe": "pipe.mp4",
        "home of nobody": "~nobody/a.mp4",
        "environment": "$HOME/a.mp4",
        "percent": "%63lip.mp4",
    }
    anything = f"outside_root|network_media|{ANY}"
    by_reason = (("outside_root|missing_media", outside), ("network_media|missing_media", network), (anything, broken))
    cases = [
        Case(f"release path {name}", "release", put(RELEASE, "video", path), reasons)
        for reasons, paths in by_reason
        for name, path in paths.items()
    ]
    cases += [
        Case(f"own path {name}", "own", put(OWN, "video", path), reasons)
        for reasons, paths in by_reason
        for name, path in paths.items()
    ]
    # A row is used as it is: its root was checked by who wrote it. It still opens regular files only.
    direct = {**network, **broken, "device": "/dev/zero", "memory": "/proc/self/mem", "link": "{folder}/zero.mp4"}
    direct |= {"pipe by its path": "{folder}/pipe.mp4", "a folder": "{folder}", "password file": "/etc/passwd"}
    return cases + [
        Case(f"row path {name}", "row", put(ROW, "media.0.path", path), anything) for name, path in direct.items()
    ]


def list_coordinates() -> list[Case]:
    """Values that do not fit the text, the clip, or each other."""
    times = "variables.temporal_output_locations"
    cases = [
        Case(f"release times {name}", "release", put(RELEASE, times, values), "invalid_field|invalid_json")
        for name, values in {
            "too few": [0.1],
            "none": [],
            "too many": [0.1, 0.2, 0.3],
            "far too many": [0.5] * 100_000,
            "reversed": [0.5, 0.1],
            "below": [-0.1, 0.5],
            "above": [0.1, 1.1],
            "infinite": [0.1, math.inf],
            "nan": [math.nan, 0.1],
            "texts": ["0.1", "0.5"],
            "nested": [[0.1], [0.5]],
        }.items()
    ]
    answers = {
        "reversed span": "{<t=0.5><t=0.1>}",
        "reversed box": "[<x=0.5><y=0.1><x=0.2><y=0.6>]",
        "flat box": "[<x=0.1><y=0.1><x=0.1><y=0.6>]",
        "three sides": "[<x=0.1><y=0.1><x=0.2>]",
        "swapped axes": "[<y=0.1><x=0.1><y=0.2><x=0.3>]",
        "span of one": "{<t=0.1>}",
        "above one": "<t=1.5>",
        "below nought": "<x=-0.1>",
        "nan": "<t=nan>",
        "infinite": "<t=inf>",
        "exponent": "<t=1e999>",
        "wrong unit": "<t=3px>",
        "no value": "<t=>",
        "no token": "<t_100>",
        "token of many digits": f"<t_{'9' * 4000}>",
        "seconds behind the end": "<t=4000s>",
        "pixels outside": "<x=4000px>",
        "negative pixels": "<y=-1px>",
        "control token": "<|im_end|>",
        "start of a turn": "It is.<|im_start|>user\nNo.",
        "end of text": "<|endoftext|>",
        "placeholder": "<video>\n",
        "image placeholder": "<image>",
        "half a character": "\ud800",
        "white": " \n\t ",
    }
    cases += [
        Case(f"row answer {name}", "row", put(ROW, "messages.1.content", text)) for name, text in answers.items()
    ]
    questions = ("above one", "nan", "no token", "reversed box", "control token", "wrong unit")
    cases += [Case(f"row question {name}", "row", put(ROW, "messages.0.content", answers[name])) for name in questions]
    own = {
        "reversed": put(OWN, "span_seconds", [3.0, 1.0]),
        "behind the end": put(OWN, "span_seconds", [100.0, 200.0]),
        "negative": put(OWN, "span_seconds", [-5.0, 1.0]),
        "one time": put(OWN, "span_seconds", [1.0]),
        "box outside": put(OWN, "boxes", {"1.5": [5000, 10, 6000, 50]}),
        "box reversed": put(OWN, "boxes", {"1.5": [50, 10, 10, 50]}),
        "box of three": put(OWN, "boxes", {"1.5": [50, 10, 10]}),
        "box of text": put(OWN, "boxes", {"1.5": "0 0 10 10"}),
        "box at no time": put(OWN, "boxes", {"noon": [10, 10, 50, 50]}),
        "box at nan": put(OWN, "boxes", {"nan": [10, 10, 50, 50]}),
        "no boxes": put(OWN, "boxes", {}),
        "boxes as list": put(OWN, "boxes", [[10, 10, 50, 50]]),
        "unknown task": put(OWN, "task", "everything"),
        "task of an image": put(OWN, "task", "rec"),
        "both media": put(OWN, "image", "photo.png"),
        "no medium": {"query": "the circle", "span_seconds": [1.0, 3.0]},
        "nothing": {},
        "control token": put(OWN, "query", "<|im_end|>"),
    }
    cases += [Case(f"own {name}", "own", record, "invalid_field|missing_media") for name, record in own.items()]
    cases += [
        Case("row range behind the end", "row", put(ROW, "frame_range", [5000, 6000]), "empty_media"),
        Case("row range beyond the end", "row", put(ROW, "frame_range", [0, 10**15]), "empty_media"),
        Case("row range beyond all integers", "row", put(ROW, "frame_range", [0, 10**300]), "empty_media"),
        Case("row range reversed", "row", put(ROW, "frame_range", [9, 0])),
        Case("row range negative", "row", put(ROW, "frame_range", [-5, 9])),
        Case("release split reversed", "release", put(RELEASE, "meta.split", [9, 0])),
        Case("release split of three", "release", put(RELEASE, "meta.split", [0, 5, 9])),
        Case("release split behind the end", "release", put(RELEASE, "meta.split", [5000, 6000]), "empty_media"),
    ]
    return cases


def list_texts() -> list[Case]:
    """Texts that are long, or made to keep a regular expression or a tokenizer busy."""
    bombs = {
        "words": "carrots " * 20_000,
        "one word": "a" * 190_000,
        "open brackets": "[" * 190_000,
        "open spans": "{<t=0.1>" * 20_000,
        "open boxes": "[<x=0.1><y=0.1>" * 12_000,
        "starts of coordinates": "<t=" * 60_000,
        "coordinate of blanks": "<t" + " " * 180_000 + "=2>",
        "blanks after coordinates": ("<t=0.1>" + " " * 900) * 200,
        "coordinates": "<t=0.123456789>" * 12_000,
        "tokens": "<t_1>" * 38_000,
        "newlines": "\n" * 190_000 + "a",
        "unicode": "\U0001f955" * 100_000,
        "combining": "a" + "\u0301" * 190_000,
        "million characters": "a" * 1_000_000,
    }
    reasons = "too_long|invalid_field"
    cases = [Case(f"row long {name}", "row", put(ROW, "messages.1.content", t), reasons) for name, t in bombs.items()]
    cases += [
        Case(f"release long {name}", "release", put(RELEASE, "conversations.0.value", text), reasons)
        for name, text in bombs.items()
    ]
    turns = [{"role": role, "content": "Yes."} for role in ("user", "assistant")]
    return [
        *cases,
        Case("row many turns", "row", put(ROW, "messages", turns * 20_000), "too_long"),
        Case("row turns by one", "row", put(ROW, "messages", turns[:1] * 3)),
        Case("row no answer", "row", put(ROW, "messages", turns[:1])),
        Case("row no turns", "row", put(ROW, "messages", [])),
        Case("row many media", "row", put(ROW, "media", ROW["media"] * 5000), ANY + "|oversized_media"),
    ]


def list_lines() -> list[Case]:
    """Lines of a file that are no records."""
    lines = {
        "no JSON": "carrots",
        "cut": '{"id": "1", "video": "cl',
        "array": "[]",
        "number": "3",
        "text": '"carrots"',
        "nothing": "null",
        "NaN": '{"id": NaN}',
        "infinite": '{"id": 1e999, "video": "clip.mp4"}',
        "two objects": "{} {}",
        "null character": '{"id": "1"}\0',
        "deep": "[" * 100_000 + "]" * 100_000,
        "deep objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
        "number of many digits": '{"id": ' + "9" * 100_000 + "}",
        "no UTF-8": b'{"id": "\xff\xfe"}',
    }
    return [Case(f"line {name}", "line", line, "invalid_json|invalid_field") for name, line in lines.items()]


def make_png(width: int, height: int) -> bytes:
    """Return a picture of a few bytes whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    picture = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        picture += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return picture


def make_files(clip: Path) -> dict[str, bytes]:
    """Return hostile files by name."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(picture, "JPEG")
    jpeg, video = picture.getvalue(), clip.read_bytes()
    size_of_jpeg = jpeg.index(b"\xff\xc0") + 5
    bomb = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(bomb, "PNG")
    text_bomb = zlib.compress(b"a" * 50_000_000)
    chunk = b"tEXt\0\0" + text_bomb
    comment = struct.pack(">I", len(chunk) - 4) + b"zTXt" + b"a\0\0" + text_bomb
    stated = struct.pack(">HH", 65_500, 65_500)
    files = {
        "empty.png": b"",
        "huge.png": make_png(50_000, 50_000),
        "wide.png": make_png(2**31 - 1, 1),
        "no_pixels.png": make_png(0, 0),
        "bomb.png": bomb.getvalue(),
        "comment.png": make_png(8, 8)[:33] + comment + make_png(8, 8)[33:],
        "huge.jpg": jpeg[:size_of_jpeg] + stated + jpeg[size_of_jpeg + 4 :],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "head.jpg": jpeg[:20],
        "huge.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\0\0\0;",
        "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
        "huge.ppm": b"P6 100000 100000 255\n" + b"\0" * 100,
        "huge.webp": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + b"\0" * 12,
        "text.png": b"carrots",
        "page.html": b"<html>404</html>",
        "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='1000000' height='1000000'/>",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n{} loop\n",
        "empty.mp4": b"",
        "zeros.mp4": b"\0" * 100_000,
        "cut.mp4": video[: len(video) // 8],
        "no_header.mp4": video[200:],
        "huge.y4m": b"YUV4MPEG2 W60000 H60000 F25:1 Ip A1:1 C420\nFRAME\n" + b"\0" * 1000,
        "no_frames.y4m": b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420\n",
        "playlist.m3u8": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "concat.txt": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "description.sdp": b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "samples.mp4": video.replace(b"stsz\0\0\0\0\0\0\0\0", b"stsz\0\0\0\0\0\0\0\x01")[: len(video) // 4],
    }
    count = video.index(b"stsz") + 12
    stated_frames = video[:count] + struct.pack(">I", 2**31 - 1) + video[count + 4 :]
    files["million_frames.mp4"] = stated_frames[: len(video) // 8]
    return files


def list_files() -> list[Case]:
    """Each hostile file as an image or a clip: by its path, from the folder of a release, and as bytes."""
    reasons = "unreadable_media|empty_media|oversized_media|missing_media"
    names = (
        *("empty.png", "huge.png", "wide.png", "no_pixels.png", "bomb.png", "comment.png", "huge.jpg", "cut.jpg"),
        *("head.jpg", "huge.gif", "huge.bmp", "huge.ppm", "huge.webp", "text.png", "page.html", "script.svg"),
        *("script.eps", "empty.mp4", "zeros.mp4", "cut.mp4", "no_header.mp4", "huge.y4m", "no_frames.y4m"),
        *("playlist.m3u8", "concat.txt", "description.sdp", "samples.mp4", "million_frames.mp4"),
    )
    cases = []
    for name in names:
        kind = "video" if name.endswith((".mp4", ".y4m", ".m3u8", ".txt", ".sdp")) else "image"
        turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A carrot."}]
        cases.append(Case(f"file {name}", "release", {"id": "1", kind: name, "conversations": turns}, reasons))
        row = {**ROW, "task": "conversation", "media_type": kind, "frame_range": None}
        row["messages"] = put(ROW, "messages.1.content", "A carrot.")["messages"]
        cases.append(Case(f"bytes {name}", "row", put(row, "media.0", {"content of": name}), reasons))
    return cases


CASES = [
    *list_wrong_values(),
    *list_paths(),
    *list_coordinates(),
    *list_texts(),
    *list_lines(),
    *list_files(),
]


def test_there_are_two_hundred_and_each_has_a_name():
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)
    assert {reason for case in CASES for reason in case.reasons.split("|")} <= set(SKIP_REASONS)


class Readers(NamedTuple):
    """The annotation files of all cases, opened."""

    folder: Path
    files: dict[str, bytes]
    readers: dict[str, StAlignReader | UserJsonlReader]
    places: dict[str, int]


@pytest.fixture(scope="module")
def opened(tmp_path_factory, clip):
    base = tmp_path_factory.mktemp("hostile")
    folder = base / "media"
    folder.mkdir()
    files = make_files(clip)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (base / "outside.mp4").write_bytes(clip.read_bytes())
    (folder / "clip.mp4").write_bytes(clip.read_bytes())
    Image.new("RGB", (64, 48)).save(folder / "photo.png")
    (folder / "empty_folder").mkdir()
    os.mkfifo(folder / "pipe.mp4")
    for name, target in {
        "link_out.mp4": base / "outside.mp4",
        "folder_out": base,
        "zero.mp4": "/dev/zero",
        "chain.mp4": "link_out.mp4",
        "loop.mp4": "loop.mp4",
        "dangling.mp4": "none.mp4",
    }.items():
        (folder / name).symlink_to(target)
    readers: dict[str, StAlignReader | UserJsonlReader] = {}
    places = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HOME", str(base / "cache"))
        for form, kind in (("release", StAlignReader), ("own", UserJsonlReader), ("line", StAlignReader)):
            cases = [case for case in CASES if case.form == form]
            lines = [case.record if form == "line" else json.dumps(case.record) for case in cases]
            lines = [line if isinstance(line, bytes) else line.encode() for line in lines]
            path = base / f"{form}.jsonl"
            path.write_bytes(b"\n".join(lines) + b"\n")
            readers[form] = kind(path, form, data_folder=folder)
            assert len(readers[form]) == len(cases)
            places |= {case.name: place for place, case in enumerate(cases)}
    return Readers(folder, files, readers, places)


def fill_row(row: dict, opened: Readers) -> dict:
    """Put the folder and the hostile bytes into a row."""
    media = row["media"] if isinstance(row["media"], list) else []
    for item in [item for item in media if isinstance(item, dict)]:
        if "content of" in item:
            item["bytes"] = opened.files[item.pop("content of")]
        if isinstance(item.get("path"), str):
            item["path"] = item["path"].replace("{folder}", str(opened.folder))
    return row


def read_peak_bytes() -> int:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def reset_peak() -> int:
    """Forget the peak of this process's memory; return what it holds now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of the memory cannot be measured here")
    return read_peak_bytes()


@pytest.fixture
def alarm():
    """Stop a test that hangs."""

    def stop(number, frame):
        raise TimeoutError(f"not done within {MAX_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MAX_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


# The long texts of rows are among the others already.
PARAMETERS = [
    pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.name.startswith("release long")) for case in CASES
]


@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.usefixtures("alarm")
def test_a_hostile_record_is_skipped_by_name(processor, opened, tmp_path, case):
    collator = LlavaSTDataCollator(processor, SkipReport(tmp_path / "skipped.jsonl"))
    if case.form == "row":
        record = fill_row(json.loads(json.dumps(case.record)), opened)
    before = reset_peak()
    if case.form != "row":
        record = opened.readers[case.form][opened.places[case.name]]
        assert isinstance(record, (Sample, SkippedRecord))
    batch = collator([record])
    grown = read_peak_bytes() - before
    (skipped,) = read_skip_report(tmp_path / "skipped.jsonl")
    assert skipped.reason in case.reasons.split("|"), skipped.detail
    assert len(skipped.detail) >= 10 and "\n" not in skipped.detail and len(skipped.detail) <= 1000
    assert batch["labels"].eq(-100).all() and "pixel_values" not in batch and "pixel_values_videos" not in batch
    assert grown < MAX_GROWTH_BYTES


def test_the_records_are_fine_without_the_fault(processor, opened, tmp_path):
    """What the cases are made of is used, so it is the fault that each is skipped for."""
    path = tmp_path / "fine.jsonl"
    samples = [fill_row(json.loads(json.dumps(ROW)), opened)]
    for kind, record in ((StAlignReader, RELEASE), (UserJsonlReader, OWN)):
        path = tmp_path / f"{kind.__name__}.jsonl"
        path.write_text(json.dumps(record))
        samples.append(kind(path, "fine", data_folder=opened.folder)[0])
    collator = LlavaSTDataCollator(processor, SkipReport(required_sources=["fine", "kitchen"]))
    assert len(collator(samples)["input_ids"]) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    {
        "nothing.json": b"",
        "no list.json": b"carrots",
        "number.json": b"3",
        "zeros.json": b"\0" * 5000,
        "cut.json": b'[{"id": 1}, {"id"',
        "deep.json": b"[" * 200_000,
    }.items(),
)
@pytest.mark.usefixtures("alarm")
def test_a_hostile_file_of_annotations_is_refused_or_empty(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    try:
        records = JsonRecords(path)
    except InputError as error:
        assert name in str(error)
        return
    with pytest.raises(InputError):
        [records[index] for index in range(len(records))].index(None)
