"""Inputs that nobody thought of: whatever is in a file, it is read or refused, and nothing else happens."""

import contextlib
import json
import os
import random
import resource
import shutil
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from video_files import encode

from llava_st_hf import InputError, MediaInfo
from llava_st_hf.data.mixture import Mixture
from llava_st_hf.data.mixture_spec import MixtureSpec
from llava_st_hf.data.readers.registry import guess_format, open_reader
from llava_st_hf.inference.loading import load_config, make_meta_model
from llava_st_hf.modeling.conversion_llava_st import open_safetensors
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.video_decoding_llava_st import read_video
from llava_st_hf.utils.checked_settings import input_errors

# For all of them together. Half an hour: LLAVA_ST_FUZZ_SECONDS=1800 make test-slow
SECONDS = float(os.environ.get("LLAVA_ST_FUZZ_SECONDS", "180"))
MAX_GROWTH_BYTES = 10**9
NUMBERS = st.one_of(st.integers(), st.sampled_from([0, -1, 2**31, 2**63, 10**7, 10**12, 10**400]), st.floats())
LEAVES = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=20), st.sampled_from(["../../a", "/etc/passwd"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
RECORDS = (
    {"id": "1", "video": "clip.mp4", "task": "tvg", "query": "a man waves", "start_seconds": 0.1, "end_seconds": 0.5},
    {"id": "1", "video": "clip.mp4", "task": "stvg", "query": "a man", "boxes": {"0.1": [1, 1, 5, 5]}},
    {
        "id": 1,
        "video": "clip.mp4",
        "conversations": [{"from": "human", "value": "<video>\na"}, {"from": "gpt", "value": "b"}],
    },
)
SOURCE = {"json_path": "{a,b}.jsonl", "weight": 2, "sampling_strategy": "random:10%", "data_folder": ".", "seed": 1}
MIXTURE = {"seed": 0, "max_skip_share": 0.1, "num_frames": 10, "datasets": [SOURCE]}
CLIP = MediaInfo("video", 64, 48, frame_indices=tuple(range(10)), frame_seconds=tuple(k / 10 for k in range(10)))


def change(content, draw):
    """Return JSON with one of its values, at any depth, replaced, removed or put elsewhere."""
    if isinstance(content, (dict, list)) and content and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
        copied = content.copy()
        if draw(st.integers(0, 9)):
            copied[key] = change(content[key], draw)
        else:
            del copied[key]
        return copied
    return draw(VALUES)


def damage(content: bytes, draw) -> bytes:
    """Return a file with some of its bytes changed, taken out, or put in again."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(damaged) - 1)))
        piece = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"])))
        damaged[place : place + draw(st.sampled_from([0, len(piece), 64]))] = piece
    return bytes(damaged[: draw(st.sampled_from([len(damaged)] * 3 + [len(damaged) // 2]))])


class Targets:
    """What is done with each kind of input; `folder` is where they lie."""

    def __init__(self, folder: Path, checkpoint: Path):
        self.folder, self.model = folder, folder / "model"
        shutil.copytree(checkpoint, self.model)
        self.config = json.loads((self.model / "config.json").read_text())
        self.weights = (self.model / "model.safetensors").read_bytes()
        (self.header_size,) = struct.unpack("<Q", self.weights[:8])
        options = {"movflags": "frag_keyframe+empty_moov"}
        self.clips = [
            encode(folder / name, num_frames=6, container_options=used).read_bytes()
            for name, used in (("clip.mp4", {}), ("fragments.mp4", options))
        ]
        # The tables stand behind the pictures.
        self.boxes = [clip.index(b"moov") for clip in self.clips]
        self.lines = [json.dumps(record) for record in RECORDS]
        for name in ("a", "b"):
            (folder / f"{name}.jsonl").write_text(f"{self.lines[0]}\n" * 3)

    def config_json(self, draw) -> None:
        (self.model / "config.json").write_text(json.dumps(change(self.config, draw)))
        load_config(self.model)
        make_meta_model(self.model)

    def safetensors(self, draw) -> None:
        head, rest = self.weights[8 : 8 + self.header_size], self.weights[8 + self.header_size :]
        if draw(st.booleans()):
            head = json.dumps(change(json.loads(head), draw)).encode()
            content = struct.pack("<Q", len(head)) + head + rest
        else:
            content = damage(self.weights[: 8 + self.header_size], draw) + rest
        path = self.folder / "a.safetensors"
        path.write_bytes(content)
        with input_errors(), open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118 (the file is no dictionary)
                file.get_slice(name).get_shape()

    def mp4(self, draw) -> None:
        index = draw(st.integers(0, 1))
        clip, start = self.clips[index], max(0, self.boxes[index] - 4)
        content = clip[:start] + damage(clip[start:], draw)
        (self.folder / "damaged.mp4").write_bytes(content)
        read_video(draw(st.sampled_from([content, self.folder / "damaged.mp4"])), num_frames=4, num_threads=1)

    def records(self, draw) -> None:
        line = draw(st.sampled_from(RECORDS))
        lines = [json.dumps(change(line, draw)), json.dumps(line)]
        if not draw(st.integers(0, 3)):
            lines[0] = damage(lines[0].encode(), draw).decode("latin-1")
        path = self.folder / "fuzzed.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        reader = open_reader(guess_format(path), path, "a", str(self.folder))
        for index in range(len(reader)):
            with contextlib.suppress(InputError):
                reader[index]

    def mixture(self, draw) -> None:
        text = json.dumps(change(MIXTURE, draw))
        path = self.folder / "mixture.yaml"
        path.write_bytes(damage(text.encode(), draw) if draw(st.booleans()) else text.encode())
        mixture = Mixture(MixtureSpec.from_yaml(path))
        for index in range(min(3, len(mixture))):
            with contextlib.suppress(InputError):
                mixture[index]

    def answer(self, draw) -> None:
        pieces = [f"<t_{k}>" for k in (0, 5, 99, 100, 10**30)] + [
            "<h_3><w_4>",
            "{",
            "}",
            "[",
            "]",
            ",",
            " a ",
            "<t=1s>",
        ]
        text = "".join(draw(st.lists(st.sampled_from(pieces) | st.text(max_size=3), max_size=40)))
        text *= draw(st.sampled_from([1, 1, 1, 100]))
        form = draw(st.sampled_from([None, "span", "box", "tube"]))
        assert parse_answer(text, CLIP, answer_format=form).text == text


def list_files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


# What reading a file never does: start a program, connect, unpickle.
STARTING = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"}
STARTING |= {"pickle.find_class"}
CHANGING = {"os.remove", "os.rename", "os.mkdir", "os.chmod", "os.symlink", "os.truncate"}
OF_THE_TESTS = {"__pycache__", ".hypothesis"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@contextlib.contextmanager
def watching(folder: Path):
    """List what is started, connected to, unpickled, removed, or opened for writing outside of a folder."""
    seen, watches = [], True

    def look(event: str, arguments: tuple) -> None:
        if not watches:
            return
        is_written = event in CHANGING or (event == "open" and arguments[2] & WRITING)
        if event in STARTING:
            seen.append((event, arguments))
        elif is_written and not isinstance(arguments[0], int):
            path = Path(os.fsdecode(arguments[0])).absolute()
            if not path.is_relative_to(folder) and not OF_THE_TESTS & {*path.parts}:
                seen.append((event, arguments))

    sys.addaudithook(look)  # it stays to the end of the process
    try:
        yield seen
    finally:
        watches = False


KINDS = ("config_json", "safetensors", "mp4", "records", "mixture", "answer")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_in_a_file_it_is_read_or_refused(kind, checkpoint, tmp_path, monkeypatch):
    work = tmp_path / "work" / "inputs"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    targets = Targets(work, checkpoint)
    counts = Counter()
    outside = list_files(tmp_path) - list_files(work)

    @settings(
        max_examples=50,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data):
        try:
            getattr(targets, kind)(data.draw)
            counts["read"] += 1
        except InputError:
            counts["refused"] += 1

    before, end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic() + SECONDS / len(KINDS)
    with watching(work) as seen:
        while time.monotonic() < end:
            seed(random.getrandbits(64))(run)()
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    sys.stdout.write(f"{kind}: {counts['read']:,} read, {counts['refused']:,} refused, {growth / 1e6:.0f} MB more\n")
    assert counts["read"] and (counts["refused"] or kind == "answer")  # an answer is never refused
    assert growth < MAX_GROWTH_BYTES
    assert not seen
    assert list_files(tmp_path) - list_files(work) == outside
