"""What a machine keeps of models that it once looked into: ``$XDG_CACHE_HOME/mmfeat``.

Everything lies under a digest of all that decides it, and nothing of it is needed: the folder may be removed
at any time, and where it cannot be written there is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmfeat.extract.media.webcache import default_cache
from mmfeat.extract.weights import folder_digest

#: Packages whose version may decide what is found out about a model, and what is computed by it.
PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "timm", "transformers", "sentence-transformers", "tokenizers",
    "openvino", "onnxruntime",
)  # fmt: skip


def place_of(kind: str, facts: dict[str, Any]) -> Path:
    """Where something of a kind lies that these facts decide, the versions of libraries and our own code of
    encoders being among them without being named."""
    deciding = {
        "facts": facts,
        "packages": dict(_installed()),
        "code": folder_digest(Path(__file__).parent / "encoders", (".py",)),
    }
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()
    return default_cache().parent / kind / digest[:32]


def is_ours(path: Path) -> bool:
    """Whether nobody but this user could have written a file or folder; OSError if there is none.

    Whoever can write as this user could as well change the models.
    """
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def remembered(
    facts: dict[str, Any], find_out: Callable[[], dict[str, Any]], kind: str = "outlines"
) -> dict[str, Any]:
    """What ``find_out`` finds, of JSON's types; asked once on a machine for the same facts.

    For what takes long to find out: outlines, which a model's library has to be imported for, and proofs.
    What it raises is not kept.
    """
    place = place_of(kind, facts)
    with contextlib.suppress(OSError, ValueError):
        if is_ours(place):
            kept: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            return kept
    found = find_out()
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=place.parent, delete=False, encoding="utf-8") as file:
            json.dump(found, file)
        Path(file.name).rename(place)
    return found


def _installed() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            yield package, version(package)
