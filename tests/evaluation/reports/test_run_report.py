"""The report of a run."""

import json

import pytest
from run_lines import HOSTILE, make_line, make_unusable

from llava_st_hf.evaluation.metrics.uncertainty import compute_interval
from llava_st_hf.evaluation.reports import write_report
from llava_st_hf.evaluation.reports.run_report import escape_latex
from llava_st_hf.processing.media_llava_st import InputError


def read_reports(folder):
    write_report(folder)
    return tuple((folder / f"report.{ending}").read_text() for ending in ("md", "html"))


def test_metrics_have_intervals_of_clips(write_run):
    lines = [make_line(number, value) for number, value in enumerate([0.2, 0.4, 0.9, 0.8])]
    folder = write_run(lines)
    found = compute_interval([0.2, 0.4, 0.9, 0.8], groups=[0, 0, 1, 1])
    assert json.loads((folder / "metrics.json").read_text())["tasks"]["tvg"]["intervals"]["m_tIoU"] == [*found[1:]]
    for text in read_reports(folder):
        assert f"{found.value:.3f}" in text and f"{found.low:.3f} to {found.high:.3f}" in text
    assert "| m_tIoU |" in (folder / "report.md").read_text()


def test_parts(write_run):
    lines = [make_line(number, (number % 11) / 10, confidence=(number % 7) / 7) for number in range(30)]
    lines[3] = make_line(3, 0.0, failure="missing_span")
    markdown, page = read_reports(write_run([*lines, make_unusable(30)]))
    for text in (markdown, page):
        for part in (
            "tvg: tiou of the answers",
            "tvg (31 items: R@0.5 to",
            "reliability of confidences, ECE 0.",
            "risk by coverage, area 0.",
            "missing_span",
            "1 item without an answer that could be used, worth 0",
            "blind baseline",
            "tvg: best, median and worst by tiou",
        ):
            assert part in text, part
    assert page.count("<svg") == 3  # all true spans are of one length
    assert "| 0.0 to 0.1 |     5 |" in markdown


def test_without_a_blind_baseline_nothing_speaks_of_one(write_run):
    lines = [{**make_line(number, 0.5), "baseline": None} for number in range(4)]
    for text in read_reports(write_run(lines)):
        assert "m_tIoU" in text
        assert "blind" not in text


def test_error_by_length_and_size(write_run, shapes_lines):
    lines, settings = shapes_lines
    markdown, page = read_reports(write_run(lines, **settings))
    assert "stvg: error by true span in seconds" in markdown
    assert "rec: error by true box, share of the frame" in markdown
    assert page.count("data:image/jpeg") == 6
    assert "all alike, to 1.000" in markdown  # no spread, but 3 items


def test_without_confidences_there_is_no_reliability(write_run):
    assert "reliability" not in read_reports(write_run([make_line(number, 0.5) for number in range(4)]))[0]


def test_beside_what_is_published(write_run):
    lines = [make_line(number, 0.5) for number in range(200)]
    markdown, page = read_reports(write_run(lines, benchmark="charades-sta"))
    (row,) = [line for line in markdown.splitlines() if line.startswith("| LLaVA-ST")]
    assert [cell.strip() for cell in row.split("|")][2:7] == ["63.1", "44.8", "23.4", "42.4", "arXiv:2501.08282"]
    assert "this run" in markdown and "50.0" in markdown
    assert "counts tIoU above a threshold" in page
    assert "Few items" not in markdown


def test_latex(write_run):
    lines = [make_line(number, value) for number, value in enumerate([0.0, 1.0] * 10)]
    markdown, _ = read_reports(write_run(lines, model="my_model%1"))
    (row,) = [line for line in markdown.splitlines() if line.startswith("my\\_model\\%1 & ")]
    assert row.startswith("my\\_model\\%1 & $50.0 \\pm ") and row.endswith("$ \\\\")
    assert "% tvg, 20 items, default protocol: R@0.5, m_tIoU" in markdown
    assert escape_latex("a\\b~{}\x00") == r"a\textbackslash{}b\textasciitilde{}\{\}"


def test_what_others_wrote_does_no_harm(write_run):
    lines = [make_line(number, 0.1 * number, question=HOSTILE, id=f"{HOSTILE}{number}") for number in range(5)]
    markdown, page = read_reports(write_run([*lines, make_unusable(5)], model=HOSTILE, benchmark="<u>"))
    assert "<script" not in page and "<u>" not in page and "&lt;script&gt;" in page
    outside_of_code = "".join(markdown.split("```")[::2])
    assert "<script" not in outside_of_code and "<u>" not in outside_of_code


def test_a_run_that_is_not_done(write_run):
    folder = write_run([make_line(0, 0.5)])
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.json cannot be read"):
        write_report(folder)
