"""Two runs beside each other."""

import pytest
from run_lines import HOSTILE, make_line, make_unusable

from llava_st_hf.evaluation.metrics.uncertainty import compute_interval
from llava_st_hf.evaluation.reports.comparison import Pair, write_comparison
from llava_st_hf.evaluation.reports.items import read_run
from llava_st_hf.processing.media_llava_st import InputError


@pytest.fixture
def make_pair(write_run):
    def make(first, second, **settings):
        values = {"before": first, "after": second}
        lines = {name: [make_line(k, value) for k, value in enumerate(some)] for name, some in values.items()}
        return [read_run(write_run(lines[name], name, **settings)) for name in values]

    return make


def test_differences_are_paired(make_pair):
    differences = {
        one.name: one for one in Pair(*make_pair([0.2, 0.4, 0.6, 0.8], [0.3, 0.5, 0.6, 0.7])).compute_differences()
    }
    found = differences["m_tIoU"]
    assert (found.first, found.second, found.counts) == (0.5, pytest.approx(0.525), (2, 1, 1))
    assert found.change == compute_interval([0.3, 0.5, 0.6, 0.7], others=[0.2, 0.4, 0.6, 0.8], groups=[0, 0, 1, 1])
    assert not found.is_clear
    assert differences["R@0.5"].counts == (1, 3, 0)


def test_one_that_is_better_everywhere_is_clear(make_pair):
    found = Pair(*make_pair([0.1] * 6, [0.2] * 6)).compute_differences()[0]
    assert found.is_clear and found.change.value == pytest.approx(0.1)


def test_only_shared_items_count(write_run):
    first = read_run(write_run([make_line(k, 0.5) for k in (3, 1, 2)], "a"))
    second = read_run(write_run([make_line(1, 0.5), make_line(2, 1.0), make_line(7, 0.0)], "b"))
    pair = Pair(first, second)
    assert pair.num_alone == (1, 1)
    assert pair.compute_differences()[0].counts == (1, 1, 0)
    assert [line["id"] for line in pair.by_task["tvg"][1].lines] == ["tvg-1", "tvg-2"]


def test_unlike_runs_are_refused(write_run):
    run = read_run(write_run([make_line(0, 0.5)], "a"))
    with pytest.raises(InputError, match="benchmark is 'mine' in the first run and 'other' in the second"):
        Pair(run, read_run(write_run([make_line(0, 0.5)], "b", benchmark="other")))
    with pytest.raises(InputError, match="no item in common"):
        Pair(run, read_run(write_run([make_line(1, 0.5)], "c")))


def test_report(make_pair, tmp_path):
    write_comparison(*make_pair([0.2, 0.9, 0.5], [0.8, 0.1, 0.5]), tmp_path / "out" / "deep")
    markdown, page = ((tmp_path / "out" / "deep" / f"report.{ending}").read_text() for ending in ("md", "html"))
    for part in (
        "# before and after on mine",
        "tvg: 2 of 3 items changed",
        "| tvg-1 |  0.900 | 0.100 | -0.800 |",
        "- better: 0.200 to 0.800, tvg-0",
        "- worse: 0.900 to 0.100, tvg-1",
        "| the second alone       |      1 |",
        "| model   | before | after |",
    ):
        assert part in markdown, part
    assert page.count("<circle") == 3


def test_same_names_are_told_apart(write_run, tmp_path):
    runs = [read_run(write_run([make_line(0, 0.5), make_unusable(1)], name, model=HOSTILE)) for name in "ab"]
    write_comparison(*runs, tmp_path)
    assert Pair(*runs).names[0].endswith(" (1)")
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_a_folder_that_cannot_be_made(make_pair, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        write_comparison(*make_pair([0.2], [0.8]), tmp_path / "file")


@pytest.mark.parametrize("name", ["run.json", "report.md", "report.html"])
def test_only_a_comparison_is_replaced(make_pair, tmp_path, name):
    folder, pair = tmp_path / "out", make_pair([0.2], [0.8])
    for _ in range(2):
        write_comparison(*pair, folder)
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} is there, of no comparison; give another folder"):
        write_comparison(*pair, folder)
    assert (folder / name).read_text() == "mine"


def test_the_report_of_a_run_is_not_replaced(make_pair, tmp_path):
    before, after = make_pair([0.2], [0.8])
    with pytest.raises(InputError, match=r"run\.json is there, of no comparison"):
        write_comparison(before, after, next(tmp_path.rglob("run.json")).parent)


def test_metrics_of_captions_are_compared_as_a_whole(write_run, tmp_path):
    def write(name, *captions):
        lines = [
            make_line(
                k, 0.5, task="video_qa", scores={"rouge_l": 0.5, "texts": {"": [[caption, [true]]]}}, baseline=None
            )
            for k, (caption, true) in enumerate(
                zip(captions, ["a red dog runs fast", "two men play ball"] * 2, strict=True)
            )
        ]
        return read_run(write_run(lines, name))

    right, wrong = ["a red dog runs fast", "two men play ball"] * 2, ["a cat", "x"] * 2
    runs = write("a", *wrong), write("b", *right)
    found = {one.name: one for one in write_comparison(*runs, tmp_path / "out")}
    one = found["Bleu_1"]
    assert (one.second, one.counts) == (pytest.approx(1), (None, None, None))
    assert one.change.value == pytest.approx(one.second - one.first) and one.is_clear
    assert "| video_qa | Bleu_1 " in (tmp_path / "out" / "report.md").read_text()
