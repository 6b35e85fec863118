"""Pictures of a result: precision by recall, and which classes are taken for which."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swiftdet.evaluation.coco import Curves
from swiftdet.evaluation.confusion import Confusion
from swiftdet.whole_files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NAMED = 10
_MOST_CELLS = 25
_DPI = 120


def precision_recall(curves: Curves, title: str, path: Path) -> None:
    """Draws precision by recall: each category at IoU 0.50, and their mean at 0.50, at 0.75 and over 0.50 to 0.95.

    Raises:
        OSError: the file cannot be written.
    """
    figure, axes = _figure((8.0, 5.5))
    scored = [i for i in range(len(curves.categories)) if curves.precision[0, 0, i] > -1]
    for i in scored:
        named = len(scored) <= _MOST_NAMED
        axes.plot(
            curves.recall,
            curves.precision[0, :, i],
            linewidth=1,
            color=None if named else "0.8",
            label=f"{_short(curves.categories[i])} at 0.50" if named else None,
        )
    if scored:
        means = curves.precision[:, :, scored].mean(axis=2)
        for values, label, style in (
            (means[0], "mean at 0.50", "-"),
            (means[5], "mean at 0.75", "--"),
            (means.mean(axis=0), "mean over 0.50 to 0.95", ":"),
        ):
            axes.plot(curves.recall, values, style, linewidth=2.5, color="black", label=label)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small", frameon=False)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=_short(title, 90))
    axes.grid(alpha=0.3)
    _save(figure, path)


def matrix(confusion: Confusion, names: Mapping[int, str], path: Path) -> None:
    """Draws the counts as a matrix: objects in rows, predictions in columns; of many categories those with most errors.

    Raises:
        OSError: the file cannot be written.
    """
    errors = dict.fromkeys(names, 0)
    for pair, count in confusion.counts.items():
        for category in pair if pair[0] != pair[1] else ():
            if category is not None:
                errors[category] += count
    worst = sorted(sorted(errors, key=lambda i: -errors[i])[:_MOST_CELLS])
    labels = [_short(names[i]) for i in worst]
    shown = [*worst, None]
    cells = np.array([[confusion.counts.get((truth, found), 0) for found in shown] for truth in shown], np.float64)
    whole = cells.sum(axis=1, keepdims=True)
    side = 3.0 + 0.38 * len(shown)
    figure, axes = _figure((side + 0.6, side))
    axes.imshow(np.divide(cells, whole, out=np.zeros_like(cells), where=whole > 0), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(cells):
        if count:
            color = "white" if count > 0.6 * whole[row, 0] else "black"
            axes.text(column, row, str(int(count)), ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(shown)), [*labels, "(missed)"], rotation=60, ha="right")
    axes.set_yticks(range(len(shown)), [*labels, "(nothing there)"])
    rest = f", the {_MOST_CELLS} categories with most errors" if len(names) > _MOST_CELLS else ""
    axes.set(xlabel="found as", ylabel="object", title=f"objects and what they were found as{rest}")
    _save(figure, path)


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of its own, which no window and no other thread's figure knows."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to load

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    write_whole(path, content.getvalue())


def _short(text: str, limit: int = 24) -> str:
    """A name on a plot: of bounded length, of signs that the font has, and nothing taken for mathematics."""
    known = _signs()
    plain = "".join(sign if ord(sign) in known else "?" for sign in " ".join(text.split()))
    return (plain if len(plain) <= limit else plain[: limit - 1] + "…").replace("$", r"\$")


@functools.cache
def _signs() -> frozenset[int]:
    """Code points that matplotlib's own font draws; it warns of others."""
    from matplotlib import font_manager, ft2font  # noqa: PLC0415 - slow to load

    return frozenset(ft2font.FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())
