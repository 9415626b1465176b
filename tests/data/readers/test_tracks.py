"""What all formats of tracks share: which tracks are records, and what each task asks."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from llava_st_hf.data.media_probe import probe_media
from llava_st_hf.data.readers.tracks import Track, TrackedVideo, TracksReader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.turns import read_turns

CLIP = TrackedVideo("a", size=(320, 240))
BOX = [10, 20, 40, 40]
ROWS = [(10, 0, BOX), (20, 1, [50, 20, 40, 40]), (21, 2, None), (29, 3, None), (30, 4, BOX), (31, 5, BOX)]


@dataclass(eq=False)
class GivenTracks(TracksReader):
    tracks: list = field(default_factory=list)

    def list_tracks(self):
        return self.tracks


def open_tracks(folder: Path, clip: Path, *tracks: Track, **options) -> GivenTracks:
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    return GivenTracks("tracks", "mine", folder, tracks=list(tracks), **options)


def test_a_name_tells_one_object_only(tmp_path, clip, caplog):
    tracks = [
        Track("1", CLIP, "dog", ROWS),
        Track("2", CLIP, "dog", ROWS, phrase="the black dog"),
        Track("3", CLIP, "cat", ROWS),
    ]
    reader = open_tracks(tmp_path, clip, *tracks)
    assert [record.id for record in reader] == ["2", "3"]
    assert "1 of 3 tracks make no record of the task svg" in caplog.text
    assert ", where is the black dog?" in reader[0].messages[0]["content"]
    assert ", where is the cat?" in reader[1].messages[0]["content"]
    assert len(open_tracks(tmp_path, clip, *tracks, task="elc")) == 3


@pytest.mark.parametrize(
    ("task", "spans"),
    [("svg", []), ("stvg", [(1.0, 3.1)]), ("stvg_several", [(1.0, 2.0), (3.0, 3.1)]), ("elc", [(1.0, 3.1)])],
)
def test_a_track_in_every_task(tmp_path, clip, task, spans):
    (record,) = open_tracks(tmp_path, clip, Track("1", CLIP, "dog", ROWS), task=task)
    assert isinstance(record, Sample), record
    (turn,) = read_turns(record, probe_media(record, num_frames=40))
    assert turn.answer.problems == ()
    assert [(s.start_seconds, s.end_seconds) for s in turn.answer.spans] == [pytest.approx(span) for span in spans]
    entries = [entry for tube in turn.answer.tubes for entry in tube.boxes]
    assert [entry.frame_index for entry in entries] == [*range(10, 21), 30, 31]  # not where it is not to be seen
    assert entries[5].box.xyxy == pytest.approx((30, 20, 70, 60))
    if task == "elc":
        assert turn.answer.captions[0].text == "the dog."


def test_pictures_are_those_of_the_file(tmp_path, clip):
    (tmp_path / "b").mkdir()
    names = tuple(f"b/{number}.png" for number in range(9))
    for name in names:
        Image.new("RGB", (320, 240)).save(tmp_path / name)
    video = TrackedVideo("b", names[:6], size=(320, 240))
    (record,) = open_tracks(tmp_path, clip, Track("1", video, "dog", ROWS), num_frames=6)
    assert [Path(item.path).name for item in record.media] == [f"{number}.png" for number in range(6)]
    times = [lexeme.value for lexeme in record.find_coordinates()[1] if lexeme.kind == "t"]
    assert times == pytest.approx([0, 0.2, 0.8, 1.0])


@pytest.mark.parametrize(
    ("track", "found"),
    [
        (Track("1", CLIP, "dog", []), "the track has no box"),
        (Track("1", CLIP, "dog", [(1, 0, None)]), "the track has no box"),
        (Track("1", CLIP, "dog", [(1, 0, BOX), (1, 0, BOX)]), "frame is 1: it has two boxes"),
        (Track("1", CLIP, "dog", [("x", 0, BOX)]), "frame is 'x'"),
        (Track("1", CLIP, "dog", [(1, 0, [1, 2])]), "box of frame 1 is [1, 2]"),
        (Track("1", CLIP, "dog", [(99, 0, BOX)]), "frames is [99, 99]: frame 99 is outside of the clip"),
        (Track("1", CLIP, None, ROWS), "label is None"),
        (Track("1", CLIP._replace(name="lost"), "dog", ROWS), "video is 'lost', which does not exist"),
        (Track("1", CLIP._replace(frame_count=90), "dog", ROWS), "video is 'a.mp4' with 40 frames and"),
    ],
)
def test_says_what_is_wrong(tmp_path, clip, track, found):
    assert open_tracks(tmp_path, clip, track)[0].detail.startswith(found)
