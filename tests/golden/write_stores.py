"""Writes ``stores-v1.zip`` and what these stores answer, ``answers.json`` and ``answers.npz``.

It was run with the last mmfeat of store format 1, and is kept to tell what is in the stores; it is of no use
with a later mmfeat, which would write other bytes.

    PYTHONPATH=tests python tests/golden/write_stores.py

Everything happens in ``/tmp/golden``, under a neutral user and host: a store keeps commands, paths and names.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from golden_stores import (
    ARCHIVE,
    FORGOTTEN,
    HERE,
    LEFT,
    MODELS,
    TOLD_IDS,
    copied_media,
    shop_job,
    told_job,
    values_of,
)

import mmfeat

FOLDER = Path("/tmp/golden")


def neutral() -> None:
    """Nothing of this machine gets into the records of runs and exports."""
    os.environ.update(LOGNAME="user", USER="user", XDG_CACHE_HOME=str(FOLDER / "cache"))
    sys.argv = ["write_stores.py"]
    socket.gethostname = lambda: "host"
    platform.platform = lambda *_: "Linux"
    os.chdir(FOLDER)


def write_shop() -> None:
    models, uri = FOLDER / "models", str(FOLDER / "shop")
    mmfeat.extract(**shop_job(FOLDER, models=models, clip=0))
    mmfeat.open(uri).export("npy", FOLDER / "exported", features=["clip"], missing="mask")
    mmfeat.open(uri).create_snapshot("first")
    mmfeat.extract(**shop_job(FOLDER, models=models, clip=1))
    mmfeat.extract(**shop_job(FOLDER, models=models, clip=2))
    mmfeat.open(uri).lifecycle.rollback(["clip"])
    mmfeat.open(uri).forget([FORGOTTEN], "asked for by its seller", cache=FOLDER / "cache")
    for settings in ({"name": "clip_codes"}, {"name": "clip_ids", "collision_level": True}):
        mmfeat.api.quantize("clip", store=uri, levels=2, codebook_size=3, **settings)
    mmfeat.open(uri).create_snapshot("second")


def found(store: mmfeat.FeatureStore, ids: list[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What each version of the store holds, and the nearest items of each item."""
    rows, arrays = values_of(store, ids)
    near = {
        ref: {
            item: [[hit.item_id, round(hit.score, 4)] for hit in store.search(ref, item=item, k=3)]
            for item, status in zip(ids, row["status"], strict=True)
            if status == "ok"
        }
        for ref, row in rows.items()
        if store.spec(ref).kind == "vector" and row["status"].count("ok") > 1
    }
    return {"rows": rows, "near": near, "current": {s.version: s.state for s in store.status()}}, arrays


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    neutral()
    copied_media(FOLDER)
    shutil.copytree(MODELS, FOLDER / "models")
    write_shop()
    mmfeat.extract(**told_job(FOLDER, models=FOLDER / "models"))
    answers, arrays = {}, {}
    for name, ids, snapshot in (
        ("shop", LEFT, None),
        ("first", LEFT, "first"),
        ("second", LEFT, "second"),
        ("told", TOLD_IDS, None),
    ):
        store = mmfeat.open(FOLDER / ("told" if name == "told" else "shop"), snapshot)
        answers[name], more = found(store, ids)
        arrays |= {f"{name}/{ref}": array for ref, array in more.items()}
    (HERE / "answers.json").write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")
    np.savez_compressed(HERE / "answers.npz", **arrays)
    with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for name in ("shop", "told") for p in (FOLDER / name).rglob("*")):
            archive.write(path, path.relative_to(FOLDER))


if __name__ == "__main__":
    main()
