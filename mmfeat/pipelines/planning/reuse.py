"""Content that was computed before, maybe for another item: which committed row holds it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.pipelines.planning import hashes
from mmfeat.pipelines.planning.columns import Ledger, Outdated, texts_outdated
from mmfeat.pipelines.planning.rules import by_other_rules
from mmfeat.pipelines.planning.several import lack_unread, reads_several
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.spec import FeatureSpec


@dataclass(frozen=True)
class Reusable:
    """Rows to copy from.

    Attributes:
        of: ``[m]`` int64, for each content asked for the position of its row below, -1 for none.
        ids: of the items whose rows these are.
        texts: what a text feature holds for them; of other features null.
    """

    of: np.ndarray
    ids: pa.Array
    texts: pa.Array


def find_reusable(
    ledger: Ledger, contents: np.ndarray, spec: FeatureSpec, outdated: Outdated | None = None
) -> Reusable:
    """An ``ok`` row, read by the rules of now and whole, for each of ``[m, 4 * parts]`` distinct joint
    hashes, where the feature's ledger has one.

    Args:
        outdated: tells which texts are not stored any more, and so not copied.
    """
    has_text, several = spec.form == "text", reads_several(spec)
    more = [*(["text"] if has_text else []), *(["reason"] if several else [])]
    finder = hashes.Finder(contents)
    of = np.full(len(contents), -1, dtype=np.int64)
    found, count = [], 0
    for batch in ledger(["item_id", "status", "content_hash", "rules", *more]):
        ok = batch.filter(pc.equal(batch.column("status"), OK))
        ok = ok.filter(pa.array(~by_other_rules(ok.column("rules"), spec)))
        if several:
            ok = ok.filter(pa.array(~lack_unread(ok.column("reason"))))
        if outdated:
            ok = ok.filter(pa.array(~texts_outdated(ok.column("text"), outdated)))
        rows, there = hashes.joint_from_hex(ok.column("content_hash"), contents.shape[1] // hashes.WORDS)
        asked = finder.find(rows)
        there[there] = asked >= 0
        fitting = ok.filter(pa.array(there))
        of[asked[asked >= 0]] = np.arange(count, count + len(fitting))
        count += len(fitting)
        found.append((fitting.column("item_id"), fitting.column("text") if has_text else None))
    ids = pa.chunked_array([ids for ids, _ in found], pa.string()).combine_chunks()
    if not has_text:
        return Reusable(of, ids, pa.nulls(count, pa.string()))
    return Reusable(of, ids, pa.chunked_array([texts for _, texts in found], pa.string()).combine_chunks())
