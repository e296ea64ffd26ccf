"""The captions of one feature version, item by item, in the catalog's order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

# What counts as a caption; what follows where a store has nothing better.
_ROLES = ("caption", "json", "tags", "transcript", "ocr")
# Of an item in which nobody speaks or nothing is written the text is empty, and rightly so.
_MAY_BE_EMPTY = ("transcript", "ocr")
_DESCRIBED = ("image", "video", "audio")


@dataclass(frozen=True)
class Captions:
    """Every list has one entry per item of the catalog.

    Attributes:
        version: whose captions they are.
        source, modality: the media that they describe.
        titles: empty if an item has none.
        locations: of the media described, None if an item has none.
        texts: empty unless the status is ``ok``.
        stages, reasons: of failed items; empty otherwise.
        contents: hash of what was described; None if there is no row.
        facts: what was recorded of each text.
        limits: by which the media described are read.
    """

    version: FeatureVersion
    source: str
    modality: str
    ids: list[str]
    titles: list[str]
    locations: list[str | None]
    texts: list[str]
    status: list[str]
    stages: list[str]
    reasons: list[str]
    contents: list[str | None]
    facts: list[dict[str, Any]]
    limits: MediaLimits

    @property
    def spec(self) -> FeatureSpec:
        """What made the captions."""
        return self.version.spec

    @cached_property
    def ok(self) -> list[int]:
        """Positions of the items that have a caption."""
        return [at for at, status in enumerate(self.status) if status == OK]

    @cached_property
    def told(self) -> list[int]:
        """Those whose caption says something."""
        return [at for at in self.ok if self.texts[at].strip()]

    @property
    def may_be_empty(self) -> bool:
        """Whether an item without a word is as it should be: what is said or shown in it is written down."""
        return self.spec.role in _MAY_BE_EMPTY


def read_captions(store: Store, version: FeatureVersion) -> Captions:
    """All captions of ``version``.

    Raises:
        UsageError: it holds no texts that a model wrote of a picture, a clip or a sound.
    """
    spec = version.spec
    if not _is_of_media(spec):
        texts = [v.version for v in store.versions() if v.spec.form == "text"]
        raise UsageError(
            f"{version.version} holds no captions but {spec.kind} of {spec.source}.",
            hint=f"Texts in this store: {', '.join(texts) or 'none'}.",
        )
    items = store.present()
    ids = items["item_id"].to_pylist()
    column = store.lookup(ids, [version.version], unknown="mask")[version.name]
    contents = dict(_pairs(store.ledger(version), "content_hash"))
    facts = dict(_pairs(store.facts(version), "facts"))
    stages = dict(_pairs(store.failures(version), "stage"))
    return Captions(
        version=version,
        source=spec.source,
        modality=spec.inputs[0].modality,
        ids=ids,
        titles=[title or "" for title in items["title"].to_pylist()],
        locations=locations_of(items[spec.inputs[0].column]),
        texts=[text or "" for text in column.texts],
        status=[str(status) for status in column.status],
        stages=[stages.get(item_id) or "" for item_id in ids],
        reasons=[str(reason) for reason in column.reason],
        contents=[contents.get(item_id) for item_id in ids],
        facts=[json.loads(facts.get(item_id) or "{}") for item_id in ids],
        limits=MediaLimits().with_buckets(store.media_buckets()),
    )


def the_captions(store: Store) -> FeatureVersion:
    """The store's captions, or where it has none its tags, transcripts or on-screen text, where it is plain
    which are meant.

    Raises:
        UsageError: there are none, or those of several features.
    """
    current = [store.resolve(name) for name in sorted(store.current())]
    of_media = [v for v in current if _is_of_media(v.spec)]
    by_role = ([v for v in of_media if v.spec.role == role] for role in _ROLES)
    texts = next((found for found in by_role if found), [])
    if len(texts) != 1:
        names = ", ".join(v.name for v in texts)
        raise UsageError(
            f"{store.uri} holds {len(texts) or 'no'} features of captions.",
            hint=f"Say which by --feature: {names}." if names else "Make some with `mmfeat extract`.",
        )
    return texts[0]


def _is_of_media(spec: FeatureSpec) -> bool:
    """Whether a feature holds texts that describe a picture, a clip or a sound."""
    return spec.role in _ROLES and spec.inputs[0].modality in _DESCRIBED


def locations_of(column: pa.ChunkedArray) -> list[str | None]:
    """Where each item's picture, clip or sound is; of several the first."""
    return [place[0] if isinstance(place, list) and place else place or None for place in column.to_pylist()]


def previous_version(store: Store, version: FeatureVersion) -> FeatureVersion | None:
    """The version of the same feature made last before ``version``; None for the first."""
    older = [v for v in store.versions(version.name) if v.created < version.created]
    return older[-1] if older else None


def earlier_version(store: Store, version: FeatureVersion, against: str | None) -> FeatureVersion | None:
    """The version to compare with: ``against``, or the one made last before; None for the first.

    Args:
        against: a version of any feature, or the fingerprint of one of this feature.

    Raises:
        UsageError: it is the version itself.
    """
    if against is None:
        return previous_version(store, version)
    # A bare fingerprint is a version of the same feature.
    known = {one.name for one in store.versions()}
    named = "@" in against or against in known
    chosen = store.resolve(against if named else f"{version.name}@{against}")
    if chosen.fingerprint == version.fingerprint:
        raise UsageError(
            f"{chosen.version} is the version that is reported on.",
            hint="Give --against another version; `mmfeat status` lists them.",
        )
    return chosen


def _pairs(rows: Any, column: str) -> Any:
    return zip(rows["item_id"].to_pylist(), rows[column].to_pylist(), strict=True)
