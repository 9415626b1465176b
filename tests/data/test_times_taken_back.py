"""What is answered about a clip is accepted back as a record: one rule for all readers, whatever the clip's clock."""

import json
from fractions import Fraction

import pytest
import video_files as files

from llava_st_hf.data.readers.charades_sta import CharadesStaReader
from llava_st_hf.data.readers.user_csv import UserCsvReader
from llava_st_hf.data.readers.user_jsonl import UserJsonlReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.video_decoding_llava_st import read_video

MILLISECOND = Fraction(1, 1000)
NAME = {"before 0": "clip.ts", "from 5 s on": "clip.mkv", "sound is longer": "clip.mp4"}


def write(folder, kind):
    path = folder / NAME[kind]
    if kind == "before 0":
        return files.encode_negative(path)
    if kind == "from 5 s on":
        return files.encode(path, pts=[5000 + 40 * index for index in range(40)], time_base=MILLISECOND)
    return files.encode(path, num_frames=10, audio="first")  # 0.4 s of pictures, half a second of sound


def read_jsonl(folder, name, start, end):
    (folder / "a.jsonl").write_text(json.dumps({"video": name, "query": "it", "span_seconds": [start, end]}))
    return UserJsonlReader(folder / "a.jsonl", "mine", folder)[0]


def read_text(folder, name, start, end):
    """The times in the words of a question and of its answer."""
    record = {"video": name, "query": f"what is at <t={start}s>?", "answer": f"The end, <t={end}s>."}
    (folder / "a.jsonl").write_text(json.dumps({**record, "task": "video_qa"}))
    return UserJsonlReader(folder / "a.jsonl", "mine", folder)[0]


def read_tube(folder, name, start, end):
    boxes = {str(start): [1, 1, 20, 20], str(end): [5, 5, 30, 30]}
    record = {"video": name, "query": "it", "span_seconds": [start, end], "boxes": boxes}
    (folder / "a.jsonl").write_text(json.dumps(record))
    return UserJsonlReader(folder / "a.jsonl", "mine", folder)[0]


def read_csv(folder, name, start, end, written="{}-{}"):
    (folder / "a.csv").write_text(f"video,query,span_seconds\n{name},it,{written.format(start, end)}\n")
    return UserCsvReader(folder / "a.csv", "mine", folder)[0]


def read_spaced_csv(folder, name, start, end):
    return read_csv(folder, name, start, end, "{} - {}")


def read_charades(folder, name, start, end):
    (folder / "a.txt").write_text(f"{name} {start} {end}##a dog runs.\n")
    return CharadesStaReader(folder / "a.txt", "charades", folder)[0]


READERS = [read_jsonl, read_text, read_tube, read_csv, read_spaced_csv, read_charades]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", NAME)
def test_times_of_the_clip_are_taken_back(tmp_path, kind, read):
    video = read_video(write(tmp_path, kind))
    first, last = video.frame_seconds[0], video.frame_seconds[-1]
    frame = (last - first) / (len(video.frame_seconds) - 1)
    assert (first < 0, first > 4) == (kind == "before 0", kind == "from 5 s on")
    assert video.stated_end_seconds > last + (0.05 if kind == "sound is longer" else 0.0)
    for start, end, fractions in (
        (first, last, [0.0, 1.0]),
        (first - 0.9 * frame, video.stated_end_seconds, [0.0, 1.0]),
        (video.frame_seconds[4], video.stated_end_seconds + 0.9 * frame, [4 / (len(video.frame_seconds) - 1), 1.0]),
    ):
        sample = read(tmp_path, NAME[kind], round(start, 6), round(end, 6))
        assert isinstance(sample, Sample), sample
        times = [item.value for turn in sample.find_coordinates() for item in turn if item.kind == "t"]
        assert [times[0], times[-1]] == pytest.approx(fractions, abs=1e-4)


@pytest.mark.parametrize("read", [read_jsonl, read_text, read_tube, read_csv])
@pytest.mark.parametrize("kind", NAME)
def test_times_outside_of_the_clip_are_refused(tmp_path, kind, read):
    video = read_video(write(tmp_path, kind))
    first, end = video.frame_seconds[0], video.stated_end_seconds
    frame = (video.frame_seconds[-1] - first) / (len(video.frame_seconds) - 1)
    for times in ((min(first, 0.0) - 1.5 * frame, end), (first, end + 1.5 * frame)):
        skipped = read(tmp_path, NAME[kind], *(round(time, 6) for time in times))
        assert "outside the clip: give a time from" in skipped.detail
