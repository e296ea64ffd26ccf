"""Does a second model see what the captions say? One question per sentence of a sample."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.report.model import Absent, Claim, ClaimCheck
from mmfeat.report.pictures import Progress
from mmfeat.report.second_model import Answers, Asked, SecondModel
from mmfeat.report.words import sentences_of
from mmfeat.schemas.errors import ItemError

_PROMPT = Path(__file__).parent / "check-claim.toml"
_ITEMS = 100
_REFUTED = 20
_YES = re.compile(r"^\W*(yes|true)\b", re.IGNORECASE)
_NO = re.compile(r"^\W*(no|false|not)\b", re.IGNORECASE)


def check_claims(
    captions: Captions, asked: SecondModel | None, kept: Answers, seed: int, progress: Progress
) -> ClaimCheck | Absent:
    """Put every sentence of 100 captions (seeded) to the model, with the item's pictures.

    Args:
        kept: what it answered before, where it is on a server.

    Raises:
        ConfigError: no such captioner or model.
        SpendingCap: its server may be asked no more.
        MmfeatError: its server gives no answer.
    """
    if asked is None:
        return Absent(absent="No second model was named (--claims-model).")
    second = Asked(asked, captions, _PROMPT, ("description",), kept)
    judged: list[Claim] = []
    failed = 0
    chosen = _sample(captions, seed)
    for done, at in enumerate(chosen, start=1):
        claims = sentences_of(captions.texts[at])
        answers = second.ask(at, [{"description": claim} for claim in claims])
        for claim, answer in zip(claims, answers, strict=True):
            if isinstance(answer, ItemError):
                failed += 1
            else:
                judged.append(_judged(captions.ids[at], claim, answer.text))
        progress("captions checked claim by claim", done, len(chosen))
    return _summary(second.model, len(chosen), judged, failed)


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
