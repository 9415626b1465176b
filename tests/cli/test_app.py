"""The program: what stands before its commands, what it imports, completion, and the wheel that brings it."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from llava_st_cli import main
from llava_st_cli.app import make_program

COMMANDS = [
    "ground",
    "info",
    "demo",
    "convert",
    "init",
    "compare",
    "lmms-tasks",
    "evaluate",
    "export-answers",
    "train",
    "merge",
    "push",
]
COMMANDS += [f"data {name}" for name in ("check", "show", "stats", "convert", "publish", "prepare")]


def test_there_is_every_command(capsys):
    assert main(["--help"]) == 0
    help_text = capsys.readouterr().out
    program = make_program()
    names = [name for name in program.commands if name != "data"]
    names += [f"data {name}" for name in program.commands["data"].commands]
    assert sorted(names) == sorted(COMMANDS)
    for name in program.commands:
        assert f"\n  {name} " in help_text
    for words in ("--install-completion", "--show-completion", "--version", "--debug", "exit codes:"):
        assert words in help_text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"llava-st-hf {version('llava-st-hf')}\n"


@pytest.mark.parametrize("group", [[], ["data"]])
def test_a_group_without_a_command_shows_its_help(group, capsys):
    assert main(group) == 2
    assert "Commands:" in capsys.readouterr().out
    for wrong in ("nonsense", "--nonsense"):
        assert main([*group, wrong]) == 2
        assert capsys.readouterr().err.startswith(f"Usage: {' '.join(['llava-st', *group])} [OPTIONS] COMMAND")
    assert main(["grond"]) == 2
    assert "Did you mean 'ground'?" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    for arguments, is_shown in ((["--debug"], True), ([], False)):
        assert main([*arguments, "info", "--model", "./nowhere"]) == 1
        err = capsys.readouterr().err
        assert ("Traceback" in err) is is_shown
        assert err.endswith("llava-st: error: --model is ./nowhere: no such folder.\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("llava-st gr", ["ground"]),
        ("llava-st data p", ["publish", "prepare"]),
        ("llava-st ground clip.mp4 --task sv", ["svg"]),
        ("llava-st ground clip.mp4 --time", ["--time-range"]),
        ("llava-st evaluate st-shapes --dtype b", ["bfloat16"]),
    ],
)
def test_completion(words, expected, monkeypatch, capsys):
    monkeypatch.setenv("_LLAVA_ST_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == expected


def test_completion_is_shown_for_the_shell():
    command = f"{sys.executable} -m llava_st_cli --show-completion; exit $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "complete -o default -F _llava_st_completion llava-st" in done.stdout


def test_helps_and_wrong_arguments_import_nothing_heavy(tmp_path):
    """All in one process; only `train --help`, which lists the keys of TRL's recipes, is left out."""
    lines = [["--help"], ["--version"], ["data"], ["grond"]]
    lines += [[*name.split(), "--help"] for name in COMMANDS if name != "train"]
    lines += [["ground", "missing.mp4", "x"], ["ground", "a.mp4", "--task", "fly"], ["ground", "a.mp4", "--modle"]]
    lines += [["data", "check", "missing.jsonl"], ["data", "convert", "missing.json", "out.jsonl"]]
    lines += [["data", "stats", "st-shapes", "--output-dir", "o", "--processor", "./missing"]]
    lines += [
        ["info", "--model", "./missing"],
        ["compare", "lmms-tasks", "evaluate", "st-shapes", "--model", "./missing"],
    ]
    lines += [["convert", "./missing", "out"], ["init", "--base", "./missing", "out"], ["train", "missing.yaml"]]
    script = (
        "import json, os, sys\n"
        "from llava_st_cli import main\n"
        "def name_heavy(): return [name for name in ('torch', 'transformers', 'llava_st_hf') if name in sys.modules]\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    code = main(line)\n"
        "    assert code == (0 if {'--help', '--version'} & {*line} else code or -1), line\n"
        "    assert not name_heavy(), (line, name_heavy())\n"
        "os.environ |= {'_LLAVA_ST_COMPLETE': 'complete_bash', 'COMP_WORDS': 'llava-st ground --task ', "
        "'COMP_CWORD': '3'}\n"
        "assert main([]) == 0 and not name_heavy()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(lines)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
        "from llava_st_cli import main\n"
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
