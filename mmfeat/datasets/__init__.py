"""Datasets: adapters that turn folders and tables into a catalog of items and interactions."""

from mmfeat.datasets.base import Dataset, Note
from mmfeat.datasets.checks import CheckReport, SourceCount, check
from mmfeat.datasets.registry import load, names

__all__ = ["CheckReport", "Dataset", "Note", "SourceCount", "check", "load", "names"]
