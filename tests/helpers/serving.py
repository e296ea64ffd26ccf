"""A store made without a run, and services of it on real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from helpers import synthetic, worlds
from helpers.storing import make_rows, text_spec, vector_spec, vectors
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.serve.app import create_app
from mmfeat.serve.server import address, listen, server_of
from mmfeat.serve.settings import Settings
from mmfeat.store import Store

IDS = ["item-0", "item-1", "item-2", "a/b?c&d=e#f", "ü 🎬 %2F", "'; DROP--", "broken", "bare"]
SCRIPT = "<script>alert('title')</script>"
DIMS = 4


def make_store(folder: Path) -> Path:
    """Covers of the synthetic world with CLIP vectors of the tiny model, captions, and random vectors.

    ``broken`` has failed everywhere, ``bare`` is in the catalog and has no row.
    """
    scenes = synthetic.held_out(len(IDS))
    covers = [str(worlds.write_cover(folder, f"cover-{k}", scene)) for k, scene in enumerate(scenes)]
    Path(covers[6]).write_bytes(b"not a picture")
    pixels = np.stack([synthetic.render(scene) for scene in scenes[:1]])
    assert pixels.dtype == np.uint8
    [clip] = resolve_all({"clip": FeatureConfig(**worlds.CLIP)})
    values = _encoded(clip, covers[:6])
    rows = [
        (clip, [*values, None]),
        (vector_spec("noise", DIMS), [*vectors(6, DIMS), None]),
        (text_spec("caption"), [*(f"a {s.colour} {s.shape}" for s in scenes[:6]), None]),
    ]
    catalog = [
        {"item_id": i, "title": SCRIPT if i == "item-1" else f"Title of {i}", "cover": cover}
        for i, cover in zip(IDS, covers, strict=True)
    ]
    store = Store.open(str(folder / "store"), create=True)
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(catalog, schema=CATALOG_SCHEMA), {"name": "test"})
        for spec, cells in rows:
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS[:7], cells), replace=False)
            store.finish(version)
            store.set_current(version.name, version.fingerprint)
        store.create_snapshot("first")
    return folder / "store"


def _encoded(spec: Any, covers: list[str]) -> list[np.ndarray]:
    from mmfeat.extract.modalities.decoders.image import render_image
    from mmfeat.schemas.media import MediaLimits

    view, model = spec.pixels.view, load_method(spec)
    pixels = [render_image(Path(c).read_bytes(), [view], MediaLimits())[0].pixels for c in covers]
    return list(model.encode_images(np.concatenate(pixels)).astype(spec.store_dtype))


@dataclass
class Running:
    """A service on a socket, in this process."""

    url: str
    app: Any
    http: httpx.Client


@contextmanager
def running(store: Path, **settings: Any) -> Iterator[Running]:
    """A service that answers real requests until the end of the block."""
    app = create_app(str(store), Settings(**{"refresh_seconds": 0.05, **settings}))
    with listen("127.0.0.1", 0) as listening:
        server = server_of(app)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        url = address(listening)
        try:
            with httpx.Client(base_url=url, timeout=300) as http:
                yield Running(url, app, http)
        finally:
            server.should_exit = True
            thread.join()


def is_problem(answer: httpx.Response, status: int, error: str) -> dict[str, Any]:
    """The problem body, once it is what every refusal has to be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text
    body = answer.json()
    assert body["status"] == status and body["error"] == error and body["detail"]
    return body
