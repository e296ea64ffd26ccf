"""The page's sections in the order in which a reader decides."""

from __future__ import annotations

from mmfeat.report.model import CaptionReport
from mmfeat.report.page.evidence import evidence
from mmfeat.report.page.gallery import gallery
from mmfeat.report.page.meaning import grounding, usefulness
from mmfeat.report.page.parts import Section
from mmfeat.report.page.texts import coverage, lengths, suspects, variety
from mmfeat.report.page.verdict import comparison, verdict

_ORDER = (
    verdict,
    coverage,
    lengths,
    suspects,
    variety,
    grounding,
    usefulness,
    evidence,
    comparison,
    gallery,
)


def sections(report: CaptionReport) -> list[Section]:
    """All sections but the table of all items, which the page's script draws."""
    return [section(report) for section in _ORDER]
