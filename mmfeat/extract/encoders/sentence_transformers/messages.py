"""Runs a model of sentence-transformers on whatever it takes: one message of all that a feature reads of an
item, or one value at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.base import Query, Row
from mmfeat.extract.chat.loading import without_control
from mmfeat.extract.clips import frame_rate, metadata
from mmfeat.extract.encoders.message_parts import Part, parts_of, parts_of_rows, size_of
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.sentence_transformers.folder import Takes
from mmfeat.extract.encoders.sentence_transformers.modalities import view_of
from mmfeat.extract.encoders.vectors import settings_of
from mmfeat.schemas.errors import ConfigError, MmfeatError
from mmfeat.schemas.inputs import ImagePrepare, TextPrepare
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    import torch

# Of a forward pass. One picture is hundreds of tokens to a language model.
_AT_ONCE = 8


class Messages:
    """A loaded model, and how a feature's rows go through it.

    What a model takes at once is a *message*: all that is read of an item where it takes messages, else one
    text, one picture, one clip or one window of sound. An item of several messages has the mean of their
    vectors, or all of them where its feature has any number of vectors.

    Args:
        model: of sentence-transformers, without the module that gives vectors their length in the end.

    Raises:
        ConfigError: the installed library is older than such inputs.
    """

    def __init__(self, spec: FeatureSpec, model: Any) -> None:
        if not hasattr(model, "modalities"):
            raise ConfigError(
                f"feature {spec.name!r}: the installed sentence-transformers reads nothing but texts",
                hint='Update it: pip install "sentence-transformers>=5.4".',
            )
        settings = settings_of(spec)
        self._spec, self.model = spec, model
        self._takes = Takes(settings.takes or ())
        self._item_prompt, self._query_prompt = settings.item_prompt, settings.query_prompt
        # Frames that the model merges to one, of which a video has at least so many.
        processor = getattr(model[0], "processor", None)
        self._tokenizer = getattr(processor, "tokenizer", processor)
        videos = getattr(processor, "video_processor", None)
        self._merged = getattr(videos, "temporal_patch_size", None) or 1

    def reading(self, spec: FeatureSpec) -> Messages:
        """The same model for a feature of other inputs."""
        return Messages(spec, self.model)

    def run(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """See :meth:`Method.run`."""
        parts = parts_of_rows(self._spec, rows, self._parts)
        return self._encoded(parts, self._item_prompt, "document")

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a text or a picture alone, where the model takes it."""
        if modality not in self._takes.modalities or modality not in ("text", "image"):
            return None
        prepare = TextPrepare() if modality == "text" else ImagePrepare(view=view_of(modality))
        return Query(prepare, partial(self._queries, modality))

    def _queries(self, modality: str, values: Sequence[Any]) -> Any:
        parts = [list(self._parts(modality, value)) for value in values]
        vectors = self._encoded(parts, self._query_prompt, "query")
        return vectors if self._spec.form == "tokens" else np.stack(vectors)

    def _parts(self, modality: str, value: Any) -> Iterator[Part]:
        if self._takes.messages and isinstance(value, str):
            value = without_control(value, self._tokenizer)
        return parts_of(modality, value, "video" in self._takes.names, self._merged)

    def _encoded(self, items: Sequence[Sequence[Part]], prompt: str | None, task: str) -> list[np.ndarray]:
        """The value of each item, in order."""
        messages = [[parts] if self._takes.messages else [[part] for part in parts] for parts in items]
        flat = list(chain.from_iterable(messages))
        vectors: list[np.ndarray] = [np.empty(0)] * len(flat)
        for numbers in _calls(flat):
            outputs = self._outputs([flat[n] for n in numbers], prompt, task)
            for number, output in zip(numbers, outputs, strict=True):
                vectors[number] = to_vectors(self._cut(output), self._spec)
        ends = np.cumsum([len(of_item) for of_item in messages])
        return [self._value(vectors[end - len(mine) : end]) for end, mine in zip(ends, messages, strict=True)]

    def _cut(self, output: np.ndarray) -> np.ndarray:
        """The numbers of a vector that the spec keeps.

        Raises:
            MmfeatError: there are others, though all are kept: the folder says another length.
        """
        dims, given = self._spec.dims, output.shape[-1]
        if given != dims and settings_of(self._spec).truncate_dim is None:
            raise MmfeatError(
                f"{self._spec.model!r} gives vectors of {given} numbers, and its files say {dims}"
            )
        return output[..., :dims]

    def _value(self, vectors: Sequence[np.ndarray]) -> np.ndarray:
        """One item's value, from the vectors of its messages."""
        if self._spec.form == "tokens":
            return np.concatenate([np.atleast_2d(one) for one in vectors])
        if len(vectors) == 1:
            return vectors[0]
        return to_vectors(np.mean(vectors, axis=0), self._spec)

    def _outputs(self, messages: Sequence[Sequence[Part]], prompt: str | None, task: str) -> list[np.ndarray]:
        """What the model gives each message: float32 ``[dims]``, or ``[n, dims]`` of a multi-vector model.

        These are the steps of sentence-transformers' own ``encode`` (6.2), which sorts its inputs and so
        loses whose frames were shown when.
        """
        import torch
        from sentence_transformers.util import batch_to_device

        features = self.model.preprocess(
            [self._input(parts) for parts in messages],
            prompt=prompt,
            task=task,
            processing_kwargs=_told(messages, self._spec),
        )
        features = batch_to_device(self._in_its_dtype(features), self.model.device)
        with torch.inference_mode():
            outputs = self.model(features, task=task)
        if "sentence_embedding" in outputs:
            return list(outputs["sentence_embedding"].float().cpu().numpy())
        pairs = zip(outputs["token_embeddings"], outputs["attention_mask"].bool(), strict=True)
        return [tokens[mask].float().cpu().numpy() for tokens, mask in pairs]

    def _input(self, parts: Sequence[Part]) -> Any:
        """A message as the library takes it: a chat message, or one value by the name of its modality."""
        if not self._takes.messages:
            ((modality, value),) = parts
            return {modality: _shown(modality, value)}
        content = [{"type": modality, modality: _shown(modality, value)} for modality, value in parts]
        return [{"role": "user", "content": content}]

    def _in_its_dtype(self, features: dict[str, Any]) -> dict[str, Any]:
        """Pixels and spectrograms in the number type of the weights."""
        dtype = next(self.model.parameters()).dtype
        return {name: _as_dtype(value, dtype) for name, value in features.items()}


def _as_dtype(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if hasattr(value, "is_floating_point") and value.is_floating_point() else value


def _shown(modality: str, value: Any) -> Any:
    if modality == "image":
        from PIL import Image

        # Of an array a processor guesses the channel axis, and guesses wrong for a picture three pixels high.
        return Image.fromarray(value)
    return value.pixels if modality == "video" else value


def _told(messages: Sequence[Sequence[Part]], spec: FeatureSpec) -> dict[str, Any]:
    """What the processor is told of videos and sounds, in their order: that frames are chosen already, and
    when each is shown."""
    clips = [value for parts in messages for modality, value in parts if modality == "video"]
    told: dict[str, Any] = {}
    if clips:
        told["video"] = {
            "do_sample_frames": False,
            "input_data_format": "channels_last",
            "video_metadata": [metadata(clip) for clip in clips],
        }
    rates = [one.prepare.sample_rate for one in spec.given if one.prepare and one.prepare.kind == "audio"]
    if rates:
        told["audio"] = {"sampling_rate": rates[0]}
    return told


def _calls(messages: Sequence[Sequence[Part]]) -> Iterator[list[int]]:
    """Which messages go through the model together, those of like length.

    Processors write some facts of a video once for a whole call, and some pad sounds without a mask: only
    messages that agree in these go together, or a vector would depend on its neighbours.
    """
    numbers = sorted(range(len(messages)), key=lambda n: (_facts(messages[n]), size_of(messages[n])))
    for _, alike in groupby(numbers, key=lambda n: _facts(messages[n])):
        mine = list(alike)
        yield from (mine[start : start + _AT_ONCE] for start in range(0, len(mine), _AT_ONCE))


def _facts(parts: Sequence[Part]) -> list[tuple[str, int, float]]:
    clips = [("video", len(v.times), round(frame_rate(v), 6)) for m, v in parts if m == "video"]
    return clips + [("audio", len(v), 0.0) for m, v in parts if m == "audio"]
