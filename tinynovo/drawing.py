"""Drawing: figures and pages that reports share.

Knows how curves, bars, reliability and confusion are drawn, how a figure goes into a page and how a
page is filled. Does not know where the numbers come from. matplotlib and jinja2 (the extra
``report``) are imported when they are needed.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinynovo.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""The palette of Okabe and Ito (2008), told apart by all."""

QUIET = "#9aa0a6"


@dataclass(frozen=True)
class Curve:
    """One line of a panel; `low` and `high` shade what lies between them."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One set of axes with curves; `mark` is a place on x that a dashed line shows."""

    title: str
    x: str
    curves: Sequence[Curve]
    mark: float | None = None
    log: bool = False
    share: bool = False


def need_libraries() -> None:
    """Refuse, before the work, when a report could not be drawn.

    Raises
    ------
    InputError
        When the libraries of the extra ``report`` are not installed.
    """
    for name in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError:
            remedy = "pip install tinynovo[report]"
            raise InputError(f"a report needs {name}", remedy=remedy) from None


def write_page(path: Path, template: str, content: Mapping[str, object]) -> None:
    """Fill one of the package's templates and write it.

    Parameters
    ----------
    path : Path
    template : str
        A file of ``data/``; in HTML all that is filled in is escaped.
    content : mapping
        What the template speaks of; it must speak of nothing else.

    Raises
    ------
    InputError
        When the page cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tinynovo", "data"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template(template).render(content)
    try:
        path.write_text(page, "utf-8")
    except OSError as failure:
        raise InputError(f"cannot be written: {failure.strerror}", file=path) from None


def figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, in inches, with one set of axes."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    axes: Axes = drawn.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def image(drawn: Figure) -> str:
    """A figure as a data URI of SVG, the same every time."""
    import matplotlib

    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tinynovo"}):
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def panels(content: Sequence[Panel], across: int = 3) -> Figure:
    """Panels of curves, so many across; one legend above them names the curves."""
    from matplotlib.figure import Figure

    down = -(-len(content) // across)
    across = min(across, len(content))
    drawn = Figure(figsize=(3.5 * across, 2.7 * down + 0.3), layout="constrained")
    grid = drawn.subplots(down, across, squeeze=False).flatten()
    names = list(dict.fromkeys(curve.name for panel in content for curve in panel.curves))
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    for axes, panel in zip(grid, content, strict=False):
        _panel(axes, panel, colours)
    for axes in grid[len(content) :]:
        axes.set_visible(False)
    if len(names) > 1:
        lines = {line.get_label(): line for axes in grid for line in axes.get_lines()}
        shown = [lines[name] for name in names]
        drawn.legend(
            shown, names, loc="outside upper left", ncols=4, frameon=False, fontsize="small"
        )
    return drawn


def _panel(axes: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in panel.curves:
        colour = colours[curve.name]
        dots = "o-" if len(curve.x) <= 40 else "-"
        axes.plot(curve.x, curve.y, dots, ms=2.5, lw=1.2, color=colour, label=curve.name)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
    if panel.mark is not None:
        axes.axvline(panel.mark, color=QUIET, lw=0.8, ls="--")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(panel.title, loc="left", fontsize="medium")
    axes.set_xlabel(panel.x)
    if panel.log:
        axes.set_yscale("log")
    if panel.share:
        axes.set_ylim(-0.03, 1.03)
    axes.spines[["top", "right"]].set_visible(False)


def bars(axis: str, counts: Mapping[float, int] | Mapping[int, int], width: float) -> Figure:
    """A histogram of spectra; the axis of scores goes from 0 to 1."""
    drawn, axes = figure(4.2, 2.6)
    axes.bar(list(counts), list(counts.values()), width=width, color=COLOURS[0])
    axes.set_xlabel(axis)
    axes.set_ylabel("spectra")
    if axis == "score":
        axes.set_xlim(0, 1)
    return drawn


def pairs(names: Sequence[str], first: Sequence[float], second: Sequence[float]) -> Figure:
    """Two bars for each name: what is true and what was predicted."""
    drawn, axes = figure(9.0, 2.9)
    place = np.arange(len(names))
    axes.bar(place - 0.2, first, 0.4, color=QUIET, label="true")
    axes.bar(place + 0.2, second, 0.4, color=COLOURS[0], label="predicted")
    axes.set_xticks(place, names, rotation=90, fontsize="small")
    axes.set_ylabel("share of residues")
    axes.legend(frameon=False)
    return drawn


def reliability(probability: NDArray[np.float64], right: NDArray[np.bool_]) -> Figure:
    """How often answers are right, against how sure the judge was of them."""
    drawn, axes = figure(4.2, 3.4)
    axes.plot([0, 1], [0, 1], color=QUIET, lw=0.8, ls="--")
    bins = 10
    place = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    sure = np.bincount(place, probability, bins)[filled] / count[filled]
    share = np.bincount(place, right, bins)[filled] / count[filled]
    axes.plot(sure, share, "-", lw=1, color=COLOURS[0])
    axes.scatter(sure, share, 12 + 200 * count[filled] / count.sum(), color=COLOURS[0])
    axes.set(xlabel="probability", ylabel="share right", xlim=(0, 1), ylim=(-0.03, 1.03))
    return drawn


def confusion(true: Sequence[int], predicted: Sequence[int]) -> Figure:
    """Lengths of answers against true lengths: counts, shaded."""
    drawn, axes = figure(4.2, 3.4)
    low, high = min(*true, *predicted), max(*true, *predicted)
    table = np.zeros((high - low + 1, high - low + 1))
    np.add.at(table, (np.array(true) - low, np.array(predicted) - low), 1)
    shown = table / table.sum(1, keepdims=True).clip(1)
    edge = (low - 0.5, high + 0.5)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, origin="lower", extent=(*edge, *edge))
    axes.set(xlabel="residues predicted", ylabel="residues true")
    return drawn
