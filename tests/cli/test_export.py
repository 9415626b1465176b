import json
from typing import get_args

from llava_st_cli import main
from llava_st_cli.export import Format
from llava_st_hf import Box, GroundingResult, MediaInfo, Span, Tube
from llava_st_hf.data.exports import EXPORT_FORMATS
from llava_st_hf.processing import TubeBox


def write_answers(folder, clip):
    media = MediaInfo("video", 320, 240, (0, 39), (0.0, 3.9), str(clip))
    tube = Tube((TubeBox(0.5, 5, Box(10, 20, 50, 60)), TubeBox(1.0, 10, Box(20, 20, 60, 60))))
    answers = [
        GroundingResult("", (Span(0.5, 1.0),), tubes=(tube,), query="a circle", media=media),
        GroundingResult("Yes.", media=media),
    ]
    (folder / "answers.json").write_text(json.dumps([answer.to_dict() for answer in answers]))
    return folder / "answers.json"


def test_every_format_can_be_chosen():
    assert get_args(Format) == tuple(EXPORT_FORMATS)


def test_writes_beside_the_answers_and_says_what_is_left_out(tmp_path, clip, capsys):
    file = write_answers(tmp_path, clip)
    assert main(["export-answers", str(file), "--to", "cvat_video", "--every-frame"]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "answers-cvat_video" / "circle.xml"
    assert captured.out == f"{path}\n"
    assert captured.err == "1 of 2 answers are not in it: they have nothing that cvat_video holds.\n"
    assert path.read_text().count("<box") == 7


def test_what_is_wrong_is_one_line(tmp_path, clip, capsys):
    file = write_answers(tmp_path, clip)
    for options, code, words in (
        (["--to", "cvat"], 2, "'cvat' is not one of"),
        (
            ["--to", "mot", "--media-folder", "nowhere"],
            1,
            "media_folder, where it lies. (on the command line: --media-",
        ),
        (["--to", "mot", "--output", str(tmp_path / "a.txt")], 1, "no ending. (on the command line: --output PATH)"),
    ):
        assert main(["export-answers", str(file), *options]) == code
        assert words in capsys.readouterr().err
    assert main(["export-answers", str(tmp_path / "b.json"), "--to", "mot"]) == 1
    assert "b.json: no such file" in capsys.readouterr().err
