"""``status``, ``failures``, ``lookup``, ``search`` and the ``index`` that search can use."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.feature_store import MOST_HITS
from mmfeat.schemas.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from mmfeat.feature_store import FeatureStore
    from mmfeat.schemas.featureset import FeatureColumn

_SHOWN_VALUES = 4
_SHOWN_REASONS = 10

FeaturesOption = Annotated[
    list[str] | None,
    typer.Option(help="Features or versions, by comma or one by one; all current ones if left out."),
]


WhereOption = Annotated[
    str | None,
    typer.Option(help="Only items of which this is true: \"brand = 'Nike' and price < 20\", as in SQL."),
]


class Unknown(StrEnum):
    """What to do with an id that the store does not hold."""

    error = "error"
    mask = "mask"


def status(
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """What the store holds, per feature version, and what it lacks."""
    opened = api.open(store, snapshot)
    found = opened.status()
    if json:
        console.print_json(
            {
                "items": len(opened.ids),
                "gone": len(opened.gone),
                "datasets": opened.datasets,
                "features": [asdict(f) for f in found],
            }
        )
        return
    rows = [
        (
            f.version,
            f.state,
            f.kind,
            console.dims(f.dims, f.vectors),
            f.source,
            f.model,
            f.ok,
            f.missing,
            f.failed,
            f.absent,
        )
        for f in found
    ]
    numbers = ("ok", "missing", "failed", "absent")
    console.table(
        ("feature", "state", "kind", "dims", "reads", "model", *numbers),
        rows,
        right=("dims", *numbers),
    )
    for damaged in (f for f in found if f.problem):
        console.say(f"{damaged.version}: {damaged.problem} See `mmfeat doctor --store {store}`.")
    for stale in (f for f in found if f.current and f.stale):
        console.paragraph(f"{stale.version} is stale: {stale.stale}. Run its job again.")
    if any(f.kind == "tags" for f in found):
        console.say("kind 'tags': labels that a classifier saw, not captions by a multimodal LLM.")
    _print_items(opened, store)


def failures(
    features: FeaturesOption = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    limit: Annotated[
        int, typer.Option(min=1, max=console.MOST, help="At most this many items per feature.")
    ] = 20,
    json: console.Json = False,
) -> None:
    """Which items failed, at which stage and why, counted by reason first; and which texts are marked."""
    from mmfeat.schemas.reasons import counted

    opened = api.open(store)
    asked = console.names(features)
    versions = [f.version for f in opened.status() if f.current] if asked is None else asked
    found = {version: opened.failures(version).to_pylist() for version in versions}
    reasons = {version: counted(rows) for version, rows in found.items()}
    if json:
        summary = {version: [asdict(reason) for reason in some] for version, some in reasons.items()}
        marked = {version: opened.marked(version).to_pylist() for version in versions}
        console.print_json({**found, "summary": summary, "marked": marked})
        return
    for version, rows in found.items():
        if not rows:
            continue
        console.heading(f"{version}: {len(rows):,} failed")
        counts = [(r.items, r.stage, r.reason, r.first) for r in reasons[version][:_SHOWN_REASONS]]
        console.table(("items", "stage", "reason", "first item"), counts, right=("items",))
        if len(reasons[version]) > _SHOWN_REASONS:
            console.say(f"... and {len(reasons[version]) - _SHOWN_REASONS:,} more reasons: use --json.")
        console.say()
        shown = [(r["item_id"], r["stage"], r["reason"]) for r in rows[:limit]]
        console.table(("item", "stage", "reason"), shown)
        if len(rows) > limit:
            console.say(f"... and {len(rows) - limit:,} more: raise --limit, or use --json.")
    if not any(found.values()):
        console.say("Nothing failed.")
    for version in versions:
        marked = opened.marked(version).to_pylist()
        if marked:
            console.heading(f"{version}: {len(marked):,} ok, but marked")
            console.table(("item", "marked"), [(r["item_id"], r["reason"]) for r in marked[:limit]])


def lookup(
    ids: Annotated[list[str] | None, typer.Argument(help="Item ids.")] = None,
    features: FeaturesOption = None,
    fields: Annotated[
        list[str] | None, typer.Option(help="Columns of the catalog by comma to show too: texts and numbers.")
    ] = None,
    where: WhereOption = None,
    code: Annotated[
        str | None,
        typer.Option(help="Only items whose codes begin so: 3,17,2. --features says which codes are meant."),
    ] = None,
    unknown: Annotated[Unknown, typer.Option(help="What to do with unknown ids.")] = Unknown.error,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """Features and fields of items, in the order asked."""
    opened = api.open(store, snapshot)
    if code is not None:
        asked = _coded(opened, ids, where, code, console.names(features))
    else:
        asked = _asked(opened, ids, where)
    found = opened.lookup(asked, console.names(features), unknown=unknown.value)
    shown = None if fields is None else opened.fields(asked, console.names(fields), unknown.value)
    if json:
        from mmfeat.schemas.featureset.json import to_json

        further = {} if shown is None else {"fields": shown.drop_columns(["item_id"]).to_pydict()}
        console.print_json(to_json(found) | further)
        return
    if shown is not None:
        console.heading("fields")
        console.table(("item", *shown.column_names[1:]), _told(shown))
    for name in found:
        column = found[name]
        console.heading(f"{column.spec.version} ({column.spec.kind})")
        rows = [(i, column.status[k], _value(column, k)) for k, i in enumerate(found.ids)]
        console.table(("item", "status", "value"), rows)


def search(
    feature: Annotated[str, typer.Option(help="Vector feature or version to search.")],
    text: Annotated[str | None, typer.Option(help="Search by text.")] = None,
    image: Annotated[Path | None, typer.Option(help="Search by a picture.")] = None,
    item: Annotated[str | None, typer.Option(help="Search by an item's own vector.")] = None,
    where: WhereOption = None,
    k: Annotated[int, typer.Option("-k", min=1, max=MOST_HITS, help="How many to show.")] = 10,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector, even where there is an index.")
    ] = False,
    store: console.StoreUri = api.DEFAULT_STORE,
    snapshot: console.SnapshotName = None,
    json: console.Json = False,
) -> None:
    """The items whose vectors are nearest: by cosine, or by MaxSim where items have any number of vectors."""
    opened = api.open(store, snapshot)
    hits = opened.search(feature, text=text, image=image, item=item, k=k, exact=exact, where=where)
    index = None if exact else opened.vector_index(feature)
    items = opened.items
    titles = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
    if json:
        console.print_json(
            [{"item_id": h.item_id, "score": h.score, "title": titles.get(h.item_id)} for h in hits]
        )
    else:
        rows = [(h.item_id, f"{h.score:.4f}", titles.get(h.item_id) or "") for h in hits]
        score = "maxsim" if opened.spec(feature).form == "tokens" else "cosine"
        console.table(("item", score, "title"), rows, right=(score,))
    if index is not None:
        measure = f"; `mmfeat index {feature}` measures it" if index.recall is None else ""
        console.note(f"Searches of {feature} are {index}{measure}; --exact compares with every vector.")


def index(
    feature: Annotated[str, typer.Argument(help="Vector feature or version to index.")],
    target_recall: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the true ten nearest that a search is to find; 0.98 if left out."
        ),
    ] = None,
    store: console.StoreUri = api.DEFAULT_STORE,
    json: console.Json = False,
) -> None:
    """Index a feature's vectors for approximate search: worth it from some 100,000 items on."""
    opened = api.open(store)
    built = opened.build_index(feature, target_recall)
    version = opened.spec(feature).version
    if json:
        console.print_json({"version": version, **asdict(built)})
        return
    console.say(f"{version} is indexed; `mmfeat search` uses the index from now on.")
    console.say(f"Searches are {built}.")
    if built.missed is not None:
        console.say(f"That is less than {built.missed}: no setting of the index finds more of these vectors.")


def _asked(opened: FeatureStore, ids: list[str] | None, where: str | None) -> list[str]:
    """The ids that are named, or of which the condition is true."""
    if (ids is None) == (where is None):
        raise UsageError(
            "A lookup is of ids, or of the items that a condition or a code names.",
            hint='Give ids, or --where "price < 20", or --code 3,17,2.',
        )
    return ids if ids is not None else opened.ids_where(str(where))


def _coded(
    opened: FeatureStore, ids: list[str] | None, where: str | None, code: str, features: list[str] | None
) -> list[str]:
    """The ids of the items whose codes begin with those that are named."""
    if ids is not None or where is not None:
        raise UsageError("A lookup is of ids, of a condition or of a code, and not of two of them.")
    numbers = code.replace("-", ",").split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise UsageError(f"{code!r} is no code.", hint="Write its numbers by comma: 3,17,2.")
    names = [f.version for f in opened.status() if f.current] if features is None else features
    coded = [name for name in names if opened.spec(name).form == "codes"]
    if len(coded) != 1:
        raise UsageError(
            "A code is looked up in one feature of codes, and "
            + (f"there are {', '.join(coded)}." if coded else "there is none."),
            hint="Name one: --features codes. `mmfeat status` lists them.",
        )
    return opened.ids_of_code(coded[0], [int(number) for number in numbers])


def _told(fields: pa.Table) -> list[list[str]]:
    """The rows of a table of fields as texts, empty if an item has none."""
    from mmfeat.schemas.catalog import columns_of, texts_of
    from mmfeat.schemas.templates import plain

    kinds = columns_of(fields.schema)
    texts = [fields["item_id"], *(texts_of(fields[name], kinds[name]) for name in fields.column_names[1:])]
    columns = [column.fill_null("").to_pylist() for column in texts]
    return [[plain(cell) for cell in row] for row in zip(*columns, strict=True)]


def _print_items(opened: FeatureStore, store: str) -> None:
    gone, datasets = len(opened.gone), opened.datasets
    console.say(f"{len(opened.ids):,} items in the catalog of {store}.")
    if len(datasets) > 1:
        named = (f"{one.get('name')} ({one.get('root')})" for one in datasets)
        console.say(f"They are of the datasets {', '.join(named)}.")
    if gone:
        console.say(
            f"{gone:,} more are gone from their dataset: they are not counted here and left out of exports. "
            "`mmfeat prune` removes their rows."
        )


def _value(column: FeatureColumn, row: int) -> str:
    if not column.mask[row]:
        return str(column.reason[row] or "")
    if column.spec.form == "text":
        marked = f" [{column.reason[row]}]" if column.reason[row] else ""
        return f"{column.texts[row]}{marked}"
    if column.spec.form == "codes":
        return str(column.matrix[row].tolist())
    own = column.tokens[row] if column.spec.form == "tokens" else column.matrix[row]
    assert own is not None, "the mask says that there is a value"
    numbers = ", ".join(f"{v:.4f}" for v in own.flat[:_SHOWN_VALUES].astype(float))
    shape = console.dims(column.spec.dims, len(own) if own.ndim > 1 else None)
    return f"[{numbers}, ...] {shape} {column.spec.store_dtype}"
