"""Do captions keep what tells items apart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.grounding import Scores, ranks, retrieval_of
from mmfeat.report.model import Absent, NearDuplicates, Neighbours, Retrieval, Usefulness
from mmfeat.report.pictures import PictureVectors, Progress, unit
from mmfeat.report.rules import Rules
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store, why_stale

if TYPE_CHECKING:
    from mmfeat.extract.base import Encoder

_K = 10
_NEIGHBOUR_SAMPLE = 1000
_ROWS_AT_ONCE = 1024
_TEXTS_AT_ONCE = 64

#: Where no feature reads the captions.
NO_TEXT_FEATURE = (
    "No vector feature of the store reads these captions: extract one, for example with the encoder "
    "sentence_transformers."
)


@dataclass(frozen=True)
class CaptionVectors:
    """Unit vectors ``[n, dims]`` of captions at positions ``at`` of the catalog, made by ``feature``."""

    feature: FeatureVersion
    at: list[int]
    vectors: np.ndarray


def caption_reader(store: Store, captions: Captions) -> FeatureVersion | None:
    """The current feature with a vector of each of these captions: of a text encoder before CLIP's text
    tower."""
    current = [store.resolve(name) for name in sorted(store.current())]
    reading = [version for version in current if reads(version.spec, captions.version)]
    return min(reading, key=lambda version: version.spec.method == "open_clip", default=None)


def reads(spec: FeatureSpec, texts: FeatureVersion) -> bool:
    """Whether a feature has one vector of each text of a version."""
    return (
        spec.inputs[0].upstream == texts.fingerprint
        and spec.form == "vector"
        and spec.vectors is None
        and spec.composed is None
    )


def caption_feature(store: Store, captions: Captions) -> CaptionVectors | None:
    """The store's vectors of these captions, by :func:`caption_reader`."""
    feature = caption_reader(store, captions)
    if feature is None:
        return None
    column = store.lookup(captions.ids, [feature.version], unknown="mask")[feature.name]
    at = [i for i in captions.ok if column.mask[i]]
    return CaptionVectors(feature, at, unit(column.matrix[at]))


def stale_feature(store: Store, captions: Captions) -> str:
    """Which current feature reads another version of these captions, and so says nothing of them."""
    current, versions = store.current(), store.versions()
    for version in map(store.resolve, sorted(current)):
        reads = captions.version.name in version.spec.upstreams
        if reads and (why := why_stale(version, versions, current)):
            return f"{version.version} is stale: {why}. Run its job again."
    return ""


def measure_usefulness(
    store: Store,
    captions: Captions,
    pictures: PictureVectors | Absent,
    scores: Scores | Absent,
    rules: Rules,
    seed: int,
    progress: Progress,
) -> Usefulness:
    """Retrieval by both towers, overlap of neighbours, near duplicates; each where its vectors are."""
    known = caption_feature(store, captions)
    clip = (
        scores
        if isinstance(scores, Absent)
        else retrieval_of(scores.ranks, "captions by the text tower", "pictures by the image tower")
    )
    if known is None or len(known.at) < 2:
        few = "" if known is None else f"Fewer than two texts have a vector of {known.feature.version}."
        absent = Absent(absent=few or stale_feature(store, captions) or NO_TEXT_FEATURE)
        return Usefulness(
            clip_retrieval=clip, text_retrieval=absent, neighbours=absent, near_duplicates=absent
        )
    return Usefulness(
        clip_retrieval=clip,
        text_retrieval=_titles_found(store, captions, known, progress),
        neighbours=_neighbours(known, pictures, seed),
        near_duplicates=_near_duplicates(known, rules.near_vector),
    )


def _titles_found(
    store: Store, captions: Captions, known: CaptionVectors, progress: Progress
) -> Retrieval | Absent:
    """Each item's title among all titles, looked for by its caption with the captions' own encoder."""
    titled = [i for i, at in enumerate(known.at) if captions.titles[at].strip()]
    if len(titled) < 2:
        return Absent(absent="Fewer than two items with a caption have a title to be found by.")
    positions = [known.at[i] for i in titled]
    vectors = _title_vectors(store, captions, known.feature.spec, positions, progress)
    found = ranks(known.vectors[titled], vectors)
    return retrieval_of(found, f"captions by {known.feature.version}", "titles by the same encoder")


def _title_vectors(
    store: Store, captions: Captions, spec: FeatureSpec, positions: list[int], progress: Progress
) -> np.ndarray:
    ids = [captions.ids[at] for at in positions]
    for version in map(store.resolve, sorted(store.current())):
        if is_of_titles(version.spec, spec):
            column = store.lookup(ids, [version.version], unknown="mask")[version.name]
            if column.mask.all():
                return unit(column.matrix)
    from mmfeat.extract.base import Encoder
    from mmfeat.extract.registry import load_method

    encoder = load_method(spec)
    assert isinstance(encoder, Encoder), f"{spec.version} is a vector feature"
    return _whole(encoder, [captions.titles[at] for at in positions], progress)


def is_of_titles(spec: FeatureSpec, of_captions: FeatureSpec) -> bool:
    """Whether a feature reads titles by the encoder that reads captions in another one."""
    return spec.source == "title" and same_encoder(spec, of_captions)


def same_encoder(a: FeatureSpec, b: FeatureSpec) -> bool:
    """Whether two features of one text each differ in nothing but the text."""

    def of_titles(spec: FeatureSpec) -> FeatureSpec:
        titles = spec.inputs[0].model_copy(update={"source": "title", "upstream": None})
        return spec.model_copy(update={"inputs": (titles, *spec.inputs[1:])})

    return of_titles(a).fingerprint == of_titles(b).fingerprint


def _neighbours(known: CaptionVectors, pictures: PictureVectors | Absent, seed: int) -> Neighbours | Absent:
    if isinstance(pictures, Absent):
        return pictures
    shared = sorted(set(known.at) & set(pictures.at))
    if len(shared) < 2 * _K:
        return Absent(absent=f"Fewer than {2 * _K} items have vectors of both their caption and picture.")
    place = {at: i for i, at in enumerate(known.at)}
    by_caption = known.vectors[[place[at] for at in shared]]
    by_picture = pictures.of(set(shared)).means
    n = len(shared)
    sample = np.sort(np.random.default_rng(seed).permutation(n)[:_NEIGHBOUR_SAMPLE])
    overlap = neighbour_overlap(by_caption, by_picture, sample, _K)
    return Neighbours(
        captions=known.feature.version,
        pictures=pictures.origin,
        k=_K,
        items=n,
        sampled=len(sample),
        overlap=overlap,
        chance=_K / (n - 1),
    )


def neighbour_overlap(a: np.ndarray, b: np.ndarray, sample: np.ndarray, k: int) -> float:
    """Mean share of the ``k`` nearest rows by ``a`` that are also nearest by ``b``, a row's own left out.

    Args:
        a, b: ``[n, dims]`` unit vectors, of other dims each.
        sample: the rows whose neighbours are compared.
    """
    shares = []
    for row in sample:
        near_a, near_b = (_nearest(vectors @ vectors[row], row, k) for vectors in (a, b))
        shares.append(len(near_a & near_b) / k)
    return float(np.mean(shares))


def _nearest(scores: np.ndarray, own: int, k: int) -> set[int]:
    scores[own] = -np.inf
    return set(np.argpartition(-scores, k - 1)[:k].tolist())


def _near_duplicates(known: CaptionVectors, threshold: float) -> NearDuplicates:
    count = 0
    for start in range(0, len(known.vectors), _ROWS_AT_ONCE):
        scores = known.vectors[start : start + _ROWS_AT_ONCE] @ known.vectors.T
        rows = np.arange(len(scores))
        scores[rows, rows + start] = -1
        count += int((scores.max(axis=1) >= threshold).sum())
    n = len(known.vectors)
    return NearDuplicates(
        captions=known.feature.version, threshold=threshold, items=n, count=count, share=count / n
    )


def _whole(encoder: Encoder, texts: list[str], progress: Progress) -> np.ndarray:
    batches = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        batches.append(np.asarray(encoder.encode_texts(texts[start : start + _TEXTS_AT_ONCE])))
        progress("titles encoded", min(start + _TEXTS_AT_ONCE, len(texts)), len(texts))
    return unit(np.concatenate(batches))
