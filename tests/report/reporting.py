"""Stores of captions and picture vectors, written row by row: no run is needed to report on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
from helpers import synthetic, worlds

from mmfeat.extract.fence.decode import MediaRequest, decode_media, picture_of
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, Prompt, Weights
from mmfeat.store import Store, rows_schema

STOPPED = {"finish_reason": "stop", "prompt_tokens": 70, "new_tokens": 8, "seconds": 0.25}
PROMPT = "Describe this picture in one or two plain sentences, and say only what is visible."


def caption_spec(source: str = "cover", prompt_version: int = 1) -> FeatureSpec:
    return FeatureSpec(
        name="caption",
        source=source,
        output="text",
        method="transformers",
        model="tiny-vlm",
        weights=Weights(origin="random", ref="seed=0"),
        text_kind="caption",
        prompt=Prompt(name="describe", version=prompt_version, text=PROMPT),
    )


def spec_of(name: str, **config: Any) -> FeatureSpec:
    """The spec of a feature of item sources, resolved as a job's is."""
    return resolve_all({name: FeatureConfig(**config)})[0]


@dataclass
class Planted:
    """What goes into a store: per item id a text, and what else is known of it.

    ``texts`` of None are failed items; ids without a text have no row.
    """

    ids: list[str]
    texts: Mapping[str, str | None]
    titles: Mapping[str, str] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    source: str = "cover"


def write(uri: Path, planted: Planted, prompt_version: int = 1, spec: FeatureSpec | None = None) -> Store:
    """A store with a catalog and a version of ``caption``, or of ``spec``; adds a version to one that is
    there."""
    store = Store.open(str(uri), create=True)
    spec = spec or caption_spec(planted.source, prompt_version)
    items = [
        {
            "item_id": i,
            "title": planted.titles.get(i),
            **dict.fromkeys(("description", "cover", "video", "audio")),
            planted.source: planted.media.get(i),
        }
        for i in planted.ids
    ]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(items, CATALOG_SCHEMA), {"name": "folder"})
        version = store.add_version(spec)
        store.commit(version, _rows(spec, planted.texts, planted.facts, planted.contents), replace=False)
        store.set_current(spec.name, spec.fingerprint)
    return store


def add_vectors(store: Store, spec: FeatureSpec, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Vectors of a feature, current from now on."""
    with store.lease("test"):
        version = store.add_version(spec)
        values = dict(zip(ids, vectors.astype(spec.store_dtype or "float32"), strict=True))
        store.commit(version, _rows(spec, values, {}, {}), replace=False)
        store.set_current(spec.name, spec.fingerprint)


def clip_vectors(spec: FeatureSpec, places: Sequence[str]) -> np.ndarray:
    """What a run would store of these covers."""
    assert spec.pixels is not None
    wanted = (picture_of(spec.pixels.view),)
    rows = [decode_media(MediaRequest(place, wanted), MediaLimits()).values for place in places]
    return np.asarray(load_method(spec).run(rows))


def distinct_scenes() -> list[synthetic.Scene]:
    """168 held-out scenes, each with another caption."""
    found = []
    for background in synthetic.BACKGROUNDS:
        found += [replace(s, background=background) for s in synthetic.held_out(56, seed=len(found))]
    return found


def _rows(
    spec: FeatureSpec,
    values: Mapping[str, Any],
    facts: Mapping[str, dict[str, Any]],
    contents: Mapping[str, str],
) -> pa.Table:
    rows = [
        {
            "item_id": item_id,
            "status": "failed" if value is None else "ok",
            "stage": "decode" if value is None else None,
            "reason": "image is cut short" if value is None else None,
            "content_hash": contents.get(item_id, f"hash of {item_id}"),
            "stamp": None,
            "facts": json.dumps(facts.get(item_id, STOPPED)) if spec.form == "text" else None,
            spec.form: value,
            "created": datetime(2026, 1, 2, tzinfo=UTC),
        }
        for item_id, value in values.items()
    ]
    return pa.Table.from_pylist(rows, rows_schema(spec))


CLIP_SPEC = spec_of("clip", **worlds.CLIP)


def write_clip(path: Path, frames: np.ndarray) -> Path:
    """uint8 ``[n, height, width, 3]`` as H.264, 25 frames a second."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode())
    return path
