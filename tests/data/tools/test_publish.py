import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image

from llava_st_hf.data.cards import SourceFacts
from llava_st_hf.data.samples import Media, Sample
from llava_st_hf.data.shapes import encode_sample
from llava_st_hf.data.skips import TooManySkipsError, read_skip_report
from llava_st_hf.data.tools import publish
from llava_st_hf.data.tools.publish import find_unlicensed, publish_dataset
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.video_decoding_llava_st import read_video


def run(records, folder, **options):
    return publish_dataset(records, folder, **{"max_skip_share": 1.0, "quiet": True, **options})


def stream(folder):
    from datasets import load_dataset

    return list(load_dataset(str(folder), split="train", streaming=True))


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def with_bytes(sample: Sample) -> Sample:
    """What a record is to look like once it was published."""
    if any(item.frames is not None for item in sample.media):
        return encode_sample(sample)
    media = []
    for item in sample.media:
        content = Path(item.path).read_bytes() if item.content is None else item.content
        media.append(Media(item.path if not os.path.isabs(item.path) else os.path.basename(item.path), content))
    return replace(sample, media=tuple(media))


def usable(records):
    return [record for record in records if isinstance(record, Sample) and record.id != "empty"]


class Interrupted(list):
    """Records of which one stops the run, as Ctrl-C does."""

    stop_at = None

    def __getitem__(self, index):
        if index == self.stop_at:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_streamed_records_equal_the_source_with_their_media(records, tmp_path):
    published = run(records, tmp_path / "out")
    rows = stream(tmp_path / "out")
    assert [Sample.from_row(row) for row in rows] == [with_bytes(sample) for sample in usable(records)]
    assert published.num_records == len(rows) == 9
    assert published.skips == {("kitchen", "missing_media"): 1, ("kitchen", "empty_media"): 1}
    assert [path.name for path in published.shards] == ["train-00000-of-00001.parquet"]
    # Nothing of the folders of this machine goes out with the data.
    published_bytes = b"".join(path.read_bytes() for path in (*published.shards, tmp_path / "out" / "README.md"))
    assert str(tmp_path).encode() not in published_bytes


def test_the_files_load_as_parquet_without_the_card(records, tmp_path):
    from datasets import load_dataset

    from llava_st_hf.data.samples import get_features

    published = run(records, tmp_path / "out")
    rows = load_dataset("parquet", data_files=str(published.shards[0]), split="train", streaming=True)
    assert rows.features == get_features()
    assert next(iter(rows))["frame_range"] == [0, 20]


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [([0, 5, 4], "video"), ([2, 3, 4], "image"), ([0, 2], None), ([4], None)],
    ids=["clips", "pictures", "both", "text"],
)
def test_clips_or_pictures_alone_have_their_types_and_the_same_bytes(records, tmp_path, numbers, kind):
    from datasets import load_dataset

    from llava_st_hf.data.samples import get_features

    chosen = [records[number] for number in numbers]
    run(chosen, tmp_path / "out")
    for streaming in (True, False):
        rows = load_dataset(str(tmp_path / "out"), split="train", streaming=streaming, cache_dir=tmp_path / "cache")
        assert rows.features == get_features(kind)
        assert [Sample.from_row(row) for row in rows] == [with_bytes(sample) for sample in chosen]


def test_media_in_memory_become_files_of_the_same_picture(array_clip, tmp_path):
    sample = Sample(
        id="a/b",
        source="made",
        task="video_qa",
        media_type="video",
        media=(Media(frames=array_clip),),
        messages=({"role": "user", "content": "What?"}, {"role": "assistant", "content": "Noise."}),
    )
    for name, times in (("video_fps", 4.0), ("frame_seconds", (5.0, 5.5, 7.0, 8.0, 8.5, 9.0))):
        run([replace(sample, **{name: times})], tmp_path / name)
        (row,) = stream(tmp_path / name)
        seconds = [index / 4 for index in range(6)] if name == "video_fps" else times
        assert read_video(row["media"][0]["bytes"]).frame_seconds == pytest.approx(seconds)
        assert row["video_fps"] is row["frame_seconds"] is None  # the file says it
    with pytest.raises(InputError, match="of 1 record none is of use"):
        run([sample], tmp_path / "out")
    (skipped,) = read_skip_report(tmp_path / "out/skipped.jsonl")
    assert "nothing says when they are, as a file does: give video_fps" in skipped.detail


def test_shards_and_row_groups_are_small(records, tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    many = [records[0], *records[2:6]] * 8
    monkeypatch.setattr(publish, "ROW_GROUP_BYTES", 40_000)
    published = run(many, tmp_path / "out", max_shard_size="120KB")
    num_shards = len(published.shards)
    assert [path.name for path in published.shards] == [
        f"train-{number:05d}-of-{num_shards:05d}.parquet" for number in range(num_shards)
    ]
    assert [row["id"] for row in stream(tmp_path / "out")] == [sample.id for sample in many]
    num_groups, largest = 0, 0
    for path in published.shards:
        file = pq.ParquetFile(path)
        sizes = []
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group).to_pylist()
            sizes.append(sum(len(item["bytes"]) for row in rows for item in row["media"]))
        assert max(sizes) <= 40_000 and sum(sizes) <= 120_000
        num_groups, largest = num_groups + len(sizes), max(largest, *sizes)
    assert num_groups > num_shards > 1
    assert largest > 20_000  # and not one record each


def test_a_record_larger_than_a_shard_gets_its_own(records, tmp_path):
    published = run([records[4], records[0], records[4]], tmp_path / "out", max_shard_size="1KB")
    assert len(published.shards) == 3


def test_stopped_at_any_record_it_ends_with_the_same_files(records, tmp_path):
    records = [*records[:6], *records[-1:]]  # those that need no encoding, which takes time
    expected = run(records, tmp_path / "whole", max_shard_size="20KB", title="t")
    assert len(expected.shards) > 1
    for stop_at in range(len(records)):
        stopped = Interrupted(records)
        stopped.stop_at = stop_at
        folder = tmp_path / f"stopped_{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            run(stopped, folder, max_shard_size="20KB", title="t")
        assert not (folder / "README.md").exists()
        assert run(records, folder, max_shard_size="20KB", title="t").counts == expected.counts
        assert digest(folder) == digest(tmp_path / "whole")


def test_stopped_at_any_rename_it_ends_with_the_same_files(records, tmp_path, monkeypatch):
    records = [*records[:6], *records[-1:]]
    run(records, tmp_path / "whole", max_shard_size="20KB", title="t")
    replace_file = os.replace
    for num_renames in range(100):
        left = iter(range(num_renames))

        def rename(source, target, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            replace_file(source, target)

        folder = tmp_path / f"stopped_{num_renames}"
        monkeypatch.setattr(os, "replace", rename)
        try:
            run(records, folder, max_shard_size="20KB", title="t")
        except KeyboardInterrupt:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(os, "replace", replace_file)
        run(records, folder, max_shard_size="20KB", title="t")
        assert digest(folder) == digest(tmp_path / "whole")
    assert num_renames > 6


def test_a_finished_folder_is_not_written_again(records, tmp_path, monkeypatch):
    first = run(records, tmp_path / "out")
    monkeypatch.setattr(publish._Writer, "_write_shard", lambda *arguments: pytest.fail("written again"))
    second = run(records, tmp_path / "out", sources={"kitchen": SourceFacts("kitchen", "CC-BY-4.0")})
    assert second == first
    assert "CC-BY-4.0" in (tmp_path / "out" / "README.md").read_text()


def test_a_damaged_shard_is_written_again(records, tmp_path):
    published = run(records, tmp_path / "out", max_shard_size="20KB")
    before = digest(tmp_path / "out")
    os.truncate(published.shards[1], 100)
    run(records, tmp_path / "out", max_shard_size="20KB")
    assert digest(tmp_path / "out") == before


def change_text(records):
    messages = ({"role": "user", "content": "Where?"}, records[0].messages[1])
    records[0] = replace(records[0], messages=messages)


def change_medium(records):
    path = Path(records[2].media[0].path)
    path.write_bytes(path.read_bytes() + b" ")


def change_array(records):
    frames = records[6].media[0].frames.copy()
    frames.flat[0] ^= 1
    records[6] = replace(records[6], media=(replace(records[6].media[0], frames=frames),))


def change_number(records):
    records.append(records[0])


def change_order(records):
    records[0], records[2] = records[2], records[0]


@pytest.mark.parametrize("change", [change_text, change_medium, change_array, change_number, change_order])
def test_input_that_changed_in_between_is_an_error(records, tmp_path, change):
    run(records, tmp_path / "out")
    before = digest(tmp_path / "out" / "data")
    change(records)
    with pytest.raises(
        InputError,
        match=r"remove that folder|holds a run with records=|with num_records=11, and now num_records is 12",
    ):
        run(records, tmp_path / "out")
    assert digest(tmp_path / "out" / "data") == before


def test_a_folder_with_anything_else_is_refused(records, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        run(records, tmp_path)
    with pytest.raises(InputError, match="is a file"):
        run(records, tmp_path / "mine.txt")
    run(records, tmp_path / "out")
    with pytest.raises(InputError, match="max_shard_bytes=500000000, and now max_shard_bytes is 1000000"):
        run(records, tmp_path / "out", max_shard_size="1MB")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_skips_are_listed_once_and_stop_the_run(records, tmp_path):
    with pytest.raises(TooManySkipsError, match="2 of 11 records were skipped"):
        run(records, tmp_path / "out", max_skip_share=0.1)
    assert not (tmp_path / "out" / "README.md").exists()
    run(records, tmp_path / "out", max_skip_share=0.2)
    lines = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["gone", "empty"]
    assert [note.reason for note in read_skip_report(tmp_path / "out" / "skipped.jsonl")] == [
        "missing_media",
        "empty_media",
    ]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| kitchen | missing_media | 1 |" in card
    assert "| kitchen | empty_media | 1 |" in card
    with pytest.raises(TooManySkipsError, match="required source 'kitchen'"):
        run(records, tmp_path / "other", required_sources=["kitchen"])


def test_no_record_at_all_is_an_error(records, tmp_path):
    with pytest.raises(InputError, match="of 1 record none is of use"):
        run(records[1:2], tmp_path / "out")
    with pytest.raises(InputError, match="of 0 records none is of use"):
        run([], tmp_path / "none")


def test_large_media_are_left_out(records, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "MAX_MEDIA_BYTES", 300)
    published = run(records, tmp_path / "out")
    assert published.skips["kitchen", "oversized_media"] == 3  # the clip, its bytes, three images together
    assert {row["id"] for row in stream(tmp_path / "out")} >= {"text"}


def test_sources_without_a_licence_are_found():
    facts = {"a": SourceFacts("a", "MIT"), "b": SourceFacts("b")}
    assert find_unlicensed(["a", "b", "c"], facts) == ["b", "c"]


def test_the_card_says_licence_and_origin(records, tmp_path):
    run(records, tmp_path / "out", sources={"kitchen": SourceFacts("kitchen", "CC-BY-4.0", "https://kitchen.example")})
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == ["cc-by-4.0", "unknown"]
    assert "| kitchen | CC-BY-4.0 | https://kitchen.example | 4 |" in card.text


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_files(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for number in range(2000):
        name = f"{number % 20}.png"
        if number < 20:
            Image.fromarray(generator.integers(0, 255, (60, 60, 3), dtype=np.uint8)).save(tmp_path / name)
        messages = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": f"Noise {number}."}]
        row = {"id": str(number), "source": "s", "task": "conversation", "media_type": "image", "messages": messages}
        rows.append({**row, "media": [{"path": name}], "frame_range": None})
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = (
        "import sys\n"
        "from llava_st_hf.data.tools.publish import publish_dataset\n"
        "from llava_st_hf.data.readers.registry import open_reader\n"
        "records = open_reader('canonical', sys.argv[1] + '/records.jsonl', 's', sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "publish_dataset(records, sys.argv[2], title='t', max_shard_size='300KB', quiet=True)\n"
    )

    def start(name):
        arguments = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / name)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        return process

    began = time.monotonic()
    assert start("whole").wait() == 0
    whole_seconds = time.monotonic() - began
    for share in generator.uniform(0.05, 0.3, 3):
        process = start("killed")
        time.sleep(share * whole_seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "data").iterdir())) > 30
