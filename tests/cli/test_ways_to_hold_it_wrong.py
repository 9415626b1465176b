"""Records of one's own that are held wrong: what each way is answered with, on the command line."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import pytest
from video_files import encode

from llava_st_cli import main
from llava_st_hf.demo import SHIPPED_CHECKPOINT

RECIPE = Path(__file__).parents[2] / "recipes" / "custom_grounding_lora"
GOOD = {"video": "a.mp4", "query": "a bar moves", "span_seconds": [1.0, 3.0]}
BOXES = {"1": [50, 40, 150, 120], "3": [60, 40, 160, 120]}


@pytest.fixture(scope="module")
def silent_clip(tmp_path_factory) -> Path:
    """Twelve seconds of 320 x 240 pixels, without sound."""
    path = tmp_path_factory.mktemp("silent") / "a.mp4"
    encode(path, num_frames=120, width=320, height=240, pts=list(range(120)), time_base=Fraction(1, 10))
    with av.open(str(path)) as container:
        assert not container.streams.audio
    return path


@pytest.fixture
def folder(silent_clip, tmp_path, monkeypatch) -> Path:
    """A folder with one clip, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    shutil.copy(silent_clip, "clips")
    return tmp_path


@pytest.fixture
def check(folder, capsys):
    """Write a file, check it, and return exit code and all that was printed."""

    def check(content, name="mine.jsonl", *arguments: str) -> tuple[int, str]:
        rows = [content] if isinstance(content, dict) else content
        text = rows if isinstance(rows, str) else "".join(f"{json.dumps(row)}\n" for row in rows)
        Path(name).write_text(text)
        given = ["--data-folder", "clips", *arguments]
        code = main(["data", "check", name, *given, "--workers", "0", "--quiet"])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return check


# What is written, and the words of the answer that say field, value and fix.
WRONG = {
    "keys of others": (
        {"file": "a.mp4", "question": "a bar moves", "start": 1, "end": 3},
        ["Write file as video", "Write start, end as span_seconds: [start, end] in sec", "Write question as query"],
    ),
    "a key of another": (
        {"video": "a.mp4", "query": "a bar moves", "timestamp": [1, 3]},
        ["Write timestamp as span_seconds: [start, end] in seconds"],
    ),
    "milliseconds": (
        {**GOOD, "span_seconds": [1000, 3000]},
        ["span_seconds is [1000, 3000]", "give a time from 0.000 to 12.000 s"],
    ),
    "left, top, width, height": (
        {**GOOD, "boxes": {"1": [150, 120, 50, 40]}},
        ["boxes[1] is [150, 120, 50, 40]", "or box_format: xywh, if it is [left, top, width, height]"],
    ),
    "boxes from 0 to 1": (
        {**GOOD, "boxes": {"1": [0.1, 0.2, 0.5, 0.5]}},
        ["boxes[1] is [0.1, 0.2, 0.5, 0.5]", "give pixels, not fractions of the frame, or unit: fraction"],
    ),
    "boxes from 0 to 1000": (
        {**GOOD, "boxes": {"1": [100, 200, 500, 800]}},
        ["boxes[1] is [100, 200, 500, 800]", "the frame of 320 x 240 pixels", "or unit: thousandth"],
    ),
    "times in words": (
        {**GOOD, "span_seconds": ["1 min", "3 min"]},
        ["span_seconds is ['1 min', '3 min']: give 2 numbers, [start, end] in seconds"],
    ),
    "a span past the end": (
        {**GOOD, "span_seconds": [1, 40]},
        ["span_seconds is [1, 40]: the time 40 s is outside the clip: give a time from 0.000 to 12.000 s"],
    ),
    "two spans for a task of one": (
        {**GOOD, "span_seconds": [[1, 3], [5, 6]], "task": "tvg"},
        ["the record has 2 spans: task 'tvg' needs one; tvg_several takes more"],
    ),
    "boxes outside of the frame": (
        {**GOOD, "boxes": {"1": [400, 300, 500, 400]}},
        ["boxes[1] is [400, 300, 500, 400]", "it lies outside of the frame of 320 x 240 pixels; give pixels of the"],
    ),
    "boxes outside of the clip": (
        {**GOOD, "boxes": {"1": BOXES["1"], "30": BOXES["3"]}},
        ["boxes is 30.0: the time 30.0 s is outside the clip: give a time from 0.000 to 12.000 s"],
    ),
    "an empty file": ("", ["mine.jsonl is empty: it holds no record"]),
}


@pytest.mark.parametrize("way", WRONG)
def test_what_cannot_be_used_says_field_value_and_fix(check, way):
    content, words = WRONG[way]
    code, printed = check(content)
    assert code == 1
    assert [word for word in words if word not in printed] == []
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (
            "video|query|span_seconds\na.mp4|a bar moves|1-3\n",
            "mine.csv",
            "it has video|query|span_seconds. If it is your own (user_csv), each record needs video or image, the "
            "path of its file. A table's first line names its columns, parted by commas, semicolons or tabs",
        ),
        (
            "video;query;span_seconds\na.mp4;a bar moves;1,5-3,5\n",
            "mine.csv",
            "span_seconds is '1,5-3,5': write decimals with a point, a span as 1.0-2.5",
        ),
        ("a.mp4,a bar moves,1-3\n", "mine.csv", "A table's first line names its columns"),
    ],
    ids=["another delimiter", "decimals with a comma", "no header"],
)
def test_tables(check, content, name, words):
    code, printed = check(content, name)
    assert code == 1 and words in printed


def test_a_wrong_folder(check):
    code, printed = check(GOOD, "mine.jsonl", "--data-folder", "clps")
    assert code == 1 and "data_folder is clps: no such folder. (on the command line: --data-folder DIR)" in printed
    code, printed = check(GOOD, "mine.jsonl", "--data-folder", ".")
    assert code == 1 and "video is 'a.mp4', which does not exist in" in printed
    assert "fix the path, or the folder of the media (data_folder)" in printed


@pytest.mark.parametrize(
    ("records", "kind", "fix"),
    [
        (
            [{**GOOD, "span_seconds": [0.02, 0.05]}],
            "short_spans",
            "give seconds of the file, not fractions or minutes",
        ),
        (
            [{**GOOD, "id": n, "boxes": {"1": [50, 40, 100 + n, 80]}} for n in range(3)],
            "boxes_like_xywh",
            "give box_format: xywh if they are",
        ),
    ],
    ids=["minutes or fractions", "left, top, width, height"],
)
def test_what_is_odd_but_valid_is_a_warning(check, records, kind, fix):
    code, printed = check(records)
    assert code == 0 and f"mine    {kind}" in printed and fix in printed


@pytest.mark.parametrize(("arguments", "said"), [((), {"box_format": "xywh"}), (("--box-format", "xywh"), {})])
def test_what_is_said_of_boxes_is_not_advised(check, arguments, said):
    boxes = {"1": [50, 40, 100, 80]}  # in the upper left as widths, and as edges still more so
    code, printed = check([{**GOOD, "id": n, "boxes": boxes, **said} for n in range(3)], "mine.jsonl", *arguments)
    assert code == 0 and "box_format" not in printed and "boxes_like" not in printed


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"span_seconds": ["00:01", "0:03.5"]}, "tvg "),
        ({"span_seconds": ["1.0", "3"]}, "tvg "),
        ({"span_seconds": [[1, 3], [5, 6]]}, "tvg_several"),
        ({"boxes": {"1": [0.1, 0.2, 0.5, 0.5]}, "unit": "fraction"}, "stvg"),
        ({"boxes": {"1": [100, 200, 500, 800]}, "unit": "thousandth"}, "stvg"),
        ({"boxes": [["00:01", [150, 120, 50, 40]]], "box_format": "xywh"}, "stvg"),
        ({}, "tvg "),  # one record, of a clip without sound
    ],
    ids=["mm:ss", "in quotes", "several", "fraction", "thousandth", "xywh", "one"],
)
def test_what_is_said_is_read(check, changes, task):
    code, printed = check(
        {**GOOD, **changes}, "mine.jsonl", "--decode", "full", "--processor", str(SHIPPED_CHECKPOINT)
    )
    assert code == 0 and f"mine    {task}" in printed and "0 of 1 record skipped" in printed


@pytest.mark.parametrize(
    ("records", "model", "words"),
    [
        (
            [GOOD],
            str(SHIPPED_CHECKPOINT),
            ["eval_mixture is", "1 of its records of", "are trained on, too: choose others"],
        ),
        (
            [{**GOOD, "id": n} for n in range(10)],
            "./checkpoints/mine",
            ["model_name_or_path is", "there is no such folder; name a checkpoint"],
        ),
    ],
    ids=["one record", "an absent model"],
)
def test_a_dry_run(folder, capsys, records, model, words):
    shutil.copytree(RECIPE, "run")
    shutil.copytree("clips", "run/my_videos")
    Path("run/my_data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in records))
    assert main(["train", "run/sft.yaml", "--model_name_or_path", model, "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert [word for word in words if word not in error] == []
    assert "Traceback" not in error and not Path("run/output").exists()
