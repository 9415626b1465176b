import json
from pathlib import Path

import pytest

from llava_st_hf.data.readers.activitynet_captions import ActivityNetCaptionsReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.processing.media_llava_st import InputError

# The clip is 4 seconds long: 40 frames at 10 a second.
ENTRY = {
    "duration": 4.0,
    "timestamps": [[0.0, 1.0], [1.5, 9.0]],
    "sentences": ["A circle comes in. ", "  It goes on"],
}


def open_captions(folder: Path, clip: Path, entry: object = ENTRY, **options) -> ActivityNetCaptionsReader:
    (folder / "v_a.mkv").write_bytes(clip.read_bytes())
    (folder / "captions.json").write_text(json.dumps({"v_a": entry}))
    return ActivityNetCaptionsReader(folder / "captions.json", "activitynet", folder, **options)


def test_a_sentence_is_a_record_or_all_of_a_video(tmp_path, clip):
    first, second = open_captions(tmp_path, clip)
    assert (first.id, second.id, first.task) == ("v_a 0", "v_a 1", "tvg")
    assert "textual query: 'a circle comes in'." in first.messages[0]["content"]
    assert first.messages[1]["content"] == f"{{<t=0.0><t={10 / 39!r}>}}"
    assert second.messages[1]["content"] == f"{{<t={15 / 39!r}><t=1.0>}}"  # the end is behind the video
    (whole,) = open_captions(tmp_path, clip, task="dvc")
    assert whole.id == "v_a"
    assert whole.messages[1]["content"] == (
        f"{{<t=0.0><t={10 / 39!r}>}}, A circle comes in. {{<t={15 / 39!r}><t=1.0>}}, It goes on."
    )
    told = open_captions(tmp_path, clip, task="tr")[0]
    assert (told.messages[1]["content"], "<t=0.0>" in told.messages[0]["content"]) == ("A circle comes in.", True)


@pytest.mark.parametrize(
    ("changes", "count", "found"),
    [
        ({"duration": None}, 2, "duration is missing"),
        ({"duration": 0}, 2, "duration is 0"),
        ({"duration": 5.0}, 2, "video is 'v_a.mkv' with 40 frames and 4.000 s, but"),
        ({"timestamps": [[0, 1]]}, 2, "timestamps is [[0, 1]]: give a list with [start, end] for each"),
        ({"timestamps": [[2, 1], [0, 1]]}, 2, "timestamps[0] is [2, 1]: it ends before it starts"),
        ({"timestamps": [["0", 1], [0, 1]]}, 2, "timestamps[0] is ['0', 1]: give 2 numbers"),
        ({"sentences": None}, 1, "sentences is missing"),
        ({"sentences": [], "timestamps": []}, 1, "timestamps is []"),
        ({"sentences": [" ", "b"]}, 2, "sentences[0].text is ' '"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, changes, count, found):
    reader = open_captions(tmp_path, clip, {**ENTRY, **changes})
    assert len(reader) == count
    assert reader[0].detail.startswith(found)


def test_refuses_another_file(tmp_path, clip):
    assert open_captions(tmp_path, clip, 3)[0].reason == "invalid_json"
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(InputError, match="holds no object"):
        ActivityNetCaptionsReader(tmp_path / "b.json", "activitynet")


def test_the_real_file(real_annotations_dir, tmp_path):
    path = real_annotations_dir / "activitynet_captions_val_excerpt.json"
    content = json.loads(path.read_text())
    for name in content:
        (tmp_path / f"{name}.mp4").touch()
    records = {record.id: record for record in ActivityNetCaptionsReader(path, "activitynet", tmp_path)}
    assert len(records) == 213 and all(isinstance(record, Sample) for record in records.values())
    # [10.6, 39.84] of 73.1 seconds; the other one ends at 95.04 of 95.03999999999999.
    start, end = (lexeme.value for lexeme in records["v_bXdq2zI1Ms0 1"].find_coordinates()[1])
    assert (start, end) == pytest.approx((0.145007, 0.545007), abs=1e-6)
    question = records["v_bXdq2zI1Ms0 1"].messages[0]["content"]
    assert "'the first man then begins performing martial arts moves while speaking to he camera'" in question
    (number,) = (n for n, times in enumerate(content["v_qI1ZayfiGHI"]["timestamps"]) if times == [36.59, 95.04])
    assert records[f"v_qI1ZayfiGHI {number}"].messages[1]["content"].endswith("<t=1.0>}")
    whole = list(ActivityNetCaptionsReader(path, "activitynet", tmp_path, task="dvc"))
    assert len(whole) == 60 and all(isinstance(record, Sample) for record in whole)
    assert whole[0].messages[1]["content"].count("{<t=") == 2
