"""A dataset, its media and the store on an object store: the same command, the same rows as on disks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import worlds
from pyarrow import fs

import mmfeat
from mmfeat import datasets
from mmfeat.schemas.errors import DatasetError
from mmfeat.schemas.job import load_job
from mmfeat.schemas.media import MediaLimits

N_ITEMS = 12
IDS = [f"item-{n:03d}" for n in range(N_ITEMS)]


def upload(folder: Path, uri: str) -> None:
    bucket, _, path = uri.removeprefix("s3://").partition("/")
    store = fs.FileSystem.from_uri(f"s3://{bucket}")[0]
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with store.open_output_stream(f"{bucket}/{path}/{file.relative_to(folder)}") as target:
                target.write(file.read_bytes())


@pytest.fixture
def media(lake, tmp_path, scenes) -> str:
    """A folder dataset in the lake."""
    folder = worlds.cover_folder(tmp_path / "media", scenes[:N_ITEMS])
    (folder / "titles.csv").write_text("item,title\nitem-000,the first\nsold-out,no cover\n")
    (folder / "notes.md").write_text("x")
    (folder / "covers" / "readme.txt").write_text("x")
    upload(folder, f"{lake}/media")
    return f"{lake}/media"


def test_a_folder_dataset_is_listed_with_titles_and_says_what_it_does_not_read(media):
    dataset = datasets.load("folder", media)
    items = dataset.items.to_pylist()
    assert [item["item_id"] for item in items] == [*IDS, "sold-out"]
    assert items[1]["cover"] == f"{media}/covers/item-001.png"
    assert (items[0]["title"], items[-1]["cover"]) == ("the first", None)
    assert {(n.code, n.examples) for n in dataset.notes} == {
        ("not_read", ("notes.md",)),
        ("not_media", ("covers/readme.txt",)),
    }


def test_init_writes_a_job_for_a_dataset_in_an_object_store(run, media, lake, tmp_path):
    code, _, err = run("init", "--dataset", "folder", "--root", media, "--store", f"{lake}/features")
    assert code == 0, err
    job = load_job(tmp_path / "job.toml")
    assert (job.dataset.root, job.store.uri) == (media, f"{lake}/features")
    read = {source for config in job.features.values() for source in config.sources}
    assert read == {"cover", "title", "cover_tags"}


def test_media_in_folders_of_any_depth_are_read_as_from_a_disk(lake, tmp_path):
    folder = tmp_path / "media"
    for name in ("covers/2024/01/x1.png", "covers/x2.jpg", "videos/a/b/x1.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    upload(folder, f"{lake}/deep")
    items = datasets.load("folder", f"{lake}/deep").items
    assert items["item_id"].to_pylist() == ["x1", "x2"]
    assert items["cover"].to_pylist() == [
        f"{lake}/deep/{n}" for n in ("covers/2024/01/x1.png", "covers/x2.jpg")
    ]
    assert items["video"].to_pylist() == [f"{lake}/deep/videos/a/b/x1.mp4", None]


def test_columns_that_are_named_are_read_as_from_a_disk(lake, tmp_path):
    folder = tmp_path / "media"
    for name in ("photos/a_2.jpg", "photos/a_1.jpg", "photos/b/x.jpg", "photos/b/deep/y.jpg", "covers/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "titles.csv").write_text("item,title,brand\na,A,Acme\n")
    upload(folder, f"{lake}/shop")
    asked = {"brand": "text", "photos": "image"}
    found = datasets.load("folder", f"{lake}/shop", columns=asked)
    here = datasets.load("folder", folder, columns=asked)
    assert found.items.schema.equals(here.items.schema, check_metadata=True)
    assert found.items["brand"].to_pylist() == ["Acme", None]
    assert found.items["photos"].to_pylist() == [
        [f"{lake}/shop/photos/a_1.jpg", f"{lake}/shop/photos/a_2.jpg"],
        [f"{lake}/shop/photos/b/x.jpg"],
    ]
    with pytest.raises(DatasetError, match="no folder or archive 'photo'") as refused:
        datasets.load("folder", f"{lake}/shop", columns={"brand": "text", "photo": "image"})
    assert "Did you mean 'photos'" in refused.value.hint


def test_what_cannot_be_read_as_a_dataset_is_said_with_what_can(lake):
    with pytest.raises(DatasetError, match=r"There are no media in|Cannot read"):
        datasets.load("folder", f"{lake}/nothing")
    with pytest.raises(DatasetError, match="is read from a local path, not from s3://") as raised:
        datasets.load("microlens", f"{lake}/media")
    assert "table" in raised.value.hint
    with pytest.raises(DatasetError, match="not read from hdfs://"):
        datasets.load("folder", "hdfs://host/media")


def test_media_and_store_on_an_object_store_from_extraction_to_export_and_forgetting(
    media, lake, world, run, tmp_path
):
    uri = f"{lake}/features"
    config = tmp_path / "features.toml"
    settings = "\n".join(f'{key} = "{value}"' for key, value in worlds.CLIP.items())
    config.write_text(f"[features.clip]\n{settings}\n")
    extract = ("extract", "--dataset", "folder", "--root", media, "--store", uri, "--config", config)
    code, out, err = run(*extract, "--executor", "ray", "--workers", 1, "--threads", 1, "--json")
    assert code == 0, err
    (feature,) = json.loads(out)["features"]
    assert (feature["ok"], feature["missing"], feature["failed"]) == (N_ITEMS, 1, 0)

    code, out, _ = run(*extract, "--json")
    assert (code, json.loads(out)["computed"]) == (0, 0)

    local = mmfeat.open(world / "store").lookup(IDS, ["clip"])["clip"].matrix
    found = mmfeat.open(uri).lookup(IDS[::-1], ["clip"])
    assert found.ids == IDS[::-1]
    assert worlds.cosines(found["clip"].matrix[::-1], local).min() > 0.9999

    assert run("snapshot", "create", "v1", "--store", uri)[0] == 0
    chosen = ("--features", "clip", "--missing", "zero", "--snapshot", "v1")
    code, _, err = run("export", "npy", *chosen, "--out", "out", "--store", uri)
    assert code == 0, err
    exported = np.load(next((tmp_path / "out").rglob("*.npy")))
    assert worlds.cosines(exported[:N_ITEMS], local).min() > 0.9999
    assert run("forget", "item-003", "--reason", "asked", "--store", uri)[0] == 0
    left = mmfeat.open(uri, snapshot="v1").lookup(IDS, ["clip"], unknown="mask")["clip"].mask
    assert left.tolist() == [item != "item-003" for item in IDS]
    assert run("doctor", "--store", uri)[0] == 0


def test_an_object_that_went_is_a_failed_item_with_the_reason(media, lake):
    from mmfeat.extract.media.read import read_media
    from mmfeat.schemas.errors import ItemError

    allowed = MediaLimits().with_buckets([media]).fetch
    assert len(read_media(f"{media}/covers/item-000.png", 1 << 20, allowed).data) > 100
    with pytest.raises(ItemError, match="there is no such object"):
        read_media(f"{media}/covers/gone.png", 1 << 20, allowed)
    with pytest.raises(ItemError, match=r"larger than|too large"):
        read_media(f"{media}/covers/item-000.png", 10, allowed)


def test_a_table_reads_the_buckets_that_the_job_lists_and_no_other(media, tmp_path):
    table = tmp_path / "items.csv"
    table.write_text(f"item_id,cover\nours,{media}/covers/item-000.png\nother,s3://payroll/item-001.png\n")
    store, features = (
        str(tmp_path / "store"),
        {"cover_cnn": {"source": "cover", "encoder": "efficientnet_lite"}},
    )
    bucket = "/".join(media.split("/")[:3])

    def extract(**limits: object) -> list[str]:
        run = {"max_failed": 1.0, "retry_failed": True}
        mmfeat.extract("table", table, store=store, features=features, run=run, limits=limits)
        return list(mmfeat.open(store).lookup(["ours", "other"])["cover_cnn"].reason)

    refused = [f"read: {name} is not among the buckets" for name in (bucket, "s3://payroll")]
    reasons = extract()
    assert all(why in reason for why, reason in zip(refused, [f"read: {r}" for r in reasons], strict=True))
    assert "limits.fetch.buckets" in reasons[0]
    ours, other = extract(fetch={"buckets": [bucket]})
    assert ours == "" and "s3://payroll is not among" in other
    # What a run might read may be shown afterwards, and nothing else.
    assert mmfeat.open(store)._store.media_buckets() == [bucket]


def test_a_picture_of_a_bucket_that_is_allowed_later_is_shown_then(media):
    from mmfeat.schemas.errors import ItemError
    from mmfeat.serve.ui.thumbs import Thumbnails

    thumbnails, file = Thumbnails(), ("image", f"{media}/covers/item-000.png")
    with pytest.raises(ItemError, match="not among the buckets"):
        thumbnails.frames(*file)
    assert thumbnails.frames(*file, ["/".join(media.split("/")[:3])])
