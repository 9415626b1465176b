import json
import os
import pickle
from pathlib import Path

import fsspec
import huggingface_hub.constants
import pyarrow as pa
import pytest
from pyarrow import parquet

from llava_st_hf.data.readers.canonical import CanonicalReader, ParquetRows, select_split
from llava_st_hf.data.samples import Media, Sample, get_features
from llava_st_hf.data.skips import RecordError, SkippedRecord
from llava_st_hf.processing.media_llava_st import InputError


def make_row(number, **fields):
    turns = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": f"Number {number}."}]
    sample = Sample(str(number), "told", "conversation", "image", (Media("a.jpg", b"%d" % number),), tuple(turns))
    return {**sample.to_row(), **fields}


def write_parquet(path, rows, rows_per_group=3):
    with fsspec.open(str(path), "wb") as file:
        table = pa.Table.from_pylist(rows, schema=get_features().arrow_schema)
        parquet.write_table(table, file, row_group_size=rows_per_group)


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(params=["local", "memory"])
def shards(request, tmp_path):
    """A folder with two shards: row groups of 3, 3, 1 and of 3, 1 rows."""
    folder = str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}"
    os.makedirs(tmp_path / "data")
    for first, count, name in ((0, 7, "train-00000-of-00002"), (7, 4, "train-00001-of-00002")):
        write_parquet(f"{folder}/{name}.parquet", [make_row(number) for number in range(first, first + count)])
    return folder


@pytest.mark.parametrize("ending", ["", "/train-*.parquet"])
def test_parquet_of_a_folder_and_of_a_pattern(shards, ending):
    reader = CanonicalReader(shards + ending, "mine")
    assert len(reader) == 11
    assert reader.get_block_sizes() == [3, 3, 1, 3, 1]
    for number, sample in enumerate(reader):
        assert sample.to_row() == make_row(number, source="mine")


def test_records_keep_their_sources_where_they_are_asked_to(shards, tmp_path):
    reader = CanonicalReader(shards, "mine", keep_sources=True)
    assert {sample.source for sample in reader} == {"told"}
    assert reader.source_names == ("told",)
    write_parquet(tmp_path / "nameless.parquet", [make_row(0, source=None)])
    reader = CanonicalReader(tmp_path / "nameless.parquet", "mine", keep_sources=True)
    assert reader[0].source == "mine"
    assert reader.source_names == ("mine",)


def test_only_the_row_groups_that_are_needed_are_read_and_two_are_kept(shards, monkeypatch):
    reads = []
    read_group = ParquetRows.read_group
    monkeypatch.setattr(
        ParquetRows,
        "read_group",
        lambda rows, file, group: reads.append((Path(file).stem[:11], group)) or read_group(rows, file, group),
    )
    reader = CanonicalReader(shards, "mine")
    assert not reads
    for index in (1, 0, 8, 2, 9, 7, 1):
        assert reader[index].id == str(index)
    assert reads == [("train-00000", 0), ("train-00001", 0)]
    reader[5], reader[0], reader[8]  # the third takes the place of the one that was not used for longest
    assert reads[2:] == [("train-00000", 1), ("train-00001", 0)]
    assert pickle.loads(pickle.dumps(reader))[6].id == "6"


def test_a_single_file(tmp_path):
    write_parquet(tmp_path / "one.parquet", [make_row(0)])
    assert CanonicalReader(tmp_path / "one.parquet", "mine")[0].id == "0"


def test_jsonl_with_paths(tmp_path):
    (tmp_path / "media" / "frames").mkdir(parents=True)
    for name in ("a.jpg", "frames/2.png", "frames/10.png"):
        (tmp_path / "media" / name).touch()
    clip = {"media_type": "video", "task": None, "media": [{"path": "frames"}], "frame_range": [0, 1]}
    write_jsonl(tmp_path / "data" / "1.jsonl", [make_row(0, media=[{"path": "a.jpg"}])])
    write_jsonl(tmp_path / "data" / "2.jsonl", [make_row(1, **clip), make_row(2, media=[{"path": "../b"}]), [1]])
    reader = CanonicalReader(tmp_path / "data", "mine", data_folder=tmp_path / "media", task="video_qa")
    assert len(reader) == 4
    assert reader.get_block_sizes() is None
    assert reader[0].media == (Media(path=str(tmp_path / "media" / "a.jpg")),)
    assert (reader[0].source, reader[0].task) == ("mine", "conversation")
    assert reader[1].task == "video_qa"
    assert [os.path.basename(item.path) for item in reader[1].media] == ["2.png", "10.png"]
    assert [skipped.reason for skipped in (reader[2], reader[3])] == ["outside_root", "invalid_json"]
    assert [skipped.id for skipped in (reader[2], reader[3])] == ["2", "record 3"]


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"media": [{"path": "a.jpg"}]}, "media[0].path", "no folder of media is set"),
        ({"media": [{"path": "a.jpg", "bytes": "text"}]}, "media[0]", "bytes as binary data"),
        ({"media": [{"path": 3, "bytes": None}]}, "media[0].path", "give the path of a file"),
        ({"media": [{}]}, "media", "neither a path nor bytes"),
        ({"media": "a.jpg"}, "media", "give a list"),
        ({"media": []}, "media", "has 0 entries"),
        ({"task": None}, "task", "task is missing"),
        ({"messages": None}, "messages", "messages is missing"),
        ({"id": 3}, "id", "give a text"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, fields, field, message):
    plain = make_row(0, media_type="text", media=[])
    write_jsonl(tmp_path / "a.jsonl", [{**plain, "media_type": "image", **fields}, plain])
    reader = CanonicalReader(tmp_path / "a.jsonl", "mine")
    with pytest.raises(RecordError, match=message) as caught:
        reader.read(0)
    assert caught.value.field == field
    assert isinstance(reader[0], SkippedRecord)
    assert isinstance(reader[1], Sample)


def test_a_damaged_row_group_is_an_error_of_its_records(tmp_path):
    rows = [make_row(number, media=[{"bytes": os.urandom(5000), "path": None}]) for number in range(6)]
    write_parquet(tmp_path / "a.parquet", rows)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[100:12_000] = bytes(11_900)
    (tmp_path / "a.parquet").write_bytes(content)
    reader = CanonicalReader(tmp_path / "a.parquet", "mine")
    assert [record.reason for record in (reader[0], reader[2])] == ["unreadable_media"] * 2
    assert "row group 0 of" in reader[0].detail
    assert reader[5].id == "5"


def test_a_remote_row_group_that_cannot_be_read_stops_the_run(tmp_path):
    address = f"memory://{tmp_path.name}/a.parquet"
    write_parquet(address, [make_row(0)])
    reader = CanonicalReader(address, "mine")
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}/a.parquet")
    with pytest.raises(InputError, match=r"row group 0 of .*a.parquet cannot be read") as caught:
        reader[0]
    assert not isinstance(caught.value, RecordError)


def test_files_that_are_not_canonical(tmp_path):
    parquet.write_table(pa.table({"id": ["1"], "text": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "none.parquet").write_bytes(b"no parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    for name, message in (
        ("other.parquet", "has no column 'media_type': .* it has id, text"),
        ("none.parquet", "is no Parquet file"),
        ("empty", "has no Parquet or JSONL files"),
        ("missing.parquet", "has no Parquet or JSONL files"),
        ("a.txt", "give Parquet, or JSONL"),
        ("*", "Parquet and other files"),
    ):
        with pytest.raises(InputError, match=message):
            CanonicalReader(tmp_path / name, "mine")


def test_select_split():
    names = ["data/train-00001-of-00002", "data/train-00000-of-00002", "test/0", "validation", "trainer-0"]
    files = [f"datasets/o/n@main/{name}.parquet" for name in names]
    found = {split: select_split(files, "datasets/o/n@main", split) for split in ("train", "test", "validation")}
    assert found == {"train": [files[1], files[0]], "test": [files[2]], "validation": [files[3]]}
    with pytest.raises(InputError, match=r"datasets/o/n@main has no Parquet files of the split 'dev'; .*data/train-"):
        select_split(files, "datasets/o/n@main", "dev")


def test_a_split_is_of_a_folder(shards):
    assert len(CanonicalReader(shards, "mine", split="train")) == 11
    with pytest.raises(InputError, match="has no Parquet files of the split 'test'"):
        CanonicalReader(shards, "mine", split="test")
    with pytest.raises(InputError, match=r"split is 'train', but .* is no folder"):
        CanonicalReader(shards + "/train-*.parquet", "mine", split="train")


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    folder = "datasets/owner/name@refs%2Fpr%2F1"
    write_parquet(f"memory://{folder}/data/test-0.parquet", [make_row(5)])
    write_parquet(f"memory://{folder}/data/train-0.parquet", [make_row(6)])
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: (memory, address.removeprefix("hf:/")))
    reader = CanonicalReader("hf://datasets/owner/name@refs%2Fpr%2F1", "mine", split="test")
    assert [sample.id for sample in reader] == ["5"]
    memory.rm("/datasets", recursive=True)


def test_offline_names_the_data_set(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hf://datasets/nobody/nothing cannot be read: .*check the connection"):
        CanonicalReader("hf://datasets/nobody/nothing", "mine", split="train")
    with pytest.raises(InputError, match=r"hf://datasets/nobody/nothing/data cannot be read: .*check the connection"):
        CanonicalReader("hf://datasets/nobody/nothing/data", "mine")


def test_an_unknown_address_is_named():
    with pytest.raises(InputError, match="nowhere://data cannot be opened: Protocol not known"):
        CanonicalReader("nowhere://data", "mine")
