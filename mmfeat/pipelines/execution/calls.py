"""How much a model is given in one call. Never changes a value."""

from __future__ import annotations

from dataclasses import dataclass

from mmfeat.extract.base import Model
from mmfeat.schemas.catalog import MEDIA_SOURCES
from mmfeat.schemas.spec import FeatureSpec

# A core is as fast with eight pictures at a time as with more (docs/benchmarks.md), and gives the first
# of them sooner.
_PICTURES_PER_THREAD = 8


@dataclass(frozen=True)
class Calls:
    """The rule of one process.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: compute threads of the process; None for as many as a library takes.
        wanted: what the job says, for every model but those on a server; None for the models' own.
    """

    device: str = "cpu"
    threads: int | None = None
    wanted: int | None = None

    def rows(self, spec: FeatureSpec, model: Model | type[Model]) -> int:
        """Rows of one call of a feature's model: of clips fewer, as each is many pictures to a network.

        A language model is given whole clips, as many as other items.
        """
        if model.asks_server:
            return model.batch_size
        if spec.source not in MEDIA_SOURCES or spec.decoding is not None:
            return self.wanted or model.batch_size
        pictures = self.wanted or model.batch_size
        if self.device == "cpu" and not self.wanted:
            pictures = min(pictures, _PICTURES_PER_THREAD * (self.threads or 1))
        return max(1, pictures // (spec.frames.most if spec.frames else 1))
