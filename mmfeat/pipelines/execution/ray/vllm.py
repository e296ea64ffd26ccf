"""Captions of ``captioner = "vllm"`` and vectors of ``encoder = "vllm"`` in the graph, by Ray Data's own LLM
processor.

Each such feature is a stretch of the graph of its own: questions from the decoded pictures, the processor
(chat template, tokens, engine, text or vectors), and the answers as results. Rows with nothing to ask pass
the processor by, as it lets rows pass that failed before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import pyarrow as pa

from mmfeat.extract.base import Placement, Row
from mmfeat.extract.registry import class_of
from mmfeat.pipelines.execution.batch import (
    DATA,
    FACTS,
    HASH,
    REASON,
    SECONDS,
    STAGE,
    STAMP_READ,
    Batch,
    NotReached,
    NotThere,
    Value,
    encoded,
    marked,
    missing,
)
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.errors import ItemError, MissingExtra
from mmfeat.schemas.server import VllmConfig
from mmfeat.schemas.spec import FeatureSpec

# The processor's own name for why a row failed; it passes by every stage where it is not empty.
_ERROR = "__inference_error__"
_NOTHING_TO_ASK = "nothing to ask"


class InEngine(Protocol):
    """A method whose model runs here: what it asks of the engine, and what it makes of the answer."""

    def question(self, row: Row) -> dict[str, Any]:
        """The columns that the processor reads. ItemError: there is nothing to ask about."""

    def value_of(self, answer: Mapping[str, Any]) -> Any:
        """The value in the columns that the processor adds. ItemError: it is none."""


def in_engine(spec: FeatureSpec) -> bool:
    """Whether a feature is computed here and not in a stage of models."""
    return class_of(spec).runs == "engine"


def processor(spec: FeatureSpec, number: int, specs: Sequence[FeatureSpec], options: VllmConfig) -> Any:
    """Ray Data's processor for one feature: a function from Dataset to Dataset.

    Raises:
        MissingExtra: Ray's LLM library lacks what it needs.
    """
    try:
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig
    except ImportError as error:
        raise MissingExtra(f"The {_kind(spec)} 'vllm'", "vllm", error.name or "vllm") from None
    weights = spec.weights
    config = vLLMEngineProcessorConfig(
        model_source=weights.location or weights.ref,
        engine_kwargs={
            # First, so that nothing which decides values can be set from outside the spec.
            **options.engine,
            "dtype": spec.compute_dtype,
            "revision": weights.revision,
            "tokenizer_revision": weights.revision,
            # The defaults of vLLM in place of the model folder's, which are not part of the spec.
            "generation_config": "vllm",
            "trust_remote_code": False,
        },
        concurrency=options.replicas,
        batch_size=options.batch_size,
        accelerator_type=options.accelerator,
        should_continue_on_error=True,
        tokenize_stage=True,
        **_stages(spec),
    )
    built = build_processor(config, preprocess=Ask(specs, number))
    if spec.form == "tokens":
        from mmfeat.pipelines.execution.ray.vllm_tokens import TokenVectors

        built.get_stage_by_name("vLLMEngineStage").fn = TokenVectors
    return built


def _stages(spec: FeatureSpec) -> dict[str, Any]:
    """What stands around the engine: of captions and messages the chat template, of captions the text.

    Only captions are generated; vectors are of vLLM's pooling runner, which Ray Data knows by the task
    ``embed``.
    """
    is_text, in_messages = spec.form == "text", spec.options.get("messages", spec.form == "text")
    told = spec.options.get("chat_template_kwargs")
    template: Any = {"enabled": True, "chat_template_kwargs": told} if told else in_messages
    return {
        "task_type": "generate" if is_text else "embed",
        "prepare_multimodal_stage": {"enabled": in_messages, "chat_template_content_format": "openai"},
        "chat_template_stage": template,
        "detokenize_stage": is_text,
    }


def _kind(spec: FeatureSpec) -> str:
    return "captioner" if spec.form == "text" else "encoder"


def _stage(spec: FeatureSpec) -> str:
    """Where an item fails."""
    return "caption" if spec.form == "text" else "encode"


def _method(spec: FeatureSpec) -> InEngine:
    method: Any = class_of(spec)(spec, Placement())
    return method  # type: ignore[no-any-return]


def with_answers(dataset: Any, ask: Any, specs: Sequence[FeatureSpec], number: int) -> Any:
    """A dataset of decoded work with one more result, by the processor ``ask``."""
    return ask(dataset).map_batches(Take(specs, number), batch_size=None, batch_format="pyarrow")


class Ask:
    """One decoded work item to the columns that the processor reads."""

    def __init__(self, specs: Sequence[FeatureSpec], number: int) -> None:
        self.number = number
        self.specs = list(specs)
        self.spec = specs[number]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What the method asks; or the sign to pass this row by."""
        work = Batch(pa.Table.from_pylist([row]), self.specs)
        if not work.wants(0, self.number):
            return {_ERROR: _NOTHING_TO_ASK}
        try:
            question = _method(self.spec).question(work.inputs(0, self.spec)[0])
        except (ItemError, NotThere, NotReached):
            # The same trouble is met again, and told, where the answers are taken.
            return {_ERROR: _NOTHING_TO_ASK}
        return {**question, _ERROR: ""}


class Take:
    """The processor's rows to decoded work items with the feature's result, in their own columns."""

    def __init__(self, specs: Sequence[FeatureSpec], number: int) -> None:
        self.number = number
        self.specs = list(specs)
        self.spec = specs[number]
        self.method = _method(self.spec)

    def __call__(self, table: pa.Table) -> pa.Table:
        """One batch."""
        work = Batch(table, self.specs)
        answers = table.select([c for c in _ANSWER if c in table.column_names]).to_pylist()
        work.results[self.number] = {
            row: self._value(work, row, answers[row]) for row in work.wanting(self.number)
        }
        carried = work.carried([self.number])
        return carried.select([name for name in carried.column_names if _is_ours(name)])

    def _value(self, work: Batch, row: int, answer: dict[str, Any]) -> Value:
        content = work.content_hash(row, self.spec)
        try:
            read, _ = work.inputs(row, self.spec)
            if error := answer.get(_ERROR):
                raise ItemError(_stage(self.spec), error)
            value = encoded(self.spec, self.method.value_of(answer), content)
            return replace(marked(self.spec, value, read), seconds=float(answer["time_taken_llm"]))
        except ItemError as error:
            return encoded(self.spec, error, content)
        except NotThere as lack:
            return missing(lack.content_hash)
        except NotReached as upstream:
            return upstream.value


_ANSWER = (
    "prompt", "generated_text", "num_input_tokens", "num_generated_tokens", "embeddings", "time_taken_llm",
    _ERROR,
)  # fmt: skip
_OURS = (*WORK_SCHEMA.names, PAYLOAD, STAMP, HASH, STAMP_READ, STAGE, REASON, SECONDS, DATA, FACTS, "result")


def _is_ours(name: str) -> bool:
    return name not in _ANSWER and name.startswith(_OURS)
