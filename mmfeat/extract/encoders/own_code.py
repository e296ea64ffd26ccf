"""Models that bring code of their own, which is run by no feature that does not name that very code.

Such a model's files name Python classes beside its weights (``auto_map``), and loading it runs them with all
the rights of the run. By default it is refused. A feature that trusts the code says which one, as 40 hex
digits: the commit of the hub that has it (weights and code are both taken from that commit, and no branch can
move it), or of a folder the digest of its Python files (:func:`digest_of_code`). The digits are part of the
spec. Code in a repository other than the model's is refused always, since nothing pins that one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.extract.weights import Found, find_weights, folder_digest, is_path, loadable_folder
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec, Weights

_CODE = (".py",)
_PINNED = re.compile(r"[0-9a-f]{40}")


def code_of(folder: Path) -> dict[str, Any]:
    """By its configuration files: a class of transformers (``AutoModel``) to the folder's own for it."""
    found: dict[str, Any] = {}
    for file in sorted(folder.glob("*config*.json")):
        found |= json.loads(file.read_text(encoding="utf-8")).get("auto_map") or {}
    return found


def digest_of_code(folder: Path) -> str:
    """The first 40 hex digits of a digest over a folder's Python files."""
    return folder_digest(folder, _CODE).removeprefix("sha256:")[:40]


def trusted_code(ask: Ask[Any]) -> str | None:
    """The option ``trust_remote_code``, None if it is not set.

    Raises:
        ConfigError: it names a branch, or anything else that may come to mean other code.
    """
    trusted: str | None = ask.options.trust_remote_code
    if trusted is None:
        return None
    if not _PINNED.fullmatch(trusted):
        raise ask.error(
            f"trust_remote_code = {trusted!r} does not say which code: a branch or a tag may be moved",
            "Give the 40 hex digits of the commit whose code you have read.",
        )
    return trusted


def find_model(ask: Ask[Any], code: str | None, known: Collection[str]) -> Found:
    """The weights of a feature's model, and the folder with its code where that is trusted.

    Args:
        code: as :func:`trusted_code` gives it.
        known: model types that a library loads without the code that may lie beside them.

    Raises:
        ConfigError: the code is not trusted, or another one than is there; or another ``revision`` than the
            trusted one is asked for.
    """
    model, revision = ask.options.model or "", ask.options.revision
    if code is None:
        found = find_weights(ask)
        _check_no_code(ask, found, known)
        return found
    if not is_path(model):
        if revision not in (None, code):
            raise ask.error(f"revision = {revision!r} is another one than trust_remote_code = {code!r}")
        ask = replace(ask, options=ask.options.model_copy(update={"revision": code}))
    found = find_weights(ask, code=True)
    _check_code(ask.name, model, found.folder, _digits(found.weights, found.folder), code)
    return found


def code_folder(spec: FeatureSpec) -> Path:
    """The folder to load a spec's model from, with its code where the spec trusts that.

    Raises:
        ConfigError: weights or code are not those that the spec was resolved with.
    """
    code = spec.options.get("trusted_code")
    folder = loadable_folder(spec, code=code is not None)
    if code is not None:
        _check_code(spec.name, spec.model, folder, _digits(spec.weights, folder), code)
    return folder


def _digits(weights: Weights, folder: Path) -> str | None:
    """What pins the code that is there."""
    return weights.revision if weights.location is None else digest_of_code(folder)


def _check_no_code(ask: Ask[Any], found: Found, known: Collection[str]) -> None:
    own = code_of(found.folder)
    config = json.loads((found.folder / "config.json").read_text(encoding="utf-8"))
    if own and config.get("model_type") not in known:
        raise ask.error(
            f"{ask.options.model!r} runs code of its own ({', '.join(sorted(own))}), which is not trusted",
            "Take a model that transformers loads by itself; or read that code, and then trust it alone: "
            f'trust_remote_code = "{_digits(found.weights, found.folder)}".',
        )


def _check_code(name: str, model: str, folder: Path, there: str | None, code: str) -> None:
    elsewhere = [target for target in _targets(code_of(folder)) if "--" in target]
    if elsewhere:
        raise ConfigError(
            f"feature {name!r}: {model!r} runs code of another repository ({elsewhere[0]}), "
            "which nothing pins",
            hint="Put that code into a folder with the model, and give the folder as model.",
        )
    if code != there:
        raise ConfigError(
            f"feature {name!r}: the code of {model!r} is not the one that trust_remote_code names",
            hint=f'Read what lies there now, and then set: trust_remote_code = "{there}".',
        )


def _targets(own: dict[str, Any]) -> list[str]:
    """The classes that an ``auto_map`` names; of a tokenizer there may be two."""
    targets: list[str] = []
    for value in own.values():
        targets += [value] if isinstance(value, str) else [one for one in value if one]
    return targets
