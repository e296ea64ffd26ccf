"""What a run would take, told before it starts: by a few contents that are computed first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.base import Usage
from mmfeat.pipelines.execution.cost import Cost
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.server import SpendingConfig
from mmfeat.schemas.spec import FeatureSpec

# A store that would take more of what is free than this is worth a warning.
_LARGE_SHARE = 0.5
_CODE_BYTES = 4


@dataclass(frozen=True)
class Needs:
    """What a run would take for one feature.

    Attributes:
        items: rows that the store would get, at most: some items may turn out to lack what is read.
        contents: what goes through the model for them; others have equal content.
        measured: contents that were computed to find out; they are stored.
        seconds: of reading, decoding and the model for all contents, summed over processes; None if
            nothing was measured. Start-up is not counted.
        stored_bytes: of the values alone, uncompressed; None of texts that were not measured.
        download_bytes: of weights that are to be downloaded, before the trial; None if that is not known.
        money: in the currency of ``[spending]``'s prices; None if there are none or nothing is asked of
            a model that counts tokens.
    """

    items: int
    contents: int
    measured: int
    seconds: float | None
    stored_bytes: int | None
    download_bytes: int | None
    money: float | None

    def __str__(self) -> str:
        parts = [f"{self.items:,} items, {self.contents:,} contents"]
        if self.seconds is not None:
            parts.append(f"{self.seconds:,.1f} s of decoding and the model (measured on {self.measured})")
        if self.stored_bytes is not None:
            parts.append(f"{in_bytes(self.stored_bytes)} of values")
        if self.download_bytes is None:
            parts.append("weights of unknown size")
        elif self.download_bytes:
            parts.append(f"{in_bytes(self.download_bytes)} of weights to download")
        if self.money is not None:
            parts.append(f"costs {self.money:,.2f}")
        return ", ".join(parts)


@dataclass
class _Measured:
    """What the contents of a trial took.

    Attributes:
        seconds: of each content, in the order of computing.
        bytes: of the value of each that has one.
    """

    seconds: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)
    used: Usage = field(default_factory=Usage)


class Trial:
    """What the first contents of a run take.

    Args:
        specs: of all the run's features, by number.
    """

    def __init__(self, specs: Sequence[FeatureSpec]) -> None:
        self._specs = specs
        self._of = [_Measured() for _ in specs]

    def add(self, results: pa.Table) -> None:
        """Take in RESULTS_SCHEMA rows."""
        sizes = pc.binary_length(results["value"])
        for row, size in zip(results.select(_READ).to_pylist(), sizes.to_pylist(), strict=True):
            measured = self._of[row["feature"]]
            measured.seconds.append((row["seconds"] or 0.0) + (row["decode_seconds"] or 0.0))
            measured.used += Usage(*(row[name] or 0 for name in _COUNTS))
            if row["status"] == OK:
                measured.bytes.append(size)

    def needs(
        self,
        number: int,
        *,
        items: int,
        contents: int,
        download_bytes: int | None,
        cost: Cost | None,
        spending: SpendingConfig,
    ) -> Needs:
        """Of a feature's items and contents that are lacking, by the mean of those that were computed.

        Args:
            cost: what its captions cost, where a language model writes them.
        """
        measured = self._of[number]
        done = len(measured.seconds)
        money = None if cost is None else cost.money
        if cost is None and measured.used.requests:
            share = contents / done
            used = (share * measured.used.prompt_tokens, share * measured.used.new_tokens)
            money = spending.money(*map(round, used))
        return Needs(
            items=items,
            contents=contents,
            measured=done,
            seconds=round(contents * float(np.mean(measured.seconds)), 3) if done else None,
            stored_bytes=_stored_bytes(self._specs[number], items, measured.bytes),
            download_bytes=download_bytes,
            money=money,
        )


def needs_of_fitted(spec: FeatureSpec, items: int) -> Needs:
    """Of a feature that is fitted to another one: what that takes is known when the other is there."""
    return Needs(items, items, 0, None, items * _CODE_BYTES * (spec.dims or 0), 0, None)


def too_large(needs: Mapping[str, Needs], store: Path | None) -> Iterator[str]:
    """What to say where the values would fill much of what is free on the store's disk.

    Args:
        needs: by version.
        store: the store's folder; None on an object store.
    """
    if store is None:
        return
    free, total = disk_usage(store).free, sum(one.stored_bytes or 0 for one in needs.values())
    if total > _LARGE_SHARE * free:
        version, most = max(needs.items(), key=lambda one: one[1].stored_bytes or 0)
        yield (
            f"the values would take {in_bytes(total)} and the disk of {store} has {in_bytes(free)} free; "
            f"{version} takes {in_bytes(most.stored_bytes or 0)} of it (store_dtype, truncate_dim and fewer "
            "vectors per item make it less)"
        )


def in_bytes(number: int) -> str:
    """A size as people say it: 51.2 GB."""
    power = min(len(_UNITS) - 1, int(math.log(number, 1000)) if number else 0)
    return f"{number / 1000**power:,.1f} {_UNITS[power]}" if power else f"{number} {_UNITS[0]}"


_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_COUNTS = ("requests", "prompt_tokens", "new_tokens")
_READ = ["feature", "status", "seconds", "decode_seconds", *_COUNTS]


def _stored_bytes(spec: FeatureSpec, items: int, measured: Sequence[int]) -> int | None:
    if measured:
        return round(items * float(np.mean(measured)))
    if spec.form == "vector":
        return items * math.prod(spec.shape) * np.dtype(spec.store_dtype).itemsize
    return None if items else 0
