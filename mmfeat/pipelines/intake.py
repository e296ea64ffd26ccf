"""Taking a dataset into a store: whether it belongs there, what that would cost, and what has left it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from mmfeat.datasets import Dataset
from mmfeat.datasets.interactions import UNUSED_INTERACTIONS
from mmfeat.pipelines.planning.contents import Contents
from mmfeat.pipelines.planning.loss import Loss, lost_rows, refuse_losses
from mmfeat.pipelines.steps.base import RunContext
from mmfeat.schemas.ids import Places, whole
from mmfeat.schemas.job import JobConfig
from mmfeat.store import Owned, Place, distinct_name

_ITEMS = "items"


def take_in(context: RunContext, listed: pa.Table) -> None:
    """Bring the store's catalog and interactions up to date with the run's dataset.

    Everything that could speak against it is looked at before anything is written.

    Args:
        listed: all items of the dataset, those among them that the run does not cover.

    Raises:
        ConfigError: the store belongs to another dataset, or their items clash.
        GateFailed: the run would take away more than ``run.max_lost`` of something.
    """
    store, dataset, run = context.store, context.dataset, context.job.run
    place = store.place_of(listed, said_of(context.job, dataset), run.add, run.replace)
    before = store.owned()
    contents = context.contents = Contents(dataset.items)
    losses = [loss for loss in _losses(context, contents, listed, place, before) if loss.lost]
    if not place.replaces:
        # What is replaced is given up on purpose, and told all the same.
        refuse_losses(losses, run.max_lost, store.uri)
    context.place = place
    store.put_catalog(dataset.items, place.said, place, whole=run.limit is None)
    store.put_interactions(dataset.interactions, place)
    told = [str(loss) for loss in losses if loss.what != _ITEMS]
    odd = [f"{note.count:,} {note.message}" for note in dataset.notes if note.code in UNUSED_INTERACTIONS]
    for said in (*_changes(context, place, before), *told, *odd):
        context.reporter.say(said)
        context.notices.append(said)


def said_of(job: JobConfig, dataset: Dataset) -> dict[str, str]:
    """What a store records of a dataset."""
    said = {"name": dataset.name, "root": dataset.root}
    return said if job.dataset.id is None else {**said, "id": job.dataset.id}


def _losses(
    context: RunContext, contents: Contents, listed: pa.Table, place: Place, owned: Owned
) -> Iterator[Loss]:
    store, dataset = context.store, context.dataset
    own = owned.present(place.number)
    # A limit marks nobody gone; but a dataset that shrank so may be another one, whatever the run covers.
    left = own & ~_named(owned, listed)
    yield Loss(_ITEMS, int(left.sum()), int(own.sum()), "leave the dataset")
    had = store.count_interactions(place)
    has = 0 if dataset.interactions is None else len(dataset.interactions)
    yield Loss("interactions", max(0, had - has), had, "go")
    versions = {version.fingerprint: version for version in store.versions()}
    specs = [spec for spec in context.specs if not spec.is_fitted]
    ledgers = {
        spec.fingerprint: partial(store.ledger_batches, versions[spec.fingerprint])
        for spec in specs
        if spec.fingerprint in versions
    }
    yield from lost_rows(contents, specs, ledgers)


def _changes(context: RunContext, place: Place, before: Owned) -> Iterator[str]:
    """What is new of the items that the store knew; counts it."""
    was, now = before.present(), context.store.owned()
    # Known items keep their place in the catalog.
    there = now.present()[: len(was)]
    context.left, back = int((was & ~there).sum()), int((~was & there).sum())
    context.gone = len(now.ids) - int(now.present().sum())
    others = [said for number, said in before.datasets.items() if number != place.number]
    of_others = ", ".join(distinct_name(said, place.said) for said in others)
    own = max((distinct_name(place.said, said) for said in others), key=len, default="")
    if place.replaces and others and len(before.ids):
        yield f"the store belongs to {own} from now on, and no more to {of_others}"
    elif place.number not in before.datasets and others and len(before.ids):
        yield f"the items of {own} are put beside those of {of_others}"
    if place.changed:
        yield (
            f"{place.changed:,} of {place.known:,} known items have other texts than before: what is made of "
            "these is computed anew"
        )
    if context.left:
        yield (
            f"{context.left:,} items have left the dataset, {context.gone:,} are gone in all: their rows "
            "are kept, and left out of exports and of what is counted; `mmfeat prune` removes them"
        )
    if back:
        yield f"{back:,} items that were gone are back"


def _named(owned: Owned, items: pa.Table) -> np.ndarray:
    """``[n]`` bool: the items of the store that a dataset names."""
    return np.asarray(Places(whole(items["item_id"])).of(owned.ids) >= 0)
