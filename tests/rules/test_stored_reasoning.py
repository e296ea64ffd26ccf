"""Texts that were stored with a model's reasoning in them: computed again, announced, and no others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from helpers import synthetic, worlds

import mmfeat
from mmfeat.store import Store

FEATURES = {"caption": worlds.CAPTION, "caption_clip": worlds.CAPTION_CLIP}


def run(media: Path, store: Path):
    return mmfeat.extract(
        "folder", media, store=str(store), features=FEATURES, resources={"executor": "local"}
    )


def spoil(store: Path, texts: dict[str, str]) -> None:
    """Store texts as earlier versions of mmfeat did."""
    opened = Store.open(str(store))
    version = opened.resolve("caption")
    with opened.lease("test"):
        rows = opened.full_rows(version, list(texts))
        at = rows.schema.get_field_index("text")
        rows = rows.set_column(at, rows.schema.field("text"), pa.array(list(texts.values()), pa.string()))
        opened.commit(version, rows, replace=True)


def test_rows_that_show_reasoning_are_replaced_and_announced_and_all_others_stay(tmp_path):
    media = worlds.cover_folder(tmp_path / "media", synthetic.held_out(4))
    store = tmp_path / "store"
    run(media, store)
    before = mmfeat.open(store).lookup(features=["caption"])
    first, second, third, _ = before.ids
    mine = 'a shirt that reads "<think>"'
    spoil(store, {first: "<think>red?</think>a red one", second: "it is</think>x", third: mine})

    report = run(media, store)
    caption, of_caption = report.features
    assert (caption.ok, caption.up_to_date) == (2, 2)
    assert of_caption.ok == 3, "those of two new texts, and of the one that was put there by hand"
    assert [n for n in report.notices if "2 rows were out of date" in n and "reasoning" in n]
    after = mmfeat.open(store).lookup(before.ids, features=["caption"])
    expected = dict(zip(before.ids, before["caption"].texts, strict=True)) | {third: mine}
    assert dict(zip(after.ids, after["caption"].texts, strict=True)) == expected

    again = run(media, store)
    assert [feature.ok for feature in again.features] == [0, 0]
    assert not again.notices
