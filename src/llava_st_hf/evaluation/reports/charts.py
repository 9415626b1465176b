"""Charts as SVG, in the colours of the page around them."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from ...visualization.fonts import put_on_line

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 10, 44
_MAX_POINTS = 1500  # of a scatter; more make the page slow and show no more


class Axis(NamedTuple):
    """An axis of a chart."""

    label: str  # what is measured
    low: float  # its lower end
    high: float  # its upper end

    def share(self, values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return where values lie between the ends, from 0 to 1."""
        width = (self.high - self.low) or 1.0
        return np.clip((np.asarray(values, dtype=np.float64) - self.low) / width, 0, 1)

    def list_ticks(self) -> list[float]:
        """Return round numbers between the ends, about five of them."""
        width = (self.high - self.low) or 1.0
        power = 10.0 ** math.floor(math.log10(width / 4))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if width / (power * factor) <= 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


class Chart:
    """
    A chart that is drawn part by part.

    Args:
        x (`Axis`): Across.
        y (`Axis`): Upward.

    Example:

    ```python
    >>> Chart(Axis("IoU", 0, 1), Axis("items", 0, 3)).add_bars([0, 0.5, 1], [1, 3]).render("IoU of all items")[:4]
    '<svg'
    ```
    """

    def __init__(self, x: Axis, y: Axis):
        self.x, self.y = x, y
        self._shapes: list[str] = []

    def _place(self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> list[tuple[float, float]]:
        across = _LEFT + self.x.share(xs) * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - self.y.share(ys) * (_HEIGHT - _TOP - _BOTTOM)
        return list(zip(across.round(1).tolist(), down.round(1).tolist(), strict=True))

    def add_bars(self, edges: Sequence[float], heights: Sequence[float]) -> "Chart":
        """Draw bars from each edge to the next."""
        floor = self._place([self.x.low], [self.y.low])[0][1]
        corners = self._place(edges, [*heights, self.y.low])
        for (left, top), (right, _), height in zip(corners, corners[1:], heights, strict=False):
            self._shapes.append(
                f'<rect class="one bar" x="{left + 1:.1f}" y="{top}" width="{max(right - left - 2, 1):.1f}" '
                f'height="{floor - top:.1f}"><title>{height:g}</title></rect>'
            )
        return self

    def add_points(
        self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, color: str = "one"
    ) -> "Chart":
        """Draw a dot for each item; of very many some, spread evenly over their order."""
        kept = np.linspace(0, len(xs) - 1, min(len(xs), _MAX_POINTS)).astype(int)
        dots = self._place(np.asarray(xs)[kept], np.asarray(ys)[kept])
        self._shapes += [f'<circle class="{color} dot" cx="{x}" cy="{y}" r="3.5"/>' for x, y in dots]
        return self

    def add_line(
        self, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, color: str = "one"
    ) -> "Chart":
        """Draw a line through points."""
        points = " ".join(f"{x},{y}" for x, y in self._place(xs, ys))
        self._shapes.append(f'<polyline class="{color} line" points="{points}"/>')
        return self

    def add_intervals(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> "Chart":
        """Draw an upright line from a low to a high value at each place."""
        ends = zip(self._place(xs, lows), self._place(xs, highs), strict=True)
        self._shapes += [f'<path class="two line" d="M{x},{low}V{high}"/>' for (x, low), (_, high) in ends]
        return self

    def add_diagonal(self) -> "Chart":
        """Draw the line on which both axes are equal."""
        low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
        (x1, y1), (x2, y2) = self._place([low, high], [low, high])
        self._shapes.append(f'<line class="middle" stroke-dasharray="4 4" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>')
        return self

    def render(self, label: str) -> str:
        """
        Write the chart.

        Args:
            label (`str`): What it shows, for who cannot see it.

        Returns:
            `str`: One `<svg>`.
        """
        left, floor = self._place([self.x.low], [self.y.low])[0]
        right, top = self._place([self.x.high], [self.y.high])[0]
        parts = []
        for value in self.y.list_ticks():
            (_, y) = self._place([self.x.low], [value])[0]
            parts.append(f'<line class="rule" x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in self.x.list_ticks():
            (x, _) = self._place([value], [self.y.low])[0]
            anchor = "end" if x > right - 8 else "middle"
            parts.append(f'<text x="{x}" y="{floor + 16}" text-anchor="{anchor}">{value:g}</text>')
        middle = (left + right) / 2
        parts.append(
            f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(put_on_line(self.x.label))}</text>'
        )
        place = f'x="12" y="{(floor + top) / 2}" transform="rotate(-90 12 {(floor + top) / 2})"'
        parts.append(f'<text {place} text-anchor="middle">{escape(put_on_line(self.y.label))}</text>')
        shapes = "".join([*parts, *self._shapes])
        head = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(put_on_line(label))}"'
        return f"<svg {head}>{shapes}</svg>"
