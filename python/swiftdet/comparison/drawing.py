"""Draws panels as SVG that takes its colours from the page around it, so that they follow light and dark."""

from __future__ import annotations

import contextlib
import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from swiftdet.comparison.panels import Panel, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

FAMILIES = {"yolov7": "YOLOv7", "damo-yolo": "DAMO-YOLO", "ultralytics": "Ultralytics"}

# What matplotlib is given, and what the page is to read instead. Each value stands for one variable and nothing else.
_INK, _MUTED, _GRID, _SURFACE = "#101112", "#707172", "#d0d1d2", "#fafbfc"
_COLOURS = {"yolov7": "#1f5fa1", "damo-yolo": "#c2571b", "ultralytics": "#2f7d51"}
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    _SURFACE: "var(--surface)",
    **{colour: f"var(--{family})" for family, colour in _COLOURS.items()},
}
_MARKS = (("o", "●", "○"), ("^", "▲", "△"), ("s", "■", "□"), ("D", "◆", "◇"), ("v", "▼", "▽"))
"""Of the series: as matplotlib names them, and as characters, filled and hollow."""
_WIDTH = 5.9  # inches of 72 units; a page of 400 px shows it at about 0.85
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11.5,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}
_Place: TypeAlias = tuple[float, float, str, str]
_PLACES: tuple[_Place, ...] = (
    (8, 0, "left", "center"),
    (0, -8, "center", "top"),
    (0, 8, "center", "bottom"),
    (-8, 0, "right", "center"),
    (6, -7, "left", "top"),
    (6, 7, "left", "bottom"),
    (-6, 7, "right", "bottom"),
    (-6, -7, "right", "top"),
)
"""Of a point's name, beside the point: offsets in points, and which of the name's edges stands there."""
_FARTHER: tuple[_Place, ...] = tuple(
    (way * x, way * y, side, edge) for way in (2.6, 4.2) for x, y, side, edge in (*_PLACES[1:3], *_PLACES[4:])
)
"""The same for names that find no place beside their points; a line leads to them."""

_WIDE, _VERY_WIDE = 6.0, 60.0  # ratios from which an axis of milliseconds is logarithmic, and has fewer numbers


def draw(panel: Panel, name: str) -> str:
    """A panel as an element of HTML: AP against latency, or latencies alone where no point has an AP.

    Args:
        panel: with at least one point.
        name: tells the plot's parts from those of the page's other plots.
    """
    has_ap = any(point.ap is not None for series in panel.series for point in series.points)
    return _accuracy_plot(panel, name) if has_ap else _latency_plot(panel, name)


def _accuracy_plot(panel: Panel, name: str) -> str:
    with _figure(name, 4.1) as (figure, axes):
        points = [point for series in panel.series for point in series.points]
        _join(axes, points)
        for i, series in enumerate(panel.series):
            for point in series.points:
                _draw(axes, point, point.ap or 0.0, _MARKS[i % len(_MARKS)][0])
        _scale_ms(axes, points)
        aps = [ap for point in points for ap in (point.ap, point.ap_low, point.ap_high) if ap is not None]
        margin = max(2.0, 0.18 * (max(aps) - min(aps)))
        axes.set_ylim(min(aps) - margin, max(aps) + margin)
        axes.set_ylabel("AP, % (IoU 0.50 to 0.95)")
        axes.grid(visible=True)
        _place_labels(figure, axes, points)
        return _svg(figure, name, f"AP against latency: {panel.title}")


def key(panel: Panel) -> list[dict[str, str]]:
    """What marks and colours of a panel mean, where it has several: the mark, its text, and the style of the mark."""
    entries = []
    if len(panel.series) > 1:
        for i, series in enumerate(panel.series):
            _, filled, hollow = _MARKS[i % len(_MARKS)]
            mark = hollow if series.points[0].hollow else filled
            entries.append({"mark": mark, "text": series.label, "style": "mark"})
    families = list(dict.fromkeys(point.family for series in panel.series for point in series.points))
    if len(families) > 1:
        entries += [{"mark": "", "text": FAMILIES[family], "style": family} for family in families]
    return entries


def _latency_plot(panel: Panel, name: str) -> str:
    """Latencies below one another, fastest first."""
    points = panel.series[0].points
    with _figure(name, 0.75 + 0.29 * len(points)) as (figure, axes):
        for place, point in enumerate(points):
            _draw(axes, point, place, "o")
        axes.set_ylim(len(points) - 0.5, -0.5)
        axes.set_yticks(range(len(points)), [point.label for point in points])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        _scale_ms(axes, points)
        axes.grid(visible=True, axis="x")
        return _svg(figure, name, panel.title)


@contextlib.contextmanager
def _figure(name: str, height: float) -> Iterator[tuple[Figure, Axes]]:
    import matplotlib as mpl  # noqa: PLC0415 - slow to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the page's own fonts draw the text
        figure = Figure(figsize=(_WIDTH, height), dpi=72, layout="constrained")
        yield figure, figure.add_subplot()


def _draw(axes: Axes, point: Point, height: float, mark: str) -> None:
    colour = _COLOURS[point.family]
    if point.high > point.low:
        _whisker(axes, [point.low, point.high], [height, height], "|", colour)
    if point.ap_low is not None and point.ap_high is not None:
        _whisker(axes, [point.ms, point.ms], [point.ap_low, point.ap_high], "_", colour)
    face = _SURFACE if point.hollow else colour
    axes.plot(point.ms, height, mark, color=colour, markerfacecolor=face, markersize=6.5, markeredgewidth=1.5)


def _whisker(axes: Axes, x: list[float], y: list[float], end: str, colour: str) -> None:
    axes.plot(x, y, color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(x, y, end, color=colour, markersize=6)


def _join(axes: Axes, points: Sequence[Point]) -> None:
    """A line between points of one detector that differ in AP alone."""
    for key in dict.fromkeys((point.label, point.ms) for point in points):
        aps = [point.ap or 0.0 for point in points if (point.label, point.ms) == key]
        axes.plot([key[1], key[1]], [min(aps), max(aps)], color=_MUTED, linewidth=0.8)


def _scale_ms(axes: Axes, points: Sequence[Point]) -> None:
    """A linear axis from 0, or a logarithmic one where the times are far apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415 - as in _figure

    low, high = min(point.low for point in points), max(point.high for point in points)
    if high / low < _WIDE:
        axes.set_xlim(0.0, high * 1.12)
        axes.set_xlabel("latency, ms")
        return
    axes.set_xscale("log")
    axes.set_xlim(low / 1.25, high * 1.35)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _VERY_WIDE else (1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency, ms (logarithmic)")


def _place_labels(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    """Names beside their points, or farther away, at the first place where they cover nothing, else the least."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - as in _figure
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()  # places the axes, so that what covers what can be computed
    renderer = canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    marks = [axes.transData.transform((point.ms, point.ap or 0.0)) for point in points]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in marks]
    for point in points:
        ends = axes.transData.transform([(point.low, point.ap or 0.0), (point.high, point.ap or 0.0)])
        taken.append(Bbox.from_extents(ends[0][0], ends[0][1] - 2, ends[1][0], ends[1][1] + 2))
        if point.ap_low is not None and point.ap_high is not None:
            ends = axes.transData.transform([(point.ms, point.ap_low), (point.ms, point.ap_high)])
            taken.append(Bbox.from_extents(ends[0][0] - 2, ends[0][1], ends[1][0] + 2, ends[1][1]))
    for point in {(point.label, point.ms): point for point in points}.values():  # a name for joined points
        label = axes.annotate(point.label, (point.ms, point.ap or 0.0), xytext=(0, 0), textcoords="offset points")
        label.set_fontsize(10.5)
        covered = {}
        for place in (*_PLACES, *_FARTHER):
            _put(label, place)
            box = label.get_window_extent(renderer)
            if inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1):
                covered[place] = box.count_overlaps(taken)
                if not covered[place]:
                    break
        best = min(covered, key=lambda place: covered[place], default=_PLACES[0])  # of equal ones the first
        _put(label, best)
        if best in _FARTHER:
            line = {"arrowstyle": "-", "color": _MUTED, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", label.xy, xytext=best[:2], textcoords="offset points", arrowprops=line)
        taken.append(label.get_window_extent(renderer))


def _put(label: Annotation, place: _Place) -> None:
    label.set(position=place[:2], ha=place[2], va=place[3])


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of an HTML page, with its colours as variables."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    root, body = re.match(r"(<svg[^>]*>)(.*)", svg, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    box = re.search(r'viewBox="[^"]*"', root).group()  # type: ignore[union-attr]
    # matplotlib numbers its groups alike in every figure, and an id may stand in a page once.
    used = set(re.findall(r"(?:url\(|href=\")#([^\")]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", body).replace("xlink:href", "href")
    for value, variable in _VARIABLES.items():
        body = body.replace(value, variable)
    return f'<svg {box} role="img" aria-label="{html.escape(description)}">{body}'
