"""Captions against texts that are known to be right."""

from __future__ import annotations

from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, References
from mmfeat.schemas.catalog import columns_of
from mmfeat.schemas.errors import UsageError
from mmfeat.store import Store


def measure_references(store: Store, captions: Captions, reference: str | None) -> References | Absent:
    """BLEU and chrF of the corpus by sacrebleu's defaults (Papineni et al. 2002, Popović 2015).

    Args:
        reference: ``title``, ``description`` or a text feature of the store.

    Raises:
        UsageError: the reference holds no texts.
    """
    if reference is None:
        return Absent(absent="No reference was named (--reference).")
    texts = _texts(store, captions, reference)
    at = [i for i in captions.ok if (texts[i] or "").strip()]
    if not at:
        return Absent(absent=f"No item with a caption has a reference in {reference}.")
    from sacrebleu import corpus_bleu, corpus_chrf

    candidates, right = [captions.texts[i] for i in at], [texts[i] or "" for i in at]
    return References(
        reference=reference,
        items=len(at),
        bleu=corpus_bleu(candidates, [right]).score,
        chrf=corpus_chrf(candidates, [right]).score,
    )


def _texts(store: Store, captions: Captions, reference: str) -> list[str | None]:
    items = store.present()
    column = columns_of(items.schema).get(reference)
    if column is not None and column.modality == "text" and not column.several:
        found: list[str | None] = items[reference].to_pylist()
        return found
    version = store.resolve(reference)
    if version.spec.form != "text":
        raise UsageError(
            f"{version.version} holds no texts to compare captions with.",
            hint="A reference is a column of text (title, description) or a text feature.",
        )
    return store.lookup(captions.ids, [version.version], unknown="mask")[version.name].texts
