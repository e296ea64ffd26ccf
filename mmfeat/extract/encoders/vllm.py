"""Vectors by vLLM inside Ray Data, for GPU clusters: what is asked, and what the answers are.

The model itself runs in Ray Data's own LLM processor (``pipelines/execution/ray/vllm.py``), with vLLM's
pooling runner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads, Row
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.questions import (
    MESSAGES,
    TEXTS,
    QuestionOptions,
    QuestionSettings,
    messages,
    question_spec,
    questions,
)
from mmfeat.extract.encoders.vectors import card_of
from mmfeat.extract.options import Place, need_model
from mmfeat.extract.served.embeddings import vector_fault
from mmfeat.extract.weights import find_weights
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec, ModelCard

_EXAMPLE = "Qwen/Qwen3-VL-Embedding-2B"
_OTHER_FORM = "Set messages = true: the model's chat template holds texts, pictures, frames and sound."

#: What vLLM gives of an item: one vector by its pooler, or a vector of each token.
Task = Literal["embed", "token_embed"]


class VllmEncoderOptions(QuestionOptions):
    """Which model, the number type it computes in, how it is asked, and what it gives.

    Attributes:
        messages: whether it is asked in its chat template; by default where more than one text is read.
        model: a name on the hub, or a folder.
        dtype: number type of weights and arithmetic; ``bfloat16`` when None.
        task: ``embed``: one vector. ``token_embed``: a vector of each token. ``embed`` when None.
    """

    model: Place = None
    dtype: ComputeDtype | None = None
    messages: bool | None = None
    task: Task | None = None


class VllmSettings(QuestionSettings):
    """What decides a vector beside the item: the options of a resolved spec."""

    messages: bool = False


class VllmEncoder(Encoder):
    """One vector per item, or with ``task = "token_embed"`` one of each token, as vLLM's pooler gives them.

    What is read of an item is one message, in the order of ``inputs``, behind the prompt as the system's, in
    the model's chat template with the opening of an answer at its end, as Ray Data's processor writes it. One
    text alone goes to the tokenizer as it is, behind the prompt, unless ``messages = true``.
    """

    Options: ClassVar[type[VllmEncoderOptions]] = VllmEncoderOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(("text", "image", "video", "audio"), together=True),)
    runs: ClassVar[Literal["here", "server", "engine"]] = "engine"
    example: ClassVar[ModelCard] = ModelCard(
        method="vllm",
        model=_EXAMPLE,
        reads=("text", "image", "video", "audio"),
        dims=2048,
        licence="see the model's own card",
        weights_from=f"hub: {_EXAMPLE}",
        notes="Vectors by a model in vLLM, on the GPUs of a Ray cluster.",
    )

    @classmethod
    def resolve(cls, ask: Ask[VllmEncoderOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`. ``model`` is a hub id or a folder that every node can read."""
        model, options = need_model(ask, _EXAMPLE), ask.options
        is_text = [one.modality for one in ask.inputs] == ["text"]
        in_messages = not is_text if options.messages is None else options.messages
        found = find_weights(ask)
        spec = question_spec(
            ask,
            MESSAGES if in_messages else TEXTS,
            other_form=_OTHER_FORM,
            sent_as="png",
            model=found.called(model),
            weights=found.weights,
            many=options.task == "token_embed",
        )
        more = {"messages": True} if in_messages else {}
        return spec.with_options(compute_dtype=options.dtype or "bfloat16", **more)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        takes = MESSAGES.takes if spec.settings(VllmSettings).messages else TEXTS.takes
        return card_of(spec, takes).model_copy(update={"input_size": None})

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Prepare to ask; the engine loads the weights."""
        self.spec = spec
        self._settings = spec.settings(VllmSettings)

    def question(self, row: Row) -> dict[str, Any]:
        """The columns that Ray Data's processor reads: ``messages`` or ``prompt``, and ``pooling_params``.

        Raises:
            ItemError: there is nothing to ask about.
        """
        settings, prompt = self._settings, self._settings.item_prompt
        form = MESSAGES if settings.messages else TEXTS
        (parts,) = questions(self.spec, form, row)
        if settings.messages:
            asked: dict[str, Any] = {"messages": messages(parts, prompt, "bmp")}
        else:
            asked = {"prompt": (prompt or "") + "".join(text for _, text in parts)}
        if settings.dimensions is not None:
            asked["pooling_params"] = {"dimensions": settings.dimensions}
        return asked

    def value_of(self, answer: Mapping[str, Any]) -> np.ndarray:
        """The vector, or the tokens' vectors, in what the processor gave back.

        Raises:
            ItemError: it is none of the spec's.
        """
        tokens = self.spec.form == "tokens"
        found = np.asarray(answer["embeddings"], np.float32)
        found = np.atleast_2d(found) if tokens else found.reshape(-1)
        if found.shape[-1] != self.spec.dims:
            raise ItemError(
                "encode",
                f"vLLM gave vectors of {found.shape[-1]} numbers, and the feature says {self.spec.dims}: set "
                f"dims = {found.shape[-1]}",
            )
        if fault := next(filter(None, map(vector_fault, np.atleast_2d(found))), None):
            raise ItemError("encode", f"vLLM gave {fault}")
        return to_vectors(found, self.spec)

    def run(self, rows: Sequence[Row]) -> list[np.ndarray | ItemError]:
        """Called for items alone that were lost with their engine: there is no other one to ask."""
        lost = ItemError("encode", "the vLLM engine died with this item; try it again with --retry-failed")
        return [lost for _ in rows]

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`: by nothing, as there is no engine but a run's."""
        return None
