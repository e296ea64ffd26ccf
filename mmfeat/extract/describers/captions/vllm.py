"""Captions by vLLM inside Ray Data, for GPU clusters: what is asked, and what the replies are.

The model itself runs in Ray Data's own LLM processor (``pipelines/execution/ray/vllm.py``). So there is
one question per item and no second try: a prompt's schema binds the tokens that the engine may choose.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from mmfeat.extract.base import Ask, Caption, Placement, Row
from mmfeat.extract.describers.captions.accepting import accepted
from mmfeat.extract.describers.captions.asking import ChatOptions, chat_spec
from mmfeat.extract.describers.captions.chat import ChatCaptioner
from mmfeat.extract.describers.captions.openai import message, refuse_video, seed_of
from mmfeat.extract.describers.captions.reasoning import opened_by
from mmfeat.extract.describers.captions.turns import Conversation
from mmfeat.extract.options import Place, need_model
from mmfeat.extract.served.parts import sanitised
from mmfeat.extract.served.reply import Reply
from mmfeat.extract.weights import find_weights
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.spec import ComputeDtype, Decoding, FeatureSpec, ModelCard

_EXAMPLE = "Qwen/Qwen2.5-VL-7B-Instruct"


class VllmCaptionerOptions(ChatOptions):
    """Which model, and the number type it computes in.

    Attributes:
        model: a name on the hub, or a folder.
        revision: commit on the hub.
        dtype: number type of weights and arithmetic; ``bfloat16`` when None.
        resize: ``model``: the decode stage does the resize of the model's own processor.
    """

    model: Place = None
    revision: str | None = None
    dtype: ComputeDtype | None = None
    resize: Literal["model"] | None = None


class VllmCaptioner(ChatCaptioner):
    """One answer per item to a prompt about its cover, or about frames of its clip in order of time.

    Of the model's own generation settings none is used but its end tokens: what decodes is in the spec.
    """

    Options: ClassVar[type[VllmCaptionerOptions]] = VllmCaptionerOptions
    runs: ClassVar[Literal["here", "server", "engine"]] = "engine"
    example: ClassVar[ModelCard] = ModelCard(
        method="vllm",
        model=_EXAMPLE,
        reads=("image", "video", "audio"),
        licence="see the model's own card",
        weights_from=f"hub: {_EXAMPLE}",
        notes="Captions by a multimodal LLM in vLLM, on the GPUs of a Ray cluster.",
    )

    @classmethod
    def resolve(cls, ask: Ask[VllmCaptionerOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is a hub id or a folder that every node can read."""
        model = need_model(ask, _EXAMPLE)
        refuse_video(ask)
        if ask.options.sampling == "scenes":
            raise ask.error(
                "captioner 'vllm' asks one question per item, so no clip scene by scene",
                'Serve the model with `vllm serve` and take captioner = "openai".',
            )
        found = find_weights(ask)
        return chat_spec(
            ask,
            sent_as="png",
            processor=found.folder if ask.options.resize else None,
            model=found.called(model),
            weights=found.weights,
            compute_dtype=ask.options.dtype or "bfloat16",
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        weights_from = f"{spec.weights.origin}: {spec.weights.ref}"
        return cls.example.model_copy(update={"model": spec.model, "weights_from": weights_from})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Prepare to ask; the engine loads the weights."""
        self.spec = spec

    def question(self, row: Row) -> dict[str, Any]:
        """The columns that Ray Data's processor reads: ``messages`` and ``sampling_params``.

        Raises:
            ItemError: there is nothing to ask about.
        """
        turns = self.turns(self.item(row))
        decoding = self.settings.decoding
        sampling: dict[str, Any] = {
            "temperature": decoding.temperature,
            "max_tokens": decoding.max_new_tokens,
            "seed": seed_of(self.spec, tuple(turns), decoding),
        }
        if (schema := self.settings.prompt.reply_schema) is not None:
            sampling["structured_outputs"] = {"json": json.loads(schema)}
        return {"messages": [message(turn, "bmp") for turn in turns], "sampling_params": sampling}

    def value_of(self, answer: Mapping[str, Any]) -> Caption:
        """The caption in what the processor gave back: its question and text, their tokens and seconds.

        An answer of as many tokens as it may have counts as cut: the processor tells no finish reason.

        Raises:
            ItemError: the answer does not fit the prompt's schema.
        """
        # A chat template may have opened the reasoning that the answer begins with.
        text = opened_by(answer.get("prompt") or "") + answer["generated_text"]
        tokens = answer["num_input_tokens"], answer["num_generated_tokens"]
        cut = tokens[1] >= self.settings.decoding.max_new_tokens
        reply = Reply(text.strip(), "length" if cut else "stop", *tokens, float(answer["time_taken_llm"]))
        return accepted(self.settings.prompt, reply, self.settings.decoding)

    def answer(
        self, conversations: Sequence[Conversation], decoding: Decoding, at_once: int
    ) -> list[Reply | ItemError]:
        """Called for items alone that were lost with their engine: there is no other one to ask."""
        lost = ItemError("caption", "the vLLM engine died with this item; try it again with --retry-failed")
        return [lost for _ in conversations]

    def sanitised(self, text: str) -> str:
        """An item's text without what the usual chat templates take for control."""
        return sanitised(text)
