"""Features in the exact files that recommenders load."""

from mmfeat.export.content import ExportInput
from mmfeat.export.from_store import export_from
from mmfeat.export.registry import get, listing, names
from mmfeat.export.request import Request, Shaping
from mmfeat.export.run import ExportReport, export
from mmfeat.export.verify import Problem, VerifyReport, verify

__all__ = [
    "ExportInput",
    "ExportReport",
    "Problem",
    "Request",
    "Shaping",
    "VerifyReport",
    "export",
    "export_from",
    "get",
    "listing",
    "names",
    "verify",
]
