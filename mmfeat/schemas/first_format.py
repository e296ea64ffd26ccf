"""Specs as the first format wrote them: one source, and every setting a field of one flat table.

Stores hold such specs, and their fingerprints name versions, tables and files. So they are read, and a
spec that the first format could express keeps the identity that it had there. It could express one
input (a usual column, or a feature's text), beside which a prompt names the item's title or description,
and a vector, a fixed number of vectors, a caption, tags, JSON or codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.templates import names_of

_MODALITIES = {"title": "text", "description": "text", "cover": "image", "video": "video", "audio": "audio"}
#: The texts that prompts of the first format could name.
_TEXTS = ("description", "title")
_ROLES = ("caption", "tags", "json")
# The settings that were fields of the flat table, with the values of those that were never left out.
_DEFAULTS = {"normalize": False, "compute_dtype": "float32"}
_SETTINGS = (
    *_DEFAULTS,
    "time_pooling",
    "pooling",
    "layer",
    "prompt",
    "decoding",
    "summary",
    "top_k",
    "quantization",
)


def is_one(data: Any) -> bool:
    """Whether ``data`` are a spec of the first format."""
    return isinstance(data, Mapping) and "source" in data and "inputs" not in data


def read(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of today's FeatureSpec."""
    flat = {key: _plain(value) for key, value in data.items() if value is not None}
    options = {key: flat.pop(key) for key in _SETTINGS if key in flat}
    return {
        "inputs": [_read_input(flat), *_read_texts(options)],
        "output": _read_output(flat, options),
        "options": options,
        **flat,
    }


def identity(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the first format hashed of a spec; None if it could not express the spec.

    Args:
        body: today's identity, unset fields left out.
    """
    if "composed" in body:
        return None
    first, *named = body["inputs"]
    options, output = body["options"], body["output"]
    if not (
        _is_usual(first)
        and [one["source"] for one in named] == _texts_of(options)
        and all(_is_named_text(one) for one in named)
        and set(options) <= set(_SETTINGS)
        and _could_express(output, options)
    ):
        return None
    shared = {key: body[key] for key in ("method", "method_version", "model", "weights")}
    upstream = {"upstream": first["upstream"]} if "upstream" in first else {}
    return {
        "source": first["source"],
        **_DEFAULTS,
        **options,
        **shared,
        **upstream,
        **_flat_prepare(first.get("prepare")),
        **_flat_output(output),
    }


def _is_usual(read: Mapping[str, Any]) -> bool:
    usual = _MODALITIES.get(read["source"]) == read["modality"] or "upstream" in read
    return usual and not {"optional", "named"} & set(read)


def _is_named_text(read: Mapping[str, Any]) -> bool:
    return dict(read) == {"source": read["source"], "modality": "text", "named": True}


def _texts_of(options: Mapping[str, Any]) -> list[str] | None:
    """The columns that prompts name, by alphabet; None if one is no text of the first format."""
    prompts = [options.get("prompt"), options.get("summary", {}).get("prompt")]
    named = {name for prompt in prompts if prompt for name in names_of(prompt["text"])}
    texts = sorted(named - {"times", "scenes"})
    return texts if set(texts) <= set(_TEXTS) else None


def _could_express(output: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    if output["kind"] == "text":
        return output["role"] in _ROLES and not output["segments"]
    if output["kind"] == "codes":
        return "data_digest" in options.get("quantization", {})
    return output["kind"] in ("vector", "vectors")


def _flat_prepare(prepare: Mapping[str, Any] | None) -> dict[str, Any]:
    if prepare is None or (prepare["kind"] == "text" and "max_tokens" not in prepare):
        return {}
    own = {key: value for key, value in prepare.items() if key not in ("kind", "sampling")}
    if prepare["kind"] == "text":
        return {"text": own}
    frames = {"frames": prepare["sampling"]} if prepare["kind"] == "video" else {}
    return {"image": own, **frames}


def _flat_output(output: Mapping[str, Any]) -> dict[str, Any]:
    kind = output["kind"]
    if kind == "text":
        return {"output": "text", "text_kind": output["role"]}
    if kind == "codes":
        return {"output": "codes", "dims": output["levels"]}
    several = {"vectors": output["count"]} if kind == "vectors" else {}
    return {"output": "vector", "dims": output["dims"], "store_dtype": output["dtype"], **several}


def _read_input(flat: dict[str, Any]) -> dict[str, Any]:
    """The one input; takes what belongs to it out of the table."""
    source, upstream = flat.pop("source"), flat.pop("upstream", None)
    image, frames, text = (flat.pop(key, None) for key in ("image", "frames", "text"))
    if flat["output"] == "codes":
        modality = VECTOR
    elif frames is not None:
        modality = "video"
    elif image is not None:
        modality = "image"
    else:
        modality = _MODALITIES.get(source, "text")
    prepare = None
    if image is not None:
        prepare = {"kind": modality, **image} | ({} if frames is None else {"sampling": frames})
    elif text is not None:
        prepare = {"kind": "text", **text}
    return {"source": source, "modality": modality, "prepare": prepare, "upstream": upstream}


def _read_texts(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"source": name, "modality": "text", "named": True} for name in _texts_of(options) or ()]


def _read_output(flat: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The output; takes what belongs to it out of the table."""
    form, dims, vectors = flat.pop("output"), flat.pop("dims", None), flat.pop("vectors", None)
    dtype, role = flat.pop("store_dtype", None), flat.pop("text_kind", None)
    if form == "text":
        return {"kind": "text", "role": role}
    if form == "codes":
        size = options.get("quantization", {}).get("codebook_size")
        return {"kind": "codes", "levels": dims, "codebook_size": size}
    several = {"count": vectors} if vectors is not None else {}
    return {"kind": "vectors" if several else "vector", "dims": dims, "dtype": dtype, **several}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
