"""Quantizers: vectors to semantic ids, a few discrete codes per item from coarse to fine."""

from mmfeat.extract.fitted.codes.base import Quantizer
from mmfeat.extract.fitted.codes.collisions import with_collision_level
from mmfeat.extract.fitted.codes.quality import Quality, measure
from mmfeat.extract.fitted.codes.residual_kmeans import ResidualKMeans
from mmfeat.extract.fitted.codes.rqvae import RqVae

#: Every quantizer by the name that specs and the command line use.
QUANTIZERS: dict[str, type[Quantizer]] = {cls.method: cls for cls in (ResidualKMeans, RqVae)}

__all__ = ["QUANTIZERS", "Quality", "Quantizer", "measure", "with_collision_level"]
