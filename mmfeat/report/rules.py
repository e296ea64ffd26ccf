"""``gates.toml``: the thresholds that captions must keep, and what counts as suspect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import read_toml
from mmfeat.schemas.validation import in_words


class Rules(BaseModel):
    """``[rules]``: what counts as suspect.

    Attributes:
        short_words: captions of fewer words are too short.
        loop_words: a phrase said at least three times in a row, over so many words, is a loop; a single
            word must be said so many times too.
        repeated_share: a text in which this share of the 4-grams was said before is a loop, too.
        near_similarity: Jaccard similarity of two texts' 3-word shingles from which they are near copies.
        title_similarity: similarity of a caption and its title from which it is a copy.
        language_ratio: how many times likelier another language must be than the stated one.
        near_vector: cosine of two captions' vectors from which they are nearly equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short_words: int = Field(default=3, ge=1)
    loop_words: int = Field(default=6, ge=3)
    repeated_share: float = Field(default=0.3, gt=0, le=1)
    near_similarity: float = Field(default=0.8, gt=0, le=1)
    title_similarity: float = Field(default=0.9, gt=0, le=1)
    language_ratio: float = Field(default=3.0, ge=1)
    near_vector: float = Field(default=0.98, gt=0, le=1)


# Loose enough for captions that are worth having, tight enough for a broken run. The other gates have no
# threshold that suits every catalogue.
DEFAULT_GATES: dict[str, float] = {
    "min_ok_share": 0.95,
    "max_cut_share": 0.05,
    "max_empty_share": 0.0,
    "max_refusal_share": 0.01,
    "max_loop_share": 0.01,
    "max_leak_share": 0.01,
    "max_language_share": 0.02,
    "max_duplicate_share": 0.10,
}

_LANGUAGE_GATE = "max_language_share"

#: Every gate, and what it measures. Shares are of the captions that are ok.
GATES: dict[str, str] = {
    "min_ok_share": "items with a caption, of those that have what is described",
    "max_cut_share": "cut at the token cap",
    "max_empty_share": "without a word",
    "max_refusal_share": 'refusals ("I cannot ...")',
    "max_loop_share": "repeats a phrase",
    "max_leak_share": "holds parts of the prompt, model marks or markup",
    "max_language_share": "in another language than `--language`",
    "max_duplicate_share": "equal to that of another picture",
    "max_near_duplicate_share": "differs from another in few words",
    "max_short_share": "too short",
    "max_boilerplate_share": 'begins with "The image shows ..." or the like',
    "max_title_copy_share": "the title's words",
    "max_phantom_share": "transcripts of what nobody said",
    "max_suspect_share": "under any suspicion",
    "min_mean_words": "mean words of a caption",
    "max_mean_words": "mean words of a caption",
    "min_distinct_2": "distinct pairs of words",
    "max_self_bleu": "likeness to other captions, 0 to 100",
    "min_grounding": "mean cosine with the own picture",
    "min_grounding_auc": "AUC against shuffled captions",
    "min_clip_recall_at_10": "own picture found",
    "min_text_recall_at_10": "own title found",
    "min_neighbour_overlap": "similar items with similar captions",
    "max_near_vector_share": "nearly equal vectors",
    "min_bleu": "against the reference, 0 to 100",
    "min_chrf": "against the reference, 0 to 100",
    "min_claims_supported": "claims answered with yes, of clear answers",
}


class GateFile(BaseModel):
    """Thresholds by gate, and the rules."""

    model_config = ConfigDict(frozen=True)

    gates: dict[str, float]
    rules: Rules = Rules()


def read_gates(path: Path | None, language: str | None) -> GateFile:
    """The gates of a file, which replace the default ones, or these.

    Args:
        language: the one stated; without it no default gate is on the language.

    Raises:
        ConfigError: no such file, not TOML, or a gate or rule that there is not.
    """
    if path is None:
        checked = {name: v for name, v in DEFAULT_GATES.items() if language or name != _LANGUAGE_GATE}
        return GateFile(gates=checked)
    body = read_toml(path)
    if unknown := sorted(set(body) - {"gates", "rules"}):
        raise ConfigError(
            f"{path}: there is no table [{unknown[0]}]", hint="The tables are [gates] and [rules]."
        )
    gates = body.get("gates", {})
    if not isinstance(gates, dict):
        raise ConfigError(f"{path}: gates must be a table", hint="For example [gates].")
    for name, threshold in gates.items():
        _check_gate(path, name, threshold)
    try:
        rules = Rules.model_validate(body.get("rules", {}))
    except ValidationError as error:
        raise _rule_error(path, error) from None
    return GateFile(gates={name: float(value) for name, value in gates.items()}, rules=rules)


def _check_gate(path: Path, name: str, threshold: Any) -> None:
    if name not in GATES:
        raise ConfigError(
            f"{path}: there is no gate {name!r}", hint=f"The gates are: {', '.join(sorted(GATES))}."
        )
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or threshold != threshold:
        raise ConfigError(f"{path}: the gate {name} needs a number, not {threshold!r}")


def _rule_error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or "rules"
    if first["type"] == "extra_forbidden":
        message = f"{path}: there is no rule {name!r}"
    else:
        message = f"{path}: rule {name}: {in_words(first)}"
    return ConfigError(message, hint=f"The rules are: {', '.join(Rules.model_fields)}.")
