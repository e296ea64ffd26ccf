"""Bodies of requests and answers, with the examples that OpenAPI shows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmfeat.status import FeatureStatus

# No store has so many features, no model so many dims, and no question so many characters. What
# --max-ids and --max-k say of the rest differs by service.
MOST_FEATURES = 256
_LONGEST_VECTOR = 65_536
_MOST_VECTORS = 4096
_LONGEST_TEXT = 32_768
_LONGEST_NAME = 512

Name = Annotated[str, Field(max_length=_LONGEST_NAME)]
_Vector = Annotated[list[float], Field(max_length=_LONGEST_VECTOR)]

_LOOKUP: list[Any] = [{"ids": ["4", "11"], "features": ["title_text"]}]
_FIELDS: list[Any] = [{"ids": ["4", "11"], "fields": ["title"]}]
_SEARCH: list[Any] = [
    {"feature": "title_text", "text": "a cup of coffee", "k": 5},
    {"feature": "cover_cnn", "item": "4"},
    {"feature": "cover_cnn@3fa9c1d2", "vector": [0.1, -0.2, 0.3], "snapshot": "2025-06-01"},
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LookupRequest(_Request):
    """Features of items, in the order asked."""

    model_config = ConfigDict(json_schema_extra={"examples": _LOOKUP})

    ids: list[str] = Field(min_length=1, description="Item ids, exactly as the dataset writes them.")
    features: list[Name] | None = Field(
        default=None,
        max_length=MOST_FEATURES,
        description="`name` or `name@fingerprint`; the current version of every feature if left out.",
    )
    unknown: Literal["error", "mask"] = Field(
        default="error",
        description="An id that the store does not hold is an error, or a row of status `absent`.",
    )
    snapshot: Name | None = Field(default=None, description="Read the store as it was when this was created.")


class FieldsRequest(_Request):
    """What the catalog holds of items in columns of texts and numbers, in the order asked."""

    model_config = ConfigDict(json_schema_extra={"examples": _FIELDS})

    ids: list[str] = Field(min_length=1, description="Item ids, exactly as the dataset writes them.")
    fields: list[Name] | None = Field(
        default=None, max_length=MOST_FEATURES, description="Columns; all of texts and numbers if left out."
    )
    unknown: Literal["error", "mask"] = Field(
        default="error", description="An id that the catalog does not hold is an error, or has nulls."
    )
    snapshot: Name | None = Field(default=None, description="Read the store as it was when this was created.")


class SearchRequest(_Request):
    """The nearest items by cosine, or by MaxSim where items have any number of vectors.

    Exactly one of `vector`, `item` and `text`.
    """

    model_config = ConfigDict(json_schema_extra={"examples": _SEARCH})

    feature: Name = Field(description="A feature of vectors or tokens: `name` or `name@fingerprint`.")
    vector: _Vector | Annotated[list[_Vector], Field(min_length=1, max_length=_MOST_VECTORS)] | None = Field(
        default=None,
        description="A query of the feature's dims; a list of them where items have any number of vectors.",
    )
    item: str | None = Field(
        default=None, description="An item id; the item itself is left out of the answer."
    )
    text: str | None = Field(
        default=None, max_length=_LONGEST_TEXT, description="Read by the feature's own text encoder."
    )
    k: int = Field(default=10, ge=1, description="How many items.")
    exact: bool = Field(
        default=False, description="Compare with every vector, even where the feature has an index."
    )
    snapshot: Name | None = Field(
        default=None, description="Search the store as it was when this was created."
    )


class VectorSpan(BaseModel):
    """What one of an item's vectors was made from."""

    modality: str = Field(examples=["video"])
    start: float = Field(description="Seconds after a clip's first frame; of a list's picture its place.")
    end: float


class LookedUpFeature(BaseModel):
    """One feature; every list has one entry per id, in the order asked."""

    version: str = Field(examples=["title_text@3fa9c1d2"])
    kind: str = Field(
        description="`vector`, `vectors`, `tokens`, `codes`, or what a text is: `caption`, `tags`, ...",
        examples=["vector", "caption"],
    )
    status: list[Literal["ok", "missing", "failed", "absent"]]
    reason: list[str] = Field(description="Why an item failed, or by what an ok text is marked; else empty.")
    values: list[Any] = Field(description="Lists of numbers, or texts; null where the item has no value.")
    spans: list[list[VectorSpan] | None] = Field(
        default=[], description="Of `tokens`, what each vector was made from; left out where it is not known."
    )


class LookupAnswer(BaseModel):
    """All of it is read from one state of the store."""

    ids: list[str]
    features: dict[str, LookedUpFeature]


class FieldsAnswer(BaseModel):
    """What the catalog holds of items: texts, numbers and lists of texts, null if an item has none."""

    ids: list[str]
    fields: dict[str, list[str | float | list[str] | None]] = Field(
        description="Column to one value per id, in the order asked."
    )


class FoundItem(BaseModel):
    """One search result."""

    item_id: str
    score: float = Field(
        description="Cosine similarity to the query, -1 to 1; where items have any number of vectors the "
        "sum, over the query's vectors, of the highest cosine to one of the item's."
    )


class SearchAnswer(BaseModel):
    """The nearest items, the nearest first."""

    version: str = Field(description="The feature version that was searched.")
    recall: float | None = Field(
        description="Share of the true ten nearest that such a search finds, as measured when the feature's "
        "index was built: 1 without one, null where an earlier mmfeat built it."
    )
    hits: list[FoundItem]


class FeatureList(BaseModel):
    """Every feature version of the store."""

    items: int = Field(description="Items in the catalog.")
    features: list[FeatureStatus]


class FeatureDetail(BaseModel):
    """What made a feature version."""

    version: str
    fingerprint: str
    spec: dict[str, Any] = Field(description="Everything that decides its values.")


class Failure(BaseModel):
    """One item that failed."""

    item_id: str
    stage: str | None
    reason: str | None


class FailureList(BaseModel):
    """Failed items of one feature version, by item id."""

    version: str
    total: int
    failures: list[Failure]


class SnapshotEntry(BaseModel):
    """A named state of the store."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    created: datetime
    items: int
    features: dict[str, str] = Field(description="Name to the version that it means there.")


class Problem(BaseModel):
    """An error (RFC 9457): `error` is its name for programs, `detail` and `hint` are for people."""

    type: str = "about:blank"
    title: str
    status: int
    error: str
    detail: str
    hint: str | None = None
    ids: list[str] | None = Field(default=None, description="Every unknown item id, where there are any.")
