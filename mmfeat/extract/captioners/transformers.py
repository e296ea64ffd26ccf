"""Captions by any chat model that transformers' ``AutoModelForImageTextToText`` loads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Caption, Captioner, CaptionInput
from mmfeat.extract.options import PICTURES, check_options, check_source, frame_sampling, need_model
from mmfeat.extract.prompts import fill, load_prompt, variables_of
from mmfeat.extract.weights import find_weights, loadable_folder, loading, seeded
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError
from mmfeat.schemas.spec import Decoding, FeatureConfig, FeatureSpec, ImagePreprocess, ModelCard, PixelView

if TYPE_CHECKING:
    import torch

_DEFAULT_MAX_SIDE = 768
_DEFAULT_PROMPTS = {"cover": "describe", "video": "describe-video"}
_OPTIONS = (
    "model",
    "weights",
    "revision",
    "dtype",
    "jpeg",
    "prompt",
    "max_new_tokens",
    "temperature",
    "max_side",
)


class TransformersCaptioner(Captioner):
    """One answer per item to a prompt about its cover, or about frames of its clip in order of time.

    The question goes through the model's own chat template: the pictures, then the prompt. Decoding is
    greedy at temperature 0. Above it each item is sampled alone, with random numbers seeded from its
    pixels and question, so that its text does not depend on what else is in the batch. Of the model's
    own generation settings only the ids of its special tokens are used: a repetition penalty or a
    top-p in its folder would decide values without being part of the spec.

    Weights are read from safetensors only, and no code from the model's folder is run.
    """

    batch_size: ClassVar[int] = 8
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers",
        model="HuggingFaceTB/SmolVLM-256M-Instruct",
        reads=PICTURES,
        licence="Apache-2.0",
        weights_from="hub: HuggingFaceTB/SmolVLM-256M-Instruct",
        notes="Captions by a multimodal LLM; the model's processor decides the input size.",
    )

    @classmethod
    def resolve(cls, name: str, config: FeatureConfig, upstream: FeatureSpec | None) -> FeatureSpec:
        """See :meth:`Model.resolve`. Reads ``cover`` or ``video``; ``model`` is a hub id or a folder."""
        check_source(name, config, upstream)
        check_options(name, config, _OPTIONS)
        model = need_model(name, config, "HuggingFaceTB/SmolVLM-256M-Instruct")
        asked = load_prompt(config.prompt or _DEFAULT_PROMPTS[config.source])
        side = config.max_side or _DEFAULT_MAX_SIDE
        weights = find_weights(name, config).weights
        return FeatureSpec(
            name=name,
            source=config.source,
            output="text",
            method="transformers",
            # A folder goes by its name: where it lies on this machine decides no value.
            model=Path(weights.location).name if weights.location else model,
            weights=weights,
            image=ImagePreprocess(
                view=PixelView(mode="bound", height=side, width=side, jpeg=config.jpeg or "exact")
            ),
            frames=frame_sampling(name, config),
            compute_dtype=config.dtype or "float32",
            text_kind="caption",
            prompt=asked.prompt,
            decoding=Decoding(
                max_new_tokens=config.max_new_tokens or asked.max_new_tokens,
                temperature=config.temperature or 0.0,
            ),
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Model.card`."""
        return ModelCard(
            method="transformers",
            model=spec.model,
            reads=PICTURES,
            licence="see the model's own card",
            weights_from=f"{spec.weights.origin}: {spec.weights.ref}",
            notes="Captions by a multimodal LLM; the model's processor decides the input size.",
        )

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        """Load processor and model.

        Raises:
            ConfigError: weights that differ from the spec's digest, that are not safetensors, or a
                model that is not a decoder-only chat model for images.
        """
        folder = loadable_folder(spec)
        self.spec = spec
        self._device = device
        self._processor = _load_processor(spec, folder)
        self._tokenizer = self._processor.tokenizer
        # Prompts of a batch must end where the answers begin. Many tokenizers pad on the right by
        # default, which makes the model continue after padding and changes its answers.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = _load_model(spec, folder).to(device).eval()
        self._end_ids = _end_ids(self._model, self._tokenizer)
        self._variables = variables_of(spec.prompt.text) if spec.prompt else set()

    def caption(self, inputs: Sequence[CaptionInput]) -> list[Caption]:
        """One caption per input, in order.

        ``new_tokens`` counts the token that ends the answer.

        Raises:
            ItemError: an item without pixels, without a text that the prompt reads, or with more
                tokens than the model's context holds.
        """
        if not inputs:
            return []
        questions = [self._question(item) for item in inputs]
        if self._decoding.temperature == 0:
            return self._answer(inputs, questions)
        return [self._sample(item, question) for item, question in zip(inputs, questions, strict=True)]

    @property
    def _decoding(self) -> Decoding:
        return self.spec.decoding or Decoding()

    def _question(self, item: CaptionInput) -> str:
        """The item's turn of the conversation as the model's chat template writes it."""
        if len(item.frames.pixels) == 0:
            raise ItemError("caption", "no frame to describe")
        pictures: list[dict[str, str]] = [{"type": "image"}] * len(item.frames.pixels)
        asked = {"type": "text", "text": self._prompt_text(item)}
        turns = [{"role": "user", "content": [*pictures, asked]}]
        return str(self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def _prompt_text(self, item: CaptionInput) -> str:
        if self.spec.prompt is None:
            raise ConfigError(f"feature {self.spec.name!r} has no prompt")
        values = {}
        for variable in self._variables:
            text = item.texts.get(variable, "").strip()
            if not text:
                raise ItemError("caption", f"the prompt reads the {variable}, and the item has none")
            values[variable] = self._without_control_tokens(text)
        return fill(self.spec.prompt.text, values)

    def _without_control_tokens(self, text: str) -> str:
        """An item's text must not be able to end the turn or to stand for a picture."""
        for token in sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True):
            text = text.replace(token, " ")
        return text

    def _sample(self, item: CaptionInput, question: str) -> Caption:
        import torch

        key = hashlib.sha256(question.encode() + np.ascontiguousarray(item.frames.pixels).tobytes()).digest()
        devices = [self._device] if self._device.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int.from_bytes(key[:8], "big") >> 1)
            return self._answer([item], [question])[0]

    def _answer(self, inputs: Sequence[CaptionInput], questions: list[str]) -> list[Caption]:
        import torch

        batch = self._encode(inputs, questions)
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        with torch.inference_mode():
            ids = self._model.generate(**batch, generation_config=self._generation_config())
        width = batch["input_ids"].shape[1]
        if not torch.equal(ids[:, :width], batch["input_ids"]):
            raise MmfeatError(f"model {self.spec.model!r} does not return the question before its answer")
        rows = ids[:, width:].tolist()
        return [self._caption(row, length) for row, length in zip(rows, lengths, strict=True)]

    def _encode(self, inputs: Sequence[CaptionInput], questions: list[str]) -> dict[str, torch.Tensor]:
        from PIL import Image

        # PIL images, not arrays: a processor guesses the channel axis of an array, and guesses wrong
        # for a picture three pixels high.
        pictures = [[Image.fromarray(frame) for frame in item.frames.pixels] for item in inputs]
        # The chat template wrote the special tokens already.
        batch = self._processor(
            text=questions, images=pictures, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self._device, self._model.dtype)
        if not bool(batch["attention_mask"][:, -1].all()):
            raise MmfeatError(f"the processor of {self.spec.model!r} pads on the right whatever it is told")
        self._check_room(int(batch["input_ids"].shape[1]))
        return dict(batch)

    def _check_room(self, tokens: int) -> None:
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        needed = tokens + self._decoding.max_new_tokens
        if room is not None and needed > room:
            raise ItemError(
                "caption",
                f"{tokens} tokens of pictures and prompt and {self._decoding.max_new_tokens} new ones "
                f"exceed the model's {room}; take fewer frames or a smaller max_side",
            )

    def _generation_config(self) -> Any:
        from transformers import GenerationConfig

        sampling: dict[str, Any] = {"do_sample": False}
        if self._decoding.temperature > 0:
            sampling = {
                "do_sample": True,
                "temperature": self._decoding.temperature,
                "top_k": 0,
                "top_p": 1.0,
            }
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self._decoding.max_new_tokens,
            eos_token_id=sorted(self._end_ids),
            pad_token_id=self._tokenizer.pad_token_id,
            bos_token_id=self._tokenizer.bos_token_id,
            **sampling,
        )

    def _caption(self, row: list[int], prompt_tokens: int) -> Caption:
        """The answer in ``row``: up to its first end token, after which there is only padding.

        Looking for the first end token, not for padding, stays right where a model pads with one.
        """
        end = next((i for i, token in enumerate(row) if token in self._end_ids), None)
        said = row if end is None else row[:end]
        return Caption(
            text=self._tokenizer.decode(said, skip_special_tokens=True).strip(),
            finish_reason="length" if end is None else "stop",
            prompt_tokens=prompt_tokens,
            new_tokens=len(row) if end is None else end + 1,
        )


def _load_processor(spec: FeatureSpec, folder: Path) -> Any:
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
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
        return AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, use_safetensors=True)


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Every token id that ends an answer: the model's generation settings may name several."""
    named = model.generation_config.eos_token_id
    ids = set(named) if isinstance(named, list | tuple) else {named}
    return {i for i in (*ids, tokenizer.eos_token_id) if i is not None}
