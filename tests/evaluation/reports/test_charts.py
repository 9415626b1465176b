"""Charts as SVG."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from llava_st_hf.evaluation.reports.charts import Axis, Chart


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 3, [0, 1, 2, 3]),
        (0, 0, [0]),
        (0, 17, [0, 5, 10, 15]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert np.allclose(Axis("", low, high).list_ticks(), ticks)


def test_bars_stand_on_the_floor():
    svg = Chart(Axis("iou", 0, 1), Axis("items", 0, 4)).add_bars([0, 0.5, 1], [1, 4]).render("iou")
    bars = re.findall(r'<rect[^>]* y="([\d.]+)"[^>]* height="([\d.]+)"', svg)
    assert [float(y) + float(height) for y, height in bars] == [216, 216]
    assert float(bars[1][1]) == pytest.approx(4 * float(bars[0][1]), abs=0.3)


def test_svg_is_whole_and_escaped():
    chart = Chart(Axis("<x>", 0, 1), Axis("y", 0, 1)).add_diagonal()
    chart.add_points([0.1, 2.0, -1], [0.5, 0.5, math.inf]).add_line([0, 1], [0, 1]).add_intervals([0.5], [0.1], [0.9])
    tree = ElementTree.fromstring(chart.render('a "chart" <b>'))
    assert tree.attrib["aria-label"] == 'a "chart" <b>'
    across = [float(dot.attrib["cx"]) for dot in tree.iter("circle")]
    assert len(across) == 3 and min(across) >= 0 and max(across) <= 420  # what is outside lies on the rim


def test_very_many_points_are_thinned():
    values = np.linspace(0, 1, 100_000)
    assert Chart(Axis("", 0, 1), Axis("", 0, 1)).add_points(values, values).render("").count("<circle") == 1500
