"""`llava-st convert` and `llava-st init`: what is said at once. What they write is tested in tests/checkpoints."""

import pytest

from llava_st_cli import main


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["convert", "./nowhere", "out"], 1, "SRC is ./nowhere: no such folder."),
        (["init", "--base", "./nowhere", "out"], 1, "--base is ./nowhere: no such folder."),
        (["init", "out"], 2, "--base"),
        (["convert", "nowhere"], 2, "DST"),
    ],
)
def test_what_is_not_there_is_said_at_once(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_size_that_is_none_names_the_option(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert main(["convert", str(tmp_path), str(tmp_path / "out"), "--max-shard-size", "big"]) == 1
    assert "(on the command line: --max-shard-size SIZE)" in capsys.readouterr().err
