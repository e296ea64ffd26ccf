"""Features that are fitted to another feature of the store, once, and then applied to what comes later.

A version's spec names the digest of what was fitted, and not the data: so a nightly job applies the same
codebooks to new items, and the codes of an item whose vector is the same do not change. They are fitted
anew where that is asked for, where the feature that is read has another version or settings are others, and
where what was fitted went with forgotten items.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.fitted.codes import Quality, Quantizer, measure, number_collisions
from mmfeat.extract.registry import METHODS
from mmfeat.pipelines.run_report import FeatureReport
from mmfeat.pipelines.sources import placed
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import ABSENT, FAILED, MISSING, OK
from mmfeat.schemas.featureset.arrow import vector_array
from mmfeat.schemas.spec import FeatureSpec, Quantization
from mmfeat.store import ROLLED_BACK, FeatureVersion, Store, rows_schema


@dataclass(frozen=True)
class FittedReport:
    """What came of one fitted feature.

    Attributes:
        codes: the version that is up to date now.
        source: the version that it was fitted to.
        fitted: whether something was fitted; False where the store had it.
        committed: rows that were written, by status.
        items: of the catalog, by status; ``absent`` are those without a row in the source yet.
        quality: what the codes lost, how evenly they were used and how often they collided (before the
            collision level), of the items that they were fitted to.
    """

    codes: FeatureVersion
    source: FeatureVersion
    fitted: bool
    committed: dict[str, int]
    items: dict[str, int]
    quality: Quality
    seconds: float

    @property
    def version(self) -> FeatureVersion:
        """The version that is up to date now."""
        return self.codes

    @property
    def feature(self) -> FeatureReport:
        """As a run reports it."""
        spec, done = self.codes.spec, Counter(self.committed)
        there = Counter(self.items)
        return FeatureReport(
            version=self.codes.version,
            source=spec.source,
            kind=spec.kind,
            dims=spec.dims,
            vectors=None,
            up_to_date=sum(there.values()) - there[ABSENT] - sum(done.values()),
            ok=done[OK],
            missing=done[MISSING],
            failed=done[FAILED],
            seconds=round(self.seconds, 3),
            runtimes=[],
            reasons={},
            # What failed is the source's failure, and is judged there.
            failed_share=0.0,
            estimate=None,
            cost=None,
            fitted={"now": self.fitted, "source": self.source.version, "quality": asdict(self.quality)},
        )


def bring_up_to_date(
    store: Store, recipe: FeatureSpec, *, refit: bool = False, say: Callable[[str], None] = lambda line: None
) -> FittedReport:
    """Fit a feature where that has not been done, and give every item that lacks its values them.

    Args:
        store: open for writing.
        recipe: as the quantizer resolves it; the feature that it reads is in the store.
        refit: fit it anew whatever there is.
        say: called with what a person should know.

    Raises:
        UsageError: no item has a vector, or there are too few for the codebook; the name is that of
            another kind of feature.
    """
    began = time.monotonic()
    (name, fingerprint), *_ = recipe.upstreams.items()
    source = store.resolve(f"{name}@{fingerprint}")
    _refuse_taken_name(store, recipe.name)
    rows = _Rows.of(store, source)
    saved = None if refit else _saved(store, recipe, say)
    if saved is None:
        state, quality = _fit(recipe, rows.vectors(rows.ok))
        version = _keep(store, recipe, state, quality)
    else:
        state, quality = saved.state, saved.quality
        version = _keep(store, recipe, state, quality) if saved.is_other_version else saved.version
    committed = _commit_lacking(store, version, rows, state)
    return FittedReport(
        codes=version,
        source=source,
        fitted=saved is None,
        committed=committed,
        items=dict(Counter(rows.status.tolist())),
        quality=quality,
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True)
class _Rows:
    """The source's rows by item id, so that the catalog's order decides nothing.

    Attributes:
        ids: of the items that are not gone, sorted; ``n`` of them.
        status: ``[n]`` as a lookup gives it.
        contents: ``[n]`` what a vector was made from: content hash, and the rules by which it was read.
        ok: positions of the items that have a vector.
    """

    store: Store
    source: FeatureVersion
    ids: list[str]
    status: np.ndarray
    contents: np.ndarray
    ok: np.ndarray

    @classmethod
    def of(cls, store: Store, source: FeatureVersion) -> _Rows:
        ids = sorted(store.forgetting.without(store.present())["item_id"].to_pylist())
        status, contents = placed(store, source, ids)
        ok = np.flatnonzero(status == OK)
        if not len(ok):
            raise UsageError(f"No item has a vector in {source.version}.", hint="Extract it first.")
        return cls(store, source, ids, status, contents, ok)

    def vectors(self, at: np.ndarray) -> np.ndarray:
        """float ``[len(at), dims]`` of the items at these positions, all of which have one."""
        ids = [self.ids[i] for i in at]
        return self.store.lookup(ids, [self.source.version])[self.source.name].matrix


@dataclass(frozen=True)
class _Saved:
    """What an earlier version was made with.

    Attributes:
        is_other_version: whether the version is of the first format, which names its data: its codebooks
            are taken over by a version that names them.
    """

    version: FeatureVersion
    state: bytes
    quality: Quality
    is_other_version: bool


def _saved(store: Store, recipe: FeatureSpec, say: Callable[[str], None]) -> _Saved | None:
    """What was fitted by the same recipe: of the current version before that of newer ones."""
    alike = [v for v in store.versions(recipe.name) if _same_recipe(v.spec, recipe)]
    current = store.current().get(recipe.name)
    alike.sort(
        key=lambda v: (v.fingerprint == current, store.promotion.state_of(v) != ROLLED_BACK, v.created)
    )
    for version in reversed(alike):
        if (kept := store.codebooks(version.fingerprint)) is not None:
            quantization = version.spec.quantization
            assert quantization is not None, "codes have it"
            return _Saved(version, kept[0], Quality(**kept[1]), quantization.data_digest is not None)
    if alike:
        say(f"{recipe.name} is fitted anew: what {alike[-1].version} was made with went with forgotten items")
    return None


def _same_recipe(spec: FeatureSpec, recipe: FeatureSpec) -> bool:
    return spec.form == recipe.form and _recipe(spec) == _recipe(recipe)


def _recipe(spec: FeatureSpec) -> dict[str, Any]:
    """What decides what is fitted, but for the data."""
    quantization = spec.quantization
    body = spec.model_dump(mode="json", include={"inputs", "output", "method", "method_version"})
    return {**body, "quantization": quantization and quantization.model_copy(update={"data_digest": None})}


def _refuse_taken_name(store: Store, name: str) -> None:
    if others := [v for v in store.versions(name) if v.spec.form != "codes"]:
        raise UsageError(
            f"{name!r} is the name of a {others[0].spec.kind} feature.", hint="Choose another name."
        )


def _fit(recipe: FeatureSpec, vectors: np.ndarray) -> tuple[bytes, Quality]:
    """Fit a quantizer: its state as a safetensors file's bytes, and how good it is."""
    q = _quantization(recipe)
    quantizer = _quantizer(recipe).fit(vectors, levels=q.levels, codebook_size=q.codebook_size, seed=q.seed)
    quality = measure(quantizer, vectors, quantizer.encode(vectors))
    arrays = {key: np.ascontiguousarray(array) for key, array in quantizer.state().items()}
    state: bytes = _safetensors().save(arrays)
    return state, quality


def _keep(store: Store, recipe: FeatureSpec, state: bytes, quality: Quality) -> FeatureVersion:
    """Record the version that what was fitted makes."""
    digest = f"sha256:{hashlib.sha256(state).hexdigest()}"
    spec = recipe.model_copy(update={"weights": recipe.weights.model_copy(update={"digest": digest})})
    # The codebooks first: a version that is recorded can always be applied.
    store.put_codebooks(spec.fingerprint, state, asdict(quality))
    return store.add_version(spec)


def _commit_lacking(store: Store, version: FeatureVersion, rows: _Rows, state: bytes) -> dict[str, int]:
    """Commit, in one transaction, the rows that are not there or whose vector changed, by status."""
    had_status, had_contents = placed(store, version, rows.ids)
    changed = (rows.status == OK) & (rows.contents != had_contents)
    lacking = np.flatnonzero((rows.status != ABSENT) & ((rows.status != had_status) | changed))
    if not len(lacking):
        return {}
    ok = rows.status[lacking] == OK
    codes = np.zeros((len(lacking), version.spec.dims or 0), np.int32)
    if ok.any():
        codes[ok] = _codes(store, version, rows.vectors(lacking[ok]), state, {rows.ids[i] for i in lacking})
    table = _table(version.spec, rows, lacking, codes)
    store.commit(version, table, replace=bool((had_status[lacking] != ABSENT).any()))
    store.finish(version)
    return dict(Counter(rows.status[lacking].tolist()))


def _codes(
    store: Store, version: FeatureVersion, vectors: np.ndarray, state: bytes, replaced: set[str]
) -> np.ndarray:
    """int32 ``[n, levels]`` of vectors in the order of their ids: so colliding items are numbered by id.

    Args:
        replaced: ids whose committed codes say nothing any more.
    """
    quantizer = _quantizer(version.spec).from_state(_safetensors().load(state))
    codes = quantizer.encode(vectors)
    if not _quantization(version.spec).collision_level:
        return codes
    ledger = store.ledger(version)
    there = ledger["item_id"].filter(pc.equal(ledger["status"], OK)).to_pylist()
    kept = [item_id for item_id in there if item_id not in replaced]
    numbered = store.lookup(kept, [version.version])[version.name].matrix if kept else None
    return number_collisions(codes, numbered)


def _table(spec: FeatureSpec, rows: _Rows, lacking: np.ndarray, codes: np.ndarray) -> pa.Table:
    schema, n = rows_schema(spec), len(lacking)
    status = rows.status[lacking]
    ok = status == OK
    columns = {field.name: pa.nulls(n, field.type) for field in schema}
    columns |= {
        "item_id": pa.array([rows.ids[i] for i in lacking], pa.string()),
        "status": pa.array(status.tolist(), pa.string()),
        "stage": pa.array(["" if there else "upstream" for there in ok], pa.string()),
        "reason": pa.array(
            [f"{spec.source} {what} for this item" if what == FAILED else "" for what in status], pa.string()
        ),
        "content_hash": pa.array([content for content, _ in rows.contents[lacking]], pa.string()),
        "rules": pa.array([rule for _, rule in rows.contents[lacking]], pa.string()),
        "stamp": pa.array([""] * n, pa.string()),
        "codes": vector_array(codes, ok).cast(schema.field("codes").type),
        "created": pa.array([datetime.now(UTC)] * n, schema.field("created").type),
    }
    return pa.table(columns, schema=schema)


def _quantization(spec: FeatureSpec) -> Quantization:
    quantization = spec.quantization
    assert quantization is not None, "a codes feature has it"
    return quantization


def _quantizer(spec: FeatureSpec) -> type[Quantizer]:
    found = METHODS["quantizer"].get(spec.method)
    assert issubclass(found, Quantizer), f"{spec.method} is a quantizer"
    return found


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise MissingExtra("Quantizing", "quantize", "safetensors") from None
    return safetensors.numpy
