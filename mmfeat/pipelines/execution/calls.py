"""How much a model is given in one call. Never changes a value."""

from __future__ import annotations

from dataclasses import dataclass

from mmfeat.extract import modalities
from mmfeat.extract.base import Method
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureSpec

# A core is as fast with eight pictures at a time as with more (bench/RESULTS.md), and gives the first
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

    def rows(self, spec: FeatureSpec, method: Method | type[Method]) -> int:
        """Rows of one call of a feature's method: of clips fewer, as each is many pictures to a network.

        A language model is given whole clips, as many as other items.
        """
        if method.runs == "server":
            return method.batch_size
        each = _pictures(spec)
        if not each or spec.decoding is not None or method.whole_clips:
            return self.wanted or method.batch_size
        pictures = self.wanted or method.batch_size
        if self.device == "cpu" and not self.wanted:
            pictures = min(pictures, _PICTURES_PER_THREAD * (self.threads or 1))
        return max(1, pictures // each)

    def together(self, spec: FeatureSpec, method: Method) -> int:
        """Rows of one call where a block has more than :meth:`rows` of them."""
        rows = self.rows(spec, method)
        if self.device != "cpu" or self.wanted or not method.together:
            return rows
        return max(rows, method.together // max(1, _pictures(spec)))


def _pictures(spec: FeatureSpec) -> int:
    """That an item shows to a network."""
    return sum(modalities.modality(one.modality).cost(one.prepare).pictures for one in _columns(spec))


def _columns(spec: FeatureSpec) -> list[Input]:
    return [one for one in spec.inputs if one.upstream is None]
