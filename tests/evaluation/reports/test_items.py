"""Runs as columns of numbers."""

import numpy as np
import pytest
from run_lines import make_line, make_unusable
from truth_files import write_hc_stvg

from llava_st_hf.evaluation.metrics.meteor import METEOR
from llava_st_hf.evaluation.reports.items import read_run, score_file
from llava_st_hf.evaluation.truths import read_truths
from llava_st_hf.processing.media_llava_st import InputError


def test_columns(write_run):
    folder = write_run([make_line(0, 0.5, 0.9), make_line(1, 1.0), make_unusable(2)])
    run = read_run(folder / "predictions.jsonl")
    items = run.by_task["tvg"]
    assert (run.name, items.decisive, items.clips) == ("run", "tiou", ["clip0.mp4", "clip0.mp4", "tvg-2"])
    assert items.values["tiou"].tolist() == [0.5, 1.0, 0.0]
    assert items.metrics["R@0.7"].tolist() == [0.0, 1.0, 0.0]
    assert np.allclose(items.span_seconds, [2.0, 2.0, np.nan], equal_nan=True)
    assert np.allclose(items.confidences, [0.9, np.nan, np.nan], equal_nan=True)
    assert np.isnan(items.box_shares).all()


def test_sizes_of_boxes(write_run, shapes_lines):
    lines, settings = shapes_lines
    items = read_run(write_run(lines, **settings)).by_task["stvg"]
    assert ((items.box_shares > 0.01) & (items.box_shares < 0.5)).all()


def test_stories_of_another_meteor_are_not_read(write_run):
    assert read_run(write_run([make_line(0, 0.5)], meteor=METEOR)).lines
    with pytest.raises(InputError, match=f"scored with 'another METEOR', and here it is {METEOR}"):
        read_run(write_run([make_line(0, 0.5)], "other", meteor="another METEOR"))


@pytest.mark.parametrize("name", ["run.json", "predictions.jsonl"])
def test_what_is_no_run(write_run, name):
    folder = write_run([make_line(0, 0.5)])
    (folder / name).write_text("{")
    with pytest.raises(InputError, match="cannot be read as a run"):
        read_run(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"it has no {name}"):
        read_run(folder)


def test_no_predictions(write_run):
    with pytest.raises(InputError, match="holds no predictions"):
        read_run(write_run([]))


def test_answers_in_a_file(tmp_path):
    truths = read_truths(write_hc_stvg(tmp_path / "val_v2.json"))
    name, truth = next(iter(truths.items.items()))
    span = truth.result.spans[0]
    path = tmp_path / "answers.jsonl"
    path.write_text(f'{{"id": "{name}", "span": [{span.start_seconds}, {span.end_seconds}]}}\n')
    run = score_file(path, truths)
    line = next(line for line in run.lines if line["id"] == name)
    assert (run.name, line["scores"]["tiou"], line["truth"]["spans"][0]["start_seconds"]) == (
        "answers.jsonl",
        1.0,
        span.start_seconds,
    )
    assert len(run.lines) == len(truths.items)
    charades = tmp_path / "charades_sta_test.txt"
    charades.write_text("AO8RW 0.0 6.9##a person is putting a book on a shelf.\n")
    with pytest.raises(InputError, match="protocol is 'vue', which scores none of the items"):
        score_file(path, read_truths(charades), "vue")
