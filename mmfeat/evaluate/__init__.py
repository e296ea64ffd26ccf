"""Whether a feature helps to recommend: its vectors against the interactions, beside its controls."""

from mmfeat.evaluate.run import evaluate, need_packages, quiet, versions_of
from mmfeat.evaluate.verdict import Comparison, Evaluation, FeatureVerdict, Finding

__all__ = [
    "Comparison",
    "Evaluation",
    "FeatureVerdict",
    "Finding",
    "evaluate",
    "need_packages",
    "quiet",
    "versions_of",
]
