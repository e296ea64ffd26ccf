"""Worlds where it is known what users like: items have traits, and interactions follow one of them, or
none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from helpers.interaction_rows import interactions_of
from helpers.storing import make_rows, vector_spec
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.store import Store

#: What an item shows: each a trait that has nothing to do with the others.
MODALITIES = ("sound", "on_screen_text", "motion", "title")
_TRAIT, _NOISE = 4, 12


@dataclass(frozen=True)
class World:
    """Items with a vector per modality, and who took what, each user in the order of time.

    Attributes:
        vectors: modality to float32 ``[items, dims]``.
        taken: item positions by user.
    """

    vectors: dict[str, np.ndarray]
    taken: np.ndarray

    @property
    def ids(self) -> list[str]:
        return [f"i{k}" for k in range(len(next(iter(self.vectors.values()))))]

    def table(self) -> pa.Table:
        return interactions_of(
            (f"u{user}", f"i{item}", 1_000 * place + user)
            for user, items in enumerate(self.taken.tolist())
            for place, item in enumerate(items)
        )


def world(liked: str | None, seed: int, items: int = 150, users: int = 250, length: int = 8) -> World:
    """A world where users choose by the trait that ``liked`` alone shows; by popularity where it is None."""
    rng = np.random.default_rng([seed, 7])
    traits = {name: rng.standard_normal((items, _TRAIT)) for name in MODALITIES}
    popularity = rng.standard_normal(items)
    taste = rng.standard_normal((users, _TRAIT))
    scores = 0.5 * popularity + (0 if liked is None else 1.5 * taste @ traits[liked].T)
    # The Gumbel trick: the highest are a draw without replacement by exp(score).
    order = np.argsort(-(scores + rng.gumbel(size=(users, items))), axis=1)[:, :length]
    taken = rng.permuted(order, axis=1)
    vectors = {name: _seen_in(trait, rng) for name, trait in traits.items()}
    return World(vectors, taken)


def _seen_in(trait: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The trait, turned into more dimensions, beside noise."""
    noise = 0.3 * rng.standard_normal((len(trait), _NOISE))
    turned = np.linalg.qr(rng.standard_normal((_TRAIT + _NOISE, _TRAIT + _NOISE)))[0]
    return (np.hstack([trait, noise]) @ turned).astype(np.float32)


def stored(made: World, uri: str, features: dict[str, np.ndarray] | None = None) -> Store:
    """A store of a world, with a feature per modality, or those that are given."""
    store = Store.open(uri, create=True)
    titles = [{"item_id": i, "title": f"{i} is a thing" if k % 3 else i} for k, i in enumerate(made.ids)]
    with store.lease("a test"):
        store.put_catalog(pa.Table.from_pylist(titles, schema=CATALOG_SCHEMA), {"name": "test"})
        store.put_interactions(made.table())
        for name, values in (features or made.vectors).items():
            spec = vector_spec(name, dims=values.shape[1], dtype="float32")
            store.commit(store.add_version(spec), make_rows(spec, made.ids, list(values)), replace=False)
    return store
