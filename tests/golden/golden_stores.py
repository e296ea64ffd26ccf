"""The two small stores beside this file, ``stores-v1.zip``: what is in them, and how they are unpacked.

``write_stores.py`` wrote them with the mmfeat of store format 1. ``shop`` is a dataset in MicroLens's layout
(covers, clips, titles, interactions), ``told`` a table of items with descriptions.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import mmfeat

HERE = Path(__file__).parent
MODELS = HERE.parent / "models"
MEDIA = HERE / "media-v1"
ARCHIVE = HERE / "stores-v1.zip"

IDS = ["101", "102", "0103", "104", "105", "106", "107", "108"]
UNTITLED, BROKEN, FORGOTTEN = "104", "105", "108"
# The second has the cover of the first.
TWINS = ("102", "106")
FILMED = ["101", "107"]
# What is left of the shop since an item was forgotten.
LEFT = [item_id for item_id in IDS if item_id != FORGOTTEN]
TOLD_IDS = ["a", "b", "c"]
UNDESCRIBED = "c"

# Stamps of files hold this time.
MODIFIED_NS = 1_700_000_000_123_456_789

# How the three versions of the feature `clip` differ: the first two became current one after the other, the
# third did too and was rolled back.
CLIP_VERSIONS: list[dict[str, Any]] = [{}, {"normalize": False}, {"crop": "squash"}]


def shop_features(models: Path = MODELS, clip: int = 1) -> dict[str, dict[str, Any]]:
    """The features of the store ``shop``, with the feature ``clip`` in one of its versions."""
    minilm = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
    tiny_clip = {"encoder": "open_clip", "model": str(models / "tiny-clip")}
    return {
        "clip": {"source": "cover", **tiny_clip, **CLIP_VERSIONS[clip]},
        "clip_video": {"source": "video", **tiny_clip, "frames": 3},
        "title_text": {"source": "title", **minilm},
        "tags": {"source": "cover", "captioner": "imagenet_tags", "top_k": 3},
        "tags_text": {"source": "tags", **minilm, "store_dtype": "float16"},
        "titled": {
            "source": "cover",
            "captioner": "transformers",
            "model": str(models / "tiny-vlm"),
            "prompt": str(HERE / "prompts" / "titled.toml"),
        },
        "states": {
            "source": "cover",
            "encoder": "transformers",
            "model": str(models / "tiny-dino"),
            "hidden_states": True,
            "store_dtype": "float16",
        },
    }


def told_features(models: Path = MODELS) -> dict[str, dict[str, Any]]:
    """The features of the store ``told``."""
    return {
        "told": {
            "source": "cover",
            "captioner": "transformers",
            "model": str(models / "tiny-vlm"),
            "prompt": str(HERE / "prompts" / "told.toml"),
        },
        "told_clip": {"source": "told", "encoder": "open_clip", "model": str(models / "tiny-clip")},
        "description_clip": {
            "source": "description",
            "encoder": "open_clip",
            "model": str(models / "tiny-clip"),
        },
    }


def shop_job(folder: Path, **options: Any) -> dict[str, Any]:
    """What :func:`mmfeat.extract` takes to bring ``folder/shop`` up to date with ``folder/media/shop``."""
    return {
        "dataset": "microlens",
        "root": folder / "media" / "shop",
        "store": str(folder / "shop"),
        "features": shop_features(**options),
        "resources": {"workers": 1, "threads": 1},
        # One cover of eight is broken.
        "run": {"max_failed": 0.5},
    }


def told_job(folder: Path, **options: Any) -> dict[str, Any]:
    """What :func:`mmfeat.extract` takes to bring ``folder/told`` up to date with its table."""
    return {
        "dataset": "table",
        "root": folder / "media" / "told" / "items.csv",
        "store": str(folder / "told"),
        "features": told_features(**options),
        "resources": {"workers": 1, "threads": 1},
    }


def copied_media(folder: Path) -> None:
    """The datasets as ``folder/media``, every file with the time that the stores' stamps hold."""
    shutil.copytree(MEDIA, folder / "media")
    touch(folder, MODIFIED_NS)


def touch(folder: Path, modified_ns: int) -> None:
    """Give every file of ``folder/media`` this time of change, in nanoseconds since 1970."""
    for path in (folder / "media").rglob("*"):
        os.utime(path, ns=(modified_ns, modified_ns))


def unpacked(folder: Path) -> Path:
    """``folder`` with the stores ``shop`` and ``told`` and the datasets that they were made from."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    copied_media(folder)
    return folder


def answers() -> dict[str, Any]:
    """What the stores answered when they were written."""
    found: dict[str, Any] = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
    return found


def values_of(
    store: mmfeat.FeatureStore, ids: list[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """What every version in a store holds of ``ids``.

    Returns:
        ``name@fingerprint`` to the status and the reason of each item, and the texts of a text feature;
        ``name@fingerprint`` to the array of any other feature.
    """
    rows, arrays = {}, {}
    for status in store.status():
        column = store.lookup(ids, [status.version])[status.version.partition("@")[0]]
        ref = f"{column.spec.name}@{column.spec.fingerprint}"
        rows[ref] = {"status": column.status.tolist(), "reason": column.reason.tolist()}
        if isinstance(column.values, np.ndarray):
            arrays[ref] = column.values
        else:
            rows[ref]["texts"] = column.values
    return rows, arrays
