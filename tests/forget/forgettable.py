"""A small store in which one item, ``ID``, left traces everywhere, and the search for what is left of it."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows, text_spec, vector_spec

from mmfeat.schemas.catalog import CATALOG_SCHEMA, STAMPS_SCHEMA
from mmfeat.schemas.spec import FeatureSpec, Quantization, Weights
from mmfeat.store import Store, rows_schema

ID = "the-item"
IDS = [*(f"item-{n:03d}" for n in range(20)), ID, *(f"item-{n:03d}" for n in range(20, 40))]
KEPT = [n for n, item_id in enumerate(IDS) if item_id != ID]
OTHERS = [item_id for item_id in IDS if item_id != ID]
URL = "http://example.org/the-item.jpg"
FIRST_CAPTION, CAPTION = "a heliotrope zeppelin", "a vermilion astrolabe"
TITLE = "Grandfather's barometer"
VECTORS = np.random.default_rng(0).standard_normal((len(IDS), 16)).astype("float32")
FIRST_VECTORS = VECTORS[:, ::-1].copy()

VECTOR, TEXT = vector_spec("clip", dims=16, dtype="float32"), text_spec()


def codes_spec() -> FeatureSpec:
    return FeatureSpec(
        name="clip_codes",
        source="clip",
        output="codes",
        method="residual_kmeans",
        model="1x4",
        weights=Weights(origin="fitted", ref="seed=0"),
        dims=1,
        upstream=VECTOR.fingerprint,
        quantization=Quantization(levels=1, codebook_size=4, seed=0, collision_level=False, data_digest="0"),
    )


def make_store(folder: Path) -> Store:
    """The store, not leased: ``ID`` and its neighbours were written, pinned, written again and pinned."""
    store = Store.open(str(folder), create=True)
    with store.lease("test"):
        covers = [URL if item_id == ID else f"/media/{item_id}.jpg" for item_id in IDS]
        titles = [TITLE if item_id == ID else f"title of {item_id}" for item_id in IDS]
        columns = {"item_id": IDS, "title": titles, "cover": covers}
        nulls = {name: [None] * len(IDS) for name in CATALOG_SCHEMA.names if name not in columns}
        store.put_catalog(pa.table(columns | nulls, schema=CATALOG_SCHEMA), {"name": "test"})
        store.put_interactions(interactions_of(("u", item_id, at) for at, item_id in enumerate(IDS)))
        stamp = {"item_id": [ID], "source": ["cover"], "stamp": ["s"], "content_hash": ["h" * 64]}
        store.put_stamps(pa.table(stamp, schema=STAMPS_SCHEMA))
        write(store, FIRST_VECTORS, FIRST_CAPTION)
        codes = store.add_version(codes_spec())
        store.commit(codes, codes_rows(), replace=False)
        store.put_codebooks(codes.fingerprint, VECTORS[IDS.index(ID)].tobytes(), {"error": 0.0})
        store.create_snapshot("first")
        write(store, VECTORS, CAPTION)
        store.create_snapshot("second")
        store.build_vector_index(store.resolve("clip"))
        # Outdated rows in files that are still in use, and a version that nothing pins.
        part = make_rows(TEXT, [ID], [CAPTION])
        store.commit(store.resolve("caption"), part, replace=True)
    (folder / "_requests" / "abc").mkdir(parents=True)
    (folder / "_requests" / "abc" / "1.json").write_text(CAPTION)
    return store


def write(store: Store, vectors: np.ndarray, caption: str) -> None:
    for spec, values in ((VECTOR, vectors.tolist()), (TEXT, captions(caption))):
        version = store.add_version(spec)
        half = len(IDS) // 2
        for part in (slice(0, half), slice(half, None)):
            store.commit(version, make_rows(spec, IDS[part], values[part]), replace=True)
        store.finish(version)


def captions(caption: str) -> list[str]:
    return [caption if item_id == ID else f"{caption[2:5]} {item_id}" for item_id in IDS]


def codes_rows() -> pa.Table:
    spec = codes_spec()
    rows = make_rows(TEXT, IDS, ["x"] * len(IDS)).drop_columns(["text", "facts"]).to_pylist()
    for number, row in enumerate(rows):
        row.update(facts=None, codes=[number % 4])
    return pa.Table.from_pylist(rows, schema=rows_schema(spec))


def traces(folder: Path) -> dict[str, list[str]]:
    """What names or shows the item, to the files under ``folder`` whose bytes hold it."""
    at = IDS.index(ID)
    wanted = {
        "caption": CAPTION.encode(),
        "first caption": FIRST_CAPTION.encode(),
        "title": TITLE.encode(),
        "url": URL.encode(),
        "vector": VECTORS[at].tobytes(),
        "first vector": FIRST_VECTORS[at].tobytes(),
    }
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = {
        what: [str(path.relative_to(folder)) for path, data in files.items() if trace in data]
        for what, trace in wanted.items()
    }
    return {what: paths for what, paths in found.items() if paths}


def ids_in_every_version(folder: Path) -> set[str]:
    """Item ids in any version, of any branch, that can still be read of any table."""
    found: set[str] = set()
    for path in folder.glob("*.lance"):
        table = lance.dataset(str(path))
        if path.stem == "_forgotten" or "item_id" not in table.schema.names:
            continue
        for branch in (None, *table.branches.list()):
            for version in table.checkout_version((branch, None)).versions():
                try:
                    rows = table.checkout_version((branch, version["version"])).to_table(columns=["item_id"])
                except (OSError, ValueError) as error:
                    # A branch's origin: Lance keeps its manifest and removes the files it alone needed.
                    assert "not found" in str(error).lower(), error
                    continue
                found.update(rows["item_id"].to_pylist())
    return found
