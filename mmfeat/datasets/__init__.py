"""Datasets: adapters that turn folders and tables into a catalog of items and interactions."""

from mmfeat.datasets.base import Dataset, Note
from mmfeat.datasets.checks import CheckReport, ColumnCount, check
from mmfeat.datasets.registry import load, names, takes_interactions

__all__ = ["CheckReport", "ColumnCount", "Dataset", "Note", "check", "load", "names", "takes_interactions"]
