"""Do captions fit their own pictures or sounds? Similarity of text and media beside a shuffled baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.model import Grounding, Retrieval
from mmfeat.report.pictures import PictureVectors, Progress, unit
from mmfeat.report.statistics import derangement, distribution, histograms, placements
from mmfeat.report.words import pieces_of

# Text towers see 77 tokens (CLIP, CLAP) or 64 (SigLIP): so many English words fit in either.
PIECE_WORDS = 40
_TEXT_BATCH = 64
_RANK_BATCH = 1024


@dataclass(frozen=True)
class Scores:
    """How well captions fit pictures or sounds, which are called pictures here, for ``n`` items with both.

    Attributes:
        at: positions in the catalog.
        own: ``[n]`` cosine of caption and own picture, of a clip the mean over its frames.
        best: ``[n]`` the same by the best frame; None if no item is a clip.
        shuffled: ``[n]`` cosine of the caption and another item's picture; ``shuffled_best`` so too.
        vectors: ``[n, dims]`` of the captions.
        ranks: ``[n]``, the own picture's place among all when looked for by the caption; 1 is best.
        chunked: captions that were scored in several pieces.
    """

    at: list[int]
    own: np.ndarray
    best: np.ndarray | None
    shuffled: np.ndarray
    shuffled_best: np.ndarray | None
    vectors: np.ndarray
    ranks: np.ndarray
    chunked: int

    @property
    def placed(self) -> np.ndarray:
        """``[n]`` share of shuffled scores below each own score; their mean is the AUC."""
        return placements(self.own, self.shuffled)


class TextTower:
    """An encoder of texts that reads each piece of text once, however many captions hold it.

    Args:
        encode: texts to float32 ``[n, dims]``.
    """

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray], progress: Progress) -> None:
        self._encode = encode
        self._progress = progress
        self._known: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """``[n, dims]`` mean of the unit vectors of each text's pieces.

        Its dot product with a unit vector is the mean cosine of the pieces.
        """
        pieces = [pieces_of(text, PIECE_WORDS) for text in texts]
        self._learn(sorted({p for parts in pieces for p in parts} - self._known.keys(), key=len))
        return np.stack([np.mean([self._known[p] for p in parts], axis=0) for parts in pieces])

    def _learn(self, pieces: list[str]) -> None:
        for start in range(0, len(pieces), _TEXT_BATCH):
            batch = pieces[start : start + _TEXT_BATCH]
            self._known.update(zip(batch, unit(np.asarray(self._encode(batch))), strict=True))
            self._progress("captions encoded", start + len(batch), len(pieces))


def score(captions: Captions, pictures: PictureVectors, tower: TextTower, seed: int) -> Scores:
    """Score the captions of the items that have pictures, at least two."""
    described = [captions.texts[at] for at in pictures.at]
    texts = tower.vectors(described)
    other = derangement(len(texts), seed)
    own = _cosines(texts, pictures.frames)
    shuffled = _cosines(texts, [pictures.frames[at] for at in other])
    return Scores(
        at=pictures.at,
        own=np.array([one.mean() for one in own]),
        best=np.array([one.max() for one in own]) if pictures.clips else None,
        shuffled=np.array([one.mean() for one in shuffled]),
        shuffled_best=np.array([one.max() for one in shuffled]) if pictures.clips else None,
        vectors=texts,
        ranks=ranks(texts, pictures.means),
        chunked=sum(len(pieces_of(text, PIECE_WORDS)) > 1 for text in described),
    )


def grounding_of(scores: Scores, encoder: str, images: str) -> Grounding:
    """The section of the report."""
    own, shuffled = distribution(scores.own), distribution(scores.shuffled)
    assert own is not None and shuffled is not None, "at least two items were scored"
    of_own, of_shuffled = histograms([scores.own, scores.shuffled])
    best = None
    if scores.best is not None and scores.shuffled_best is not None:
        best = float(placements(scores.best, scores.shuffled_best).mean())
    return Grounding(
        encoder=encoder,
        images=images,
        scored=len(scores.at),
        chunked=scores.chunked,
        own=own,
        shuffled=shuffled,
        auc=float(scores.placed.mean()),
        auc_best_frame=best,
        own_histogram=of_own,
        shuffled_histogram=of_shuffled,
    )


def ranks(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Place of row ``i`` of the gallery when looked for by query ``i``, by dot product; 1 is best.

    Others with the same score count half, rounded up: a gallery of equals is no find.

    Args:
        queries, gallery: ``[n, dims]``.

    Returns:
        int64 ``[n]``, 1..n.
    """
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _RANK_BATCH):
        scores = queries[start : start + _RANK_BATCH] @ gallery.T
        rows = np.arange(len(scores))
        own = scores[rows, rows + start][:, None]
        ahead = (scores > own).sum(axis=1)
        tied = (scores == own).sum(axis=1) - 1
        found[start : start + len(rows)] = 1 + ahead + (tied + 1) // 2
    return found


def retrieval_of(found: np.ndarray, query: str, gallery: str) -> Retrieval:
    """Recall of ranks, beside that of a random order."""
    n = len(found)
    return Retrieval(
        query=query,
        gallery=gallery,
        items=n,
        recall_at_1=float((found <= 1).mean()),
        recall_at_10=float((found <= 10).mean()),
        chance_at_1=1 / n,
        chance_at_10=min(1.0, 10 / n),
        median_rank=float(np.median(found)),
    )


def _cosines(texts: np.ndarray, frames: list[np.ndarray]) -> list[np.ndarray]:
    return [one @ text for text, one in zip(texts, frames, strict=True)]
