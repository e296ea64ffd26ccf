"""What captions, and vectors of a server, cost: estimated from the first few, and counted as they come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mmfeat.extract.base import Usage
from mmfeat.pipelines.planning.work import count_wanted
from mmfeat.schemas.featureset import OK
from mmfeat.schemas.server import SpendingConfig
from mmfeat.schemas.spec import FeatureSpec

#: So many contents of a feature are computed first, and tell what the others will cost.
TRIAL = 8


@dataclass(frozen=True)
class Cost:
    """What a feature's captions take, or its vectors.

    Attributes:
        captions: how many.
        requests: questions asked for them; of a model on a server, what was sent to it.
        prompt_tokens, new_tokens: of these, without padding.
        seconds: that the model worked, summed over all processes.
        money: in the currency of ``[spending]``'s prices; None if there are none. Tokens of sound count
            as prompt tokens, which is what servers' usage gives: a price of their own is not known here.
        what: ``captions`` or ``vectors``.
    """

    captions: int
    requests: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    money: float | None
    what: str = "captions"

    def __str__(self) -> str:
        money = "" if self.money is None else f", costs {self.money:,.2f}"
        return (
            f"{self.captions:,} {self.what}, {self.requests:,} requests, {self.prompt_tokens:,} prompt and "
            f"{self.new_tokens:,} new tokens, {self.seconds:,.1f} s of the model{money}"
        )


def captioned(specs: Sequence[FeatureSpec]) -> list[int]:
    """The features that a language model writes."""
    return [number for number, spec in enumerate(specs) if spec.decoding is not None]


def counted(specs: Sequence[FeatureSpec]) -> list[int]:
    """The features whose model counts what it is asked: those, and vectors of a server."""
    bought = [number for number, spec in enumerate(specs) if _is_vector_of_server(spec)]
    return sorted([*captioned(specs), *bought])


def trial(work: pa.Table, numbers: Sequence[int]) -> list[int]:
    """Row positions of the first ``TRIAL`` work items of each of these features, in order."""
    left = dict.fromkeys(numbers, TRIAL)
    chosen = []
    for row, wanted in enumerate(work["features"].to_pylist() if left else ()):
        mine = left.keys() & set(wanted)
        if mine:
            chosen.append(row)
        for number in mine:
            left[number] -= 1
            if not left[number]:
                del left[number]
        if not left:
            break
    return chosen


class Costs:
    """The costs of one run.

    Args:
        work: what the run computes, as far as it is planned; what an estimate is for.
    """

    def __init__(self, work: pa.Table, specs: Sequence[FeatureSpec], spending: SpendingConfig) -> None:
        self._specs = specs
        self._spending = spending
        self._planned = dict.fromkeys(counted(specs), 0)
        self._made: dict[int, list[tuple[Usage, float]]] = {number: [] for number in self._planned}
        self._used: dict[int, Usage] = {number: Usage() for number in self._planned}
        self._captions = dict.fromkeys(self._planned, 0)
        self._seconds = dict.fromkeys(self._planned, 0.0)
        self.expect(work)

    def expect(self, work: pa.Table) -> None:
        """Further work of the run, of a later plan."""
        for number, count in count_wanted(work).items():
            if number in self._planned:
                self._planned[number] += count

    def add(self, results: pa.Table) -> list[str]:
        """Count RESULTS_SCHEMA rows; gives a line for each estimate that they made possible."""
        lines = []
        for number in self._planned:
            rows = results.filter(pc.equal(results["feature"], number))
            had_estimate = self.estimate(number) is not None
            self._add(number, rows)
            if not had_estimate and (estimate := self.estimate(number)) is not None:
                lines.append(self._line(number, estimate))
        return lines

    def estimate(self, number: int) -> Cost | None:
        """What all captions of this run will take, by the mean of the first; None before these are there."""
        if number not in self._planned:
            return None
        planned, made = self._planned[number], self._made[number]
        if len(made) < min(TRIAL, planned) or not made:
            return None
        if _is_vector_of_server(self._specs[number]):
            return self._estimate_of_vectors(number)
        share = planned / len(made)
        used = sum((usage for usage, _ in made), Usage())
        return self._cost(
            number,
            planned,
            Usage(*(round(share * n) for n in (used.requests, used.prompt_tokens, used.new_tokens))),
            share * sum(seconds for _, seconds in made),
        )

    def actual(self, number: int) -> Cost | None:
        """What was taken so far; None for a feature whose model counts nothing."""
        if number not in self._planned:
            return None
        return self._cost(number, self._captions[number], self._used[number], self._seconds[number])

    def _estimate_of_vectors(self, number: int) -> Cost:
        """By the mean of all that there are: a request asks for several, so no row has a cost of its own."""
        planned, used = self._planned[number], self._used[number]
        share = planned / self._captions[number]
        counts = (used.requests, used.prompt_tokens, used.new_tokens)
        return self._cost(
            number, planned, Usage(*(round(share * n) for n in counts)), share * self._seconds[number]
        )

    def _add(self, number: int, rows: pa.Table) -> None:
        for row in rows.select(["status", "facts", "seconds", *_COUNTS]).to_pylist():
            self._used[number] += Usage(*(row[name] or 0 for name in _COUNTS))
            self._seconds[number] += row["seconds"] or 0.0
            if row["status"] == OK:
                self._captions[number] += 1
                if len(self._made[number]) < TRIAL:
                    facts = json.loads(row["facts"]) if row["facts"] else _NO_TOKENS
                    self._made[number].append((_usage(facts), row["seconds"] or 0.0))

    def _cost(self, number: int, made: int, used: Usage, seconds: float) -> Cost:
        money = self._spending.money(used.prompt_tokens, used.new_tokens)
        what = "vectors" if _is_vector_of_server(self._specs[number]) else "captions"
        return Cost(made, used.requests, used.prompt_tokens, used.new_tokens, round(seconds, 3), money, what)

    def _line(self, number: int, estimate: Cost) -> str:
        spec = self._specs[number]
        line = f"{spec.version}: estimate from {len(self._made[number])}: {estimate}"
        if estimate.money is not None and "audio" in spec.modalities:
            line += " (sound at the price of prompt tokens: a server may ask another one for it)"
        caps = self._spending
        share = min(
            1.0,
            (caps.max_requests or estimate.requests) / max(1, estimate.requests),
            (caps.max_tokens or 1e18) / max(1, estimate.prompt_tokens + estimate.new_tokens),
        )
        if share < 1:
            line += f"; the spending cap allows for about {share:.0%} of it"
        return line


_COUNTS = ("requests", "prompt_tokens", "new_tokens")
_NO_TOKENS = {"prompt_tokens": 0, "new_tokens": 0}


def _is_vector_of_server(spec: FeatureSpec) -> bool:
    return spec.form in ("vector", "tokens") and spec.weights.origin == "server"


def _usage(facts: dict[str, Any]) -> Usage:
    """Of a stored caption: see :attr:`mmfeat.extract.base.Caption.usage`."""
    questions = 1 + len(facts.get("scenes", ())) + facts.get("retries", 0)
    return Usage(questions, facts["prompt_tokens"], facts["new_tokens"])
