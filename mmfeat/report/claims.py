"""Does a second model see what the captions say? One question per sentence of a sample."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, Claim, ClaimCheck
from mmfeat.report.pictures import Progress
from mmfeat.report.words import sentences_of
from mmfeat.schemas.catalog import Column, usual
from mmfeat.schemas.errors import ConfigError, ItemError
from mmfeat.schemas.spec import FeatureConfig

_PROMPT = Path(__file__).parent / "check-claim.toml"
_ITEMS = 100
_REFUTED = 20
_YES = re.compile(r"^\W*(yes|true)\b", re.IGNORECASE)
_NO = re.compile(r"^\W*(no|false|not)\b", re.IGNORECASE)


@dataclass(frozen=True)
class ClaimModel:
    """The model to ask: a captioner's name and its model (hub id or folder)."""

    captioner: str
    model: str


def check_claims(
    captions: Captions, asked: ClaimModel | None, seed: int, progress: Progress
) -> ClaimCheck | Absent:
    """Put every sentence of 100 captions (seeded) to the model, with the item's pictures.

    Raises:
        ConfigError: no such captioner or model, or one behind a server.
    """
    if asked is None:
        return Absent(absent="No second model was named (--claims-model).")
    from mmfeat.extract.fence.decode import MediaRequest, Wanted
    from mmfeat.extract.fence.process import decode_fenced
    from mmfeat.extract.registry import class_of, load_method, resolve_all

    table = {
        "source": captions.source,
        "captioner": asked.captioner,
        "model": asked.model,
        "prompt": str(_PROMPT),
    }
    seen = Column(captions.source, captions.modality)
    columns = {column.name: column for column in (seen, usual("description"))}
    spec = resolve_all({"claims": FeatureConfig.model_validate(table)}, columns)[0]
    if class_of(spec).runs != "here":
        raise ConfigError(
            f"the claim check runs its model in this process; {asked.captioner!r} asks a server",
            hint="Name a captioner that loads its weights, such as transformers.",
        )
    method = load_method(spec)
    judged: list[Claim] = []
    failed = 0
    chosen = _sample(captions, seed)
    for done, at in enumerate(chosen, start=1):
        location = captions.locations[at] or ""
        found = decode_fenced(MediaRequest(location, (Wanted.of(spec.inputs[0]),)), captions.limits)
        claims = sentences_of(captions.texts[at])
        if not found.values:
            failed += len(claims)
            continue
        answers = method.run([(found.values[0], claim) for claim in claims])
        for claim, answer in zip(claims, answers, strict=True):
            if isinstance(answer, ItemError):
                failed += 1
            else:
                judged.append(_judged(captions.ids[at], claim, answer.text))
        progress("captions checked claim by claim", done, len(chosen))
    return _summary(spec.model, len(chosen), judged, failed)


def _sample(captions: Captions, seed: int) -> list[int]:
    able = [at for at in captions.ok if captions.locations[at] and sentences_of(captions.texts[at])]
    return sorted(np.random.default_rng(seed).permutation(able)[:_ITEMS].astype(int).tolist())


def _judged(item_id: str, claim: str, answer: str) -> Claim:
    verdict: Literal["yes", "no", "unclear"] = "unclear"
    if _YES.search(answer):
        verdict = "yes"
    elif _NO.search(answer):
        verdict = "no"
    return Claim(item_id=item_id, claim=claim, answer=answer, verdict=verdict)


def _summary(model: str, items: int, judged: list[Claim], failed: int) -> ClaimCheck:
    yes, no = (sum(claim.verdict == verdict for claim in judged) for verdict in ("yes", "no"))
    return ClaimCheck(
        model=model,
        items=items,
        claims=len(judged) + failed,
        yes=yes,
        no=no,
        unclear=len(judged) - yes - no,
        failed=failed,
        supported=yes / (yes + no) if yes + no else None,
        refuted=tuple(claim for claim in judged if claim.verdict == "no")[:_REFUTED],
    )
