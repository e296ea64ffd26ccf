"""The echo check: every item's vector says whose it is, so a reader can tell when rows moved.

A format is added by one entry in ``export_readers.READERS``. Inputs, the damage and the comparison
are made here from what the exporter declares.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from helpers.export_readers import HELD
from helpers.interaction_rows import interactions_of
from mmfeat.export import ExportInput, Request, export, get
from mmfeat.export.base import Exporter, Kind, Role
from mmfeat.export.prepare import prepare
from mmfeat.schemas.codes import NO_CODE
from mmfeat.schemas.featureset import MISSING, OK, FeatureColumn, FeatureSet
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import TokensOut
from mmfeat.schemas.spec import FeatureSpec, Weights

# Options without which a format has no use for a sample this small.
OPTIONS = {"dgvae": {"min_df": 1, "max_df": 1.0}, "hm4sr": {"categories": "title"}}

SOURCES = {"image": "cover", "audio": "audio", "text": "title"}
# Of tokens, the shape of one vector.
SHAPES: dict[Kind, tuple[int, ...]] = {
    "vector": (8,), "vectors": (3, 8), "tokens": (8,), "codes": (4,), "text": ()
}  # fmt: skip


def shape_of(kind: Kind, dims: int | None = None) -> tuple[int, ...]:
    """Of one item's value; ``dims`` where the target fixes them."""
    return (*SHAPES[kind][:-1], dims) if dims else SHAPES[kind]


def dims_of(role: Role) -> int | None:
    return role.dims[0] if role.dims else None


def value(item_id: str, kind: Kind, salt: str = "", dims: int | None = None) -> np.ndarray | str:
    """An item's own value of a kind, drawn from its id: numbers 1..256, exact in float16 and float32, or
    codes 0..31."""
    if kind == "text":
        return f"{salt} of {item_id}"
    shape = shape_of(kind, dims)
    seed = hashlib.shake_256(f"{salt}/{item_id}".encode("utf-8", "surrogatepass"))
    if kind == "tokens":
        shape = (1 + seed.digest(1)[0] % 3, *shape)
    numbers = np.frombuffer(seed.digest(int(np.prod(shape))), np.uint8).reshape(shape)
    return numbers.astype(np.int32) % 32 if kind == "codes" else numbers.astype(np.float32) + 1


def spec(
    name: str,
    kind: Kind = "vector",
    source: str = "cover",
    model: str = "Some/Model-B",
    dims: int | None = None,
) -> FeatureSpec:
    text = {"output": "text", "text_kind": "caption"}
    vector = {
        "output": "vector",
        "dims": shape_of(kind, dims)[-1] if SHAPES[kind] else None,
        "store_dtype": "float32",
    }
    made = {"levels": 4, "codebook_size": 32, "seed": 0, "collision_level": False, "data_digest": "sha256:0"}
    codes = {"output": "codes", "dims": 4, "quantization": made}
    tokens = {
        "output": TokensOut(dims=8, dtype="float32"),
        "inputs": (Input(source=source, modality="image"),),
    }
    place = {} if kind == "tokens" else {"source": source}
    return FeatureSpec(
        name=name,
        method="some",
        model=model,
        weights=Weights(origin="package", ref="x"),
        **place,
        **{"text": text, "codes": codes, "tokens": tokens}.get(kind, vector),
    )


def column(ids, name, kind: Kind = "vector", source="cover", mask=None, dims=None) -> FeatureColumn:
    mask = np.ones(len(ids), bool) if mask is None else np.asarray(mask, bool)
    own = [value(i, kind, name, dims) if ok else None for i, ok in zip(ids, mask, strict=True)]
    values = own
    if kind not in ("text", "tokens"):
        dtype = np.int32 if kind == "codes" else np.float32
        values = np.full((len(ids), *shape_of(kind, dims)), NO_CODE if kind == "codes" else np.nan, dtype)
        for k, row in enumerate(own):
            if row is not None:
                values[k] = row
    status = np.where(mask, OK, MISSING).astype(object)
    made = spec(name, kind, source, dims=dims)
    return FeatureColumn(made, values, mask, status, np.full(len(ids), "", object))


def roles_of(exporter: Exporter) -> list[Role]:
    """The format's roles; for a format without, one feature of every kind that it holds."""
    return list(exporter.roles) or [Role(f"the_{kind}", kind) for kind in exporter.kinds]


def make_input(format: str, ids, mask=None, interactions="every") -> ExportInput:
    """What ``format`` needs: a feature per role, and interactions that reach every item."""
    exporter = get(format)
    columns = {
        role.name: column(ids, role.name, role.kind, SOURCES[role.media[0]], mask, dims_of(role))
        for role in roles_of(exporter)
    }
    items = pa.table({"item_id": pa.array(ids, pa.string()), "title": [f"Title of {i}" for i in ids]})
    table = make_interactions(ids) if interactions == "every" else interactions
    return ExportInput(FeatureSet(list(ids), columns), items, table, dataset="sample")


def make_interactions(ids, users: int = 4) -> pa.Table:
    """Every user meets every item, at times that have nothing to do with the order of items."""
    order = np.random.default_rng(3).permutation(len(ids))
    rows = [
        (f"user {u}", ids[k], 1_700_000_000_000 + 1000 * (u + 10 * t))
        for u in range(users)
        for t, k in enumerate(order)
    ]
    return interactions_of(rows)


def every_role(format: str) -> dict[str, str] | None:
    """All roles filled, the optional ones too."""
    exporter = get(format)
    return {role.name: role.name for role in exporter.roles} or None


def expected(format: str, ids) -> dict[str, dict[str, np.ndarray | str]]:
    """What every item should find: its own value, as the target holds it."""
    held = HELD.get(format, lambda own: own)
    return {
        r.name: {i: held(value(i, r.kind, r.name, dims_of(r))) for i in ids} for r in roles_of(get(format))
    }


def assert_echo(found, wanted) -> None:
    """Every raw item finds its own value, no other item is there, and nothing was lost."""
    assert set(found) == set(wanted)
    for role, values in wanted.items():
        assert set(found[role]) == set(values), role
        for item_id, own in values.items():
            np.testing.assert_array_equal(found[role][item_id], own, err_msg=f"{role} of {item_id!r}")


def export_with_moved_rows(data: ExportInput, format: str, out: Path, move, options=None) -> None:
    """An export whose values went to other items, as a defect in an exporter would send them.

    Args:
        move: takes the values' row numbers and returns them in another order.
        options: the format's own; those of ``OPTIONS`` when None.
    """
    options = OPTIONS.get(format, {}) if options is None else options
    request = Request(format, out, features=every_role(format), options=options)
    export(data, request)
    prepared = prepare(data, get(format), request)
    moved = {
        role: replace(rows, index=move(rows.index), present=move(rows.present))
        for role, rows in prepared.content.features.items()
    }
    with TemporaryDirectory() as scratch:
        get(format).write(Path(scratch), replace(prepared.content, features=moved))
        shutil.copytree(scratch, out, dirs_exist_ok=True)


def shifted(rows: np.ndarray) -> np.ndarray:
    return np.roll(rows, 1)


def swapped(rows: np.ndarray) -> np.ndarray:
    rows = rows.copy()
    rows[[2, 5]] = rows[[5, 2]]
    return rows
