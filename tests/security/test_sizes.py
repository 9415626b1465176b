"""Files that claim more than they hold, in a process of their own that may neither grow nor last."""

import base64
import io
import json
import shutil
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from hostile_files import (
    write_claiming_avif,
    write_claiming_flv,
    write_claiming_fragment,
    write_claiming_keys,
    write_claiming_mp4,
    write_commented_ogg,
    write_gif,
    write_naming_matroska,
    write_png,
    write_tags,
    write_webp,
)
from hostile_process import check_refused, run_commands
from PIL import Image
from pyarrow import parquet
from video_files import encode

from llava_st_hf import InputError
from llava_st_hf.processing import video_file_llava_st
from llava_st_hf.processing.image_loading_llava_st import count_animation_frames, guess_media_type, open_image
from llava_st_hf.processing.media_fetching_llava_st import FetchRules
from llava_st_hf.processing.media_llava_st import MediaError, OversizedMediaError
from llava_st_hf.processing.video_decoding_llava_st import iterate_frames, probe_video, read_video

RECORD = {"id": "1", "video": "clip.mp4", "task": "tvg", "query": "a man waves", "span": [0.1, 0.5]}


@pytest.mark.parametrize("table", [b"iinf", b"iloc"])
def test_the_items_of_an_avif_are_counted_before_it_is_opened_as_a_clip(table):
    with pytest.raises(MediaError, match="claims 268,435,455 entries"):
        probe_video(write_claiming_avif(table))


def test_media_that_claim_sizes_are_refused(checkpoint, tmp_path):
    files = {
        "samples.mp4": (write_claiming_mp4(tmp_path), "claims 40,000,000 samples"),
        "fragment.mp4": (write_claiming_fragment(tmp_path), "claims 40,000,000 samples"),
        "keys.mp4": (write_claiming_keys(tmp_path), "claims 67,108,864 entries"),
        "full_keys.mp4": (write_claiming_keys(tmp_path, 2**26 - 1), "claims 67,108,863 entries"),
        "items.avif": (write_claiming_avif(b"iinf"), "cannot be read as an image"),
        "key_frames.flv": (write_claiming_flv(tmp_path), "claims 268,435,455 key frames"),
        "tags.mkv": (write_naming_matroska(tmp_path, "1254C367", write_tags(5_000)), "more than 4,096 tags"),
        "behind.mkv": (
            write_naming_matroska(tmp_path, "1254C367", write_tags(5_000), b"\0\xff" * 9),
            "more than 4,096 tags",
        ),
        "tracks.mkv": (write_naming_matroska(tmp_path, "1654AE6B", b"\xae\x80" * 5_000), "more than 4,096 tracks"),
        "cues.mkv": (write_naming_matroska(tmp_path, "1C53BB6B", b"\xbb\x80" * 2_100_000), "2,097,152 elements"),
        "damage.mkv": (
            write_naming_matroska(tmp_path, "EC", b"", b"\0\x12\x54\xc3\x67\0" * 5_000),
            "damaged in too many places",
        ),
        "comments.ogg": (write_commented_ogg(10**9), "more than 4,096 comments"),
        "writer.ogg": (write_commented_ogg(1, b"x" * 2_000), "more than 4,096 comments"),
        "pixels.png": (write_png(40_000, 25_000), "larger than Pillow opens"),
        "many_pixels.png": (write_png(12_000, 12_000), "more than the limit of 67,108,864"),
        "frames.webp": (write_webp(10**6), "1,000,000 frames"),
        "script.jpg": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
            "cannot be read as a video",
        ),
    }
    commands = []
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
        commands.append(["ground", name, "a man", "--model", checkpoint])
    for ended, (_, words) in zip(run_commands(commands, tmp_path), files.values(), strict=True):
        check_refused(ended, words)


@pytest.mark.parametrize("form", [Path, Path.read_bytes])
def test_opening_has_a_deadline(tmp_path, monkeypatch, form):
    source = form(encode(tmp_path / "a.mp4", num_frames=4))
    assert probe_video(source).width == 64
    monkeypatch.setattr(video_file_llava_st, "MAX_OPEN_SECONDS", 0)
    with pytest.raises(MediaError, match="takes longer than 0 s to open"):
        probe_video(source)


@pytest.mark.parametrize("form", [Path, Path.read_bytes])
def test_decoding_has_a_deadline(tmp_path, monkeypatch, form):
    source = form(encode(tmp_path / "a.mp4", num_frames=4))
    monkeypatch.setattr(video_file_llava_st, "DECODE_SECONDS", 0)
    monkeypatch.setattr(video_file_llava_st, "BYTES_A_SECOND", 10**12)
    for read in (lambda: read_video(source), lambda: list(iterate_frames(source)), lambda: probe_video(source)):
        with pytest.raises(OversizedMediaError, match=r"takes longer than 0 s.* set LLAVA_ST_DECODE_SECONDS=3600"):
            read()
    monkeypatch.setenv("LLAVA_ST_DECODE_SECONDS", "60")
    assert len(list(iterate_frames(source))) == 4
    monkeypatch.setenv("LLAVA_ST_DECODE_SECONDS", "soon")
    with pytest.raises(InputError, match="LLAVA_ST_DECODE_SECONDS is 'soon': give seconds"):
        read_video(source)


def test_an_index_that_names_the_same_bytes_again_and_again_ends(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", num_frames=4)
    monkeypatch.setattr(video_file_llava_st, "MAX_REPEATED_READING", -(10**9))
    with pytest.raises(OversizedMediaError, match="names the same bytes again and again"):
        read_video(tmp_path / "a.mp4")


def test_a_frame_that_is_larger_than_the_first_is_not_taken(tmp_path, monkeypatch):
    for name, size in (("a.h264", 64), ("b.h264", 640)):
        encode(tmp_path / name, num_frames=4, width=size, height=size, container_format="h264")
    (tmp_path / "a.h264").write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    assert len(list(iterate_frames(tmp_path / "a.h264"))) == 8
    monkeypatch.setattr(video_file_llava_st, "MAX_FRAME_PIXELS", 64 * 64)
    try:
        frames = list(iterate_frames(tmp_path / "a.h264"))
    except OversizedMediaError:
        return
    assert {frame.image.shape for frame in frames} == {(64, 64, 3)}


def test_pictures_that_are_slow_to_decode_are_small(tmp_path):
    Image.new("RGB", (3000, 3000)).save(tmp_path / "a.jpg", progressive=True)
    content = (tmp_path / "a.jpg").read_bytes()
    assert open_image(tmp_path / "a.jpg").size == (3000, 3000)
    scan = content[content.rindex(b"\xff\xda") : -2]
    (tmp_path / "a.jpg").write_bytes(content[:-2] + scan * 1001 + content[-2:])
    (tmp_path / "a.ppm").write_bytes(b"P3\n3000 3000\n255\n1 2 3")
    for name in ("a.jpg", "a.ppm"):
        with pytest.raises(OversizedMediaError, match="3000 x 3000 pixels, more than the limit of 8,388,608"):
            open_image(tmp_path / name)
    Image.new("RGB", (16, 16)).save(tmp_path / "b.jpg")  # a stream of pictures has a scan in each
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes() * 1100)
    assert count_animation_frames(tmp_path / "b.jpg") == 1100


def test_a_data_uri_holds_no_more_than_what_is_fetched(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    assert open_image(uri).size == (16, 16)
    monkeypatch.setattr(FetchRules, "max_bytes", len(file.getvalue()) - 3)
    for door in (open_image, probe_video, guess_media_type):
        with pytest.raises(OversizedMediaError, match=r"the data: URI holds more than .* write them into a file"):
            door(uri)


@pytest.mark.parametrize("kind", ["matroska", "webm", "flv"])
def test_whole_files_of_other_kinds_are_read(tmp_path, kind):
    codec = {"flv": "flv1", "webm": "libvpx"}.get(kind, "libx264")
    encode(tmp_path / "a", num_frames=4, codec=codec, container_format=kind)
    assert len(probe_video(tmp_path / "a").timeline) == 4
    assert len(probe_video((tmp_path / "a").read_bytes()).timeline) == 4


@pytest.mark.slow
def test_an_animation_of_a_million_frames_is_read_in_little_memory(tmp_path):
    (tmp_path / "a.gif").write_bytes(write_gif(10**6))
    code = "from llava_st_hf import read_video; print(read_video('a.gif', num_frames=4).total_num_frames)"
    code = code.replace("llava_st_hf ", "llava_st_hf.processing.video_decoding_llava_st ")
    (ended,) = run_commands([code], tmp_path)
    assert (ended.code, ended.out.strip()) == (0, "1000000"), ended


def test_a_picture_that_nothing_may_decode_ends_no_check(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    record = {"id": "1", "image": "a.jpg", "task": "rec", "query": "a man", "box": [1, 1, 5, 5]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    (ended,) = run_commands([["data", "check", "a.jsonl", "--data-folder", ".", "--decode", "full"]], tmp_path)
    assert ended.code == 1 and "Traceback" not in ended.err and "unreadable_media" in ended.out, ended


MULTIPLIED = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 10))
MIXTURES = {
    "braces": (
        "datasets:\n  - json_path: a" + "{1,2,3,4,5,6,7,8,9,0}" * 9 + ".json\n",
        "whose braces stand for 1,000,",
    ),
    "anchors": (f"a0: &a0 [1]\n{MULTIPLIED}seed: *a9\ndatasets: []\n", "more than 131,072 values"),
    "merged": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}\n" for k in range(1, 10))
        + "datasets: []\n",
        "more than 131,072 values",
    ),
    "long text": (f"a: &a {'x' * 500_000}\nseed: [{', '.join(['*a'] * 10_000)}]\ndatasets: []\n", "131,072 values"),
    "loop": ("seed: &a [*a]\ndatasets: []\n", "part of itself"),
    "nested": (f"seed: {'[' * 100_000}{']' * 100_000}\n", "is no YAML"),
    "number": (f"seed: {'9' * 100_000}\n", "is no YAML"),
    "date": ("seed: 2001-99-99\n", "is no YAML"),
    "flag": ("seed: !!bool perhaps\n", "is no YAML"),
    "time": ("seed: !!timestamp perhaps\n", "is no YAML"),
    "large": ("# " + "x" * 2**20 + "\n", "more than 1,048,576"),
    "weight": ("datasets:\n  - json_path: a.jsonl\n    weight: 1.0e+12\n", "weight is 1000000000000.0"),
    "frames": ("num_frames: 1000000000\ndatasets:\n  - json_path: a.jsonl\n", "num_frames is 1000000000"),
}


def test_mixtures_that_multiply_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(RECORD) + "\n")
    commands = []
    for name, (text, _) in MIXTURES.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        commands.append(["data", "check", f"{name}.yaml"])
    for ended, (_, words) in zip(run_commands(commands, tmp_path), MIXTURES.values(), strict=True):
        check_refused(ended, words)


def test_parquet_may_not_claim_more_records_than_bytes(tmp_path):
    columns = ("id", "source", "task", "media_type", "media", "messages")
    parquet.write_table(pa.table({name: pa.nulls(10**6) for name in columns}), tmp_path / "a.parquet")
    (ended,) = run_commands([["data", "check", "a.parquet"]], tmp_path)
    check_refused(ended, "claims 1,000,000 records in")


def test_a_value_that_many_rows_share_does_not_fill_the_memory(tmp_path):
    """A text of one megabyte in each of ten thousand rows is a file of one megabyte."""
    rows = {name: pa.nulls(10_000) for name in ("id", "source", "task", "media_type", "media")}
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), pa.array(["x" * 10**6]))
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({**rows, "messages": shared}), path, store_schema=False)
    code = (
        "from llava_st_hf.data.readers.registry import open_reader\n"
        "reader = open_reader('canonical', 'a.parquet', 's')\n"
        "print(len(reader), reader[0].reason)"
    )
    (ended,) = run_commands([code], tmp_path)
    assert (ended.code, ended.out.strip()) == (0, "10000 too_long"), ended


@pytest.fixture(scope="module")
def copies(checkpoint, tmp_path_factory):
    """Make a copy of the random checkpoint with changes to its files."""
    root = tmp_path_factory.mktemp("copies")

    def make(name: str, **changes) -> Path:
        folder = Path(shutil.copytree(checkpoint, root / name))
        for file, change in changes.items():
            path = folder / file.replace("__", ".")
            path.write_text(change if isinstance(change, str) else json.dumps(merge(path, change)))
        return folder

    return make


def merge(path: Path, change: dict) -> dict:
    content = json.loads(path.read_text()) if path.is_file() else {}
    return {
        **content,
        **{k: {**content[k], **v} if isinstance(v, dict) and k in content else v for k, v in change.items()},
    }


LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
CHECKPOINTS = {
    "layers": ({"config__json": {"text_config": {"num_hidden_layers": 10**7}}}, "text_config.num_hidden_layers"),
    "vision": ({"config__json": {"vision_config": {"num_hidden_layers": 10**9}}}, "vision_config.num_hidden_layers"),
    "labels": ({"config__json": {"num_labels": 10**9}}, "num_labels is 1000000000"),
    "text labels": ({"config__json": {"text_config": {"num_labels": 10**9}}}, "text_config.num_labels"),
    "bins": ({"config__json": {"num_temporal_tokens": 10**9}}, "num_temporal_tokens is 1000000000"),
    "words": ({"config__json": {"text_config": {"vocab_size": 10**12}}}, "text_config.vocab_size"),
    "beams": ({"generation_config__json": {"num_beams": 10**5}}, "num_beams is 100000 in generation_config.json"),
    "long template": ({"chat_template__jinja": "{{ 'a' * 8 * 10**9 }}"}, "a template is a program"),
    "slow template": ({"chat_template__jinja": LOOP}, "a template is a program"),
    "nested": ({"config__json": "[" * 10**5}, "config.json"),
    "nested object": ({"config__json": '{"a":' * 10**5}, "config.json"),
}


@pytest.mark.slow
def test_checkpoints_that_claim_sizes_are_refused(copies, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "clip.png")
    commands, words = [], []
    for name, (changes, expected) in CHECKPOINTS.items():
        folder = copies(name, **changes)
        if "config__json" in changes:
            commands.append(["info", "--model", folder])
            words.append(expected)
        commands.append(["ground", "clip.png", "a man", "--task", "rec", "--model", folder])
        words.append(expected)
    for ended, expected in zip(run_commands(commands, tmp_path), words, strict=True):
        check_refused(ended, expected)


def test_headers_of_safetensors_that_claim_sizes_are_refused(copies, tmp_path):
    commands = []
    for name, header in {
        "length": struct.pack("<Q", 2**62),
        "offsets": struct.pack("<Q", 62) + b'{"a":{"dtype":"F32","shape":[9999999],"data_offsets":[0,39999996]}}'[:62],
        "shape": struct.pack("<Q", 66)
        + b'{"a":{"dtype":"F32","shape":[99999,99999,99999],"data_offsets":[0,4]}}'[:66],
        "nested": struct.pack("<Q", 10**5) + b"[" * 10**5,
    }.items():
        folder = copies(f"weights {name}")
        (folder / "model.safetensors").write_bytes(header + b"\0" * 100)
        commands.append(["ground", __file__, "a man", "--model", folder])
    for ended in run_commands(commands, tmp_path):
        check_refused(ended)
