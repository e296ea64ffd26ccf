"""Quantizers: vectors to semantic ids, a few discrete codes per item from coarse to fine."""

from mmfeat.extract.fitted.codes.base import Quantizer, Residual
from mmfeat.extract.fitted.codes.collisions import last_numbers, number_collisions
from mmfeat.extract.fitted.codes.quality import Quality, errors, measure
from mmfeat.extract.fitted.codes.residual_kmeans import ResidualKMeans
from mmfeat.extract.fitted.codes.rqvae import RqVae

__all__ = [
    "Quality",
    "Quantizer",
    "Residual",
    "ResidualKMeans",
    "RqVae",
    "errors",
    "last_numbers",
    "measure",
    "number_collisions",
]
