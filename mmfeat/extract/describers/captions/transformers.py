"""Captions by any chat model that transformers' ``AutoModelForImageTextToText`` loads."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Placement
from mmfeat.extract.describers.captions import reasoning
from mmfeat.extract.describers.captions.accepting import Reply
from mmfeat.extract.describers.captions.chat import (
    ChatCaptioner,
    ChatOptions,
    Conversation,
    chat_spec,
)
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.options import WeightsOptions, need_model
from mmfeat.extract.runtimes.choice import use_torch_threads
from mmfeat.extract.weights import find_weights, loadable_folder, loading, missing_package, seeded
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError
from mmfeat.schemas.spec import ComputeDtype, Decoding, FeatureSpec, ModelCard

if TYPE_CHECKING:
    import torch


class TransformersCaptionerOptions(WeightsOptions, ChatOptions):
    """Which model, and the number type it computes in."""

    dtype: ComputeDtype | None = None


class TransformersCaptioner(ChatCaptioner):
    """One answer per item to a prompt about its cover, or about frames of its clip in order of time.

    A question goes through the model's own chat template: the pictures, then the prompt. Decoding is
    greedy at temperature 0. Above it each item is sampled alone, with random numbers seeded from its
    pixels and question, so that its text does not depend on what else is in the batch. Of the model's
    own generation settings only the ids of its special tokens are used: a repetition penalty or a
    top-p in its folder would decide values without being part of the spec.

    Weights are read from safetensors only, and no code from the model's folder is run.
    """

    Options: ClassVar[type[TransformersCaptionerOptions]] = TransformersCaptionerOptions
    batch_size: ClassVar[int] = 8
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers",
        model="HuggingFaceTB/SmolVLM-256M-Instruct",
        reads=("image", "video"),
        licence="Apache-2.0",
        weights_from="hub: HuggingFaceTB/SmolVLM-256M-Instruct",
        notes="Captions by a multimodal LLM; the model's processor decides the input size.",
    )

    @classmethod
    def resolve(cls, ask: Ask[TransformersCaptionerOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is a hub id or a folder."""
        model = need_model(ask, "HuggingFaceTB/SmolVLM-256M-Instruct")
        weights = find_weights(ask).weights
        return chat_spec(
            ask,
            # A folder goes by its name: where it lies on this machine decides no value.
            model=Path(weights.location).name if weights.location else model,
            weights=weights,
            compute_dtype=ask.options.dtype or "float32",
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return ModelCard(
            method="transformers",
            model=spec.model,
            reads=("image", "video"),
            licence="see the model's own card",
            weights_from=f"{spec.weights.origin}: {spec.weights.ref}",
            notes="Captions by a multimodal LLM; the model's processor decides the input size.",
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load processor and model.

        Raises:
            ConfigError: weights that differ from the spec's digest, that are not safetensors, or a
                model that is not a decoder-only chat model for images.
        """
        use_torch_threads(place.threads)
        folder = loadable_folder(spec)
        self.spec = spec
        self._device = place.device
        self._processor = _load_processor(spec, folder)
        self._tokenizer = self._processor.tokenizer
        # Prompts of a batch must end where the answers begin. Many tokenizers pad on the right by
        # default, which makes the model continue after padding and changes its answers.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = _load_model(spec, folder).to(place.device).eval()
        self._end_ids = _end_ids(self._model, self._tokenizer)
        added = self._tokenizer.get_added_vocab()
        self._marks = {number: token for token, number in added.items() if reasoning.is_mark(token)}

    def answer(
        self, conversations: Sequence[Conversation], decoding: Decoding, at_once: int
    ) -> list[Reply | ItemError]:
        """See :meth:`ChatCaptioner.answer`; ``new_tokens`` counts the token that ends the reply.

        A conversation of more tokens than the model's context holds is an ItemError.
        """
        asked = [_Asked(self._question(turns), _pictures(turns)) for turns in conversations]
        # Sampled one by one: random numbers are drawn for a whole batch.
        size = at_once if decoding.temperature == 0 else 1
        parts = [asked[start : start + size] for start in range(0, len(asked), size)]
        return [reply for part in parts for reply in self._timed(part, decoding)]

    def sanitised(self, text: str) -> str:
        """The text without the model's control tokens."""
        for token in sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True):
            text = text.replace(token, " ")
        return text

    def _question(self, turns: Conversation) -> str:
        """The conversation as the model's chat template writes it, up to where the answer begins."""
        messages = []
        for turn in turns:
            pictures = [{"type": "image"}] * (0 if turn.pictures is None else len(turn.pictures))
            messages.append({"role": turn.role, "content": [*pictures, {"type": "text", "text": turn.text}]})
        return str(
            self._processor.apply_chat_template(
                messages,
                add_generation_prompt=True,
                tokenize=False,
                **(self.settings.chat_template_kwargs or {}),
            )
        )

    def _timed(self, asked: Sequence[_Asked], decoding: Decoding) -> list[Reply | ItemError]:
        began = time.perf_counter()
        with self._seeded(asked, decoding):
            replies = self._replies(asked, decoding)
        share = (time.perf_counter() - began) / len(asked)
        return [r if isinstance(r, ItemError) else replace(r, seconds=share) for r in replies]

    @contextlib.contextmanager
    def _seeded(self, asked: Sequence[_Asked], decoding: Decoding) -> Iterator[None]:
        if decoding.temperature == 0:
            yield
            return
        import torch

        digest = hashlib.sha256()
        for one in asked:
            digest.update(one.question.encode())
            for picture in one.pictures:
                digest.update(np.ascontiguousarray(picture).tobytes())
        devices = [self._device] if self._device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int.from_bytes(digest.digest()[:8], "big") >> 1)
            yield

    def _replies(self, asked: Sequence[_Asked], decoding: Decoding) -> list[Reply | ItemError]:
        import torch

        batch = self._encode(asked)
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        errors = [self._lacks_room(length, decoding) for length in lengths]
        if any(errors):
            fitting = [one for one, error in zip(asked, errors, strict=True) if error is None]
            replies = iter(self._replies(fitting, decoding) if fitting else [])
            return [error or next(replies) for error in errors]
        with torch.inference_mode():
            ids = self._model.generate(**batch, generation_config=self._generation_config(decoding))
        width = batch["input_ids"].shape[1]
        if not torch.equal(ids[:, :width], batch["input_ids"]):
            raise MmfeatError(f"model {self.spec.model!r} does not return the question before its answer")
        rows = ids[:, width:].tolist()
        return [
            self._reply(row, length, one.question)
            for row, length, one in zip(rows, lengths, asked, strict=True)
        ]

    def _encode(self, asked: Sequence[_Asked]) -> dict[str, torch.Tensor]:
        from PIL import Image

        # PIL images, not arrays: a processor guesses the channel axis of an array, and guesses wrong
        # for a picture three pixels high.
        pictures = [[Image.fromarray(picture) for picture in one.pictures] for one in asked]
        # The chat template wrote the special tokens already.
        batch = self._processor(
            text=[one.question for one in asked],
            images=pictures if any(pictures) else None,
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
        ).to(self._device, self._model.dtype)
        if not bool(batch["attention_mask"][:, -1].all()):
            raise MmfeatError(f"the processor of {self.spec.model!r} pads on the right though asked not to")
        return dict(batch)

    def _lacks_room(self, tokens: int, decoding: Decoding) -> ItemError | None:
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if room is None or tokens + decoding.max_new_tokens <= room:
            return None
        return ItemError(
            "caption",
            f"{tokens} tokens of pictures and prompt and {decoding.max_new_tokens} new ones exceed the "
            f"model's {room}; take fewer frames or scenes, or a smaller max_side",
        )

    def _generation_config(self, decoding: Decoding) -> Any:
        from transformers import GenerationConfig

        sampling: dict[str, Any] = {"do_sample": False}
        if decoding.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": decoding.temperature,
                "top_k": 0,
                "top_p": 1.0,
            }
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=sorted(self._end_ids),
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
            **sampling,
        )

    def _reply(self, row: list[int], prompt_tokens: int, question: str) -> Reply:
        """The answer in ``row``: up to its first end token, after which there is only padding.

        Looking for the first end token, not for padding, stays right where a model pads with one.
        """
        end = next((i for i, token in enumerate(row) if token in self._end_ids), None)
        said = row if end is None else row[:end]
        return Reply(
            text=(reasoning.opened_by(question) + self._text(said)).strip(),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            new_tokens=len(row) if end is None else end + 1,
        )

    def _text(self, said: list[int]) -> str:
        """The text of tokens, without the special ones but for those that mark reasoning."""
        parts = []
        for mark, run in groupby(said, key=self._marks.get):
            ids = list(run)
            text = self._tokenizer.decode(ids, skip_special_tokens=True) if mark is None else mark * len(ids)
            parts.append(str(text))
        return "".join(parts)


@dataclass(frozen=True)
class _Asked:
    """A conversation in the model's own notation, and its pictures in the order of their places in it."""

    question: str
    pictures: Sequence[np.ndarray]


def _pictures(turns: Conversation) -> list[np.ndarray]:
    return [picture for turn in turns if turn.pictures is not None for picture in turn.pictures]


def _load_processor(spec: FeatureSpec, folder: Path) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        if lack := missing_package(spec.name, spec.model, error):
            raise lack from error
        raise ConfigError(f"feature {spec.name!r}: no processor in {spec.model!r}: {error}") from error
    if getattr(processor, "tokenizer", None) is None or not processor.chat_template:
        raise ConfigError(
            f"feature {spec.name!r}: {spec.model!r} has no chat template for pictures",
            hint="Take the instruction-tuned variant of the model.",
        )
    return processor


def _load_model(spec: FeatureSpec, folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    dtype = getattr(torch, spec.compute_dtype)
    with loading(spec):
        config = AutoConfig.from_pretrained(folder)
        if config.is_encoder_decoder:
            raise ConfigError(
                f"feature {spec.name!r}: {spec.model!r} is an encoder-decoder, not a chat model"
            )
        if spec.weights.origin == "random":
            with seeded(spec.weights):
                return AutoModelForImageTextToText.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
        model, report = loaded
    check_loaded(spec, Loaded.by_transformers(model, report, folder))
    return model


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token id that ends an answer: the model's generation settings may name several."""
    named = model.generation_config.eos_token_id
    ids = set(named) if isinstance(named, list | tuple) else {named}
    return {i for i in (*ids, tokenizer.eos_token_id) if i is not None}
