"""Distributions, in short as a table and as a picture."""

from __future__ import annotations

from mmfeat.report.model import Distribution
from mmfeat.report.page.parts import Table
from mmfeat.report.page.plots import Chart, Series, histogram
from mmfeat.report.page.wording import number

_QUANTILES = ("mean", "smallest", "5%", "median", "95%", "largest")


def in_short(title: str, named: list[tuple[str, Distribution]], of: str = "captions") -> Table:
    """A row of quantiles for each; ``of`` is what there is a value of each."""
    columns = ("measure", of, *_QUANTILES)
    return Table(title, columns, tuple((name, *_quantiles(one)) for name, one in named), right=columns[1:])


def drawn(title: str, unit: str, one: Distribution, of: str = "captions") -> Chart:
    """How often each value occurs."""
    series = Series(of, "accent", one.histogram.edges, one.histogram.counts)
    return histogram(title, unit, [series], whole=unit in ("words", "tokens"))


def _quantiles(one: Distribution) -> tuple[str, ...]:
    values = (one.n, one.mean, one.minimum, one.p05, one.median, one.p95, one.maximum)
    return tuple(number(value) for value in values)
