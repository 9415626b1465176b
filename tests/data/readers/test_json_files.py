import json
import os
import pickle
import random
import tracemalloc

import numpy as np
import pytest

from llava_st_hf.data.readers import json_files
from llava_st_hf.data.readers.json_files import JsonRecords
from llava_st_hf.data.skips import RecordError
from llava_st_hf.processing.media_llava_st import InputError


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """A cache that also small files use."""
    monkeypatch.setattr(json_files, "_MIN_CACHED_BYTES", 0)
    return tmp_path / "cache"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def make_value(draw: random.Random, depth: int = 0):
    kind = draw.random()
    if depth > 2 or kind < 0.4:
        return draw.choice([1, -2.5e-3, 3e10, True, None, 'ä"\\ \u2028,]}[{', "😀" * draw.randint(0, 9), 10**20])
    if kind < 0.7:
        return [make_value(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    return {f"{draw.choice('abä')}{number}": make_value(draw, depth + 1) for number in range(draw.randint(0, 4))}


@pytest.mark.parametrize("chunk_bytes", [4, 7, 64, 4096])
def test_any_element_is_found_wherever_a_chunk_ends(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(json_files, "_CHUNK_BYTES", chunk_bytes)
    draw = random.Random(chunk_bytes)
    for _ in range(25):
        values = [make_value(draw) for _ in range(draw.randint(0, 12))]
        dump = lambda value: json.dumps(value, ensure_ascii=draw.random() < 0.5)  # noqa: E731
        mark = draw.choice([b"", b"\xef\xbb\xbf"])
        array = json.dumps(values, indent=draw.choice([None, 2])).replace("\n", draw.choice(["\n", "\r\n"]))
        assert list(JsonRecords(write(tmp_path / "a.json", mark + array.encode()))) == values

        end = draw.choice(["\n", "\r\n"])
        lines = [line for value in values for line in [dump(value), *draw.choice([[], ["", " \t" * 9]])]]
        text = end.join(lines) + draw.choice(["", end, end + end])
        assert list(JsonRecords(write(tmp_path / "a.jsonl", mark + text.encode()))) == values


def test_elements_are_read_in_any_order(tmp_path):
    records = JsonRecords(write(tmp_path / "a.jsonl", "\n".join(json.dumps({"n": n}) for n in range(9))))
    assert [records[index]["n"] for index in (8, 0, 5, 5)] == [8, 0, 5, 5]
    for index in (9, -1):
        with pytest.raises(IndexError):
            records[index]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a": 1', r"bad.jsonl, line 2 at byte 3: is no JSON: Expecting ',' delimiter.*Fix it\."),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": "\xff"}', "byte 7 of the record is not UTF-8"),
        (b"1 2", "Extra data"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "is no JSON"),
    ],
)
def test_a_bad_line_is_an_error_of_that_line_alone(tmp_path, line, expected):
    records = JsonRecords(write(tmp_path / "bad.jsonl", b"{}\n" + line + b"\n[3]\n"))
    with pytest.raises(RecordError, match=expected) as caught:
        records[1]
    assert caught.value.reason == "invalid_json"
    assert (records[0], records[2]) == ({}, [3])


def test_a_bad_line_after_blank_ones_is_told_by_its_byte(tmp_path):
    records = JsonRecords(write(tmp_path / "bad.jsonl", b"\n\n{}\n{"))
    with pytest.raises(RecordError, match=r"bad\.jsonl, byte 5: is no JSON"):
        records[1]


def test_nan_in_an_array_is_an_error_of_its_element(tmp_path):
    records = JsonRecords(write(tmp_path / "a.json", '[{"a": 1}, {"a": NaN}, 3]'))
    assert (records[0], records[2]) == ({"a": 1}, 3)
    with pytest.raises(RecordError, match="element 1 at byte 11: is no JSON: NaN"):
        records[1]


def test_long_lines_are_read_up_to_the_limit(tmp_path, monkeypatch):
    text = "x" * 1_000_000
    path = write(tmp_path / "a.jsonl", f'"{text}"\n"{text}{text}"\n1')
    assert JsonRecords(path)[0] == text
    monkeypatch.setattr(json_files, "MAX_RECORD_BYTES", 1_500_000)
    records = JsonRecords(path)
    with pytest.raises(RecordError, match=r"line 2 .*has 2,000,003 bytes, more than 1,500,000") as caught:
        records[1]
    assert caught.value.reason == "too_long"
    assert records[2] == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", "", r"'\[' is expected, but 'the end of the file' found.*\(byte 0\)"),
        ("a.json", "[1, 2", "is no JSON"),
        ("a.json", "[1, 2,]", "is no JSON"),
        ("a.json", "[1 2]", r"',' is expected, but '2' found; fix it \(byte 3\)"),
        ("a.json", '[{"a": }]', "is no JSON: Expecting value at byte 7"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[1]\n[2]", r"goes on after the end of its array: .*\.jsonl"),
        ("a.json", '{"a": [1]}', "holds an object, not an array: name"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "is in UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_that_cannot_be_indexed_is_a_clear_error(tmp_path, name, content, expected):
    with pytest.raises(InputError, match=expected) as caught:
        JsonRecords(write(tmp_path / name, content))
    assert not isinstance(caught.value, RecordError)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_path_that_is_no_file_is_a_clear_error(tmp_path, name):
    with pytest.raises(InputError, match=r"cannot be read|is a folder"):
        JsonRecords(tmp_path / name)


def test_an_element_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, "MAX_RECORD_BYTES", 100_000)
    monkeypatch.setattr(json_files, "_CHUNK_BYTES", 10_000)
    path = write(tmp_path / "a.json", '["' + "x" * 20_000_000)
    tracemalloc.start()
    with pytest.raises(InputError, match="longer than 100,000 bytes"):
        JsonRecords(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_indexing_holds_neither_the_file_nor_its_elements(tmp_path, monkeypatch, name):
    monkeypatch.setattr(json_files, "_CHUNK_BYTES", 10_000)
    lines = [json.dumps({"id": number, "text": "x" * 1000}) for number in range(10_000)]
    path = write(tmp_path / name, "[" + ",\n".join(lines) + "]" if name == "a.json" else "\n".join(lines))
    tracemalloc.start()
    records = JsonRecords(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size
    assert [records[index]["id"] for index in (0, 9_999)] == [0, 9_999]


def test_the_index_is_made_once(tmp_path, monkeypatch, cache_folder):
    path = write(tmp_path / "a.jsonl", "1\n2\n")
    assert len(JsonRecords(path, cache_folder=cache_folder)) == 2
    scans = []
    scan = json_files._index_lines
    monkeypatch.setattr(json_files, "_index_lines", lambda *args: scans.append(args) or scan(*args))
    assert list(JsonRecords(path, cache_folder=cache_folder)) == [1, 2]
    assert not scans
    # Of another state of the file, or damaged, it is made anew.
    os.utime(path, ns=(1, 1))
    assert list(JsonRecords(path, cache_folder=cache_folder)) == [1, 2]
    assert len(scans) == 1
    (cached,) = cache_folder.iterdir()
    for damage in (b"", cached.read_bytes()[:-9], b"no index"):
        cached.write_bytes(damage)
        assert list(JsonRecords(path, cache_folder=cache_folder)) == [1, 2]
    assert len(scans) == 4
    assert [entry.suffix for entry in cache_folder.iterdir()] == [".npy"]


def test_a_small_file_leaves_nothing_in_the_cache(tmp_path):
    JsonRecords(write(tmp_path / "a.jsonl", "1"), cache_folder=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("is_writable", [True, False])
def test_a_worker_gets_a_cached_index_without_its_offsets(tmp_path, cache_folder, is_writable):
    if not is_writable:
        cache_folder = write(tmp_path / "file", "in the way") / "cache"
    records = JsonRecords(write(tmp_path / "a.jsonl", "12345\n" * 10_000), cache_folder=cache_folder)
    sent = pickle.dumps(records)
    assert (len(sent) < 2_000) == is_writable
    received = pickle.loads(sent)
    assert len(received) == 10_000
    assert received[9_999] == 12345
    if is_writable:
        base = received._offsets
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)


def test_a_file_that_changed_is_not_read(tmp_path, cache_folder):
    path = write(tmp_path / "a.jsonl", "1\n2\n")
    records = JsonRecords(path, cache_folder=cache_folder)
    sent = pickle.dumps(records)
    write(path, "11\n2\n")
    with pytest.raises(InputError, match="changed since it was opened"):
        records[0]
    with pytest.raises(InputError, match="changed since it was opened"):
        pickle.loads(sent)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        records[0]
