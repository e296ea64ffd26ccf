"""Sounds and texts in one space, by CLAP (arXiv 2211.06687) as transformers has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.sounds import mean_of_windows, sound_rate
from mmfeat.extract.encoders.vectors import card_of, vector_spec
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import (
    DEFAULT_WINDOWS,
    SoundOptions,
    VectorOptions,
    WeightsOptions,
    need_model,
    refuse_options,
    sound_input,
)
from mmfeat.extract.runtimes.choice import torch_runtime, use_torch_threads
from mmfeat.extract.weights import find_weights, folder_digest, loadable_folder, loading, seeded
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import AudioPrepare, Input, TextPrepare
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard

_READS = ("audio", "text")
_SOUND_OPTIONS = tuple(SoundOptions.model_fields)
# A fused model sees a long sound whole and in three crops: it is given a minute of it.
_FUSED_SECONDS = 60.0


class ClapOptions(WeightsOptions, SoundOptions, VectorOptions):
    """Which model, and which windows of a sound it hears."""


class Clap(Encoder):
    """Sounds by a CLAP model's sound tower and texts by its text tower, in one space: a text searches sounds.

    ``model`` is a hub id or a folder of transformers' ``ClapModel``, such as ``laion/clap-htsat-unfused``
    or ``laion/larger_clap_general``. ``weights = "random:SEED"`` initialises it from its configuration.
    Spectrograms are those of the model's own feature extractor.

    Unfused models hear windows of 10 s. A shorter one is repeated as often as it fits, and silence fills
    the rest (``repeatpad``). Eight windows are spread over a sound unless the options say otherwise.

    Fused models hear a window of any length, by default the first 60 s: one of more than 10 s is shown as
    its whole spectrogram shrunk to 10 s, and three crops of 10 s. Where these lie is drawn by a generator
    that starts anew for every window, so that a sound has the same vector every time. One that is not
    longer is not fused: transformers alone calls one sound of a batch longer, drawn at random, if none
    is, and so gives a short sound another vector in another batch.

    A vector is the mean of the windows' vectors, each of length 1, and has length 1 unless
    ``normalize = false``: retrieval compares cosines.
    """

    Options: ClassVar[type[ClapOptions]] = ClapOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("audio",)), Reads(("text",)))
    batch_size: ClassVar[int] = 16
    example: ClassVar[ModelCard] = ModelCard(
        method="clap",
        model="laion/clap-htsat-unfused",
        reads=_READS,
        dims=512,
        licence="Apache-2.0",
        weights_from="hub: laion/clap-htsat-unfused",
    )

    @classmethod
    def resolve(cls, ask: Ask[ClapOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        model = need_model(ask, "laion/clap-htsat-unfused")
        found = find_weights(ask)
        shown = found.called(model)
        facts = {"clap": shown, "configuration": folder_digest(found.folder, (".json",))}
        outline = remembered(facts, lambda: _outline(ask, shown, found.folder))
        return vector_spec(
            ask,
            _input(ask, outline),
            model=shown,
            weights=found.weights,
            normalize=True,
            dims=outline["dims"],
        )

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
        self._model = _load(spec).to(place.device, getattr(torch, spec.compute_dtype)).eval()
        self._extractor = _extractor(spec.name, spec.model, loadable_folder(spec))

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        """See :meth:`Encoder.encode_sounds`."""
        return mean_of_windows(sounds, self.spec, self._encoded, padded=True)

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text."""
        return Query(None, self.encode_texts) if modality == "text" else None

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 ``[n, dims]`` of length 1. Texts are cut where the tower has no more positions."""
        import torch

        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            outputs = self._model.get_text_features(**tokens.to(self._model.device))
        vectors: np.ndarray = outputs.pooler_output.float().cpu().numpy()
        return vectors

    def _encoded(self, windows: list[np.ndarray]) -> np.ndarray:
        import torch

        features = np.concatenate([self._spectrograms(window) for window in windows])
        longer = torch.tensor([[self._is_longer(window)] for window in windows])
        inputs = torch.from_numpy(features).to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            outputs = self._model.get_audio_features(inputs, is_longer=longer.to(self._model.device))
        vectors: np.ndarray = outputs.pooler_output.float().cpu().numpy()
        return vectors

    def _spectrograms(self, window: np.ndarray) -> np.ndarray:
        """float32 ``[1, views, frames, bands]``"""
        with _seeded_crops():
            found = self._extractor(window, sampling_rate=sound_rate(self.spec), return_tensors="np")
        return np.asarray(found["input_features"], np.float32)

    def _is_longer(self, window: np.ndarray) -> bool:
        """Whether a window has more frames than the tower sees at once."""
        hop, most = int(self._extractor.hop_length), int(self._extractor.nb_max_samples)
        return len(window) // hop > most // hop

    @cached_property
    def tokenizer(self) -> Any:
        """Made when it is first wanted: sounds need none."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(loadable_folder(self.spec))
        tokenizer.model_max_length = min(tokenizer.model_max_length, _most_tokens(self._model.config))
        return tokenizer


@contextmanager
def _seeded_crops() -> Iterator[None]:
    """The extractor draws crops by numpy's own generator, which starts anew here and goes on as before."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)


def _outline(ask: Ask[ClapOptions], model: str, folder: Path) -> dict[str, Any]:
    """What of the spec the model's configuration shows."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if config.model_type != "clap":
        raise ask.error(
            f"{model!r} is a {config.model_type!r} model, and none of CLAP",
            'Try encoder = "transformers_audio".',
        )
    extractor = _extractor(ask.name, model, folder)
    fused = extractor.truncation == "fusion"
    if fused != bool(config.audio_config.enable_fusion):
        raise ask.error(
            f"config.json of {model!r} says that it is {'not ' if fused else ''}fused, and its "
            f"preprocessor_config.json has truncation = {extractor.truncation!r}"
        )
    return {
        "dims": config.projection_dim,
        "rate": extractor.sampling_rate,
        "seconds": extractor.max_length_s,
        "fused": fused,
        "tokens": _most_tokens(config),
    }


def _most_tokens(config: Any) -> int:
    """Tokens of the longest text: RoBERTa's positions begin behind the padding's."""
    text = config.text_config
    return int(text.max_position_embeddings - text.pad_token_id - 1)


def _input(ask: Ask[ClapOptions], outline: dict[str, Any]) -> Input:
    if ask.only.modality == "audio":
        return sound_input(ask, ask.only, _usual(ask, outline))
    refuse_options(ask, _SOUND_OPTIONS, "sounds")
    return ask.only.prepared(TextPrepare(max_tokens=outline["tokens"]))


def _usual(ask: Ask[ClapOptions], outline: dict[str, Any]) -> AudioPrepare:
    """The windows that are heard where the options say nothing.

    Raises:
        ConfigError: windows that an unfused model would hear a random part of.
    """
    rate, seconds = outline["rate"], outline["seconds"]
    if outline["fused"]:
        return AudioPrepare(sample_rate=rate, seconds=_FUSED_SECONDS)
    if (ask.options.window_seconds or 0) > seconds:
        raise ask.error(
            f"the model hears {seconds} s at a time, and window_seconds = {ask.options.window_seconds:g}",
            f"Leave it out, and set max_windows to how many windows of {seconds} s are heard.",
        )
    return AudioPrepare(sample_rate=rate, seconds=seconds, windows="uniform", count=DEFAULT_WINDOWS)


def _extractor(name: str, model: str, folder: Path) -> Any:
    from transformers import ClapFeatureExtractor

    try:
        return ClapFeatureExtractor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"feature {name!r}: {model!r} has no feature extractor: {str(error).splitlines()[0]}",
            hint="The folder needs the model's preprocessor_config.json.",
        ) from error


def _load(spec: FeatureSpec) -> Any:
    import torch
    from transformers import AutoConfig, ClapModel

    folder = loadable_folder(spec)
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return ClapModel(AutoConfig.from_pretrained(folder))
    read: Any = ClapModel.from_pretrained
    with loading(spec):
        model, report = read(folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    check_loaded(spec, Loaded.by_transformers(model, report, folder))
    return model
