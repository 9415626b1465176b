"""`llava-st data` as its user sees it: what it writes, what it says, and how it ends."""

import builtins
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from PIL import Image
from transformers import AutoProcessor

from llava_st_cli import main
from llava_st_hf.data.readers.registry import FORMATS, open_reader
from llava_st_hf.data.samples import Sample
from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset, write_shapes
from llava_st_hf.data.skips import read_skip_report


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Twelve records with their files, and a mixture of them."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, ShapesDataset(["tvg", "stvg", "rec", "rc"], num_samples=12, num_frames=8))
    (folder / "mixture.yaml").write_text(
        "datasets:\n"
        "  - {json_path: st_shapes.jsonl, data_folder: ., source: shapes, sampling_strategy: 'first:5', weight: 3,\n"
        "     license: MIT, origin: made here}\n"
    )
    return folder / "st_shapes.jsonl"


@pytest.fixture
def broken(shapes, tmp_path) -> Path:
    """The records of `shapes` with one file gone and one line that is no JSON."""
    for path in shapes.parent.rglob("*"):
        if path.is_file():
            target = tmp_path / "broken" / path.relative_to(shapes.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    annotations = tmp_path / "broken" / "st_shapes.jsonl"
    lines = annotations.read_text().splitlines()
    (annotations.parent / json.loads(lines[0])["media"][0]["path"]).unlink()
    annotations.write_text("\n".join([*lines, "{no json"]) + "\n")
    return annotations


@pytest.fixture
def data(capsys):
    """Run `llava-st data`; return exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def read_ids(path, **options):
    return [record.id for record in open_reader("canonical", path, "s", **options)]


# check


def test_check_prints_what_there_is(data, shapes, checkpoint):
    code, out, err = data("check", shapes, "--processor", checkpoint, "--workers", 0)
    assert code == 0, err
    assert "0 of 12 records skipped" in out
    for words in ("source", "tokens of task", "median", "width (fraction)", "at an edge"):
        assert words in out
    assert out.splitlines()[-1].startswith("next: see some of them: llava-st data show ")
    assert "no JSON" not in out


def test_check_fails_where_too_much_is_lost(data, broken, tmp_path):
    code, out, err = data("check", broken, "--report", tmp_path / "skipped.jsonl", "--workers", 0)
    assert code == 1
    assert "missing_media" in out and "invalid_json" in out
    assert "2 of 13 records skipped; see" in out
    assert "for example\n  invalid_json: '" in out and "\n  missing_media: '" in out
    assert err.count("\n") == 1 and "2 of 13 records cannot be used, more than the share of 0.05" in err
    assert {note.reason for note in read_skip_report(tmp_path / "skipped.jsonl")} == {"missing_media", "invalid_json"}
    assert data("check", broken, "--max-skip-share", "0.2", "--workers", 0)[0] == 0
    # A second check of corrected data is not told of what the first found.
    assert data("check", broken, "--report", tmp_path / "skipped.jsonl", "--workers", 0)[0] == 1
    assert len((tmp_path / "skipped.jsonl").read_text().splitlines()) == 2


def test_check_of_a_mixture_follows_its_rules(data, broken):
    mixture = broken.parent / "mixture.yaml"
    assert "1 of 5 records skipped" in data("check", mixture, "--workers", 0)[1]
    mixture.write_text(mixture.read_text() + "max_skip_share: 0.5\n")
    assert data("check", mixture, "--workers", 0)[0] == 0
    mixture.write_text(mixture.read_text().replace("weight: 3", "required: true"))
    code, _, err = data("check", mixture, "--workers", 0)
    assert code == 1 and "required source" in err


def test_check_says_how_many_frames_it_counts_with(data, tmp_path, clip, checkpoint):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    record = {
        "video": "a.mp4",
        "query": "it",
        "span_seconds": [1, 3],
        "boxes": {"1": [10, 10, 50, 50], "3": [9, 9, 40, 40]},
    }
    (tmp_path / "mine.jsonl").write_text(json.dumps(record))
    source = "datasets: [{json_path: mine.jsonl, data_folder: .}]\n"
    (tmp_path / "mixture.yaml").write_text(source)
    (tmp_path / "five.yaml").write_text(f"num_frames: 5\n{source}")
    sampled = AutoProcessor.from_pretrained(checkpoint).video_processor.num_frames
    boxes, tokens = {}, {}
    for name, more, number, why in (
        ("mine.jsonl", [], 100, "(the default: a model that samples another number gets others, see --processor"),
        ("mixture.yaml", [], 100, "(the default"),
        ("mine.jsonl", ["--num-frames", "7"], 7, "(as is said)"),
        ("mine.jsonl", ["--processor", checkpoint], sampled, "(as the processor samples)"),
        ("mixture.yaml", ["--processor", checkpoint], sampled, "(as the processor samples)"),
        ("five.yaml", ["--processor", checkpoint], 5, "(as is said)"),
    ):
        code, out, _ = data("check", tmp_path / name, "--decode", "full", "--workers", "0", "--quiet", *more)
        assert code == 0 and f"boxes and tokens are counted for: {number} {why}" in out
        boxes[number] = int(re.search(r"^width \(fraction\) +(\d+)", out, re.MULTILINE)[1])
        tokens[number] = re.search(r"^stvg +(\d+)", out, re.MULTILINE)[1] if "--processor" in more else None
    assert boxes[5] < boxes[100] > boxes[sampled] and boxes[7] < boxes[100]
    assert int(tokens[5]) < int(tokens[sampled])


def test_check_as_json_is_the_same_with_processes(data, shapes, checkpoint):
    arguments = ("check", shapes, "--json", "--decode", "full", "--processor", checkpoint)
    alone, together = (data(*arguments, "--workers", number) for number in (0, 2))
    assert alone[0] == together[0] == 0
    facts = json.loads(alone[1])
    assert facts == json.loads(together[1])
    assert facts["num_checked"] == facts["num_records"] == facts["num_used"] == 12
    assert set(facts["tokens"]) <= {"tvg", "stvg", "rec", "rc"}


def test_check_that_is_interrupted_prints_what_it_saw(data, monkeypatch):
    read = ShapesDataset.read

    def stop(self, index):
        if index == 200:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(ShapesDataset, "read", stop)
    code, out, err = data("check", "st-shapes", "--workers", 0)
    assert code == 130
    assert out.startswith("interrupted after 192 of 1,000 records")
    assert "interrupted" in err


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_prints(tmp_path):
    command = [sys.executable, "-m", "llava_st_cli", "data", "check", "st-shapes", "--workers", "2"]
    command += ["--decode", "full"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(workers := children.read_text().split()) < 2:
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted after" in out and "next: " in out
    assert "Traceback" not in err
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


# show


def test_show_prints_and_draws(data, shapes, tmp_path):
    rows = [json.loads(line) for line in shapes.read_text().splitlines()]
    number = next(index for index, row in enumerate(rows) if row["task"] == "stvg")
    code, out, err = data("show", shapes, "--output", tmp_path / "record.png", number)
    assert code == 0, err
    assert out.startswith(f"id: {rows[number]['id']}\nsource: st-shapes\ntask: stvg\nmedium: video\n")
    answer = re.sub(
        r"\d\.\d{5,}", lambda match: f"{float(match[0]):.4f}".rstrip("0"), rows[number]["messages"][1]["content"]
    )
    assert f"assistant: {answer}\n" in out
    assert "answer span: " in out and "answer tube: " in out
    assert re.search(r"^answer   at \d\.\d\d s: \(\d+, \d+\) to \(\d+, \d+\) pixels$", out, flags=re.MULTILINE)
    assert f"Wrote {tmp_path / 'record.png'}" in err
    assert Image.open(tmp_path / "record.png").format == "PNG"
    assert data("show", shapes, rows[number]["id"])[1] == out
    assert data("show", shapes, f"id={rows[number]['id']}")[1] == out
    assert data("show", shapes, number, "--output", tmp_path / "record.mp4")[0] == 0
    with av.open(str(tmp_path / "record.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8


def test_show_st_shapes_and_a_mixture(data, shapes, tmp_path):
    sample = ShapesDataset(SHAPES_TASKS, num_samples=1000)[7]
    assert data("show", "st-shapes", 7)[1].startswith(f"id: {sample.id}\n")
    # A mixture is shown as it was chosen: five records, in their order.
    assert data("show", shapes.parent / "mixture.yaml", 4)[0] == 0
    code, _, err = data("show", shapes.parent / "mixture.yaml", 5)
    assert code == 1 and "records 0 to 4" in err


def test_show_obeys_no_control_characters(data, tmp_path):
    row = {"id": "1", "source": "s", "task": "conversation", "media_type": "text", "media": [], "frame_range": None}
    messages = [{"role": "user", "content": "Why?\x1b[2J"}, {"role": "assistant", "content": "So\nthat\x07."}]
    (tmp_path / "text.jsonl").write_text(json.dumps({**row, "messages": messages}) + "\n")
    code, out, _ = data("show", tmp_path / "text.jsonl")
    assert code == 0
    assert "\x1b" not in out and "\x07" not in out and "So\nthat?." in out


def test_show_of_a_record_that_cannot_be_used_says_why(data, broken):
    for number, reason in ((0, "missing_media"), (12, "invalid_json")):
        code, out, err = data("show", broken, number)
        assert (code, out) == (1, "")
        assert reason in err and err.count("\n") == 1


# stats and convert


def test_stats_writes_plots(data, shapes, tmp_path):
    code, out, _ = data("stats", shapes, "--output-dir", tmp_path / "plots", "--quiet")
    assert code == 0
    assert out.splitlines()[0] == str(tmp_path / "plots" / "stats.json")
    facts = json.loads((tmp_path / "plots" / "stats.json").read_text())
    assert facts["num_read"] == 12
    for line in out.splitlines()[1:]:
        assert Image.open(line).width > 500
    out = data("stats", shapes, "--output-dir", tmp_path / "plots", "--json")[1]
    assert json.loads(out) == facts


def test_convert_writes_canonical_records(data, tmp_path):
    Image.new("RGB", (80, 40)).save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "query": "the dog", "box": [8, 8, 40, 20]},
        {"image": "b.png", "query": "the cat", "box": [8, 8, 40, 20]},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out.jsonl"
    convert = ("convert", tmp_path / "mine.jsonl", output, "--source", "mine", "--report", tmp_path / "s.jsonl")
    code, out, err = data(*convert)
    assert (code, out) == (1, "") and not output.exists()
    assert "1 of 2 records were skipped, more than max_skip_share=0.05" in err
    assert f"see {tmp_path / 's.jsonl'}" in err
    code, out, err = data(*convert, "--max-skip-share", 0.5)
    assert code == 0, err
    assert out == f"1 record written to {output}\n"
    assert "missing_media" in err
    (record,) = open_reader("canonical", output, "mine", data_folder=tmp_path)
    assert isinstance(record, Sample) and record.task == "rec"
    code, _, err = data("convert", tmp_path / "mine.jsonl", output)
    assert code == 1 and "exists" in err


# publish


def test_publish_and_read_back_with_every_command(data, shapes, tmp_path):
    folder = tmp_path / "published"
    options = ("--license", "st-shapes=MIT", "--benchmark", "--quiet")
    code, out, err = data("publish", shapes, "--output-dir", folder, *options)
    assert (code, out, err) == (0, f"{folder}\n", "")
    assert "- id: tvg_m_tIoU\n" in (folder / "eval.yaml").read_text()
    assert "license: mit" in (folder / "README.md").read_text()
    assert read_ids(folder) == read_ids(shapes, data_folder=shapes.parent)
    code, out, _ = data("check", folder, "--decode", "full", "--workers", 0)
    assert code == 0 and "0 of 12 records skipped" in out
    assert data("show", folder, 3, "--output", tmp_path / "record.png")[0] == 0
    (tmp_path / "mixture.yaml").write_text("datasets: [{json_path: published, sampling_strategy: 'first:50%'}]")
    code, out, _ = data("check", tmp_path / "mixture.yaml")
    assert code == 0 and "0 of 6 records skipped" in out


def test_publish_of_a_mixture_takes_each_record_once_and_its_licence(data, shapes, tmp_path):
    code, _, err = data("publish", shapes.parent / "mixture.yaml", "--output-dir", tmp_path / "out")
    assert code == 0
    assert "5 records in 1 Parquet file, " in err
    assert len(read_ids(tmp_path / "out")) == 5
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| shapes | MIT | made here | 5 |" in card


def test_sources_of_one_name_have_one_licence(data, shapes, tmp_path):
    entry = f"{{json_path: {shapes}, data_folder: {shapes.parent}, source: shapes, license: "
    (tmp_path / "mixture.yaml").write_text(f"datasets: [{entry} MIT}}, {entry} CC-BY-4.0}}]")
    code, _, err = data("publish", tmp_path / "mixture.yaml", "--output-dir", tmp_path / "out")
    assert code == 1 and "two entries are named 'shapes', and differ in license or origin" in err


def test_publish_sends_nothing_without_a_licence(data, shapes, tmp_path, hub):
    arguments = ("publish", shapes, "--output-dir", tmp_path / "out", "--push-to", "me/shapes")
    code, _, err = data(*arguments)
    assert code == 1 and "--license st-shapes=SPDX" in err
    assert not (tmp_path / "out").exists()  # said before any work
    assert not hub.requests
    code, out, err = data(*arguments, "--license", "st-shapes=MIT", "--license", "other=MIT")
    assert code == 0, err
    assert "--license names 'other', of which there is no record" in err
    assert out.splitlines()[-1].startswith(f"{hub.url}/me/shapes/commit/")
    assert "data/train-00000-of-00001.parquet" in hub.get_files("me/shapes", "dataset")


# what all have in common


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere.jsonl"], "nowhere.jsonl"),
        (["check", "SHAPES", "--data-folder", "nowhere"], "--data-folder"),
        (["check", "SHAPES", "--processor", "./nowhere"], "--processor"),
        (["check", "SHAPES", "--max-skip-share", "2"], "--max-skip-share"),
        (["check", "SHAPES", "--num-frames", "8"], "on the command line: --num-frames N"),
        (["check", "SHAPES", "--max-skip-share", "nan"], "--max-skip-share"),
        (["check", "SHAPES", "--workers", "-1"], "--workers"),
        (["check", "SHAPES", "--report", "nowhere/s.jsonl"], "--report"),
        (["check", "SHAPES", "--report", "mine.txt"], "no report"),
        (["check", "st-shapes", "--source", "x"], "--source"),
        (["check", "wrong.yaml"], "weights"),
        (["check", "strange.jsonl"], "strange.jsonl"),
        (["check", "strange.jsonl"], "on the command line: --format FORMAT"),
        (["check", "empty.jsonl", "--format", "canonical"], "no records"),
        (["show", "empty.jsonl", "--format", "canonical"], "there is no record to show"),
        (["show", "SHAPES", "99"], "0 to 11"),
        (["show", "SHAPES", "no-such-id"], "no-such-id"),
        (["show", "SHAPES", "0", "--output", "record.txt"], "record.txt"),
        (["stats", "SHAPES", "--output-dir", "o", "--max-records", "0"], "max_records"),
        (["convert", "nowhere.json", "o.jsonl"], "nowhere.json"),
        (["convert", "SHAPES", "o.txt"], "o.txt"),
        (["publish", "SHAPES", "--output-dir", "."], "not empty"),
        (["publish", "SHAPES", "--output-dir", "o", "--license", "MIT"], "--license"),
        (["publish", "SHAPES", "--output-dir", "o", "--license", "a=no licence"], "SPDX"),
        (["publish", "SHAPES", "--output-dir", "o", "--public"], "--public"),
        (["publish", "SHAPES", "--output-dir", "o", "--push-to", "me", "--license", "st-shapes=MIT"], "ORGANIZATION"),
        (["publish", "SHAPES", "--output-dir", "o", "--max-shard-size", "big"], "big"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_exit_code_1(data, shapes, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("mine.txt").write_text("mine")
    Path("empty.jsonl").write_text("\n")
    Path("strange.jsonl").write_text('{"a": 1}\n')
    Path("wrong.yaml").write_text("datasets:\n  - {json_path: a.jsonl, weights: 1}\n")
    code, out, err = data(*[str(shapes) if argument == "SHAPES" else argument for argument in arguments], "--quiet")
    assert code == 1 and not out
    assert err.startswith("llava-st: error: ") and err.count("\n") == 1
    assert words in err
    assert Path("mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("datasets", ["publish", "SHAPES", "--output-dir", "o"]),
        ("jinja2", ["publish", "SHAPES", "--output-dir", "o"]),
        ("matplotlib", ["stats", "SHAPES", "--output-dir", "o"]),
        ("yaml", ["check", "MIXTURE"]),
    ],
)
def test_a_missing_extra_is_one_line(data, shapes, tmp_path, monkeypatch, module, arguments):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    import_module = builtins.__import__

    def refuse(name, *rest):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    places = {"SHAPES": shapes, "MIXTURE": shapes.parent / "mixture.yaml"}
    code, _, err = data(*[places.get(argument, argument) for argument in arguments])
    monkeypatch.undo()
    assert code == 1
    assert f'{module} is not installed: pip install "llava-st-hf[data]".' in err
    assert not list(Path("o").glob("data/*"))


@pytest.mark.parametrize("name", ["check", "show", "stats", "convert", "publish"])
def test_help_has_examples_and_exit_codes(name, capsys):
    assert main(["data", name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"\n    llava-st data {name} " in out and "exit codes:" in out


def test_an_unknown_format_is_told_the_known_ones(data, shapes):
    code, _, err = data("check", shapes, "--format", "nonsense")
    assert code == 1
    assert ", ".join(FORMATS) in err and err.endswith("(on the command line: --format FORMAT)\n")
