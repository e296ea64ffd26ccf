"""A vector feature to semantic ids: fit a quantizer to all its vectors, commit the codes."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from mmfeat.extract.fitted.codes import QUANTIZERS, Quality, measure, with_collision_level
from mmfeat.pipelines.record import recorded
from mmfeat.schemas.errors import ConfigError, MissingExtra, UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK, FeatureColumn
from mmfeat.schemas.featureset.arrow import vector_array
from mmfeat.schemas.spec import FeatureSpec, Quantization, Weights
from mmfeat.store import FeatureVersion, Store, rows_schema


@dataclass(frozen=True)
class QuantizeReport:
    """What :func:`quantize` found and did.

    Attributes:
        version: ``name@fingerprint`` of the codes.
        source: ``name@fingerprint`` of the vectors.
        levels: codes per item, without the collision level.
        fitted: whether a quantizer was fitted; False where the store had it.
        committed: rows that this call wrote; 0 where all were there.
        ok, missing, failed: items of the catalog by status.
        absent: items without a row in the source yet: they get codes once they have one.
        quality: what the codes lose, how evenly they are used, how often they collide (before the
            collision level).
    """

    run_id: str
    store: str
    version: str
    source: str
    method: str
    levels: int
    codebook_size: int
    seed: int
    collision_level: bool
    fitted: bool
    committed: int
    ok: int
    missing: int
    failed: int
    absent: int
    quality: Quality
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def quantize(
    store: Store | str,
    feature: str,
    *,
    name: str | None = None,
    method: str = "residual_kmeans",
    levels: int = 3,
    codebook_size: int = 256,
    seed: int = 0,
    collision_level: bool = False,
) -> QuantizeReport:
    """Turn a vector feature into codes, a feature of its own. Safe to start again at any moment.

    The codebooks are fitted to every vector that the catalog's items have, so the codes are a new
    version whenever one of these vectors changes, comes or goes; with the same vectors and settings
    nothing is computed.

    Args:
        feature: ``name`` or ``name@fingerprint``.
        name: of the codes; ``FEATURE_codes`` when None.
        method: ``residual_kmeans`` or ``rqvae``.
        levels: codes per item, coarse to fine.
        codebook_size: how many different codes a level has.
        collision_level: add a last code that makes the codes of every item unique.

    Raises:
        UsageError: the feature holds no vectors, or too few for the codebook; an unknown method; a
            name that is taken by another kind of feature.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    run_id = uuid.uuid4().hex[:12]
    with opened.lease(owner=f"quantize {feature} {run_id}"):
        source = opened.resolve(feature)
        if source.spec.kind != "vector":
            raise UsageError(
                f"{source.version} is of kind {source.spec.kind!r}; only 'vector' features are quantized.",
                hint="`mmfeat status` lists the vector features.",
            )
        vectors = _vectors(opened, source)
        spec = _spec(
            source.spec,
            vectors,
            name or f"{source.name}_codes",
            method,
            levels=levels,
            codebook_size=codebook_size,
            seed=seed,
            collision_level=collision_level,
        )
        _refuse_taken_name(opened, spec.name)
        return _bring_up_to_date(opened, run_id, source, spec, vectors)


@dataclass(frozen=True)
class _Vectors:
    """The source's column by item id, so that the catalog's order decides nothing."""

    ids: list[str]
    column: FeatureColumn
    ok_ids: list[str]
    matrix: np.ndarray


def _vectors(store: Store, source: FeatureVersion) -> _Vectors:
    ids = sorted(store.forgetting.without(store.catalog())["item_id"].to_pylist())
    column = store.lookup(ids, [f"{source.name}@{source.fingerprint}"])[source.name]
    ok_ids = [item_id for item_id, ok in zip(ids, column.mask, strict=True) if ok]
    if not ok_ids:
        raise UsageError(f"No item has a vector in {source.version}.", hint="Extract it first.")
    return _Vectors(ids, column, ok_ids, column.matrix[column.mask])


def _spec(source: FeatureSpec, vectors: _Vectors, name: str, method: str, **settings: Any) -> FeatureSpec:
    if method not in QUANTIZERS:
        raise ConfigError(f"There is no quantizer {method!r}.", hint=f"There are: {', '.join(QUANTIZERS)}.")
    try:
        quantization = Quantization(data_digest=_digest(vectors), **settings)
        return FeatureSpec(
            name=name,
            source=source.name,
            output="codes",
            method=method,
            method_version=QUANTIZERS[method].method_version,
            model=f"{quantization.levels}x{quantization.codebook_size}",
            weights=Weights(origin="fitted", ref=f"seed={quantization.seed}"),
            dims=quantization.levels + quantization.collision_level,
            upstream=source.fingerprint,
            quantization=quantization,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{problem['loc'][0]}: {problem['msg']}") from None


def _digest(vectors: _Vectors) -> str:
    """Of the ids and the bytes of their vectors, by id."""
    digest = hashlib.sha256()
    for item_id, vector in zip(vectors.ok_ids, vectors.matrix, strict=True):
        encoded = item_id.encode()
        # The length first: no id can then be taken for the end of another.
        digest.update(len(encoded).to_bytes(8, "little") + encoded + vector.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _refuse_taken_name(store: Store, name: str) -> None:
    if others := [v for v in store.versions(name) if v.spec.output != "codes"]:
        raise UsageError(
            f"{name!r} is the name of a {others[0].spec.kind} feature.", hint="Choose another with --name."
        )


def _bring_up_to_date(
    store: Store, run_id: str, source: FeatureVersion, spec: FeatureSpec, vectors: _Vectors
) -> QuantizeReport:
    began = datetime.now(UTC)
    what = {
        "dataset": store.dataset() or {},
        "versions": [spec.version],
        "specs": [spec.model_dump(mode="json", exclude_none=True)],
    }
    with recorded(store, "quantize", run_id, began, what) as recording:
        saved = store.codebooks(spec.fingerprint)
        state, quality = saved or _fitted(store, spec, vectors.matrix)
        version = store.add_version(spec)
        committed = _commit_lacking(store, version, vectors, state)
        store.set_current(version.name, version.fingerprint)
        assert spec.quantization is not None, "a codes feature has it"
        items = Counter(vectors.column.status.tolist())
        report = QuantizeReport(
            run_id=run_id,
            store=store.uri,
            version=version.version,
            source=source.version,
            method=spec.method,
            **spec.quantization.model_dump(exclude={"data_digest"}),
            fitted=saved is None,
            committed=committed,
            ok=items[OK],
            missing=items[MISSING],
            failed=items[FAILED],
            absent=items[ABSENT],
            quality=Quality(**quality),
            seconds=(datetime.now(UTC) - began).total_seconds(),
        )
        recording.report = report.to_dict()
    return report


def _fitted(store: Store, spec: FeatureSpec, matrix: np.ndarray) -> tuple[bytes, dict[str, Any]]:
    """Fit a quantizer and keep it: its state and how good it is."""
    q = spec.quantization
    assert q is not None, "a codes feature has it"
    quantizer = QUANTIZERS[spec.method].fit(
        matrix, levels=q.levels, codebook_size=q.codebook_size, seed=q.seed
    )
    quality = asdict(measure(quantizer, matrix, quantizer.encode(matrix)))
    arrays = {key: np.ascontiguousarray(array) for key, array in quantizer.state().items()}
    state: bytes = _safetensors().save(arrays)
    store.put_codebooks(spec.fingerprint, state, quality)
    return state, quality


def _commit_lacking(store: Store, version: FeatureVersion, vectors: _Vectors, state: bytes) -> int:
    """Commit the rows that are not there, in one transaction; how many there were."""
    ledger = store.ledger(version)
    had = dict(zip(ledger["item_id"].to_pylist(), ledger["status"].to_pylist(), strict=True))
    status = vectors.column.status
    lacking = [k for k, i in enumerate(vectors.ids) if status[k] not in (ABSENT, had.get(i))]
    if not lacking:
        return 0
    codes = np.zeros((len(vectors.ids), version.spec.dims or 0), np.int32)
    if any(status[k] == OK for k in lacking):
        codes[vectors.column.mask] = _codes(version.spec, vectors.matrix, state)
    rows = _rows(version.spec, vectors, np.array(lacking), codes)
    store.commit(version, rows, replace=any(vectors.ids[k] in had for k in lacking))
    store.finish(version)
    return len(lacking)


def _codes(spec: FeatureSpec, matrix: np.ndarray, state: bytes) -> np.ndarray:
    """Codes of all vectors, which are in the order of their ids: so colliding items are numbered by id."""
    codes = QUANTIZERS[spec.method].from_state(_safetensors().load(state)).encode(matrix)
    assert spec.quantization is not None, "a codes feature has it"
    return with_collision_level(codes) if spec.quantization.collision_level else codes


def _rows(spec: FeatureSpec, vectors: _Vectors, lacking: np.ndarray, codes: np.ndarray) -> pa.Table:
    schema, n = rows_schema(spec), len(lacking)
    status, ok = vectors.column.status[lacking], vectors.column.mask[lacking]
    reasons = [f"{spec.source} {what} for this item" if what == FAILED else "" for what in status]
    columns = {
        "item_id": [vectors.ids[k] for k in lacking],
        "status": status.tolist(),
        "stage": ["" if there else "upstream" for there in ok],
        "reason": reasons,
        "content_hash": [None] * n,
        "stamp": [""] * n,
        "facts": [None] * n,
        "codes": vector_array(codes[lacking], ok).cast(schema.field("codes").type),
        "created": [datetime.now(UTC)] * n,
    }
    return pa.table(columns, schema=schema)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise MissingExtra("Quantizing", "quantize", "safetensors") from None
    return safetensors.numpy
