"""Runs a language model on messages, each of which is all that a feature reads of an item."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.chat.loading import any_processor, load_model, without_control
from mmfeat.extract.chat.question import Calls, Question
from mmfeat.extract.encoders.message_parts import Part, size_of
from mmfeat.extract.encoders.mllm.folder import gguf_of
from mmfeat.extract.encoders.mllm.options import MllmSettings
from mmfeat.extract.encoders.mllm.recipes import RECIPES, Message, Recipe, chat_message, plain_text
from mmfeat.extract.encoders.mllm.states import States, decoder_of, plain_positions, pooled, without_head
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.weights import loadable_folder, loading
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.inputs import AudioPrepare, TextPrepare
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

# Of a forward pass: one picture is hundreds of tokens, a text seldom as many.
_MESSAGES_AT_ONCE, _TEXTS_AT_ONCE = 8, 32
_NO_PLACE = "Take a folder whose chat template has one, or the recipe that is made for the model."


class Embedder:
    """A loaded model, and how messages become vectors.

    Raises:
        ConfigError: weights that are not those of the spec, or a model that cannot be asked so.
        MissingExtra: a package that reads its files is not installed.
    """

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        self._spec, self._settings = spec, spec.settings(MllmSettings)
        file = gguf_of(spec)
        folder = loadable_folder(spec) if file is None else file.parent
        texts_alone = self._settings.takes == ("text",)
        processor = _tokenizer(spec, folder, file) if texts_alone else any_processor(spec, folder)
        self._tokenizer = getattr(processor, "tokenizer", processor)
        self._recipe = RECIPES[self._settings.recipe] if self._settings.recipe else _of_folder(processor)
        self._calls = Calls(processor, special_tokens=self._recipe.special_tokens)
        self.merged: int = self._calls.merged
        self._prepare_processor(processor)
        model = _language_model(spec, folder, file)
        self._room = getattr(_text_config(model), "max_position_embeddings", None)
        self.model = without_head(model).to(device).eval()
        decoder = decoder_of(spec, self.model)
        self._states = States(self.model, decoder, self._settings.layer, self._settings.final_norm)
        self._check_places()

    def reading(self, spec: FeatureSpec) -> Embedder:
        """The same model for a feature of other inputs."""
        other = copy(self)
        other._spec = spec
        return other

    def run(self, items: Sequence[Sequence[Part]], instruction: str | None) -> list[np.ndarray | ItemError]:
        """The vector of each message, or why it has none."""
        parts = [self._recipe.ordered([self._cut(part) for part in item]) for item in items]
        asked = [self._question(of_item, instruction) for of_item in parts]
        # Those of like length go together, which spares padding.
        order = sorted(range(len(asked)), key=lambda n: size_of(parts[n]))
        texts_alone = all(modality == "text" for of_item in parts for modality, _ in of_item)
        at_once = _TEXTS_AT_ONCE if texts_alone else _MESSAGES_AT_ONCE
        found: dict[int, np.ndarray | ItemError] = {}
        for numbers in self._calls.together([asked[n] for n in order], at_once):
            mine = [order[n] for n in numbers]
            found.update(zip(mine, self._vectors([asked[n] for n in mine]), strict=True))
        return [found[n] for n in range(len(asked))]

    def _prepare_processor(self, processor: Any) -> None:
        # Of a batch all vectors are read in the same column then; no token stands behind padding.
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._settings.pooling == "eos" and self._tokenizer.eos_token is None:
            raise self._error('has no end token, which pooling = "eos" reads', 'Set pooling = "last".')
        bounds = self._recipe.picture_tokens
        if bounds is not None and hasattr(processor, "image_processor"):
            images = processor.image_processor
            area = (images.patch_size * images.merge_size) ** 2
            images.size = {"shortest_edge": bounds[0] * area, "longest_edge": bounds[1] * area}

    def _check_places(self) -> None:
        """ConfigError where the model's own notation refuses a message, or has no place for what is read."""
        read = [one.modality for one in self._spec.given if one.modality != "text"]
        shown = ["video" if kind == "video" and self._settings.videos else kind for kind in read]
        with loading(self._spec):
            without = self.written([("text", "x")], self._settings.instruction)
            for kind in (
                "image" if kind == "video" and not self._settings.videos else kind for kind in shown
            ):
                if self.written([(kind, None), ("text", "x")], self._settings.instruction) == without:
                    raise self._error(f"has no place for {kind} in a message", _NO_PLACE)

    def _error(self, problem: str, hint: str | None) -> ConfigError:
        return ConfigError(f"feature {self._spec.name!r}: {self._spec.model!r} {problem}", hint=hint)

    def _cut(self, part: Part) -> Part:
        """A part, a text without control tokens and cut where the spec says: as many tokens as stay beside
        those that the tokenizer puts around it."""
        modality, value = part
        if modality == "text":
            value = without_control(value, self._tokenizer)
        read = (one.prepare for one in self._spec.given)
        limit = next((p.max_tokens for p in read if isinstance(p, TextPrepare)), None)
        if modality != "text" or limit is None:
            return modality, value
        around = self._tokenizer.num_special_tokens_to_add() if self._recipe.special_tokens else 0
        places = self._tokenizer(value, add_special_tokens=False, return_offsets_mapping=True)
        offsets = places["offset_mapping"]
        room = max(1, limit - around)
        return (modality, value) if len(offsets) <= room else (modality, value[: offsets[room - 1][1]])

    def _question(self, parts: Sequence[Part], instruction: str | None) -> Question:
        def of(kind: str) -> list[Any]:
            return [value for modality, value in parts if modality == kind]

        rates = [one.prepare.sample_rate for one in self._spec.given if isinstance(one.prepare, AudioPrepare)]
        rate = rates[0] if rates else 0
        return Question(self.written(parts, instruction), of("image"), of("video"), of("audio"), rate)

    def written(self, parts: Sequence[Part], instruction: str | None) -> str:
        """A message in the model's own notation."""
        text = self._recipe.write(Message(parts, instruction, self._chat))
        if self._settings.pooling != "eos" or self._ends_itself():
            return text
        return text.removesuffix(self._tokenizer.eos_token) + str(self._tokenizer.eos_token)

    def _ends_itself(self) -> bool:
        """Whether the tokenizer puts the end token behind every text."""
        if not self._recipe.special_tokens:
            return False
        return bool(self._tokenizer("x")["input_ids"][-1] == self._tokenizer.eos_token_id)

    def _chat(self, messages: list[dict[str, Any]]) -> str:
        written = self._calls.processor.apply_chat_template(
            messages if self._calls.processor is not self._tokenizer else _of_texts(messages),
            add_generation_prompt=True,
            tokenize=False,
        )
        return str(written)

    def _vectors(self, asked: Sequence[Question]) -> list[np.ndarray | ItemError]:
        batch = {name: self._placed(value) for name, value in self._calls.encoded(asked).items()}
        errors = [self._lacks_room(int(n)) for n in batch["attention_mask"].sum(dim=1)]
        if any(errors):
            fitting = [one for one, error in zip(asked, errors, strict=True) if error is None]
            vectors = iter(self._vectors(fitting) if fitting else [])
            return [error or next(vectors) for error in errors]
        if self._recipe.plain_positions:
            batch["position_ids"] = plain_positions(batch["attention_mask"])
        outputs = pooled(self._states(batch), batch["attention_mask"], self._settings.pooling == "mean")
        # Cut before they get their length, as Matryoshka models are trained.
        return list(to_vectors(outputs.cpu().numpy()[:, : self._spec.dims], self._spec))

    def _placed(self, value: Any) -> Any:
        """A tensor on the model's device, pixels and spectrograms in the number type of its weights."""
        if not hasattr(value, "is_floating_point"):
            return value
        dtype: torch.dtype | None = self.model.dtype if value.is_floating_point() else None
        return value.to(self.model.device, dtype)

    def _lacks_room(self, tokens: int) -> ItemError | None:
        if self._room is None or tokens <= self._room:
            return None
        return ItemError(
            "encode",
            f"{tokens} tokens of text, pictures and sound exceed the model's {self._room}; set max_tokens, "
            "or take fewer pictures, frames or windows, or a smaller max_side",
        )


def _of_folder(processor: Any) -> Recipe:
    """How a model is asked that no recipe is named for: by its own chat template where it has one."""
    chat = bool(getattr(processor, "chat_template", None))
    return Recipe(
        chat_message if chat else plain_text, (), (), "the folder", order=None, special_tokens=not chat
    )


def _tokenizer(spec: FeatureSpec, folder: Path, file: Path | None) -> Any:
    from transformers import AutoTokenizer

    with loading(spec):
        return AutoTokenizer.from_pretrained(folder, **({} if file is None else {"gguf_file": file.name}))


def _language_model(spec: FeatureSpec, folder: Path, file: Path | None) -> Any:
    # Embedders are published without the head that makes words.
    if file is None:
        return load_model(spec, folder, unused=("lm_head.",))
    import torch
    from transformers import AutoModelForCausalLM

    with loading(spec):
        return AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file.name, dtype=getattr(torch, spec.compute_dtype)
        )


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def _of_texts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as templates of models of texts alone take them."""
    return [{**one, "content": "\n".join(part["text"] for part in one["content"])} for one in messages]
