"""What the folder of a sentence-transformers model says of it: its modules, its prompts and what it takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import Pooling

# Names of prompts for what is found, the first that a model has counts.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_SPARSE = (".SpladePooling", ".MLMTransformer", ".CSRSparsity", ".SparseAutoEncoder", ".IDF")
# Tokenizers without a limit say 1e30, older ones 1e20 or 1e12.
_NO_LIMIT = 10**9
_ABOUT = "config_sentence_transformers.json"
_MODALITIES = ("text", "image", "video", "audio")


@dataclass(frozen=True)
class Modules:
    """What a model's configuration files say of its modules.

    Attributes:
        transformer: folder of the model that reads the tokens.
        normalize: whether vectors have length 1 in the end; not that of modules in between.
        max_tokens: None if the model reads any number, or the folder does not say it (``says_tokens``).
        room: the most tokens that the model has positions for; None if it has no such bound.
        truncate_dim: how many of a vector's first numbers the folder keeps; None for all of them.
        method_version: 2 where vectors get length 1 before other modules, which version 1 left out.
        vectors: hidden states, where they are what is wanted.
    """

    transformer: Path
    dims: int
    pooling: Pooling
    normalize: bool
    max_tokens: int | None
    says_tokens: bool
    room: int | None
    prompts: Prompts
    truncate_dim: int | None = None
    method_version: int = 1
    vectors: int | None = None

    @staticmethod
    def names(folder: Path) -> list[str]:
        """The modules that a folder lists, in their order."""
        return [module["type"].rpartition(".")[2] for module in _json(folder / "modules.json") or []]

    @classmethod
    def read(cls, name: str, model: str, folder: Path, width: int | None = None) -> Modules:
        """Read the files.

        Args:
            width: of what a transformer gives that no pooling follows; None if one does.

        Raises:
            ConfigError: nothing says how long the vectors are.
        """
        listed = _json(folder / "modules.json") or []
        kinds = [(module["type"].rpartition(".")[2], folder / module["path"]) for module in listed]
        names, places = [kind for kind, _ in kinds], dict(kinds)
        config = _json(folder / "config.json")
        pooling = _json(places["Pooling"] / "config.json") if "Pooling" in places else {}
        modes = _pooling_modes(pooling)
        wide = pooling.get("word_embedding_dimension") or pooling.get("embedding_dimension")
        wide = wide or width or config.get("hidden_size")
        if wide is None:
            raise ConfigError(f"feature {name!r}: {model!r} does not say how long its vectors are")
        dense = [_json(place / "config.json") for kind, place in kinds if kind == "Dense"]
        room = _limit(config.get("max_position_embeddings"))
        # Without modules the library takes the folder for a plain transformer, and reads no such file.
        own = _json(folder / "sentence_bert_config.json") if listed else {}
        said = [own.get("max_seq_length"), _json(folder / "tokenizer_config.json").get("model_max_length")]
        limits = [limit for limit in map(_limit, said) if limit is not None]
        about = about_of(folder)
        return cls(
            transformer=places.get("Transformer", folder),
            dims=dense[-1].get("out_features") if dense else wide * len(modes),
            pooling=modes[0] if modes in (["mean"], ["cls"]) else "default",
            normalize=names[-1:] == ["Normalize"],
            max_tokens=min([*limits[:1], *([] if room is None else [room])], default=None),
            says_tokens=room is not None or said != [None, None],
            room=room,
            prompts=Prompts.of(about),
            truncate_dim=about.get("truncate_dim"),
            method_version=2 if "Normalize" in names[:-1] else 1,
        )


@dataclass(frozen=True)
class Prompts:
    """What a model puts before texts.

    Attributes:
        document, query: before what is found, and before what it is searched by.
        named: all that it has saved, by their names.
    """

    document: str
    query: str
    named: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, about: dict[str, Any]) -> Prompts:
        """The saved ones, by the names that sentence-transformers goes by."""
        saved = {name: text for name, text in (about.get("prompts") or {}).items() if text is not None}
        default = saved.get(about.get("default_prompt_name"), "")
        document = next((saved[name] for name in _DOCUMENT_PROMPTS if name in saved), None)
        # A prompt that is not of documents is one of all texts.
        return cls(
            document=default if document is None else document,
            query=saved.get("query", default if document is None else ""),
            named=saved,
        )


@dataclass(frozen=True)
class Takes:
    """What a model takes, by the ``modality_config`` that sentence-transformers saves with its transformer.

    Attributes:
        names: modalities, and ``message`` where it takes any of them together, in any number and order.
    """

    names: tuple[str, ...] = ("text",)

    @classmethod
    def of(cls, folder: Path) -> Takes:
        """Of a model's folder. One without such a word reads texts, as the library has it."""
        said = _json(folder / "sentence_bert_config.json") if (folder / "modules.json").is_file() else {}
        config = said.get("modality_config") or {}
        return cls(tuple(n for n in (*_MODALITIES, "message") if n in config)) if config else cls()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of which it takes one value."""
        return tuple(name for name in self.names if name != "message")

    @property
    def messages(self) -> bool:
        """Whether it takes several values as one message."""
        return "message" in self.names

    @property
    def readable(self) -> tuple[str, ...]:
        """The modalities of what a feature can read: a clip goes to a model of pictures frame by frame."""
        clips = ("video",) if "image" in self.names and "video" not in self.names else ()
        return (*self.modalities, *clips)


def kind_of(folder: Path) -> Literal["sparse", "cross", "many", "old many"] | None:
    """What a model of sentence-transformers gives that is not one vector; None if it gives one.

    The library would load many of them as if they gave one, pool their tokens and say nothing. ``old many``
    are multi-vector models in a layout that is older than the library's own.
    """
    config, listed = _json(folder / "config.json"), _json(folder / "modules.json") or []
    types = [module["type"] for module in listed]
    built = [name for name in config.get("architectures") or () if isinstance(name, str)]
    dense = [_json(folder / one["path"] / "config.json") for one in listed if one["type"].endswith(".Dense")]
    kind = about_of(folder).get("model_type")
    if kind == "SparseEncoder" or any(".sparse_encoder." in t or t.endswith(_SPARSE) for t in types):
        return "sparse"
    if kind == "CrossEncoder" or (not listed and _scores(config, built)):
        return "cross"
    if kind == "MultiVectorEncoder" and listed:
        return "many"
    if (
        kind in ("MultiVectorEncoder", "ColBERT")
        or any(t.startswith("pylate.") for t in types)
        or any(name.startswith(("HF_ColBERT", "ColBERT")) or name.endswith("ForRetrieval") for name in built)
        or any(one.get("module_input_name") == "token_embeddings" for one in dense)
    ):
        return "old many"
    return None


def about_of(folder: Path) -> dict[str, Any]:
    """What a model's folder says of the model as a whole."""
    about: dict[str, Any] = _json(folder / _ABOUT)
    return about


def prompts_of(folder: Path) -> Prompts:
    """The prompts that a model's folder has saved."""
    return Prompts.of(about_of(folder))


def model_type(folder: Path) -> str:
    """The type of model that a folder's configuration names; empty if it names none."""
    return str(_json(folder / "config.json").get("model_type", ""))


def hears(folder: Path) -> dict[str, Any] | None:
    """What a model's files say of the feature extractor that it hears by; None if they name none."""
    inside = _json(folder / "processor_config.json").get("feature_extractor") or {}
    files = (inside, _json(folder / "preprocessor_config.json"))
    return next((one for one in files if "sampling_rate" in one), None)


def _scores(config: dict[str, Any], built: Sequence[str]) -> bool:
    return "sentence_transformers" in config or any(n.endswith("ForSequenceClassification") for n in built)


def _limit(tokens: Any) -> int | None:
    """A number of tokens; None for what libraries write if there is no limit."""
    return int(tokens) if tokens is not None and 0 < tokens < _NO_LIMIT else None


def _pooling_modes(config: dict[str, Any]) -> list[Any]:
    """Names of the pooling modes, from one key or, as written before version 5.4, from one per mode."""
    named = config.get("pooling_mode")
    if named is not None:
        return [named] if isinstance(named, str) else list(named)
    flags = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    chosen = [flags.get(k, k) for k, on in config.items() if k.startswith("pooling_mode_") and on]
    return chosen or ["mean"]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
