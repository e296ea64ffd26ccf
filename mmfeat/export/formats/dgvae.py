"""DGVAE (https://github.com/enoche/DGVAE)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pyarrow import csv as arrow_csv
from pydantic import BaseModel, ConfigDict, Field

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy, write_table
from mmfeat.schemas.errors import MissingExtra, UsageError

_PARTS = ("train", "valid", "test")
_TEXTS = "item_texts.json"


class Options(BaseModel):
    """DGVAE's options: which words make its vocabulary. The defaults are the project's own.

    Attributes:
        min_df: a word must be in the texts of so many users.
        max_df: a word must be in the texts of no larger share of the users.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_df: int = Field(default=5, ge=1)
    max_df: float = Field(default=0.6, gt=0, le=1)


class DGVAE(Exporter):
    """The dataset's folder, ``data/NAME``.

    ``NAME.train.ratings``, ``NAME.valid.ratings``, ``NAME.test.ratings`` (CSV ``uid,iid,rating``, each
    rating 1), ``NAME.uid.npy`` and ``NAME.iid.npy`` (int64 ids from 0, which it counts), ``NAME.vocab``
    (JSON, word to column), ``NAME.user.words.tfidf.npz`` (SciPy CSR ``[users, words]``),
    ``image_feat.npy`` and ``text_feat.npy`` (float32 ``[items, dims]``, row = iid, for its item graph).

    The rule is that of ``code/dataset.py``, and for the words that of the project's notebook: a
    user's document is the texts of their training items, weighted by scikit-learn's
    ``TfidfVectorizer``. ``item_texts.json`` lists the texts by iid; DGVAE does not open it: the
    matrix of words names no item and can be checked only by making it again from the texts.
    """

    name = "dgvae"
    title = "DGVAE"
    systems = ("DGVAE",)
    roles = (
        Role("image", media=("image",), what="image_feat.npy"),
        Role("text", media=("text",), what="text_feat.npy"),
        Role("words", kind="text", dtype=None, what="texts that the words are from, such as captions"),
    )
    interactions = "required"
    splits = True
    default_split = "ratio:0.8,0.1,0.1"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "drop", "mean", "empty")
    refusals: ClassVar[Mapping[Policy, str]] = {
        "zero": "its item graph divides by the row norm, so a zero row becomes NaN",
        "mask": "it has no mask, and a NaN row spreads through its item graph",
    }
    zero_rows = "its item graph divides by the row norm"
    options = Options

    def write(self, out: Path, content: Content) -> None:
        """Everything DGVAE opens, and the texts."""
        inter, name = content.interactions, content.name
        assert inter is not None, "interactions are required"
        for label, part_name in enumerate(_PARTS):
            part = inter.part(label)
            ratings = {"uid": part.users, "iid": part.items, "rating": np.ones(len(part), np.int64)}
            write_table(out / f"{name}.{part_name}.ratings", ratings, separator=",")
        np.save(out / f"{name}.uid.npy", np.arange(len(inter.user_ids)))
        np.save(out / f"{name}.iid.npy", np.arange(len(content.ids)))
        for role in ("image", "text"):
            write_npy(out / f"{role}_feat.npy", content.features[role])
        texts = list(content.features["words"].texts())
        write_json(out / _TEXTS, texts)
        training = inter.part(0)
        vocabulary, words = user_words(
            texts, training.users, training.items, len(inter.user_ids), content.options
        )
        write_json(out / f"{name}.vocab", vocabulary)
        _sparse().save_npz(out / f"{name}.user.words.tfidf.npz", words)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = iid; a text is taken for an item's when the matrix of words follows from the texts."""
        name = manifest["name"]
        for role in ("image", "text"):
            matrix = read_npy(out / f"{role}_feat.npy", len(np.load(out / f"{name}.iid.npy")))
            for item_id, row in zip(items.ids, matrix, strict=True):
                yield Entry(role, item_id, row)
        texts = json.loads((out / _TEXTS).read_text(encoding="utf-8"))
        training = arrow_csv.read_csv(out / f"{name}.train.ratings")
        vocabulary, words = user_words(
            texts,
            training["uid"].to_numpy(),
            training["iid"].to_numpy(),
            len(np.load(out / f"{name}.uid.npy")),
            Options.model_validate(manifest["options"]),
        )
        kept = _sparse().load_npz(out / f"{name}.user.words.tfidf.npz")
        same = json.loads((out / f"{name}.vocab").read_text(encoding="utf-8")) == vocabulary
        if not same or kept.shape != words.shape or abs(kept - words).max() > 1e-6:
            raise ValueError("the users' words do not follow from the items' texts")
        for item_id, text in zip(items.ids, texts, strict=True):
            yield Entry("words", item_id, text)


def user_words(
    texts: list[str | None], users: np.ndarray, items: np.ndarray, n_users: int, options: Options
) -> tuple[dict[str, int], Any]:
    """``(vocabulary, matrix)``: word to column, and the CSR matrix ``[n_users, words]`` of TF-IDF weights.

    Raises:
        UsageError: no word is frequent enough, and not too frequent.
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise MissingExtra("The export to dgvae", "extract", "scikit-learn") from None
    order = np.argsort(users, kind="stable")
    ends = np.searchsorted(users[order], np.arange(n_users + 1))
    met = [items[order[ends[u] : ends[u + 1]]] for u in range(n_users)]
    documents = (" ".join(texts[i] or "" for i in found) for found in met)
    vectorizer = TfidfVectorizer(min_df=options.min_df, max_df=options.max_df)
    try:
        matrix = vectorizer.fit_transform(documents)
    # What scikit-learn raises where no word is left, or where no number of users fits both limits.
    except ValueError as error:
        raise UsageError(
            f"The items' texts leave DGVAE no vocabulary: {error}",
            hint="Lower --option min_df=1 or raise --option max_df=1.0; both are about users' texts.",
        ) from None
    return {word: int(column) for word, column in vectorizer.vocabulary_.items()}, matrix


def _sparse() -> Any:
    from scipy import sparse

    return sparse
