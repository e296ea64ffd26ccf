"""Hugging Face ``datasets`` itself on exports of the sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Image, List, Value, load_from_disk
from helpers.echo import assert_echo, expected, export_with_moved_rows, make_input, shifted, swapped

from mmfeat import datasets as adapters
from mmfeat.export import Request, export
from mmfeat.extract.media.read import read_media


def by_item(dataset):
    """What every item of a dataset holds, without what is null."""
    rows = list(dataset)
    return {
        name: {
            row["item_id"]: row[name] if isinstance(row[name], str) else np.array(row[name])
            for row in rows
            if row[name] is not None
        }
        for name in dataset.column_names
        if name != "item_id"
    }


def test_every_item_finds_its_own_values(tmp_path, sample_for, ids):
    export(sample_for("hf"), Request("hf", tmp_path / "sample"))
    dataset = load_from_disk(tmp_path / "sample")
    assert dataset["item_id"][:] == ids
    assert_echo(by_item(dataset), expected("hf", ids))


def test_a_missing_item_is_null(tmp_path, ids):
    mask = np.arange(len(ids)) % 3 > 0
    export(make_input("hf", ids, mask), Request("hf", tmp_path / "sample"))
    present = [i for i, ok in zip(ids, mask, strict=True) if ok]
    dataset = load_from_disk(tmp_path / "sample")
    assert dataset["item_id"][:] == ids
    assert_echo(by_item(dataset), expected("hf", present))


@pytest.mark.parametrize("move", [shifted, swapped])
def test_moved_rows_are_found_out(tmp_path, sample_for, ids, move):
    export_with_moved_rows(sample_for("hf"), "hf", tmp_path / "sample", move)
    with pytest.raises(AssertionError, match="of '"):
        assert_echo(by_item(load_from_disk(tmp_path / "sample")), expected("hf", ids))


def test_an_epoch_of_batches_is_the_exported_matrix(tmp_path, sample_for, ids):
    export(sample_for("hf"), Request("hf", tmp_path / "sample"))
    # Token vectors, of which items have unlike numbers, need a collate function of one's own.
    dataset = load_from_disk(tmp_path / "sample").select_columns("the_vector").with_format("torch")
    batches = [batch["the_vector"] for batch in torch.utils.data.DataLoader(dataset, batch_size=8)]
    wanted = [expected("hf", ids)["the_vector"][i] for i in ids]
    assert torch.equal(torch.cat(batches), torch.from_numpy(np.stack(wanted)))


@pytest.mark.parametrize("form", ["saved", "splits", "parquet"])
def test_what_the_library_writes_is_read_with_its_pictures(tmp_path, form):
    features = Features(
        id=Value("string"),
        image=Image(),
        photos=List(Image()),
        price=Value("float32"),
        tags=List(Value("string")),
    )
    rows = [
        {
            "id": str(n),
            "image": {"bytes": b"picture %d" % n, "path": None} if n != 3 else None,
            "photos": [{"bytes": b"photo %d" % n, "path": None}],
            "price": n / 2,
            "tags": ["a", "b"],
        }
        for n in range(7)
    ]
    written = Dataset.from_list(rows, features=features)
    if form == "saved":
        written.save_to_disk(tmp_path / "d", num_shards=2)
    elif form == "splits":
        parts = {"train": written.select(range(4)), "test": written.select([4, 5, 6])}
        DatasetDict(parts).save_to_disk(tmp_path / "d")
    else:
        for n in range(2):
            shard = written.shard(2, n, contiguous=True)
            shard.to_parquet(tmp_path / f"d/data/train-{n:05}-of-00002.parquet")
    asked = {"photos": "image", "price": "number", "tags": "text"}
    items = adapters.load("huggingface", tmp_path / "d", columns=asked).items.to_pylist()
    assert [(i["item_id"], i["price"], i["tags"]) for i in items] == [
        (row["id"], row["price"], row["tags"]) for row in rows
    ]
    read = {i["item_id"]: read_media(i["cover"], 100).data for i in items if i["cover"]}
    assert read == {row["id"]: row["image"]["bytes"] for row in rows if row["image"]}
    assert read_media(items[6]["photos"][0], 100).data == b"photo 6"


def test_clamrs_split_is_loaded_by_its_name_with_null_where_a_video_lacks_a_text(tmp_path, ids):
    mask = np.arange(len(ids)) % 3 > 0
    roles = {role: role for role in ("ocr", "description", "asr")}
    export(
        make_input("clamr", ids, mask),
        Request("clamr", tmp_path / "sample", features=roles, options={"frames": 2}),
    )
    dataset = load_from_disk(tmp_path / "sample")["test"]
    assert dataset["video_id"][:] == ids
    for role in roles:
        texts = zip(ids, mask, dataset[role][:], strict=True)
        assert all(text == (f"{role} of {item_id}" if ok else None) for item_id, ok, text in texts)
    assert dataset[4]["images"] == [f"{ids[4]}_frame_0.jpg", f"{ids[4]}_frame_1.jpg"]
