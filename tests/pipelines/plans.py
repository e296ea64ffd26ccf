"""Features, catalogs and ledgers of plans under test, and what a plan says in short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.media.read import read_media
from mmfeat.pipelines.planning.columns import Ledger
from mmfeat.pipelines.planning.contents import BETWEEN_STAMPS, Contents, joint_hash
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.pipelines.planning.planner import Planner
from mmfeat.pipelines.planning.rules import rules_of
from mmfeat.pipelines.planning.work import payload_of
from mmfeat.schemas.catalog import STAMPS_SCHEMA, Column, catalog_schema, columns_of, readable
from mmfeat.schemas.inputs import (
    AudioPrepare,
    FrameSampling,
    ImagePrepare,
    Input,
    PixelView,
    Prepare,
    VideoPrepare,
)
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash

LEDGER = pa.schema(
    [(n, pa.string()) for n in ("item_id", "status", "stage", "content_hash", "stamp", "rules", "text")]
)
#: The columns of the catalogs, beside the usual ones.
COLUMNS = (Column("brand", "text"), Column("photos", "image", several=True), Column("clips", "video", True))
SCHEMA = catalog_schema(COLUMNS)
LIMITS = MediaLimits()
#: In the place of a file that an item may lack and lacks.
NO_FILE = Path("no file")
_ABSENT = "0" * 64

_VIEW = PixelView(mode="squash", height=8, width=8)
_PREPARE: dict[str, Prepare | None] = {
    "text": None,
    "image": ImagePrepare(view=_VIEW),
    "video": VideoPrepare(view=_VIEW, sampling=FrameSampling(count=2)),
    "audio": AudioPrepare(sample_rate=16_000),
}


def feature(
    name: str, *sources: str, gives: str = "vector", prompt: Iterable[str] = (), size: int = 8
) -> FeatureSpec:
    """A feature that reads columns, tracks and features; a question mark says what an item may lack.

    Args:
        gives: ``vector`` or ``text``.
        prompt: texts that are read because a prompt names them.
        size: pixels of a side of what it sees.
    """
    named = tuple(prompt)
    inputs = [*(_input(one, False, size) for one in sources), *(_input(one, True, size) for one in named)]
    return FeatureSpec(
        name=name,
        inputs=tuple(inputs),
        output=VectorOut(dims=2) if gives == "vector" else TextOut(role="caption"),
        method="m",
        model="m",
        weights=Weights(origin="random", ref="seed=0"),
    )


def _input(source: str, named: bool, size: int) -> Input:
    name, optional = source.removesuffix("?"), source.endswith("?")
    columns = readable(columns_of(SCHEMA))
    if name not in columns:
        # Another feature's text; what its fingerprint is decides nothing here.
        return Input(source=name, modality="text", named=named, optional=optional, upstream=_ABSENT)
    column = columns[name]
    prepare = _PREPARE[column.modality]
    if size != 8 and prepare is not None and hasattr(prepare, "view"):
        view = PixelView(mode="squash", height=size, width=size)
        prepare = prepare.model_copy(update={"view": view})
    return Input(
        source=name,
        modality=column.modality,
        prepare=prepare,
        named=named,
        optional=optional,
    )


def catalog(rows: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{n: row.get(n) for n in SCHEMA.names} for row in rows], SCHEMA)


def ledger(rows: Sequence[dict[str, str | None]] = ()) -> pa.Table:
    return pa.Table.from_pylist([{n: row.get(n) for n in LEDGER.names} for row in rows], LEDGER)


def plan(
    items: pa.Table,
    specs: Sequence[FeatureSpec],
    ledgers: Sequence[pa.Table],
    stamps: Sequence[dict[str, str]] = (),
    **options: Any,
) -> Plan:
    memo = pa.Table.from_pylist(list(stamps), STAMPS_SCHEMA)
    committed = [rows_of(by_rules_of_now(rows, spec)) for rows, spec in zip(ledgers, specs, strict=True)]
    return Planner(Contents(items), specs, committed, memo, limits=LIMITS, **options).plan()


def by_rules_of_now(rows: pa.Table, spec: FeatureSpec) -> pa.Table:
    """Rows of a feature, those that say nothing of rules as read by the ones of now."""
    now = rules_of(spec)
    if now is None:
        return rows
    at = rows.schema.names.index("rules")
    return rows.set_column(at, "rules", pc.fill_null(rows["rules"], now))


def rows_of(table: pa.Table) -> Ledger:
    return lambda columns: table.select(columns).to_batches()


def row_of(item_id: str, *read: Path | str | None, status: str = "ok", **more: str) -> dict[str, str | None]:
    """A committed row that was made from these files and texts.

    Args:
        read: in the order of the inputs. None stands for a text that the item may lack and lacked,
            ``NO_FILE`` for such a file; a file that is there twice is read in two ways.
    """
    parts = [
        _ABSENT if one in (None, NO_FILE) else text_hash(one) if isinstance(one, str) else _media(one)[0]
        for one in read
    ]
    files = dict.fromkeys(one for one in read if isinstance(one, Path))
    stamps = ["" if one == NO_FILE else _media(one)[1] for one in files]
    return {
        "item_id": item_id,
        "status": status,
        "content_hash": joint_hash(*parts) if parts else None,
        "stamp": BETWEEN_STAMPS.join(stamps),
        **more,
    }


def _media(path: Path) -> tuple[str, str]:
    media = read_media(str(path), 1 << 20)
    return media.content_hash, media.stamp


def work_of(made: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """Each work item: whose it is, and which features it computes."""
    return sorted((row["item_id"], tuple(row["features"])) for row in made.work.to_pylist())


def duplicates_of(made: Plan) -> list[tuple[str, tuple[int, ...]]]:
    """Each item with a work item's content, and the features that it gets copies of."""
    found: dict[tuple[str, int], list[int]] = {}
    for row in made.duplicates.to_pylist():
        found.setdefault((row["item_id"], row["work"]), []).extend(row["features"])
    return sorted((item_id, tuple(sorted(features))) for (item_id, _), features in found.items())


def payloads(made: Plan, name: str) -> dict[str, str]:
    """What work items read of a column or a feature, by item."""
    rows = zip(made.work["item_id"].to_pylist(), payload_of(made.work, name).to_pylist(), strict=True)
    return {item_id: value for item_id, value in rows if value is not None}
