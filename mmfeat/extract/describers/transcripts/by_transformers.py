"""Whisper by transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.engine import Decoded, Engine, WhisperSettings
from mmfeat.extract.describers.transcripts.hearing import SAMPLE_RATE
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.runtimes.choice import use_torch_threads
from mmfeat.extract.weights import loading, seeded
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

# How the two generations of Whisper's tokenizers call it.
_NOBODY_SPEAKS = ("<|nospeech|>", "<|nocaptions|>")

# Tokens that Whisper is asked by: start, language, task; the first alone of a model of English.
_ASKED, _ASKED_IN_ENGLISH = 3, 1


class TransformersWhisper(Engine):
    """Pieces are decoded together, each of them once, with times: ``generate`` of upstream, whose further
    passes over what follows the last time are for sounds of more than 30 s.

    The probabilities are those of the model itself, in one more pass of the decoder over what was said.
    """

    def __init__(self, spec: FeatureSpec, folder: Path, place: Placement) -> None:
        """Load processor and model.

        Raises:
            ConfigError: the folder holds no Whisper, or not what a decoding with times needs.
        """
        from transformers import WhisperProcessor, __version__

        use_torch_threads(place.threads)
        self._spec = spec
        self.settings = spec.settings(WhisperSettings)
        with loading(spec):
            processor = WhisperProcessor.from_pretrained(folder)
            self._model = _load_model(spec, folder).to(place.device).eval()
        self._features, self._tokenizer = processor.feature_extractor, processor.tokenizer
        own = self._model.generation_config
        if getattr(own, "no_timestamps_token_id", None) is None:
            raise ConfigError(
                f"feature {spec.name!r}: the generation_config.json of {spec.model!r} has no "
                "no_timestamps_token_id, so that it cannot say when something was said",
                hint="Take it from the model's page on the hub, where it has been added.",
            )
        self._languages = {
            number: token.strip("<|>") for token, number in (getattr(own, "lang_to_id", None) or {}).items()
        }
        self.known = frozenset(self._languages.values() or ("en",))
        self.first_time = own.no_timestamps_token_id + 1
        self.runtime = f"transformers {__version__}"

    def languages(self, pieces: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """See :meth:`Engine.languages`."""
        import torch

        if not self._languages:
            return [("en", 1.0)] * len(pieces)
        found = []
        for part in self.parts(pieces):
            start = torch.full((len(part), 1), self._model.generation_config.decoder_start_token_id)
            with torch.inference_mode():
                logits = self._model(self._mel(part), decoder_input_ids=start.to(self._model.device)).logits
            of_languages = logits[:, -1, list(self._languages)].float().softmax(-1)
            best = of_languages.max(-1)
            names = list(self._languages.values())
            found += [(names[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
        return found

    def decode(self, pieces: Sequence[np.ndarray], languages: Sequence[str]) -> list[Decoded]:
        """See :meth:`Engine.decode`."""
        return [
            decoded
            for part, spoken in zip(self.parts(pieces), self.parts(languages), strict=True)
            for decoded in self._decoded(part, spoken)
        ]

    def text(self, tokens: Sequence[int]) -> str:
        """See :meth:`Engine.text`."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def _mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """float ``[pieces, mels, 3000]``: each piece followed by silence up to 30 s."""
        found = self._features(list(pieces), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        mel: torch.Tensor = found.input_features
        return mel.to(self._model.device, self._model.dtype)

    def _decoded(self, pieces: Sequence[np.ndarray], languages: Sequence[str]) -> Iterator[Decoded]:
        import torch

        mel, asked, count = self._mel(pieces), dict[str, Any](), _ASKED_IN_ENGLISH
        if self._languages:
            asked, count = {"language": list(languages), "task": self.settings.task}, _ASKED
        with torch.inference_mode(), _kept(self._model.get_encoder()) as encoded:
            sequences = self._model.generate(
                mel,
                attention_mask=torch.ones_like(mel[:, 0], dtype=torch.long),
                num_beams=self.settings.beam_size,
                do_sample=False,
                max_length=count + self.settings.most_tokens,
                return_timestamps=True,
                force_unique_generate_call=True,
                **asked,
            )
            logits = self._model(encoder_outputs=(encoded[-1],), decoder_input_ids=sequences).logits
            probabilities = logits.float().log_softmax(-1)
        for tokens, of_tokens in zip(sequences, probabilities, strict=True):
            yield self._one(tokens, of_tokens)

    def _one(self, tokens: torch.Tensor, logprobs: torch.Tensor) -> Decoded:
        """What was said in one piece.

        Args:
            tokens: ``[length]``: what was asked, what was said, its end and padding.
            logprobs: ``[length, vocabulary]`` of what follows each of them.
        """
        numbers, end = tokens.tolist(), self._model.generation_config.eos_token_id
        first = next((at for at, token in enumerate(numbers) if token >= self.first_time), len(numbers))
        last = numbers.index(end, first) + 1 if end in numbers[first:] else len(numbers)
        said = logprobs[first - 1 : last - 1].gather(-1, tokens[first:last, None])
        nobody = sum(logprobs[0, number].exp().item() for number in self._nobody_speaks)
        average = said.mean().item() if last > first else 0.0
        return Decoded(tuple(token for token in numbers[first:last] if token != end), average, nobody)

    @property
    def _nobody_speaks(self) -> list[int]:
        added = self._tokenizer.get_added_vocab()
        return [added[token] for token in _NOBODY_SPEAKS if token in added]


@contextmanager
def _kept(encoder: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the encoder gives while this holds: it is costly, and ``generate`` keeps it to itself."""
    found: list[torch.Tensor] = []
    hook = encoder.register_forward_hook(lambda module, read, given: found.append(given.last_hidden_state))
    try:
        yield found
    finally:
        hook.remove()


def _load_model(spec: FeatureSpec, folder: Path) -> Any:
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    dtype = getattr(torch, spec.compute_dtype)
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return WhisperForConditionalGeneration(WhisperConfig.from_pretrained(folder)).to(dtype)
    loader: Any = WhisperForConditionalGeneration
    model, report = loader.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    check_loaded(spec, Loaded.by_transformers(model, report, folder))
    return model
