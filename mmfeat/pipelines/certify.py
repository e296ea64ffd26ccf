"""Whether an engine may write a version: its vectors of a person's own items beside those that are stored.

Two engines of one model give the same vectors only as far as both are right, and tests on other people's data
do not tell. So a sample of the version's items is encoded again by each engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.agreement import cosines, difference, outcomes, value_problem
from mmfeat.extract.base import Method, Placement, Row
from mmfeat.extract.encoders.openai import OpenAIEncoder, on_server
from mmfeat.extract.registry import class_of, load_method
from mmfeat.pipelines.execution.batch import Batch, NotThere
from mmfeat.pipelines.execution.stages import Decode
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.schemas.errors import ItemError, MissingExtra, NotAsked, UsageError
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending, ServerConfig, plain_address
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

#: The cosine to the stored vector that every item must have for an engine to write the version; lengths may
#: differ by no more than such a turn would move a vector.
BAR = 0.999
#: Neighbours that are compared.
NEIGHBOURS = 10

#: Engines by name, and what each is.
ENGINES = {
    "torch": "torch on the CPU",
    "cuda": "torch on a GPU",
    "openvino": "the network converted to OpenVINO, on the CPU",
}
_KNOWN = f"There are: {', '.join(ENGINES)}; and servers, as http://HOST/v1."
# More than any number of items from which converting a network pays.
_MANY = 1 << 40
# Items decoded at a time.
_BLOCK = 16


@dataclass(frozen=True)
class Verdict:
    """What came of one engine.

    Attributes:
        runtime: what computed, with its version; None if it cannot compute the feature, and of a server,
            which does not tell.
        items: that were compared.
        least, mean: cosine to the stored vectors; None if none was compared.
        kept: share of each item's nearest others among the sample that stay, the mean over items.
        problem: why it may not write the version; None if it may. Lengths count as well as cosines.
    """

    engine: str
    runtime: str | None
    items: int
    least: float | None
    mean: float | None
    kept: float | None
    problem: str | None

    @property
    def passed(self) -> bool:
        """Whether it may write the version."""
        return self.problem is None


@dataclass(frozen=True)
class Certificate:
    """What came of all engines.

    Attributes:
        version: the feature's, ``name@fingerprint``.
        sample: items whose vectors were compared.
        changed: items of the sample left out, since they hold other content than their rows were made of, or
            can be read no more.
        bar, neighbours: :data:`BAR` and :data:`NEIGHBOURS`.
    """

    version: str
    sample: int
    changed: int
    bar: float
    neighbours: int
    engines: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether all engines may write the version."""
        return all(one.passed for one in self.engines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        engines = [{**asdict(one), "passed": one.passed} for one in self.engines]
        return {**asdict(self), "engines": engines, "passed": self.passed}


def certify(store: Store, feature: str, engines: Sequence[str], sample: int) -> Certificate:
    """Compare what engines give for a sample of a version's items with what is stored.

    Args:
        feature: a name or ``name@prefix``.
        engines: of :data:`ENGINES`, or addresses of servers.
        sample: most items.

    Raises:
        UsageError: the feature has no vectors that such an engine can compute, or there is no such engine.
        MissingExtra: an engine is not installed.
        UnknownFeature: there is no such feature.
        ServerUnavailable, ServerRefused: a server answers nobody.
    """
    version = store.resolve(feature)
    for engine in engines:
        _check_engine(engine)
    _check_feature(version.spec, engines)
    vectors, rows, changed = _sample(store, version, sample)
    if len(vectors) < 2:
        raise UsageError(
            f"{version.version} has {len(vectors)} items to compare; {changed} more hold other content now.",
            hint="Extract it first, or bring it up to date.",
        )
    verdicts = tuple(_verdict(version.spec, engine, vectors, rows) for engine in engines)
    return Certificate(version.version, len(vectors), changed, BAR, NEIGHBOURS, verdicts)


def _check_feature(spec: FeatureSpec, engines: Sequence[str]) -> None:
    if spec.form != "vector":
        raise UsageError(
            f"{spec.version} holds {spec.kind}; certificates are of vectors.",
            hint="Certify a feature that an encoder makes, one vector or a fixed number for each item.",
        )
    runs, addresses = class_of(spec).runs, [one for one in engines if _is_address(one)]
    if addresses and on_server(spec) is None:
        raise UsageError(
            f"{spec.version} is of {spec.method!r}, which a server is not asked for in its place.",
            hint="Servers are asked for what encoder 'openai' made, and for one text of "
            "'sentence_transformers'. Else extract the same model by 'openai' under another name.",
        )
    if runs != "here" and not (runs == "server" and len(addresses) == len(engines)):
        raise UsageError(
            f"{spec.version} is computed by {'a server' if runs == 'server' else 'an engine of its own'}: no "
            "engine in this process can take its place.",
            hint="Give servers' addresses as engines, or extract the same model by torch as another feature.",
        )


def _is_address(engine: str) -> bool:
    return engine.startswith(("http://", "https://"))


def _check_engine(name: str) -> None:
    if _is_address(name):
        try:
            plain_address(name)
        except ValueError as error:
            raise UsageError(f"The engine {name!r} is no server: {error}.", hint=_KNOWN) from None
        return
    if name not in ENGINES:
        raise UsageError(f"There is no engine {name!r} for encoders in this process.", hint=_KNOWN)
    if name == "openvino" and find_spec("openvino") is None:
        raise MissingExtra("A certificate for OpenVINO", "openvino", "openvino")
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("torch finds no GPU here.", hint="Certify it where there is one.")


def _sample(store: Store, version: FeatureVersion, most: int) -> tuple[np.ndarray, list[Row], int]:
    """Stored vectors ``[n, ..., dims]``, what each was made of, and how many items are left out.

    The same items every time, as long as the version has the same ones.
    """
    ids = sorted(_ids(store, version))
    chosen = sorted(np.random.default_rng(0).permutation(len(ids))[:most].tolist())
    picked = [ids[at] for at in chosen]
    stored = store.full_rows(version, picked)
    hashes = dict(zip(picked, stored["content_hash"].to_pylist(), strict=True))
    values = np.array(stored["vector"].to_pylist(), np.float32).reshape(len(picked), *version.spec.shape)
    place = {item: at for at, item in enumerate(picked)}
    found = {place[i]: row for i, row, made_of in _rows(store, version, picked) if made_of == hashes[i]}
    kept = sorted(found)
    return values[kept], [found[at] for at in kept], len(picked) - len(kept)


def _ids(store: Store, version: FeatureVersion) -> Iterator[str]:
    """Items that are not gone and have a vector."""
    there = store.present_ids()
    for batch in store.ledger_batches(version, ["item_id", "status"]):
        ok = batch.filter(pc.and_(pc.equal(batch["status"], OK), pc.is_in(batch["item_id"], there)))
        yield from ok["item_id"].to_pylist()


def _rows(store: Store, version: FeatureVersion, ids: Sequence[str]) -> Iterator[tuple[str, Row, str | None]]:
    """Per item that can be read: its id, what the method is given, and the hash of that content."""
    catalog = store.catalog()
    items = catalog.filter(pc.is_in(catalog["item_id"], pa.array(ids, pa.string())))
    versions = _with_upstreams(store, version)
    specs, number = [one.spec for one in versions], len(versions) - 1
    limits = MediaLimits().with_buckets(store.media_buckets())
    plan = Planner(
        Contents(items),
        specs,
        [partial(_ledger, store, version, one, items) for one in versions],
        store.stamps(),
        limits=limits,
    ).plan()
    alike: dict[int, list[str]] = {}
    for row in plan.duplicates.to_pylist():
        alike.setdefault(row["work"], []).append(row["item_id"])
    decode = Decode(specs, limits, fenced=True)
    for start in range(0, len(plan.work), _BLOCK):
        block = plan.work.slice(start, _BLOCK)
        batch = Batch(decode(block), specs)
        for at in batch.wanting(number):
            try:
                row, made_of = batch.inputs(at, specs[number])
            except (ItemError, NotThere):
                continue
            for item in (block["item_id"][at].as_py(), *alike.get(block["work"][at].as_py(), ())):
                yield item, row, made_of


def _with_upstreams(store: Store, version: FeatureVersion) -> list[FeatureVersion]:
    """A version after those that it reads."""
    known = {one.fingerprint: one for one in store.versions()}
    found: dict[str, FeatureVersion] = {}

    def add(one: FeatureVersion) -> None:
        for fingerprint in one.spec.upstreams.values():
            add(known[fingerprint])
        found.setdefault(one.fingerprint, one)

    add(version)
    return list(found.values())


def _ledger(
    store: Store, version: FeatureVersion, one: FeatureVersion, items: pa.Table, columns: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """What a plan is to know of a version's rows: of the one that is encoded again nothing."""
    if one is version:
        return
    for batch in store.ledger_batches(one, columns):
        yield batch.filter(pc.is_in(batch["item_id"], items["item_id"].combine_chunks()))


def _verdict(spec: FeatureSpec, engine: str, vectors: np.ndarray, rows: Sequence[Row]) -> Verdict:
    if _is_address(engine):
        asked = on_server(spec)
        assert asked is not None, "checked before"
        sending = Sending(server=ServerConfig(base_url=engine))
        return _compared(engine, OpenAIEncoder(asked, Placement(sending=sending)), vectors, rows)
    device = "cuda" if engine == "cuda" else "cpu"
    method = load_method(spec, Placement(device, expected=_MANY if engine == "openvino" else None))
    if engine == "openvino" and not (method.runtime or "").startswith("openvino"):
        why = "; ".join(method.notes) or f"{spec.method} has no network for OpenVINO"
        return Verdict(engine, None, 0, None, None, None, f"it cannot compute this feature: {why}")
    return _compared(engine, method, vectors, rows)


def _compared(engine: str, method: Method, vectors: np.ndarray, rows: Sequence[Row]) -> Verdict:
    size, spec = method.batch_size, method.spec
    found = [one for at in range(0, len(rows), size) for one in outcomes(method, rows[at : at + size])]
    if (lost := next((one for one in found if isinstance(one, NotAsked)), None)) is not None:
        raise lost.why
    problems = {at: why for at, one in enumerate(found) if (why := value_problem(spec, one))}
    good = [at for at in range(len(found)) if at not in problems]
    failing = f"{len(problems):,} items: {next(iter(problems.values()))}" if problems else None
    if not good:
        return Verdict(engine, method.runtime, 0, None, None, None, failing)
    theirs, ours = np.stack([found[at] for at in good]), vectors[good]
    each = cosines(theirs, ours).reshape(len(good), -1).min(axis=1)
    compared = (difference(spec, *both, BAR) for both in zip(theirs, ours, strict=True))
    others = [what for what in compared if what]
    below = f"{len(others):,} items differ, one by {others[0]}" if others else None
    kept = neighbours_kept(ours.reshape(len(good), -1), theirs.reshape(len(good), -1))
    least, mean = float(each.min()), float(each.mean())
    return Verdict(engine, method.runtime, len(good), least, mean, kept, failing or below)


def neighbours_kept(vectors: np.ndarray, others: np.ndarray) -> float:
    """The share of an item's nearest others that are the same in two arrays ``[n, dims]`` of the same items.

    By cosine, :data:`NEIGHBOURS` of them or all that there are; the mean over items.
    """
    k = min(NEIGHBOURS, len(vectors) - 1)
    if k < 1:
        return 1.0
    shared = [
        len({*one} & {*other}) for one, other in zip(_nearest(vectors, k), _nearest(others, k), strict=True)
    ]
    return float(np.mean(shared) / k)


def _nearest(vectors: np.ndarray, k: int) -> list[list[int]]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    nearest: list[list[int]] = np.argsort(-alike, axis=1, kind="stable")[:, :k].tolist()
    return nearest
