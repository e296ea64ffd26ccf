"""The report's pictures, drawn by matplotlib; each with its numbers in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from mmfeat.report.page.svg import inline_svg, new_figure, stand_in
from mmfeat.report.page.wording import number

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

# As wide as a phone's column, so that its texts keep their size there.
_WIDTH = 380
_HEIGHT = 190


@dataclass(frozen=True)
class Series:
    """Counts between edges, in a colour of the page.

    Args:
        name: what the legend and the table call it.
        role: a colour role of the page, ``accent`` or ``second``.
        edges: N + 1 rising bounds.
        counts: N counts; bin i is from edges[i] to edges[i + 1].
    """

    name: str
    role: str
    edges: Sequence[float]
    counts: Sequence[int]


@dataclass(frozen=True)
class Chart:
    """A picture and the same facts without it.

    Args:
        title: shown above it.
        svg: the picture.
        columns: heads of the table of its numbers.
        rows: the numbers.
    """

    title: str
    svg: Markup
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def right(self) -> tuple[str, ...]:
        """Heads of the columns that hold numbers: all but the bins."""
        return self.columns[1:]


def histogram(title: str, unit: str, series: Sequence[Series], *, whole: bool = False) -> Chart:
    """How often each value occurs; several series lie over each other on the same edges.

    Args:
        title: what is counted.
        unit: what the horizontal axis measures.
        series: at least one; all with the same edges.
        whole: the axis counts things, so that it has no halves.
    """
    figure = new_figure(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    for one in series:
        colour = stand_in(one.role)
        axes.stairs(one.counts, one.edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(one.counts, one.edges, color=colour, linewidth=1.5, label=one.name)
    _plain_axes(axes, unit)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.locator_params(axis="y", integer=True, nbins=4)
    axes.locator_params(axis="x", integer=whole, nbins=6)
    if len(series) > 1:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            frameon=False,
            fontsize=11,
            labelcolor=stand_in("ink"),
            borderaxespad=0,
            handlelength=1.2,
        )
    edges = series[0].edges
    rows = tuple(
        (f"{number(low)} to {number(high)}", *(f"{one.counts[i]:,}" for one in series))
        for i, (low, high) in enumerate(pairwise(edges))
    )
    return Chart(
        title, inline_svg(figure, _description(title, series)), (unit, *(s.name for s in series)), rows
    )


def _plain_axes(axes: Axes, unit: str) -> None:
    """No more ink than the reading needs."""
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(stand_in("line"))
    axes.tick_params(length=0, labelsize=11, labelcolor=stand_in("muted"), pad=5)
    axes.set_xlabel(unit, fontsize=11, color=stand_in("muted"))


def _description(title: str, series: Sequence[Series]) -> str:
    """The histogram in a sentence: how many, and where the middle lies."""
    return f"{title}. " + " ".join(
        f"{one.name}: {sum(one.counts):,} values, the middle one between {' and '.join(_middle(one))}."
        for one in series
        if sum(one.counts)
    )


def _middle(series: Series) -> tuple[str, str]:
    half, seen = sum(series.counts) / 2, 0
    for (low, high), count in zip(pairwise(series.edges), series.counts, strict=True):
        seen += count
        if seen >= half:
            return number(low), number(high)
    raise AssertionError("a half is reached by the last count")
