"""Vectors of sounds by transformers' own audio models: AST, Whisper's encoder, wav2vec2 and its kin."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.extract.encoders.sounds import mean_of_windows, sound_rate
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import (
    DEFAULT_WINDOWS,
    SoundOptions,
    VectorOptions,
    WeightsOptions,
    need_model,
    sound_input,
)
from mmfeat.extract.runtimes.choice import torch_runtime, use_torch_threads
from mmfeat.extract.weights import find_weights, folder_digest, loadable_folder, loading, seeded
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Pooling

if TYPE_CHECKING:
    import torch

_READS = ("audio",)
# What is heard at a time of a model that has no length of its own.
_SECONDS = 10.0
# Of a second: the first spectrum of all these models, and wav2vec2's first step, take so much.
_LEAST_SECONDS = 0.025
# AST pools its class token with its distillation token.
_CLASS_TOKENS = 2


class TransformersAudioOptions(WeightsOptions, SoundOptions, VectorOptions):
    """What is read of the model's steps, and which windows of a sound it hears.

    Attributes:
        pooling: ``cls``, ``mean`` of the sound's steps, or ``attention``, the model's own pooler; the model's
            own way when None.
        layer: hidden layer to read; negative counts from the end. The last when None.
    """

    pooling: Pooling | None = None
    layer: int | None = None


class TransformersAudio(Encoder):
    """One vector per sound, pooled from the hidden states of an audio model.

    ``model`` is a hub id or a folder: AST, Whisper, wav2vec2, HuBERT, WavLM, UniSpeech, data2vec-audio,
    wav2vec2-conformer or Wav2Vec2-BERT. ``weights = "random:SEED"`` initialises it from its
    configuration. Sample rate, spectrograms and normalisation are those of its own feature extractor.

    Pooling:
        ``cls`` (AST): the mean of class and distillation token, which is transformers' ``pooler_output``.
        ``mean`` (all others): the mean of the steps that a window's own samples have, without padding. Of
        Whisper, which fills every window up to 30 s, it would else be most of all a mean of silence.
        Both are of the last hidden state, or of hidden state ``layer`` (0: the embeddings; negative: from
        the end), as ``output_hidden_states`` of transformers gives them.

    Eight windows are spread over a sound unless the options say otherwise: of 10.24 s (AST), 30 s (Whisper)
    or 10 s. A vector is the mean of the windows' vectors, and keeps its length unless ``normalize = true``.
    The last window of ``all`` counts if it has 25 ms, of which the models make their first step.

    Windows of several lengths are padded and masked where the model was trained with a mask that hides all
    of the padding. Others get windows of one length together, since padding would change their values:
    those whose first layer normalises over time (wav2vec2-base: ``feat_extract_norm = "group"``), and
    data2vec and conformers, whose convolutions reach into it.
    """

    Options: ClassVar[type[TransformersAudioOptions]] = TransformersAudioOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 16
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers_audio",
        model="openai/whisper-base",
        reads=_READS,
        dims=512,
        licence="Apache-2.0",
        weights_from="hub: openai/whisper-base",
    )

    @classmethod
    def resolve(cls, ask: Ask[TransformersAudioOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        model = need_model(ask, "openai/whisper-base")
        found = find_weights(ask)
        shown = found.called(model)
        facts = {
            "transformers_audio": shown,
            "configuration": folder_digest(found.folder, (".json",)),
            "options": ask.options.model_dump(include={"pooling", "layer", "window_seconds"}),
        }
        outline = remembered(facts, lambda: _outline(ask, shown, found.folder))
        usual = AudioPrepare(
            sample_rate=outline.pop("rate"),
            seconds=outline.pop("seconds"),
            windows="uniform",
            count=DEFAULT_WINDOWS,
        )
        read = sound_input(ask, ask.only, usual)
        return vector_spec(ask, read, model=shown, weights=found.weights, normalize=False, **outline)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return card_of(spec, _READS)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where some are missing or not those of the spec."""
        import torch

        self.spec = spec
        self.runtime = torch_runtime()
        use_torch_threads(place.threads)
        loaded = _load(spec)
        self._family = _FAMILIES[loaded.config.model_type]
        self._model = self._family.tower(loaded).to(place.device, getattr(torch, spec.compute_dtype)).eval()
        self._extractor = _extractor(spec.name, spec.model, loadable_folder(spec))

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        """See :meth:`Encoder.encode_sounds`."""
        padded = self._family.pads(self._extractor, self._model.config)
        least = math.ceil(_LEAST_SECONDS * sound_rate(self.spec))
        return mean_of_windows(sounds, self.spec, self._encoded, padded=padded, least=least)

    def _encoded(self, windows: list[np.ndarray]) -> np.ndarray:
        import torch

        rate = sound_rate(self.spec)
        if (shortest := min(map(len, windows))) < rate * _LEAST_SECONDS:
            raise ItemError("encode", f"too short to be heard: {1000 * shortest / rate:.1f} ms of sound")
        layer = settings_of(self.spec).layer
        with torch.inference_mode():
            state, steps = self._family.hear(self._model, self._extractor, windows, rate, layer)
            pooled = (state.float() * steps[..., None]).sum(1) / steps.sum(1, keepdim=True)
        vectors: np.ndarray = pooled.cpu().numpy()
        return vectors


# What a model hears of some windows: of (model, extractor, windows, rate, layer) the hidden state
# [windows, steps, dims], and for each step 1.0 if it is pooled, else 0.0: [windows, steps].
_Hear = Callable[[Any, Any, list[np.ndarray], int, int | None], "tuple[torch.Tensor, torch.Tensor]"]


@dataclass(frozen=True)
class _Family:
    """Models that are heard in the same way.

    Attributes:
        pads: whether windows of several lengths go together, by extractor and configuration.
        seconds: the most that is heard at a time, by extractor; None if there is no bound.
        layers, dims: the names of these in the configuration.
        tower: the part of a model that hears.
    """

    hear: _Hear
    pooling: Pooling
    pads: Callable[[Any, Any], bool] = lambda extractor, config: True
    seconds: Callable[[Any], float | None] = lambda extractor: None
    layers: str = "num_hidden_layers"
    dims: str = "hidden_size"
    tower: Callable[[Any], Any] = lambda model: model


def _hear_ast(
    model: Any, extractor: Any, windows: list[np.ndarray], rate: int, layer: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    found = extractor(windows, sampling_rate=rate, return_tensors="pt")
    state = _state(model(_moved(found["input_values"], model), output_hidden_states=layer is not None), layer)
    steps = torch.zeros(state.shape[:2], device=state.device)
    steps[:, :_CLASS_TOKENS] = 1
    return state, steps


def _hear_whisper(
    model: Any, extractor: Any, windows: list[np.ndarray], rate: int, layer: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    found = extractor(windows, sampling_rate=rate, return_tensors="pt")
    features = _moved(found["input_features"], model)
    state = _state(model(features, output_hidden_states=layer is not None), layer)
    frames = torch.tensor([-(-len(window) // extractor.hop_length) for window in windows])
    valid = model._get_feat_extract_output_lengths(frames)
    return state, _first(valid, state)


def _hear_wav2vec2(
    model: Any, extractor: Any, windows: list[np.ndarray], rate: int, layer: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    found = extractor(
        windows, sampling_rate=rate, padding=True, return_attention_mask=True, return_tensors="pt"
    )
    mask = found.pop("attention_mask").to(model.device)
    (features,) = found.values()
    masked = {} if mask.all() else {"attention_mask": mask}
    outputs = model(_moved(features, model), **masked, output_hidden_states=layer is not None)
    state, samples = _state(outputs, layer), mask.sum(1)
    # Wav2Vec2-BERT is given spectra: its steps are those of its mask.
    raw = hasattr(model, "feature_extractor")
    valid = model._get_feat_extract_output_lengths(samples) if raw else samples
    return state, _first(valid.to(torch.int64), state)


def _pads_wav2vec2(extractor: Any, config: Any) -> bool:
    return bool(extractor.return_attention_mask) and getattr(config, "feat_extract_norm", "layer") != "group"


def _state(outputs: Any, layer: int | None) -> torch.Tensor:
    state: torch.Tensor = outputs.last_hidden_state if layer is None else outputs.hidden_states[layer]
    return state


def _first(valid: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """1.0 for the first ``valid`` steps of each window."""
    import torch

    steps = torch.arange(state.shape[1], device=state.device)
    return (steps < valid.to(state.device)[:, None]).float()


def _moved(features: torch.Tensor, model: Any) -> torch.Tensor:
    return features.to(model.device, model.dtype)


_WAV2VEC2 = _Family(_hear_wav2vec2, "mean", _pads_wav2vec2)
# Their convolutions reach from padding into what was heard, whatever the mask says.
_WAV2VEC2_BY_LENGTH = _Family(_hear_wav2vec2, "mean", lambda extractor, config: False)
#: By ``model_type``.
_FAMILIES = {
    "audio-spectrogram-transformer": _Family(
        _hear_ast, "cls", seconds=lambda extractor: extractor.max_length / 100
    ),
    "whisper": _Family(
        _hear_whisper,
        "mean",
        seconds=lambda extractor: extractor.chunk_length,
        layers="encoder_layers",
        dims="d_model",
        tower=lambda model: model.get_encoder(),
    ),
    "wav2vec2": _WAV2VEC2,
    "hubert": _WAV2VEC2,
    "wavlm": _WAV2VEC2,
    "unispeech": _WAV2VEC2,
    "unispeech-sat": _WAV2VEC2,
    "data2vec-audio": _WAV2VEC2_BY_LENGTH,
    "wav2vec2-conformer": _WAV2VEC2_BY_LENGTH,
    "wav2vec2-bert": _WAV2VEC2,
}


def _outline(ask: Ask[TransformersAudioOptions], model: str, folder: Path) -> dict[str, Any]:
    """What of the spec only the model's own configuration shows."""
    config = _config(ask.name, model, folder)
    family = _FAMILIES.get(config.model_type)
    if family is None:
        raise ask.error(
            f"{model!r} is a {config.model_type!r} model, which is not known to hear sounds",
            f'Known are: {", ".join(_FAMILIES)}; and CLAP by encoder = "clap".',
        )
    if getattr(config, "add_adapter", False):
        raise ask.error(f"{model!r} has an adapter behind its layers, whose steps cannot be pooled")
    extractor = _extractor(ask.name, model, folder)
    most, asked = family.seconds(extractor), ask.options.window_seconds
    if most is not None and asked is not None and asked > most:
        raise ask.error(
            f"{model!r} hears {most:g} s at a time, and window_seconds = {asked:g}",
            f"Leave it out, and set max_windows to how many windows of {most:g} s are heard.",
        )
    return {
        "rate": extractor.sampling_rate,
        "seconds": most or _SECONDS,
        "dims": getattr(config, family.dims),
        "layer": _layer(ask, model, getattr(config, family.layers) + 1),
        "pooling": _pooling(ask, model, family.pooling),
    }


def _layer(ask: Ask[TransformersAudioOptions], model: str, states: int) -> int | None:
    """A hidden state's index from the front; ConfigError if there is none."""
    layer = ask.options.layer
    if layer is None:
        return None
    if not -states <= layer < states:
        raise ask.error(f"{model!r} has no layer {layer}", f"It has hidden states 0 to {states - 1}.")
    return layer % states


def _pooling(ask: Ask[TransformersAudioOptions], model: str, possible: Pooling) -> Pooling:
    asked = ask.options.pooling
    if asked not in (None, "default", possible):
        raise ask.error(f"{model!r} has no pooling {asked!r}", f"It has: {possible}.")
    return possible


def _config(name: str, model: str, folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"feature {name!r}: transformers does not know {model!r}: {str(error).splitlines()[0]}"
        ) from error


def _extractor(name: str, model: str, folder: Path) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"feature {name!r}: {model!r} has no feature extractor: {str(error).splitlines()[0]}",
            hint="The folder needs the model's preprocessor_config.json.",
        ) from error


def _load(spec: FeatureSpec) -> Any:
    import torch
    from transformers import AutoModel

    folder = loadable_folder(spec)
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return AutoModel.from_config(_config(spec.name, spec.model, folder))  # type: ignore[no-untyped-call]
    with loading(spec):
        model, report = AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    # What stands for masked steps in training, which many files lack.
    check_loaded(spec, Loaded.by_transformers(model, report, folder), ("masked_spec_embed",))
    return model
