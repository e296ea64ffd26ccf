"""Loads a chat model of transformers and its processor, whatever it sees and hears."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfeat.extract.chat.abilities import THINKERS
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.weights import loading, missing_package, seeded
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec


def load_processor(spec: FeatureSpec, folder: Path) -> Any:
    """The processor of a folder.

    Raises:
        ConfigError: there is none, or it has no chat template.
    """
    processor = any_processor(spec, folder)
    if getattr(processor, "tokenizer", None) is None or not processor.chat_template:
        raise ConfigError(
            f"feature {spec.name!r}: {spec.model!r} has no chat template",
            hint="Take the instruction-tuned variant of the model; where there is no template at all, as of "
            'Voxtral, serve the model and take captioner = "openai".',
        )
    return processor


def any_processor(spec: FeatureSpec, folder: Path) -> Any:
    """The processor of a folder, with a chat template or without; ConfigError if there is none."""
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        if lack := missing_package(spec.name, spec.model, error):
            raise lack from error
        raise ConfigError(f"feature {spec.name!r}: no processor in {spec.model!r}: {error}") from error


def load_model(spec: FeatureSpec, folder: Path, unused: Sequence[str] = ()) -> Any:
    """The model of a folder, with its weights.

    Args:
        unused: parts of names of weights that nothing reads.

    Raises:
        ConfigError: weights that are missing, left over or not safetensors, or a model that no class of
            transformers loads to answer questions.
    """
    import torch
    from transformers import AutoConfig

    dtype = getattr(torch, spec.compute_dtype)
    with loading(spec):
        config = AutoConfig.from_pretrained(folder)
        if config.is_encoder_decoder:
            raise ConfigError(
                f"feature {spec.name!r}: {spec.model!r} is an encoder-decoder, not a chat model"
            )
        kind = _class_of(config)
        if spec.weights.origin == "random":
            with seeded(spec.weights):
                return _random(kind, config, dtype)
        loaded: Any = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
        model, report = loaded
    check_loaded(spec, Loaded.by_transformers(model, report, folder), unused)
    return model


def end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token id that ends an answer: the model's generation settings may name several."""
    named = model.generation_config.eos_token_id
    ids = set(named) if isinstance(named, list | tuple) else {named}
    return {i for i in (*ids, tokenizer.eos_token_id) if i is not None}


def _class_of(config: Any) -> Any:
    """What loads a model: of one that speaks the part that writes, else transformers' own choice.

    The first choice is that for pictures, which was the only one before models could hear. Some audio
    language models (Audio Flamingo 3) stand in transformers' list of models from text to text alone. The
    last is that of models of texts alone.
    """
    import transformers
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForMultimodalLM,
        AutoModelForSeq2SeqLM,
    )

    if config.model_type in THINKERS:
        return getattr(transformers, THINKERS[config.model_type])
    known = (
        AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, AutoModelForCausalLM,
    )  # fmt: skip
    return next((auto for auto in known if type(config) in auto._model_mapping), known[0])


def _random(kind: Any, config: Any, dtype: Any) -> Any:
    """A model with random weights of the caller's seed."""
    if config.model_type in THINKERS:
        return kind._from_config(config.thinker_config, dtype=dtype)
    return kind.from_config(config, dtype=dtype)


def without_control(text: str, tokenizer: Any) -> str:
    """A text without the model's control tokens: an item's own words end no turn and stand for no picture.

    Args:
        tokenizer: of transformers.
    """
    for token in sorted(tokenizer.get_added_vocab(), key=len, reverse=True):
        text = text.replace(token, " ")
    return text
