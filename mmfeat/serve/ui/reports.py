"""Reports as pages of the service: made when they are asked for, of a small sample."""

from __future__ import annotations

from mmfeat.report.page import render
from mmfeat.report.vectors.build import VectorsOptions
from mmfeat.serve.live import View

# A caller waits for it, and another may wait behind it.
_SAMPLE = 2000


def vectors_page(view: View, feature: str, store: str) -> str:
    """The report on vectors of a feature, of at most 2,000 items.

    Args:
        store: what the page calls the store.

    Raises:
        UsageError: there is no such feature, it holds no vectors or too few, or ``mmfeat[report]`` is not
            installed.
    """
    report = view.features.report_vectors(feature, VectorsOptions(sample=_SAMPLE))
    subject = report.subject.model_copy(update={"store": store})
    return render(report.model_copy(update={"subject": subject}))
