"""The command as its user sees it: what it writes, what it says, and how it ends."""

import json
import re
import subprocess
import sys
import wave

import av
import numpy as np
import pytest
from PIL import Image

from llava_st_hf import GroundingResult
from llava_st_hf.cli import main
from llava_st_hf.demo import DEMO_QUERY


@pytest.fixture
def ground(checkpoint, capsys):
    """Run `llava-st ground` with the random checkpoint; return exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["ground", *map(str, arguments), "--model", str(checkpoint), "--max-new-tokens", "80"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_ground_writes_json_clip_and_contact_sheet(ground, clip, tmp_path):
    answer, annotated, sheet = (tmp_path / name for name in ("answer.json", "annotated.mp4", "sheet.png"))
    code, out, err = ground(
        clip, "a red circle", "--json", answer, "--annotated", annotated, "--contact-sheet", sheet, "--frames", 6
    )
    assert code == 0, err
    content = json.loads(answer.read_text())
    assert content["query"] == "a red circle"
    assert len(content["media"]["frame_seconds"]) == 6
    assert out.startswith("query: a red circle\nspan: ")
    assert content["model"]
    (span,) = GroundingResult.from_dict(content).spans
    said = f"span: {span.start_seconds:.2f} s to {span.end_seconds:.2f} s, confidence {span.confidence:.2f}"
    assert out.splitlines()[1] == said
    with av.open(str(annotated)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40
    assert Image.open(sheet).format == "PNG"
    for path in (answer, annotated, sheet):
        assert str(path) in err
    assert "Reading" in err


def test_several_queries_share_a_file(ground, clip, tmp_path):
    queries, answers = tmp_path / "queries.txt", tmp_path / "answers.json"
    queries.write_text("a square\n\nthe third one\n")
    code, out, err = ground("--json", answers, clip, "a circle", "--frames", 5, "--queries", queries)
    assert code == 0, err
    content = json.loads(answers.read_text())
    assert [answer["query"] for answer in content] == ["a circle", "a square", "the third one"]
    assert out.count("query: ") == 3


def test_options_may_stand_before_between_and_behind(ground, clip):
    for arguments in (["--task", "tvg", clip, "x"], [clip, "--task", "tvg", "x"], [clip, "x", "--task", "tvg"]):
        code, out, err = ground(*arguments)
        assert code == 0, err
        assert out.startswith("query: x\nspan: ")


def test_unconstrained_answers_are_written_freely(ground, clip):
    assert "problem: " in ground(clip, "a circle", "--unconstrained")[1]
    assert "problem: " not in ground(clip, "a circle")[1]
    every = ground(clip, "a circle", "--every-frame", "--frames", 5)
    assert every[0] == 0


def test_quiet_shows_no_progress(ground, clip):
    code, _, err = ground(clip, "a red circle", "--quiet")
    assert code == 0
    assert err == ""


def test_ground_an_image(ground, tmp_path):
    photograph, annotated = tmp_path / "photograph.png", tmp_path / "annotated.png"
    Image.new("RGB", (80, 60), "white").save(photograph)
    code, out, err = ground(photograph, "the dog", "--annotated", annotated)
    assert code == 0, err
    assert re.fullmatch(r"box: \(\d+, \d+\) to \(\d+, \d+\) pixels, confidence [01]\.\d\d", out.splitlines()[1])
    assert "confidence" not in ground(photograph, "the dog", "--unconstrained")[1]
    assert Image.open(annotated).size == (80, 60)


def test_without_a_model_screen_and_json_say_what_the_shipped_one_knows(clip, tmp_path, capsys):
    answer = tmp_path / "answer.json"
    assert main(["ground", str(clip), "a red circle", "--max-new-tokens", "40", "--json", str(answer)]) == 0
    said = capsys.readouterr().err
    assert "on a real clip its answer means nothing" in said
    assert "--model ID_OR_DIR" in said
    assert "knows moving coloured shapes only" in json.loads(answer.read_text())["model"]


def bad_files(folder):
    """Files that are not what their name says."""
    (folder / "text.mp4").write_text("this is no clip\n" * 50)
    (folder / "empty.mp4").touch()
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.zeros(8000, dtype=np.int16).tobytes())
    (folder / "broken.png").write_bytes(b"\x89PNG no picture")
    (folder / "FOLDER.json").mkdir()
    Image.new("RGB", (80, 60), "white").save(folder / "white.png")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.mp4", "a circle"], "missing.mp4"),
        (["text.mp4", "a circle"], "text.mp4"),
        (["empty.mp4", "a circle"], "empty.mp4"),
        (["truncated.mp4", "a circle"], "truncated.mp4"),
        (["sound.wav", "a circle"], "sound.wav"),
        (["broken.png", "a dog"], "broken.png"),
        (["CLIP", "a circle", "--time-range", "5", "9"], "time_range"),
        (["CLIP", "a circle", "--time-range", "2", "1"], "time_range"),
        (["CLIP", "a circle", "--time-range", "nan", "1"], "time_range"),
        (["CLIP", "a circle", "--frames", "0"], "num_frames"),
        (["CLIP", "a circle", "--frames", "5", "--fps", "2"], "fps"),
        (["CLIP", "what happens at <t=nan>?", "--task", "video_qa"], "nan"),
        (["CLIP", "what happens at <t=1.5>?", "--task", "video_qa"], "1.5"),
        (["CLIP", "what happens at <t_100>?", "--task", "video_qa"], "<t_100>"),
        (["CLIP", "what of {<t=0.1><t=0.2><t=0.3>}?", "--task", "video_qa"], "3"),
        (["CLIP", "what of [<x=0.1><y=0.2><x=0.3>]?", "--task", "video_qa"], "3"),
        (["CLIP", "a <video> of a circle"], "<video>"),
        (["CLIP", "a circle " * 5000], "tokens"),
        (["CLIP"], "query"),
        (["CLIP", "--task", "tr", "--span", "1", "90"], "90"),
        (["CLIP", "a circle", "--json", "nowhere/answer.json"], "nowhere"),
        (["CLIP", "a circle", "--annotated", "picture.png"], "--annotated"),
        (["CLIP", "a circle", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["CLIP", "a circle", "--max-new-tokens", "3"], "max_new_tokens"),
        (["CLIP", "a circle", "--device", "toaster"], "--device"),
        (["CLIP", "a circle", "--json", "FOLDER.json"], "folder"),
        (["CLIP", "a circle", "--queries", "missing.txt"], "missing.txt"),
        (["CLIP", "one", "two", "--annotated", "drawn.mp4"], "2 answers"),
        (["CLIP", "a dog", "--task", "rec"], "rec"),
        (["IMAGE", "a dog", "--frames", "5"], "--frames"),
        (["CLIP", "a \udcff circle"], "query"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_1(checkpoint, clip, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    bad_files(tmp_path)
    (tmp_path / "truncated.mp4").write_bytes(clip.read_bytes()[:3000])
    arguments = [{"CLIP": str(clip), "IMAGE": "white.png"}.get(argument, argument) for argument in arguments]
    assert main(["ground", *arguments, "--model", str(checkpoint), "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("llava-st: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert captured.out == ""


def test_corrupt_packets_are_reported_and_the_rest_is_used(ground, clip, tmp_path):
    broken = tmp_path / "corrupt.mp4"
    content = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    for packet in packets[15:18]:
        content[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    broken.write_bytes(content)
    code, out, err = ground(broken, "a circle", "--frames", 40)
    assert code == 0, err
    assert "media problem" in out


def test_a_config_that_is_no_object_is_one_line(clip, tmp_path, capsys):
    (tmp_path / "config.json").write_text("[]")
    for command in (["info"], ["ground", str(clip), "a circle"]):
        assert main([*command, "--model", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("llava-st: error: ")
        assert error.count("\n") == 1


def test_missing_model_is_one_line(clip, capsys):
    assert main(["ground", str(clip), "a circle", "--model", "./no_such_folder"]) == 1
    assert "no_such_folder" in capsys.readouterr().err


def test_wrong_arguments_exit_with_2(capsys):
    wrong_task = ["ground", "a.mp4", "query", "--task", "fly"]
    for arguments in (["grond"], ["ground"], wrong_task, ["ground", "a.mp4", "--modle", "x"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        usage = "usage: llava-st ground" if arguments[0] == "ground" else "usage: llava-st"
        assert usage in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "usage: llava-st" in capsys.readouterr().out


def test_errors_name_the_option_of_the_command_line(ground, clip):
    assert "--span START END" in ground(clip, "--task", "tr")[2]
    assert "QUERY" in ground(clip)[2]


def test_errors_of_the_system_are_one_line(ground, clip, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llava_st_hf.cli.write_contact_sheet", fail)
    code, out, err = ground(clip, "a circle", "--contact-sheet", "sheet.png", "--quiet")
    assert code == 1
    assert out.startswith("query: "), "the answer is shown all the same"
    assert err == "llava-st: error: OSError: [Errno 28] No space left on device\n"


def test_help_lists_tasks_and_exit_codes(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ground", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for word in ("stvg", "video_captioning", "--time-range START END", "exit codes"):
        assert word in text


def test_info_as_text_and_json(checkpoint, parity_dir, tmp_path, capsys):
    assert main(["info"]) == 0
    assert "transformers: " in capsys.readouterr().out
    assert main(["info", "--json", "--model", str(checkpoint)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["coordinate tokens"] == "100 time, 100 height and width each"
    assert facts["patches of a frame"] == 81
    for folder in sorted(path.parent for path in parity_dir.glob("*/*/model.safetensors")):
        assert main(["info", "--json", "--model", str(folder)]) == 0
        assert json.loads(capsys.readouterr().out)["fast stream spliced"] is False
    for name in ("./no_such_folder", "no_such_folder/"):
        assert main(["info", "--model", name]) == 1
        assert capsys.readouterr().err == f"llava-st: error: --model is {name}: no such folder.\n"
    assert main(["info", "--model", ""]) == 1
    assert capsys.readouterr().err.startswith("llava-st: error: --model is empty: give a directory")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert main(["info", "--model", str(tmp_path)]) == 1
    assert "'bert'" in capsys.readouterr().err


def test_demo_prints_both_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--output-dir", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2:] == ["out/answer.json", "out/annotated.mp4"]
    assert "moving coloured shapes" in captured.err
    answer = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert answer["media"]["width"] == answer["media"]["height"] == 288
    assert answer["query"] == DEMO_QUERY
    assert not answer["problems"]
    with av.open(str(tmp_path / "out" / "annotated.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_installed_wheel_grounds_from_another_folder_without_network(clip, tmp_path, pytestconfig):
    target, work = tmp_path / "site", tmp_path / "elsewhere"
    work.mkdir()
    build = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    subprocess.run([*build, "--target", str(target), str(pytestconfig.rootpath)], check=True, cwd=work)
    script = (
        "import socket, sys\n"
        "def refuse(*arguments, **options): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = refuse\n"
        "import llava_st_hf\n"
        "from llava_st_hf.cli import main\n"
        "print(llava_st_hf.__file__)\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["ground", str(clip), "a red circle", "--json", "answer.json", "--annotated", "drawn.mp4"]
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--max-new-tokens", "40"],
        cwd=work,
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith(str(target))
    assert json.loads((work / "answer.json").read_text())["query"] == "a red circle"
    assert (work / "drawn.mp4").stat().st_size > 1000
