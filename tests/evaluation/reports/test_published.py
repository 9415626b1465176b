"""What is published, beside a run."""

import pytest

from llava_st_hf.data.readers.registry import FORMATS
from llava_st_hf.evaluation.benchmarks.catalogue import KNOWN_BENCHMARKS
from llava_st_hf.evaluation.protocols import get_protocol
from llava_st_hf.evaluation.reports import published
from llava_st_hf.evaluation.reports.published import find_percent, find_published
from llava_st_hf.processing.tasks_llava_st import TASKS


@pytest.mark.parametrize(
    ("benchmark", "task", "metric", "value"),
    [
        ("st-align-stvg", "stvg", "m_sIoU", 22.8),
        ("vidstg_declarative", "stvg", "vIoU@0.5", 28.2),
        ("hc-stvg-v2", "stvg", "m_tIoU", 53.9),
        ("vue_stg", "stvg_several", "v_IoU", 32.6),
        ("refcoco+-testB", "rec", "acc@0.5", 78.8),
        ("charades_sta", "tvg", "R@0.7", 23.4),
    ],
)
def test_first_row(benchmark, task, metric, value):
    found = find_published(benchmark, task)
    assert found.rows[0].metrics[metric] == value
    assert found.warnings[-1].startswith("One name can mean two metrics")


@pytest.mark.parametrize(("benchmark", "task"), [("st-shapes", "stvg"), ("hc-stvg-v1", "tvg"), ("refcoco", "rec")])
def test_nothing_is_known(benchmark, task):
    assert find_published(benchmark, task) is None


def test_each_table_is_that_of_one_known_benchmark_and_its_task():
    found = {}
    for known in KNOWN_BENCHMARKS.values():
        task = known.task or FORMATS[known.format].reader.default_task
        if (entry := find_published(known.name, task)) is not None:
            found[known.name] = entry.rows
    assert len(found) == len(published._PUBLISHED)
    assert all(entry.rows in found.values() for entry in published._PUBLISHED.values())


def test_a_part_of_a_benchmark_is_compared_with_a_warning():
    whole = find_published("vue-stg", "stvg_several")
    part = find_published("vue-stg (partial: 49 of 1,600 items)", "stvg_several")
    assert (part.rows, part.warnings[:-1]) == (whole.rows, whole.warnings)
    assert part.warnings[-1].startswith("What is published is of all items")


def test_names_are_those_of_our_protocols():
    known = {"METEOR"}
    for name in ("default", "community", "vue"):
        for task in TASKS:
            if names := get_protocol(name).get_measure_names(task):
                nothing = dict.fromkeys(names, 0.0)
                known |= {*get_protocol(name).compute_metrics(task, [nothing])}
    rows = [row for entry in published._PUBLISHED.values() for row in entry.rows]
    assert {name for row in rows for name in row.metrics} - known == set()
    assert all(0 < value < 100 for row in rows for value in row.metrics.values())


def test_percent_of_each_protocol():
    assert find_percent({"m_tIoU": 0.438}, "m_tIoU") == pytest.approx(43.8)
    assert find_percent({"mtiou": 0.438, "tiou@0.5": 44.6}, "m_tIoU") == pytest.approx(43.8)
    assert find_percent({"mtiou": 0.438, "tiou@0.5": 44.6}, "tIoU@0.5") == 44.6
    assert find_percent({"R1@(0.5)": 90.1}, "acc@0.5") == 90.1
    assert find_percent({"m_IoU": 0.5}, "acc@0.5") is None
