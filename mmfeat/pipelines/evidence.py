"""What the interactions say of a job's versions: judged once, and kept by what it was judged by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import pyarrow as pa
from pydantic import TypeAdapter

from mmfeat.evaluate import Evaluation, evaluate
from mmfeat.schemas.evaluation import EvaluateConfig
from mmfeat.store import FeatureVersion, Place, Store

#: Raised where the protocols give other figures than before.
FORMAT = 3

_EVALUATION = TypeAdapter(Evaluation)
# What decides a row's value, beside the version.
_ROW = ("item_id", "status", "content_hash", "rules")


def evidence(
    store: Store,
    versions: Sequence[FeatureVersion],
    config: EvaluateConfig,
    say: Callable[[str], None],
    place: Place | None = None,
) -> Evaluation:
    """What is found of some versions: what is kept, if nothing changed that it was judged by.

    Args:
        store: open for writing.
        say: told what is done.
        place: of the dataset that they are judged by; all datasets when None.

    Raises:
        KeyboardInterrupt: it was stopped; nothing is kept then.
        UsageError: there are no interactions, or too few.
    """
    config = config.model_copy(update={"features": tuple(version.version for version in versions)})
    subject = json.dumps(
        [sorted(version.name for version in versions), config.model_dump(exclude={"features"})]
    )
    digest = digest_of(store, versions, place)
    if kept := store.evaluation(subject, digest):
        return _EVALUATION.validate_json(kept)
    found = evaluate(store, config, say, place)
    if found.interrupted:
        raise KeyboardInterrupt
    store.put_evaluation(subject, digest, _EVALUATION.dump_json(found).decode())
    return found


def digest_of(store: Store, versions: Sequence[FeatureVersion], place: Place | None) -> str:
    """SHA-256 of all that an evaluation reads: rows of the versions, items, and interactions."""
    by = [FORMAT, [version.version for version in versions], place and place.number]
    digest = hashlib.sha256(json.dumps(by).encode())
    for version in versions:
        for batch in store.ledger_batches(version, _ROW):
            _add(digest, pa.table(batch))
    _add(digest, store.present())
    for number, interactions in store.interactions_by_dataset().items():
        digest.update(str(number).encode())
        _add(digest, interactions)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, rows: pa.Table) -> None:
    """The rows as Arrow writes them, whatever the pieces that they are in."""
    with pa.ipc.new_stream(pa.PythonFile(_Digested(digest), mode="w"), rows.schema) as stream:
        stream.write_table(rows.combine_chunks())


class _Digested:
    """A file whose bytes go into a digest and nowhere else."""

    closed = False

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""
