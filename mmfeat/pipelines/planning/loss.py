"""What a run would take away from a store: rows that hold a value, items and interactions.

All of it is found from the catalog and the committed rows, before anything is written: a column that
vanished or a file that was cut would else put ``missing`` in the place of good rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.media.remote import is_remote
from mmfeat.pipelines.planning.columns import Ledger, placed
from mmfeat.pipelines.planning.contents import Contents, Part
from mmfeat.schemas.errors import GateFailed
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.ids import Places
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.templates import values_of

# One of a handful is changed by hand; a fault takes more, or everything.
_FEWEST = 2


@dataclass(frozen=True)
class Loss:
    """So many of what a store has that a run would take away.

    Attributes:
        what: that they are, for people: ``ok rows of title_text@3fa9c1d2``.
        lost: how many go.
        had: how many there are.
        becomes: what becomes of these.
    """

    what: str
    lost: int
    had: int
    becomes: str

    def is_more_than(self, share: float) -> bool:
        """Whether it is one to stop for: above the share, and at least two of them or all.

        With a share of 0 any is.
        """
        enough = self.lost >= _FEWEST or self.lost == self.had or share == 0
        return enough and self.lost > share * self.had

    def __str__(self) -> str:
        return f"{self.lost:,} of {self.had:,} {self.what} {self.becomes}"


def lost_rows(contents: Contents, specs: Sequence[FeatureSpec], ledgers: Mapping[str, Ledger]) -> list[Loss]:
    """Of each feature, the ``ok`` rows of items that now lack what it reads, if there are any.

    An item lacks a column that is null, a file that is not there, and what is made of either.

    Args:
        contents: of the items to cover.
        specs: features in dependency order.
        ledgers: fingerprint to the committed rows, of features that have any.
    """
    places = Places(contents.ids)
    lacking: dict[str, np.ndarray] = {}
    losses = []
    for spec in specs:
        lacks = np.zeros(len(contents.ids), dtype=bool)
        if spec.fingerprint in ledgers:
            lacks = _lacking(spec, contents, lacking)
        if lacks.any():
            had, lost = _counted(ledgers[spec.fingerprint], places, lacks)
            if lost:
                losses.append(Loss(f"ok rows of {spec.version}", lost, had, "lose their value"))
        lacking[spec.name] = lacks
    return losses


def refuse_losses(losses: Sequence[Loss], most: float, uri: str) -> None:
    """GateFailed where a store would lose more than a share of something; nothing was written then."""
    if too_much := [loss for loss in losses if loss.is_more_than(most)]:
        raise GateFailed(
            f"This run would cost {uri} more than {most:.0%} of what it has: "
            f"{'; '.join(map(str, too_much))}. Nothing was written.",
            hint="Look at the dataset (`mmfeat datasets check`): has a column, a file or a part of it gone "
            "missing? If it is as it should be, run once more with --accept-loss ([run] max_lost = 1).",
        )


def _lacking(spec: FeatureSpec, contents: Contents, of_features: Mapping[str, np.ndarray]) -> np.ndarray:
    """``[n]`` bool: the items that lack something which the feature must have."""
    if spec.needs_any:
        return np.asarray(np.logical_and.reduce([_lacks(one, contents, of_features) for one in spec.inputs]))
    needed = [one for one in spec.inputs if not one.optional]
    return np.asarray(np.logical_or.reduce([_lacks(one, contents, of_features) for one in needed]))


def _lacks(read: Input, contents: Contents, of_features: Mapping[str, np.ndarray]) -> np.ndarray:
    """``[n]`` bool: the items that lack one input."""
    if read.source in of_features:
        return of_features[read.source]
    if not (contents.is_media(read.key) or contents.is_text(read.key)):
        return np.zeros(len(contents.ids), dtype=bool)
    part = Part(read.key, contents.of(read.key), needs_words=read.named)
    return np.asarray(~part.has_value() | _without_file(part))


def _without_file(part: Part) -> np.ndarray:
    """``[n]`` bool: the items whose file is named and not there; of several, none of whose files is."""
    if part.content.file_stamps is None:
        return np.zeros(len(part.content.present), dtype=bool)
    unstamped = part.content.present & ~part.content.file_stamps.is_valid().to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(unstamped)
    locations = part.content.payload.take(pa.array(rows)).to_pylist()
    remote = [any(map(is_remote, values_of(location))) for location in locations]
    unstamped[rows[np.array(remote, dtype=bool)]] = False
    return np.asarray(unstamped)


def _counted(ledger: Ledger, places: Places, lacks: np.ndarray) -> tuple[int, int]:
    """The ``ok`` rows of the items, and those of them that lack something."""
    had = lost = 0
    for batch in ledger(["item_id", "status"]):
        items, rows = placed(batch, places)
        ok = pc.equal(rows["status"], OK).to_numpy(zero_copy_only=False)
        had += int(ok.sum())
        lost += int(lacks[items[ok]].sum())
    return had, lost
