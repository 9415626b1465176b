"""`llava-st ground` as its user sees it: what it writes, what it says, and how it ends."""

import json
import re
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import video_files as files
from drawn_clips import is_color
from hard_files import HARD_FILES
from PIL import Image
from tiny_sam import make_sam2

from llava_st_cli import main
from llava_st_hf import GroundingResult
from llava_st_hf.processing.tasks_llava_st import TASKS
from llava_st_hf.processing.video_decoding_llava_st import read_video
from llava_st_hf.visualization import PALETTE


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


def test_what_is_found_is_printed_when_it_is_found(ground, clip):
    code, out, err = ground(clip, "a red circle", "a dog", "--frames", 6, "--stream")
    assert code == 0
    said = [line for line in err.splitlines() if line.startswith(("span: ", "box: "))]
    assert [line for line in said if line.startswith("span")] == re.findall("^span: .*", out, re.MULTILINE)
    numbers = [int(number) for number in re.findall(r"^tube: (\d+) box", out, re.MULTILINE)]
    assert len(numbers) == 2 and len(said) == 2 + sum(numbers)
    assert re.fullmatch(r"box: [0-9.]+ s: \(\d+, \d+\) to \(\d+, \d+\) pixels, confidence 0[.]\d\d", said[1])
    assert said[1].split(", confidence")[0].removeprefix("box: ") in out


def test_several_answers_go_onto_one_picture_each_in_its_colour(ground, clip, tmp_path, monkeypatch):
    monkeypatch.setattr("llava_st_hf.visualization.annotated_clip.describe_missing_fonts", lambda *texts: "no font")
    annotated, sheet = tmp_path / "annotated.mp4", tmp_path / "sheet.png"
    outputs = ["--annotated", annotated, "--contact-sheet", sheet, "--task", "tvg", "--frames", 6]
    code, _, err = ground(clip, "a red circle", "a blue circle", *outputs)
    assert code == 0, err
    assert "Note: no font\n" in err
    with av.open(str(annotated)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    for picture in (frame, np.asarray(Image.open(sheet))):
        for color in PALETTE[:2]:
            assert is_color(picture, color, 40).sum() > 50


@pytest.mark.parametrize("name", ["made.ts", "wrap.ts"])
def test_times_that_are_answered_are_taken_back(ground, request, name, tmp_path):
    """Of a file whose time stamps start below 0, up to the end that it states and one frame more."""
    if name == "made.ts":
        source = files.encode_negative(tmp_path / name)
    else:
        source = request.getfixturevalue("hard_media_dir") / name
    video = read_video(source)
    times = [f"{video.frame_seconds[0]:.4f}", f"{video.stated_end_seconds:.4f}"]
    outputs = ["--annotated", tmp_path / "out.mp4", "--contact-sheet", tmp_path / "sheet.png", "--frames", 6]
    code, _, err = ground(source, "it", "--task", "svg", "--time-range", *times, "--span", *times, *outputs)
    assert code == 0, err
    assert read_video(tmp_path / "out.mp4").total_num_frames == 40
    code, _, err = ground(source, f"what is at <t={times[0]}s>?", "--task", "video_qa", "--frames", 6)
    assert code == 0, err
    for option in ("--span", "--time-range"):
        code, _, err = ground(source, "it", "--task", "svg", "--span", *times, option, times[0], 9)
        assert code == 1
        assert f"to {float(times[1]):.3f}" in err


@pytest.mark.parametrize(
    ("name", "size", "num_frames", "note"),
    [
        ("cat.ts", (64, 64), 60, "start again at frame 30"),
        ("b.avi", (64, 64), 60, None),
        ("b.h264", (64, 64), 60, "which its stream names"),
        ("sar.mp4", (512, 288), 20, None),
        ("multi.mkv", (640, 360), 20, "2 video tracks"),
        ("wrap.ts", (160, 120), 40, None),
        ("sz3.mkv", (320, 240), 40, "size of the frames changes"),
        ("anim.webp", None, None, None),
    ],
)
def test_hard_files_are_answered_and_drawn(ground, hard_media_dir, name, size, num_frames, note, tmp_path):
    source, outputs = hard_media_dir / name, [tmp_path / f"out.{ending}" for ending in ("json", "mp4", "png")]
    options = [
        text for pair in zip(("--json", "--annotated", "--contact-sheet"), outputs, strict=True) for text in pair
    ]
    code, out, err = ground(source, "it", *options, "--frames", 6)
    assert code == 0, err
    media = json.loads(outputs[0].read_text())["media"]
    video = read_video(source)
    assert (media["width"], media["height"]) == (size or (video.width, video.height))
    assert media["frame_seconds"][-1] == pytest.approx(video.frame_seconds[-1])
    drawn = read_video(outputs[1])
    assert drawn.total_num_frames == (num_frames or video.total_num_frames)
    shift = min(video.frame_seconds[0], 0.0)
    assert drawn.frame_seconds == pytest.approx([moment - shift for moment in video.frame_seconds], abs=1e-3)
    assert ("media problem:" in out) is (note is not None)
    assert note is None or note in out


@pytest.mark.parametrize(
    "name",
    [
        *("starts at 5 s.mkv", "delayed.mp4", "cut.mp4", "uneven.webm", "turned 90.mkv", "wide pixels.mkv"),
        *("two sizes.webm", "alpha.webm", "no index.avi", "clip.mpg", "long sound.mp4", "frames cut out.avi"),
        *("two indexes.mp4", "turned, wide pixels.mp4", "hidden frames.webm", "data first.ts"),
    ],
)
def test_files_of_every_kind_are_answered(ground, name, tmp_path):
    expected = HARD_FILES[name](tmp_path / name)
    code, out, err = ground(expected.path, "it", "--json", tmp_path / "out.json", "--frames", 6)
    assert code == 0, err
    media = json.loads((tmp_path / "out.json").read_text())["media"]
    assert (media["width"], media["height"]) == expected.size
    ends = [media["frame_seconds"][place] for place in (0, -1)]
    assert ends == pytest.approx([expected.seconds[0], expected.seconds[-1]], abs=1e-3)
    assert all(words in out for words in expected.notes)
    assert out.count("media problem:") == len(expected.notes)
    code, _, err = ground(expected.path, "it", "--task", "svg", "--span", *ends, "--time-range", *ends)
    assert code == 0, err


def test_several_queries_share_a_file(ground, clip, tmp_path):
    queries, answers = tmp_path / "queries.txt", tmp_path / "answers.json"
    queries.write_text("a square\n\nthe third one\n")
    code, out, err = ground("--json", answers, clip, "a circle", "--frames", 5, "--queries", queries)
    assert code == 0, err
    content = json.loads(answers.read_text())
    assert [answer["query"] for answer in content] == ["a circle", "a square", "the third one"]
    assert out.count("query: ") == 3


@pytest.mark.parametrize(
    ("queries", "is_noted"),
    [(["a", "red", "circle"], True), (["a red circle", "circle"], False), (["circle"], False)],
)
def test_a_query_without_quotes_is_noted(ground, clip, queries, is_noted):
    note = 'Note: these are 3 queries of a word each; one query is in quotes: "a red circle".'
    assert (note in ground(clip, *queries)[2]) is is_noted


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
    Image.new("RGB", (160, 120), "white").save(photograph)
    code, out, err = ground(photograph, "the dog", "--annotated", annotated)
    assert code == 0, err
    assert re.fullmatch(r"box: \(\d+, \d+\) to \(\d+, \d+\) pixels, confidence [01]\.\d\d", out.splitlines()[1])
    assert "confidence" not in ground(photograph, "the dog", "--unconstrained")[1]
    assert Image.open(annotated).size == (160, 120)


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["text.mp4", "a circle"], "cannot be read as a video"),
        (["broken.png", "a dog"], "broken.png"),
        (["CLIP", "a circle", "--time-range", "50", "90"], "on the command line: --time-range START END"),
        (["missing.mp4", "a circle " * 5000], "missing.mp4: no such file; check the path."),
        (["a red circle", "CLIP"], 'no such file; the clip comes first: llava-st ground "'),
        (["my", "clip", "é.mp4", "a circle"], 'my: no such file; put the path in quotes: "my clip é.mp4".'),
        (["CLIP", "--task", "tr", "--span", "1", "90"], "on the command line: --span START END"),
        (["CLIP", "--task", "elc", "--box", "1", "1", "9", "9", "--start", "90"], "on the command line: --start"),
    ],
)
def test_a_file_that_cannot_be_asked_about_is_told_before_a_model_is_loaded(
    clip, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    bad_files(tmp_path)
    (tmp_path / "my clip é.mp4").touch()
    monkeypatch.setattr("llava_st_cli.options.ModelChoice.load", lambda self: pytest.fail("a model was loaded"))
    assert main(["ground", *(str(clip) if argument == "CLIP" else argument for argument in arguments)]) == 1
    assert words in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.mp4", "query", "--task", "fly"],
        ["a.mp4", "--modle", "x"],
        ["a.mp4", "--frames", "many"],
        ["--box", "1"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    assert main(["ground", *arguments]) == 2
    assert capsys.readouterr().err.startswith("Usage: llava-st ground")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--task", "tr"], "--span START END"),
        ([], "QUERY"),
        (["a <video> of a circle"], "QUERY"),
        (["--task", "elc", "--box", 1, 2, 3, 4], "--start SECONDS"),
        (["a circle", "--frames", 0], "--frames N"),
        (["a circle", "--frames", 5, "--fps", 2], "--fps F"),
        (["a circle", "--time-range", 5, 9], "--time-range START END"),
        (["a circle", "--device", "toaster"], "--device DEVICE"),
        (["a circle", "--annotated", "drawn.png"], "--annotated FILE"),
        (["a circle", "--json", "nowhere/a.json"], "--json FILE"),
    ],
)
def test_errors_name_the_option_of_the_command_line(ground, clip, arguments, flag):
    assert ground(clip, *arguments)[2].endswith(f" (on the command line: {flag})\n")


def test_errors_of_the_system_are_one_line(ground, clip, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llava_st_hf.visualization.write_contact_sheet", fail)
    code, out, err = ground(clip, "a circle", "--contact-sheet", "sheet.png", "--quiet")
    assert code == 1
    assert out.startswith("query: "), "the answer is shown all the same"
    assert err == "llava-st: error: OSError: [Errno 28] No space left on device\n"


def test_help_lists_tasks_and_exit_codes(capsys):
    assert main(["ground", "--help"]) == 0
    text = capsys.readouterr().out
    for task in TASKS.values():
        assert re.search(rf"^  {task.name} +{task.media_type} +{re.escape(task.description)}$", text, re.MULTILINE)
    for words in ("--time-range START END", "--box X1 Y1 X2 Y2", "exit codes:"):
        assert words in text


def test_every_option_reaches_the_question(tmp_path, monkeypatch):
    """Negative numbers, several values, and queries anywhere between the options."""
    asked = {}

    def answer(media, queries, question, outputs, model, quiet, **manner):
        asked.update(media=media, queries=queries, quiet=quiet, **manner)
        asked.update(vars(question) | vars(outputs) | vars(model))

    monkeypatch.setattr("llava_st_cli.ground.answer", answer)
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").touch()
    Path("some/name").mkdir(parents=True)
    arguments = "--box 1 -2.5 3 4 a.mp4 first --time-range -1 2 -0.5 --start -0.5 --span 0 1e1 --frames=7 --fps 2.5"
    arguments += " --json a.json --task tr --annotated b.mp4 --contact-sheet c.png --model some/name --device cpu"
    arguments += " --dtype float16 --max-new-tokens 5 --every-frame --unconstrained --stream --masks some/name --quiet"
    assert main(["ground", *arguments.split(), "-5 degrees", "--", "--json"]) == 0
    assert asked == {
        "media": "a.mp4",
        "queries": ["first", "-0.5", "-5 degrees", "--json"],
        "quiet": True,
        "stream": True,
        "masks": "some/name",
        "constrained": False,
        "every_frame": True,
        "task": "tr",
        "num_frames": 7,
        "fps": 2.5,
        "time_range": (-1.0, 2.0),
        "span": (0.0, 10.0),
        "box": (1.0, -2.5, 3.0, 4.0),
        "start_seconds": -0.5,
        "max_new_tokens": 5,
        "json": Path("a.json"),
        "annotated": Path("b.mp4"),
        "contact_sheet": Path("c.png"),
        "model": "some/name",
        "device": "cpu",
        "dtype": "float16",
        "inputs": [],
        "overwrite": False,
    }


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam")
    make_sam2().save_pretrained(folder)
    return folder


def test_masks_are_found_by_a_sam(ground, clip, sam, tmp_path):
    answer, annotated = tmp_path / "answer.json", tmp_path / "annotated.mp4"
    outputs = ("--json", answer, "--annotated", annotated)
    code, _, err = ground(clip, "a red circle", "--frames", 6, "--masks", sam, *outputs)
    assert code == 0, err
    result = GroundingResult.from_dict(json.loads(answer.read_text()))
    (masks,), (tube,) = result.masks, result.tubes
    assert masks.frame_indices[0] == tube.boxes[0].frame_index
    assert masks.decode(masks.frame_indices[0]).shape == (240, 320)
    assert "Following a red circle" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a dog", "--task", "tvg", "--json", "a.json"), "an answer of tvg has no tube to follow"),
        (("a dog",), "nothing would hold the masks; add --json FILE or --annotated FILE"),
        (("a dog", "--contact-sheet", "a.png"), "nothing would hold the masks"),
    ],
)
def test_masks_that_cannot_be_are_refused_before_a_model_is_loaded(
    ground, clip, sam, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("llava_st_hf.load_pipeline", lambda *_: pytest.fail("loaded"))
    code, _, err = ground(clip, *arguments, "--masks", sam)
    assert code == 1
    assert message in err
    assert list(tmp_path.iterdir()) == []


def test_masks_by_what_is_no_sam(ground, clip, checkpoint, tmp_path):
    code, _, err = ground(clip, "a dog", "--json", tmp_path / "a.json", "--masks", checkpoint, "--frames", 6)
    assert code == 1
    assert "a llava_st: name a SAM" in err
    assert "(on the command line: --masks ID_OR_DIR)" in err
    code, _, err = ground(clip, "a dog", "--json", tmp_path / "a.json", "--masks", tmp_path / "sam")
    assert "no such folder" in err
