"""What a feature of sentence-transformers can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from mmfeat.extract.base import Ask
from mmfeat.extract.encoders.sentence_transformers.folder import Prompts
from mmfeat.extract.options import FrameOptions, SoundOptions, VectorOptions, WeightsOptions
from mmfeat.schemas.inputs import MOST_PICTURES
from mmfeat.schemas.spec import Pooling

_OF_ITEMS = ("prefix", "prompt", "prompt_name")
_OF_QUERIES = ("prefix", "query_prompt", "query_prompt_name")


class SentenceTransformersOptions(WeightsOptions, FrameOptions, SoundOptions, VectorOptions):
    """How things are shown and begun, and vectors are cut; ``pooling`` goes with hidden states.

    Attributes:
        prompt, prompt_name: what is put before items, or the name that the model has saved it by.
        query_prompt, query_prompt_name: the same of what is searched by.
        prefix: put before both.
        truncate_dim: keep so many of a vector's first numbers (Matryoshka models), and normalise those.
        max_tokens: where texts are cut; the model's own length when None.
        hidden_states: a vector of every layer, the embeddings first.
        pooling: of hidden states: ``cls`` or ``mean``.
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        max_side: most pixels of the longer side that go to the model's own processor; 2048 when None, and 768
            of clips.
        pictures: of a list the ``first`` one, all ``together`` in one message, the ``mean`` of the pictures'
            vectors, or a vector of ``each``. When None ``together`` where the model takes messages, else
            ``first``.
        max_pictures: most pictures of a list that are read; 8 when None.
    """

    truncate_dim: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    prefix: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    query_prompt: str | None = None
    query_prompt_name: str | None = None
    hidden_states: bool | None = None
    pooling: Pooling | None = None
    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, gt=0)
    pictures: Literal["first", "together", "mean", "each"] | None = None
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)


@dataclass(frozen=True)
class AskedPrompts:
    """What is put before items, and before what they are searched by.

    Attributes:
        usual: what queries have where a person asks for nothing but ``item``.
    """

    item: str
    query: str
    usual: str

    @classmethod
    def of(cls, ask: Ask[SentenceTransformersOptions], saved: Prompts) -> AskedPrompts:
        """ConfigError for two of one thing, or a name that the model has saved nothing by."""
        options = ask.options
        item = _said(ask, saved, _OF_ITEMS)
        query = _said(ask, saved, _OF_QUERIES)
        if item is None:
            item = saved.document
        usual = usual_query(saved, item)
        if query is None:
            # A prompt for items says nothing of searches.
            query = usual if options.prompt is None and options.prompt_name is None else saved.query
        return cls(item, query, usual)


def usual_query(saved: Prompts, item: str) -> str:
    """What is put before a search if nothing is said of it: the model's own, unless items have another
    than the model's."""
    return saved.query if item == saved.document else item


def _said(ask: Ask[Any], saved: Prompts, keys: tuple[str, ...]) -> str | None:
    """The prompt that one of these keys gives; None if none does."""
    given = [key for key in keys if getattr(ask.options, key) is not None]
    if not given:
        return None
    if len(given) > 1:
        raise ask.error(f"{' and '.join(map(repr, given))} say the same thing twice", "Leave one out.")
    said: str = getattr(ask.options, given[0])
    if not given[0].endswith("_name"):
        return said
    if said not in saved.named:
        named = ", ".join(sorted(saved.named)) or "none"
        raise ask.error(f"{ask.options.model!r} has saved no prompt {said!r}", f"It has: {named}.")
    return saved.named[said]
