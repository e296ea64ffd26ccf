"""Whisper by CTranslate2, with faster-whisper's features and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.engine import Decoded, Engine, WhisperSettings
from mmfeat.extract.describers.transcripts.hearing import PIECE_SECONDS, SAMPLE_RATE
from mmfeat.extract.weights import loading
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.spec import FeatureSpec

#: What loading a model folder may read.
SUFFIXES = (".bin", ".json", ".txt")
#: CTranslate2's own format of weights, which is no pickle.
WEIGHTS = "model.bin"
#: Without it faster-whisper would take another model's from the hub.
TOKENIZER = "tokenizer.json"

# Of the features of 30 s.
_COLUMNS = 3000


class CTranslate2Whisper(Engine):
    """Pieces are decoded together, each of them once, as faster-whisper's batched pipeline does: with beam
    search, its default suppressed tokens, and no text of an earlier piece; and with times."""

    def __init__(self, spec: FeatureSpec, folder: Path, place: Placement) -> None:
        """Load model and tokenizer.

        Raises:
            MissingExtra: faster-whisper is not installed.
            ConfigError: the folder cannot be loaded.
        """
        try:
            from faster_whisper import WhisperModel
        except ModuleNotFoundError as error:
            raise MissingExtra("Whisper by CTranslate2", "speech", error.name or "faster-whisper") from None
        self.settings = spec.settings(WhisperSettings)
        device, _, index = place.device.partition(":")
        with loading(spec):
            self._whisper = WhisperModel(
                str(folder),
                device=device,
                device_index=int(index or 0),
                compute_type=spec.compute_dtype,
                cpu_threads=place.threads or 0,
            )
        self.runtime = f"ctranslate2 {version('ctranslate2')}"
        self.known = frozenset(self._whisper.supported_languages)
        self.first_time = self._tokenizer("en").timestamp_begin

    def languages(self, pieces: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """See :meth:`Engine.languages`."""
        if not self._whisper.model.is_multilingual:
            return [("en", 1.0)] * len(pieces)
        found = [self._whisper.model.detect_language(self._encoded(part)) for part in self.parts(pieces)]
        likeliest = (of_piece[0] for part in found for of_piece in part)
        return [(token.strip("<|>"), float(probability)) for token, probability in likeliest]

    def decode(self, pieces: Sequence[np.ndarray], languages: Sequence[str]) -> list[Decoded]:
        """See :meth:`Engine.decode`."""
        prompts = [self._prompt(language) for language in languages]
        return [
            decoded
            for part, asked in zip(self.parts(pieces), self.parts(prompts), strict=True)
            for decoded in self._decoded(part, asked)
        ]

    def text(self, tokens: Sequence[int]) -> str:
        """See :meth:`Engine.text`."""
        return str(self._tokenizer("en").decode(list(tokens)))

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self._whisper.model.is_multilingual
        return Tokenizer(self._whisper.hf_tokenizer, multilingual, task=self.settings.task, language=language)

    def _prompt(self, language: str) -> list[int]:
        return list(self._whisper.get_prompt(self._tokenizer(language), previous_tokens=[]))

    def _encoded(self, pieces: Sequence[np.ndarray]) -> Any:
        """What the encoder makes of pieces: each followed by silence up to 30 s, as Whisper was trained.

        faster-whisper itself fills up the features instead, of a sound that ends where the piece does; then
        tiny.en takes a quarter more words for others.
        """
        whole = np.zeros((len(pieces), round(PIECE_SECONDS * SAMPLE_RATE)), np.float32)
        for row, piece in zip(whole, pieces, strict=True):
            row[: len(piece)] = piece
        features = [self._whisper.feature_extractor(row, padding=0)[:, :_COLUMNS] for row in whole]
        return self._whisper.encode(np.stack(features))

    def _decoded(self, pieces: Sequence[np.ndarray], prompts: Sequence[list[int]]) -> list[Decoded]:
        from faster_whisper.transcribe import get_suppressed_tokens

        results = self._whisper.model.generate(
            self._encoded(pieces),
            prompts,
            beam_size=self.settings.beam_size,
            max_length=len(prompts[0]) + self.settings.most_tokens,
            suppress_tokens=list(get_suppressed_tokens(self._tokenizer("en"), [-1])),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [
            Decoded(tuple(one.sequences_ids[0]), _avg_logprob(one), float(one.no_speech_prob))
            for one in results
        ]


def _avg_logprob(result: Any) -> float:
    """Of all tokens and the one that ends them, as Whisper counts; the library's is without that one."""
    count = len(result.sequences_ids[0])
    return float(result.scores[0]) * count / (count + 1)
