import json
from pathlib import Path

import pytest

from llava_st_hf.data.readers.tacos import TacosReader
from llava_st_hf.data.samples import Sample

# The clip has 40 frames at 10 a second; it was annotated at 20 a second.
ENTRY = {
    "timestamps": [[20, 40], [60, 80]],
    "sentences": ["She takes out a knife.", "She cuts"],
    "fps": 20.0,
    "num_frames": 80,
}


def open_tacos(folder: Path, clip: Path, entry: object = ENTRY, **options) -> TacosReader:
    (folder / "s1.mp4").write_bytes(clip.read_bytes())
    (folder / "tacos.json").write_text(json.dumps({"s1.avi": entry}))
    return TacosReader(folder / "tacos.json", "tacos", folder, **options)


def test_frames_become_times_by_the_rate_of_the_file(tmp_path, clip):
    first, second = open_tacos(tmp_path, clip)
    assert first.id == "s1.avi 0"
    assert [lexeme.value for lexeme in first.find_coordinates()[1]] == pytest.approx([10 / 39, 20 / 39])
    assert second.messages[1]["content"].endswith("<t=1.0>}")  # the end is behind the last frame
    (whole,) = open_tacos(tmp_path, clip, task="dvc")
    assert whole.messages[1]["content"].endswith("<t=1.0>}, She cuts.")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"fps": None}, "fps is missing"),
        ({"fps": "fast"}, "fps is 'fast': give a number above 0"),
        ({"num_frames": 0.5}, "num_frames is 0.5"),
        ({"timestamps": [[90, 95], [0, 1]]}, "timestamps[0] is [90, 95]: the time"),
        ({"fps": 29.4}, "video is 's1.mp4' with 40 frames and 4.000 s, but the annotations are of one with 80 frames"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, changes, found):
    assert open_tacos(tmp_path, clip, {**ENTRY, **changes})[0].detail.startswith(found)


def test_the_real_file(real_annotations_dir, tmp_path):
    path = real_annotations_dir / "tacos_test_excerpt.json"
    for name in json.loads(path.read_text()):
        (tmp_path / name).touch()
    records = list(TacosReader(path, "tacos", tmp_path))
    assert len(records) == 182 + 162 + 201 + 85 and all(isinstance(record, Sample) for record in records)
    assert (records[0].id, records[0].frame_range) == ("s30-d52.avi 0", None)
    assert "'she took out kiwi'" in records[0].messages[0]["content"]
    assert records[0].messages[1]["content"] == f"{{<t={141 / 7345!r}><t={354 / 7345!r}>}}"  # of 7346 frames
    whole = list(TacosReader(path, "tacos", tmp_path, task="dvc"))
    assert [record.messages[1]["content"].count("{<t=") for record in whole] == [182, 162, 201, 85]
