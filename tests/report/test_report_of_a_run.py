"""The report on captions that a model wrote in a run, not on texts made for it."""

from __future__ import annotations

import mmfeat
from mmfeat.report.build import ReportOptions


def test_the_tiny_captioners_own_captions_are_told_from_shuffled_ones(world):
    report = mmfeat.open(world / "store").report_captions(ReportOptions(feature="caption", grounding="clip"))
    assert report.grounding is not None
    assert report.grounding.auc >= 0.95
