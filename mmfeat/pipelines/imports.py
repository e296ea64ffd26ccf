"""``mmfeat import``: vectors that others made, as a feature of a store whose version their file names."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmfeat.extract.fitted.transforms.base import in_blocks
from mmfeat.pipelines.record import recorded
from mmfeat.pipelines.sources import placed, rows_of
from mmfeat.pipelines.steps.gates import Gates, fell_short
from mmfeat.pipelines.steps.promote import made_stale, make_current
from mmfeat.pipelines.vector_files import VectorFile, read_vectors
from mmfeat.schemas.catalog import columns_of
from mmfeat.schemas.errors import StoreError, UsageError
from mmfeat.schemas.featureset import ABSENT, MISSING, OK
from mmfeat.schemas.inputs import VECTOR, Input
from mmfeat.schemas.notebook import ShortRepr
from mmfeat.schemas.operations import GateResult, GatesConfig
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import IMPORTED, FeatureSpec, Weights, canonical_json
from mmfeat.schemas.validation import near, validated
from mmfeat.store import FeatureVersion, Store

_NAMED = 5
_NOT_THERE = "the imported file has no vector of it"


@dataclass(frozen=True, repr=False)
class ImportReport(ShortRepr):
    """What :func:`import_vectors` found and did.

    Attributes:
        version: ``name@fingerprint``.
        digest: of the file.
        vectors: in the file.
        committed: rows that this call wrote; 0 if all were there.
        ok, missing: items of the catalog with and without a vector of the file.
        skipped: rows of ids that the store does not know, which were left out as asked, and of items that no
            dataset has any more.
        empty: rows of zeros, or with NaN or infinity, whose items are ``missing`` as asked.
        promoted: whether the version became current.
        notices: what else a person should know.
    """

    run_id: str
    store: str
    version: str
    digest: str
    dims: int
    vectors: int
    committed: int
    ok: int
    missing: int
    skipped: int
    empty: int
    promoted: bool
    gates: tuple[GateResult, ...]
    seconds: float
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def import_vectors(
    store: Store | str,
    name: str,
    vectors: str | Path | np.ndarray,
    *,
    ids: str | Path | Sequence[str] | None = None,
    rows: str | None = None,
    feature: str | None = None,
    model: str | None = None,
    unknown: Literal["error", "skip"] = "error",
    empty: Literal["error", "missing"] = "error",
    **gates: Any,
) -> ImportReport:
    """Take vectors that others made into a store, as a version that the file's digest names.

    The same file again changes nothing, but gives items that came meanwhile their vectors. Another file makes
    another version. It becomes current, unless a gate falls short or it was rolled back.

    Args:
        name: of the feature.
        vectors, ids, rows, feature: see :func:`mmfeat.pipelines.vector_files.read_vectors`.
        model: what made the vectors, for people; part of what names the version.
        unknown: what to do with ids that the store does not know: refuse the file, or leave their rows out.
        empty: what to do with rows of zeros, with NaN or infinity, or of numbers whose squares float32 cannot
            hold: refuse the file, or make their items ``missing``.
        gates: what must hold before it becomes current, as in ``[gates]`` of a job: ``min_coverage``, ...

    Raises:
        UsageError: the file cannot be read, does not fit the store, or a row of it is no vector; nothing was
            written.
        GateFailed: a gate fell short: the version is there, and current only if it was so before.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    run_id, began = uuid.uuid4().hex[:12], datetime.now(UTC)
    _refuse_other("unknown", unknown, ("error", "skip"))
    _refuse_other("empty", empty, ("error", "missing"))
    judged = Gates(validated(GatesConfig, gates, "the gates of this import"))
    file = read_vectors(vectors, ids, rows, feature)
    with opened.lease(owner=f"import {name} {run_id}"):
        _refuse_taken_name(opened, name)
        fitting = _fitting(opened, file, unknown, empty)
        spec = _spec(name, file, rows, model, vectors)
        what = {
            "dataset": opened.dataset() or {},
            "versions": [spec.version],
            "specs": [spec.model_dump(mode="json", exclude_none=True)],
        }
        with recorded(opened, "import", run_id, began, what) as recording:
            version = opened.add_version(spec)
            committed = _commit_lacking(opened, version, file, fitting)
            results = tuple(judged.judge(opened, [version]))
            short = [gate for gate in results if not gate.passed]
            promoted, notices = ([], []) if short else make_current(opened, [version])
            counts = opened.counts(version, opened.present_ids())
            report = ImportReport(
                run_id=run_id,
                store=opened.uri,
                version=version.version,
                digest=file.digest,
                dims=file.matrix.shape[1],
                vectors=len(file.ids),
                committed=sum(committed.values()),
                ok=counts.get(OK, 0),
                missing=counts.get(MISSING, 0),
                skipped=fitting.skipped + fitting.gone,
                empty=fitting.empty,
                promoted=bool(promoted),
                gates=results,
                seconds=(datetime.now(UTC) - began).total_seconds(),
                notices=(
                    *_of_the_file(file),
                    *_of_gone(fitting),
                    *notices,
                    *(made_stale(opened) if promoted else ()),
                ),
            )
            recording.report = report.to_dict()
    if short:
        raise fell_short(short, opened, [version], report)
    return report


def imported(uri: str) -> dict[str, FeatureSpec]:
    """The current imported features of a store, which a job's can read; none if there is no store."""
    try:
        store = Store.open(uri)
    except StoreError:
        return {}  # a run makes it, or says what is wrong with it
    found = (store.resolve(f"{name}@{fingerprint}") for name, fingerprint in store.current().items())
    return {version.name: version.spec for version in found if version.spec.is_imported}


@dataclass(frozen=True)
class _Fitting:
    """Which rows of a file are taken.

    Attributes:
        row_of: item id to its row.
        skipped: rows of unknown ids.
        gone: rows of items that no dataset has any more.
        empty: rows that are no vectors.
    """

    row_of: dict[str, int]
    skipped: int
    gone: int
    empty: int


def _fitting(store: Store, file: VectorFile, unknown: str, empty: str) -> _Fitting:
    """The rows of items that the store has; UsageError for what may not be left out."""
    row_of = {item_id: row for row, item_id in enumerate(file.ids)}
    if len(row_of) < len(file.ids):
        twice = [item_id for item_id, n in Counter(file.ids).items() if n > 1]
        raise UsageError(
            f"{file.named} has several rows of {_names(twice)}.", hint="Give every item one row."
        )
    known = set(store.forgetting.without(store.catalog())["item_id"].to_pylist())
    strange = [item_id for item_id in file.ids if item_id not in known]
    if strange and unknown == "error":
        raise _unknown(store, file, strange)
    gone = set(store.gone_ids().to_pylist())
    taken = {item_id: row for item_id, row in row_of.items() if item_id in known and item_id not in gone}
    left = len(row_of) - len(strange) - len(taken)
    if not taken:
        also = f" {left:,} are of items that no dataset has any more." if left else ""
        raise UsageError(
            f"{file.named} has no vector of an item of {store.uri}.{also}",
            hint="Give the store a dataset that has them." if left else "Does it use the same item ids?",
        )
    bad = _empty(file, list(taken.values()))
    if len(bad) == len(taken) and empty == "missing":
        raise UsageError(f"{file.named} holds nothing but rows that are no vectors.")
    lost = [item_id for item_id, row in taken.items() if row in bad]
    if lost and empty == "error":
        held = sorted({bad[taken[item_id]] for item_id in lost})
        raise UsageError(
            f"{file.named} holds {' and '.join(held)} for {_names(lost)}.",
            hint="Their items are missing with --empty missing.",
        )
    vectors = {i: row for i, row in taken.items() if row not in bad}
    return _Fitting(vectors, len(strange), left, len(lost))


def _unknown(store: Store, file: VectorFile, strange: Sequence[str]) -> UsageError:
    forgotten = {tombstone.item_id for tombstone in store.forgetting.tombstones()} & set(strange)
    also = f", of which {len(forgotten):,} were forgotten" if forgotten else ""
    return UsageError(
        f"{file.named} has rows of {_names(strange)}, which the store does not know{also}.",
        hint="Extract these items first, or leave their rows out: --unknown skip.",
    )


def _empty(file: VectorFile, rows: Sequence[int]) -> dict[int, str]:
    """Rows that are no vectors, and what they hold."""
    found: dict[int, str] = {}
    for at in in_blocks(np.array(rows, np.int64), file.matrix.shape[1]):
        block = np.asarray(file.matrix[at], np.float32)
        # As a cosine has it: squares that float32 does not hold are infinite or nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.square(block).sum(axis=1)
        found |= dict.fromkeys(at[~np.isfinite(squares)].tolist(), "numbers too large for a length")
        found |= dict.fromkeys(at[squares == 0].tolist(), "numbers too small for a length")
        found |= dict.fromkeys(at[~np.isfinite(block).all(axis=1)].tolist(), "NaN or infinity")
        found |= dict.fromkeys(at[(block == 0).all(axis=1)].tolist(), "rows of zeros")
    return found


def _of_the_file(file: VectorFile) -> list[str]:
    """What a person should know of what a file holds."""
    if not file.filled:
        return []
    return [f"{file.filled:,} rows of {file.named} were filled in when it was exported and are left out"]


def _of_gone(fitting: _Fitting) -> list[str]:
    if not fitting.gone:
        return []
    return [f"{fitting.gone:,} rows of items that no dataset has any more are left out"]


def _refuse_other(setting: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise UsageError(f"{setting} is {word!r}.", hint=f"{near(word, words)}Write {' or '.join(words)}.")


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:_NAMED]))
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return f"{len(ids):,} item{'s' if len(ids) > 1 else ''} ({shown}{more})"


def _spec(
    name: str, file: VectorFile, rows: str | None, model: str | None, vectors: str | Path | np.ndarray
) -> FeatureSpec:
    whose = {"rows": rows} if rows else {"ids": _digest_of(file.ids)}
    place = None if isinstance(vectors, np.ndarray) else str(Path(vectors).absolute())
    return validated(
        FeatureSpec,
        {
            "name": name,
            "inputs": (Input(source="file", modality=VECTOR),),
            "output": VectorOut(
                dims=file.matrix.shape[1], dtype="float16" if file.matrix.dtype == np.float16 else "float32"
            ),
            "method": IMPORTED,
            "model": model or IMPORTED,
            "weights": Weights(origin="imported", ref="file", digest=file.digest, location=place),
            "options": {**whose, "feature": file.chosen, "scaled": file.quantized or None},
        },
        "this import",
    )


def _digest_of(ids: Sequence[str]) -> str:
    return f"sha256:{hashlib.sha256(canonical_json(list(ids)).encode()).hexdigest()}"


def _commit_lacking(
    store: Store, version: FeatureVersion, file: VectorFile, fitting: _Fitting
) -> dict[str, int]:
    """Commit the rows of the store's items that are not there, by status, some at a time."""
    ids = sorted(store.forgetting.without(store.present())["item_id"].to_pylist())
    there = np.array([item_id in fitting.row_of for item_id in ids], bool)
    status = np.where(there, OK, MISSING).astype(object)
    had, _ = placed(store, version, ids)
    lacking = np.flatnonzero(status != had)
    for at in in_blocks(lacking, file.matrix.shape[1]):
        ok = there[at]
        values = np.zeros((len(at), file.matrix.shape[1]), file.matrix.dtype)
        values[ok] = file.matrix[[fitting.row_of[ids[i]] for i in at[ok]]]
        hashes = (
            hashlib.sha256(row.tobytes()).hexdigest() if here else ""
            for row, here in zip(values, ok, strict=True)
        )
        filled = {
            "item_id": [ids[i] for i in at],
            "status": status[at].tolist(),
            "stage": ["" if here else "import" for here in ok],
            "reason": ["" if here else _NOT_THERE for here in ok],
            "content_hash": list(hashes),
            "stamp": [""] * len(at),
            "created": [datetime.now(UTC)] * len(at),
        }
        store.commit(
            version, rows_of(version.spec, filled, values, ok), replace=bool((had[at] != ABSENT).any())
        )
    if len(lacking):
        store.finish(version)
    return dict(Counter(status[lacking].tolist()))


def _refuse_taken_name(store: Store, name: str) -> None:
    if others := [v for v in store.versions(name) if v.spec.kind != "vector"]:
        raise UsageError(
            f"{name!r} is the name of a {others[0].spec.kind} feature.", hint="Choose another name."
        )
    if name in columns_of(store.catalog().schema):
        raise UsageError(f"{name!r} is the name of a column.", hint="Choose another name.")
