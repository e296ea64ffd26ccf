"""A shop's own data, from a table to the file of every recommender: each format exports it and verifies, or
refuses it and says what to do."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import unrayed
from helpers.plugins import on_path
from helpers.worlds import CLIP
from PIL import Image

import mmfeat
from mmfeat.export import verify
from mmfeat.export.base import Exporter
from mmfeat.export.registry import get, names
from mmfeat.export.request import Shaping
from mmfeat.schemas.errors import UsageError

N = 200
IDS = ["007", "1e5", "ü/1", *(f"sku-{n}" for n in range(N - 3))]
UNTITLED, UNPICTURED = IDS[10:15], IDS[20:25]
MINILM = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
FEATURES = {
    "words": {"text": "{title}{brand?: by {}}. {tags?}", **MINILM},
    "photo": {**CLIP, "source": "photos", "pictures": "mean"},
    "caption": {"source": "description", "captioner": "digest"},
    "layers": {"source": "title", "hidden_states": True, "pooling": "mean", **MINILM},
    "codes": {
        "source": "words",
        "quantizer": "residual_kmeans",
        "levels": 3,
        "codebook_size": 16,
        "collision_level": True,
    },
}
#: Formats that this shop cannot fill, and what stands in the way.
REFUSED = {
    "hm4sr": "768",
    "mmgrec": "128",
    "tencentgr": "integer",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """The shop's folder with its store: 200 items, three photos each, five fields, 6,000 interactions."""
    folder = tmp_path_factory.mktemp("shop")
    chance = random.Random(4)
    (folder / "photos").mkdir()
    rows = []
    for n, item_id in enumerate(IDS):
        row: dict[str, Any] = {
            "item_id": item_id,
            "title": None if item_id in UNTITLED else f"Product {n} of kind {n % 17}",
            "description": f"What product {n} is for",
            "brand": chance.choice(["Acme", "Zenith", None]),
            "tags": chance.sample(["red", "blue", "large", "small"], 2),
            "categories": ["Shop", f"kind {n % 17}"],
            "price": round(chance.uniform(1, 90), 2),
            "author": f"maker {n % 9}",
        }
        if item_id not in UNPICTURED:
            row["photos"] = [f"photos/{n}-{k}.png" for k in range(3)]
            for k, place in enumerate(row["photos"]):
                colour = (n, 80 * k, chance.randrange(256))
                Image.new("RGB", (24, 24), colour).save(folder / place)
        rows.append(row)
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_clicks(folder / "clicks.parquet", chance)
    with on_path(unrayed.PLUGIN):
        mmfeat.extract(
            "table",
            folder / "items.jsonl",
            store=str(folder / "store"),
            features=FEATURES,
            dataset_options={"interactions": str(folder / "clicks.parquet")},
            dataset_columns={
                **dict.fromkeys(("brand", "tags", "categories", "author"), "text"),
                "price": "number",
                "photos": "image",
            },
            resources={"executor": "local", "threads": 2},
        )
    return folder


def _write_clicks(path: Path, chance: random.Random) -> None:
    """Each of 150 users with 40 items at whole days, in no order of the file."""
    rows = [
        {"user": f"u {user}", "item": item, "time": 1_600_000_000 + 86_400 * day, "rating": 1 + day % 5}
        for user in range(150)
        for day, item in enumerate(chance.sample(IDS, 40))
    ]
    chance.shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def settings_of(exporter: Exporter) -> list[dict[str, Any]]:
    """What to ask for, and then what hints say: fill in or leave out, number the items, drop rare ones."""
    required = [role for role in exporter.roles if role.required] or exporter.roles
    features: Any = {role.name: _feature(role.kind, role.media) for role in required}
    if not exporter.roles:
        features = ["words" if "vector" in exporter.kinds else "caption"]
    numbered = [{"ids": "index"}, {"numbers": "new"}]
    ways = [{}, *(one for one in numbered if set(one) <= set(exporter.options.model_fields))]
    filled = next(policy for policy in exporter.missing if policy != "error")
    dims = next((role.dims[0] for role in required if role.dims and role.dims[0] < 384), None)
    shaping = Shaping(project={} if dims is None else {"words": dims})
    return [
        {"features": features},
        *(
            {
                "features": features,
                "missing": policy,
                "k_core": k_core,
                "options": options,
                "shaping": shaping,
            }
            for options in ways
            for k_core in (None, 5)
            for policy in (filled, "drop")
        ),
    ]


def _feature(kind: str, media: tuple[str, ...]) -> str:
    if kind == "vector":
        # The shop has no sounds, which a text may stand for and a picture may not.
        return "words" if {"text", "audio"} & set(media) else "photo"
    return {"vectors": "layers", "codes": "codes", "text": "caption"}[kind]


@pytest.mark.parametrize("name", names())
def test_a_shops_own_data_is_exported_and_verified_or_refused_with_what_to_do(shop, tmp_path, name):
    refusal: UsageError | None = None
    for at, settings in enumerate(settings_of(get(name))):
        try:
            report = mmfeat.open(shop / "store").export(name, tmp_path / str(at) / "shop", **settings)
        except UsageError as error:
            refusal = error
            assert error.hint, f"{name} refuses without a remedy: {error.message}"
            continue
        assert verify(tmp_path / str(at) / "shop").ok
        assert report.items >= N - len(UNTITLED) - len(UNPICTURED)
        assert name not in REFUSED
        return
    assert refusal and REFUSED.get(name, "accepted") in refusal.message, f"{refusal}"


def test_its_items_are_looked_up_by_their_fields(shop):
    opened = mmfeat.open(shop / "store")
    found = opened.ids_where("brand = 'Acme' and price < 20")
    rows = {row["item_id"]: row for row in opened.items.to_pylist()}
    assert found == [i for i in IDS if rows[i]["brand"] == "Acme" and rows[i]["price"] < 20]
    assert rows["1e5"]["tags"] and isinstance(rows["1e5"]["price"], float)


def test_what_it_lacks_is_missing_and_nothing_is_a_row_of_zeros(shop):
    found = mmfeat.open(shop / "store").lookup(IDS, ["words", "photo"])
    assert [i for i, there in zip(IDS, found["words"].mask, strict=True) if not there] == UNTITLED
    assert [i for i, there in zip(IDS, found["photo"].mask, strict=True) if not there] == UNPICTURED
    for name in ("words", "photo"):
        assert np.linalg.norm(found[name].matrix[found[name].mask], axis=1).min() > 0.9


def test_an_export_composes_a_text_of_features_and_fields(shop, tmp_path, run):
    template = "summary={title?}{brand?: by {}}; {caption}; "
    words = (
        "--text",
        template,
        "--features",
        "summary",
        "--store",
        shop / "store",
        "--out",
        tmp_path / "out",
    )
    code, _, err = run("export", "parquet", *words)
    assert code == 0, err
    texts = dict(zip(*pq.read_table(tmp_path / "out" / "features.parquet").to_pydict().values(), strict=True))
    caption = mmfeat.open(shop / "store").lookup(["007"], ["caption"])["caption"].texts[0]
    assert texts["007"].endswith(f"; {caption}; ") and texts["007"].startswith("Product 0")
