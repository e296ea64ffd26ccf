"""Texts composed for an export, of features of texts and fields of the catalog."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mmfeat.item_fields import Fields
from mmfeat.schemas.composed import composed_text
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import MISSING, OK, FeatureColumn, FeatureSet
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.outputs import TextOut
from mmfeat.schemas.spec import FeatureSpec, Weights
from mmfeat.schemas.validation import near


def compose(features: FeatureSet, items: pa.Table, template: str, into: str) -> FeatureSet:
    """The set with the text feature ``into``.

    An item has it where it has every text that the template must have; of optional ones alone, any.

    Args:
        items: the catalog.
        template: with names in braces, or the name of a recipe.

    Raises:
        UsageError: a name that is taken, or that is neither a feature of texts nor a field.
    """
    if into in features:
        raise UsageError(f"There is a feature {into!r} already.", hint="Give the composed text another name.")
    composed = composed_text(template)
    fields = Fields(items, features.ids)
    parts = {name: _texts(features, fields, name) for name in composed.names}
    rows = list(zip(*parts.values(), strict=True))
    needed = [at for at, optional in enumerate(composed.names.values()) if not optional]
    mask = np.array([all(row[at] for at in needed) and any(row) for row in rows], dtype=bool)
    texts = [composed.filled(row) if there else None for row, there in zip(rows, mask, strict=True)]
    spec = FeatureSpec(
        name=into,
        inputs=tuple(
            Input(
                source=name,
                modality="text",
                named=True,
                optional=optional,
                upstream=_upstream(features, name),
            )
            for name, optional in composed.names.items()
        ),
        output=TextOut(role="text"),
        method="composed_text",
        model="composed_text",
        weights=Weights(origin="package", ref="mmfeat"),
        composed=composed,
    )
    status = np.where(mask, OK, MISSING).astype(object)
    column = FeatureColumn(spec, texts, mask, status, np.full(len(rows), "", object))
    return FeatureSet(features.ids, {**features.columns, into: column})


def _texts(features: FeatureSet, fields: Fields, name: str) -> list[str | None]:
    """What each item has of a feature or a field; None if it has nothing, or blanks alone."""
    if name in features and features[name].spec.form == "text":
        texts = features[name].texts
    elif name in fields.columns:
        texts = fields.texts(name)
    else:
        known = [*(n for n, column in features.items() if column.spec.form == "text"), *fields]
        raise UsageError(
            f"A text names {name!r}, which is neither a feature of texts nor a field.",
            hint=f"{near(name, known)}There are: {', '.join(known)}.",
        )
    return [text if text and text.strip() else None for text in texts]


def _upstream(features: FeatureSet, name: str) -> str | None:
    return features[name].spec.fingerprint if name in features else None
