"""Gates: the report's figures against thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from mmfeat.report.model import (
    Absent,
    CaptionReport,
    ClaimCheck,
    Coverage,
    Gate,
    Grounding,
    Lengths,
    References,
    Suspects,
    Usefulness,
    Variety,
)

# A figure, or why there is none.
Figure = float | str

_SHARES = {
    "max_cut_share": "cut",
    "max_empty_share": "empty",
    "max_short_share": "short",
    "max_refusal_share": "refusal",
    "max_boilerplate_share": "boilerplate",
    "max_language_share": "language",
    "max_loop_share": "loop",
    "max_phantom_share": "phantom",
    "max_leak_share": "leak",
    "max_duplicate_share": "duplicate",
    "max_near_duplicate_share": "near_duplicate",
    "max_title_copy_share": "title_copy",
}


def figures(
    coverage: Coverage,
    lengths: Lengths,
    suspects: tuple[Suspects, ...],
    variety: Variety | Absent,
    grounding: Grounding | Absent,
    usefulness: Usefulness,
    references: References | Absent,
    claims: ClaimCheck | Absent,
) -> dict[str, Figure]:
    """What every gate is held against, by the gate's name."""
    by_kind = {one.kind: one for one in suspects}
    under_suspicion = {item_id for one in suspects for item_id in one.item_ids}
    # Items without the source are no fault of the captions.
    able = coverage.items - coverage.missing
    found: dict[str, Figure] = {
        "min_ok_share": coverage.ok / able if able else "No item has what is to be described.",
        "max_suspect_share": len(under_suspicion) / coverage.ok if coverage.ok else "There is no caption.",
    }
    for gate, kind in _SHARES.items():
        found[gate] = _share(by_kind[kind], coverage)
    mean_words = lengths.words.mean if lengths.words else "There is no caption."
    found["min_mean_words"] = found["max_mean_words"] = mean_words
    return found | _measured(variety, grounding, usefulness, references, claims)


def check_gates(gates: Mapping[str, float], measured: Mapping[str, Figure]) -> tuple[Gate, ...]:
    """Each gate, in the order given; one whose figure is lacking fails."""
    return tuple(_gate(name, threshold, measured[name]) for name, threshold in gates.items())


def failed_gates(report: CaptionReport) -> str:
    """The failed gates in a sentence each."""
    return " ".join(
        f"{gate.name}: {gate.detail}"
        if gate.value is None
        else f"{gate.name}: {gate.value:.4g} is not {gate.bound} {gate.threshold:g}."
        for gate in report.gates
        if not gate.passed
    )


def _gate(name: str, threshold: float, figure: Figure) -> Gate:
    least = name.startswith("min_")
    value = None if isinstance(figure, str) else float(figure)
    passed = value is not None and (value >= threshold if least else value <= threshold)
    return Gate(
        name=name,
        bound="at least" if least else "at most",
        threshold=threshold,
        value=value,
        passed=passed,
        detail=figure if isinstance(figure, str) else "",
    )


def _share(suspects: Suspects, coverage: Coverage) -> Figure:
    if suspects.unchecked:
        return suspects.unchecked
    return suspects.share if coverage.ok else "There is no caption."


def _measured(
    variety: Variety | Absent,
    grounding: Grounding | Absent,
    usefulness: Usefulness,
    references: References | Absent,
    claims: ClaimCheck | Absent,
) -> dict[str, Figure]:
    def of(section: object, *path: str) -> Figure:
        if isinstance(section, Absent):
            return section.absent
        for name in path:
            section = getattr(section, name)
        if section is None:
            return "There was too little to measure it."
        assert isinstance(section, float), f"{path} is a number"
        return section

    return {
        "min_distinct_2": of(variety, "distinct_2"),
        "max_self_bleu": of(variety, "self_bleu"),
        "min_grounding": of(grounding, "own", "mean"),
        "min_grounding_auc": of(grounding, "auc"),
        "min_clip_recall_at_10": of(usefulness.clip_retrieval, "recall_at_10"),
        "min_text_recall_at_10": of(usefulness.text_retrieval, "recall_at_10"),
        "min_neighbour_overlap": of(usefulness.neighbours, "overlap"),
        "max_near_vector_share": of(usefulness.near_duplicates, "share"),
        "min_bleu": of(references, "bleu"),
        "min_chrf": of(references, "chrf"),
        "min_claims_supported": of(claims, "supported"),
    }
