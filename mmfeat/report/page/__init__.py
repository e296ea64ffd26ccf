"""The report as one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfeat.schemas.errors import MissingExtra

if TYPE_CHECKING:
    from mmfeat.report.model import CaptionReport, CodesReport
    from mmfeat.report.vectors.model import VectorsReport


def render(report: CaptionReport | CodesReport | VectorsReport) -> str:
    """The whole report as one HTML page that opens offline, on a laptop, a phone and paper.

    Raises:
        MissingExtra: the packages of ``mmfeat[report]`` are not installed.
    """
    # Late: a command that only writes JSON needs no template engine and no plots.
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtra("The report's page", "report", str(error.name)) from None
    from mmfeat.report.model import CodesReport
    from mmfeat.report.page.codes import codes_document
    from mmfeat.report.page.document import document
    from mmfeat.report.page.vectors import vectors_document
    from mmfeat.report.vectors.model import VectorsReport

    if isinstance(report, VectorsReport):
        return vectors_document(report)
    return codes_document(report) if isinstance(report, CodesReport) else document(report)
