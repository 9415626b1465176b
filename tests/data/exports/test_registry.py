from dataclasses import replace

import pytest

from llava_st_hf.data.exports import EXPORT_FORMATS, export_answers
from llava_st_hf.data.readers.registry import FORMATS
from llava_st_hf.processing.media_llava_st import InputError


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_answers_that_a_format_does_not_hold_are_counted(answers, tmp_path, format):
    summary = export_answers(answers, format, tmp_path / "out")
    counts = {"cvat_video": 2, "mot": 2, "coco_video": 3, "label_studio": 3, "webvtt": 3, "fiftyone": 3}
    assert (summary.num_answers, summary.num_left_out) == (counts[format], 4 - counts[format])
    assert all(path.is_file() and path.is_relative_to(tmp_path / "out") for path in summary.paths)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {path.name for path in summary.paths}
    with pytest.raises(InputError, match="out': it exists"):
        export_answers(answers, format, tmp_path / "out")


def test_formats_that_are_read_have_the_name_of_their_reader():
    assert {"cvat_video", "mot", "coco_video"} == EXPORT_FORMATS.keys() & FORMATS.keys()


@pytest.mark.parametrize(
    ("format", "output", "options", "message"),
    [
        ("cvat", "out", {}, "format is 'cvat': choose one of cvat_video, mot"),
        ("mot", "out.txt", {}, "give the name of a folder, which has no ending"),
        ("webvtt", "out.xml", {}, r"or of a file that ends in \.vtt"),
        ("webvtt", "missing/out", {}, "missing does not exist"),
        ("webvtt", "out", {"every_frame": True}, "webvtt holds no boxes"),
        ("mot", "out", {"media_folder": "nowhere"}, "'nowhere/circle.mp4': the clip is not there"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_written(
    answers, tmp_path, monkeypatch, format, output, options, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        export_answers(answers, format, output, **options)
    assert list(tmp_path.iterdir()) == []


def test_several_clips_need_a_folder(answers, tmp_path):
    other = replace(answers[1], media=replace(answers[1].media, source="b.mp4"))
    with pytest.raises(InputError, match="about 2 clips, which have a file each; give the name of a folder"):
        export_answers([answers[0], other], "webvtt", tmp_path / "a.vtt")
    assert len(export_answers([answers[0], other], "webvtt", tmp_path / "out").paths) == 2


def test_answers_without_what_is_held_or_without_media_are_said(answers, tmp_path):
    with pytest.raises(InputError, match="mot holds tubes: none of 2 answers has any"):
        export_answers(answers[2:], "mot", tmp_path / "out")
    with pytest.raises(InputError, match="media is not set in 1 answer:"):
        export_answers([replace(answers[0], media=None)], "mot", tmp_path / "out")


def test_a_result_exports_itself(answers, tmp_path):
    answers[0].export(tmp_path / "a.xml", "cvat_video", every_frame=True)
    assert (tmp_path / "a.xml").read_text().count("<box") == 17
    with pytest.raises(InputError, match=r"a\.xml': it exists"):
        answers[0].export(tmp_path / "a.xml", "cvat_video")
