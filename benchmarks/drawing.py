"""Pictures as SVG text, for a page that needs nothing else. Knows nothing about benchmarks."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 30, 40
Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most `most` of them or one more."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / most))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= most)
    return [round(step * n, 9) for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def label(x: float, y: float, text: str, anchor: str = "middle", style: str = "") -> str:
    """A text; `style` is a class of the page."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">{html.escape(text)}</text>'


def bar(x: float, y: float, width: float, height: float, colour: str, title: str) -> str:
    """A rectangle; `title` shows under the pointer."""
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.8, width):.1f}" height="{height:.1f}" fill="{colour}" rx="2">'
    return f"{shape}<title>{html.escape(title)}</title></rect>"


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line; `style` is a class of the page."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def picture(width: float, height: float, parts: list[str], title: str) -> str:
    """The whole SVG."""
    head = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{html.escape(title)}">'
    return "\n".join([head, label(8, 18, title, "start", "title"), *parts, "</svg>"])


@dataclass
class Plot:
    """Lines over two axes."""

    title: str
    x_title: str
    y_title: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Sequence[float] | None = None
    legend_on_top: bool = False
    width: float = 440
    height: float = 270
    _parts: list[str] = field(default_factory=list)
    _named: list[tuple[str, str]] = field(default_factory=list)

    def x(self, value: float) -> float:
        """Where a value is on the picture."""
        low, high = self.x_range
        return _LEFT + (value - low) / ((high - low) or 1) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Where a value is on the picture."""
        low, high = self.y_range
        return self.height - _BOTTOM - (value - low) / ((high - low) or 1) * (self.height - _TOP - _BOTTOM)

    def line(self, points: Points, name: str = "", dots: bool = False, dashed: bool = False) -> None:
        """A line through `points`; with a `name` it is in the legend. Lines get their colours in order."""
        colour = COLOURS[len(self._named) % len(COLOURS)]
        self._named.append((name, colour))
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        for x, y in points if dots else ():
            shown = f"<title>{html.escape(f'{name} {x:g}: {y:g}')}</title>"
            self._parts.append(
                f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" fill="{colour}">{shown}</circle>'
            )

    def limit(self, value: float, name: str, vertical: bool = False) -> None:
        """A dashed line that values should stay below, or left of."""
        if vertical:
            at = self.x(value)
            self._parts += [
                rule(at, _TOP, at, self.height - _BOTTOM, "limit"),
                label(at + 4, _TOP + 10, name, "start", "limit"),
            ]
        else:
            at = self.y(value)
            right = self.width - _RIGHT
            self._parts += [rule(_LEFT, at, right, at, "limit"), label(right, at - 4, name, "end", "limit")]

    def svg(self) -> str:
        """The picture."""
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = []
        for value in self.x_ticks or ticks(*self.x_range):
            parts += [
                rule(self.x(value), _TOP, self.x(value), bottom, "grid"),
                label(self.x(value), bottom + 15, f"{value:g}"),
            ]
        for value in ticks(*self.y_range, most=5):
            parts += [rule(_LEFT, self.y(value), right, self.y(value), "grid")]
            parts += [label(_LEFT - 6, self.y(value) + 4, f"{value:g}", "end")]
        parts.append(label((_LEFT + right) / 2, self.height - 8, self.x_title))
        middle = (_TOP + bottom) / 2
        parts.append(f'<g transform="rotate(-90 14 {middle:.1f})">{label(14, middle, self.y_title)}</g>')
        legend = [(name, colour) for name, colour in self._named if name]
        for row, (name, colour) in enumerate(legend if len(legend) > 1 else []):
            at = _TOP + 14 + 15 * row if self.legend_on_top else bottom - 10 - 15 * (len(legend) - 1 - row)
            parts += [bar(right - 14, at - 8, 10, 10, colour, name), label(right - 20, at + 1, name, "end")]
        return picture(self.width, self.height, [*parts, *self._parts], self.title)
