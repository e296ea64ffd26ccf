"""How much of a model's weights is yet to be downloaded."""

from __future__ import annotations

from pathlib import Path

from mmfeat.extract.weights import READ_SUFFIXES
from mmfeat.schemas.spec import FeatureSpec


def download_bytes(spec: FeatureSpec) -> int | None:
    """Bytes of the files that loading a spec's model reads and that the hub's cache lacks; 0 of weights that
    lie on this machine or on a server; None if the hub does not say."""
    weights = spec.weights
    if weights.origin != "hub":
        return 0
    from httpx import HTTPError
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(weights.ref, revision=weights.revision, files_metadata=True)
    except (HfHubHTTPError, HTTPError, OSError, ValueError):
        return None
    wanted = [file for file in info.siblings or () if Path(file.rfilename).suffix in READ_SUFFIXES]
    there = (try_to_load_from_cache(weights.ref, one.rfilename, revision=weights.revision) for one in wanted)
    return sum(one.size or 0 for one, path in zip(wanted, there, strict=True) if not isinstance(path, str))
