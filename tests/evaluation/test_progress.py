"""What is shown while a run lasts."""

import sys

from llava_st_hf.evaluation.progress import Progress
from llava_st_hf.evaluation.protocols import get_protocol


def test_the_first_metric_and_the_end_are_shown(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    lines = [{"task": "tvg", "scores": {"tiou": value}} for value in (0.9, 0.6, 0.1)]
    with Progress("mine", 10, get_protocol("default"), hidden=False) as progress:
        progress.update(lines)
        assert progress.n == 3
        assert "tvg R@0.5 0.667 of 3" in progress.postfix
        assert progress.postfix.startswith("done at ")
    assert "mine:  30%" in capsys.readouterr().err


def test_nothing_is_shown_where_it_is_hidden(capsys):
    with Progress("mine", 1, get_protocol("default"), hidden=True) as progress:
        progress.update([{"task": "tvg", "scores": {"tiou": 0.5}}])
    assert capsys.readouterr().err == ""
