"""A small line chart as SVG: one panel a series, the sizes evenly spaced, values written at their points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, MARGIN = 420, 260, 48


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn: `band` is the range that was promised, `peer` what another system did, both in the values' unit.

    The peer has a point for each of ours, or for the first of them only.
    """

    title: str
    unit: str
    points: Sequence[tuple[int, float]]
    band: tuple[float, float] | None = None
    peer: Sequence[tuple[int, float]] = ()


def draw(panels: Sequence[Panel], size: str) -> str:
    """The panels side by side, a peer dashed; `size` says what the horizontal axis counts."""
    width = WIDTH * len(panels)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
    )
    back = f'<rect width="{width}" height="{HEIGHT}" fill="white"/>'
    drawn = [_panel(panel, size, at * WIDTH) for at, panel in enumerate(panels)]
    return "\n".join([head, back, *drawn, "</svg>", ""])


def _panel(panel: Panel, size: str, left: int) -> str:
    values = [value for _, value in panel.points]
    top = 1.25 * max([*values, *(panel.band or ()), *[value for _, value in panel.peer]])
    places = [
        (_x(left, at, len(values)), _y(value, top), number, value) for at, (number, value) in enumerate(panel.points)
    ]
    lines = [_text(left + WIDTH / 2, 20, f"{panel.title} ({panel.unit})", "middle", bold=True)]
    if panel.band is not None:
        low, high = (_y(value, top) for value in panel.band)
        lines.append(
            f'<rect x="{left + MARGIN}" y="{high:.1f}" width="{WIDTH - 2 * MARGIN}" height="{low - high:.1f}" '
            'fill="#dcefdc"/>'
        )
    bottom = HEIGHT - MARGIN
    lines += [
        f'<line x1="{left + MARGIN}" y1="{bottom}" x2="{left + WIDTH - MARGIN}" y2="{bottom}" stroke="black"/>',
        f'<line x1="{left + MARGIN}" y1="{MARGIN}" x2="{left + MARGIN}" y2="{bottom}" stroke="black"/>',
        _text(left + MARGIN - 6, bottom + 4, "0", "end"),
        _text(left + WIDTH / 2, HEIGHT - 10, size, "middle"),
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
    lines.append(f'<polyline points="{path}" fill="none" stroke="#1f5fa8" stroke-width="2"/>')
    if panel.peer:
        beside = [(_x(left, at, len(panel.points)), _y(value, top), value) for at, (_, value) in enumerate(panel.peer)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in beside)
        lines.append(f'<polyline points="{path}" fill="none" stroke="#b0643c" stroke-dasharray="5 3"/>')
        lines += [_text(x, y - 6, f"{value:.3g}", "middle") for x, y, value in beside]
    for x, y, number, value in places:
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1f5fa8"/>')
        lines.append(_text(x, y - 8, f"{value:.3g}", "middle"))
        lines.append(_text(x, bottom + 16, str(number), "middle"))
    return "\n".join(lines)


def _x(left: int, at: int, count: int) -> float:
    return left + MARGIN + (at + 0.5) * (WIDTH - 2 * MARGIN) / count


def _y(value: float, top: float) -> float:
    return HEIGHT - MARGIN - value / top * (HEIGHT - 2 * MARGIN)


def _text(x: float, y: float, text: str, anchor: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
