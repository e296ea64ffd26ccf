"""Thousands of damaged files go through the decoders: each is ok or failed with a reason, none stops the
others, and a valid file between them has the pixels and samples that it has alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import fuzz
import pytest
from decoding import check_equal, check_whole, request

from mmfeat.extract.fence import process as fence
from mmfeat.extract.fence.decode import Decoded, MediaRequest, decode_media
from mmfeat.schemas.media import MediaLimits

FILES = 4_200
# Tiny files: what needs more than this is in trouble.
LIMITS = MediaLimits(item_seconds=10, item_memory=1 << 30)
CONTROL_EVERY = 120
# Beyond this, memory that decoders keep would be a leak and not a cache.
MOST_GROWTH = 200 << 20
_RAW_ERROR = re.compile(r"[A-Z]\w+: ")


def through_the_decoders(folder: Path, number: int, seed: int) -> Counter:
    """Outcomes by format and reason; the promises are checked on the way."""
    valid = fuzz.seeds()
    expected = [decode_media(_request(folder, kind, data), LIMITS) for kind, data in valid]
    assert all(outcome.failure is None for outcome in expected)
    outcomes: Counter = Counter()
    memory = None
    for i, (kind, data) in enumerate(fuzz.mutated(number, seed)):
        outcome = fence.decode_fenced(_request(folder, kind, data), LIMITS)
        outcomes[kind, _summary(outcome)] += 1
        if i % CONTROL_EVERY == 0:
            which = i // CONTROL_EVERY % len(valid)
            control = fence.decode_fenced(_request(folder, *valid[which]), LIMITS)
            assert control.content_hash == expected[which].content_hash
            check_equal(control.values, expected[which].values)
        if i == number // 5:
            memory = fence.child().process.pid, _resident()
    if memory is not None and memory[0] == fence.child().process.pid:
        assert _resident() - memory[1] < MOST_GROWTH
    return outcomes


def _request(folder: Path, kind: str, data: bytes) -> MediaRequest:
    path = folder / "media"
    path.write_bytes(data)
    return request(path, fuzz.MODALITIES[kind])


def _summary(outcome: Decoded) -> str:
    if outcome.failure is None:
        if None in outcome.values:
            assert set(outcome.values) == {None}
            return "has none"
        for value in outcome.values:
            check_whole(value)
        return "ok"
    assert outcome.failure.stage in ("read", "decode")
    # An exception's own name would say that nobody thought of such a file.
    assert outcome.failure.reason and not _RAW_ERROR.match(outcome.failure.reason), outcome.failure.reason
    return " ".join(outcome.failure.reason.split()[:3])


def _resident() -> int:
    status = Path(f"/proc/{fence.child().process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) << 10


def _check(outcomes: Counter, number: int) -> None:
    assert sum(outcomes.values()) == number
    kinds = {kind for kind, _ in outcomes}
    assert kinds == set(fuzz.MODALITIES)
    for kind in kinds:
        # Mutations that all fail, or all pass, would look at nothing; checksums make nearly all of them fail.
        share = outcomes[kind, "ok"] / sum(n for (k, _), n in outcomes.items() if k == kind)
        assert 0.01 < share < 0.9, kind


def test_four_thousand_damaged_files_are_each_ok_or_failed(tmp_path):
    _check(through_the_decoders(tmp_path, FILES, seed=1), FILES)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_hundred_thousand_damaged_files_are_each_ok_or_failed(tmp_path, seed):
    _check(through_the_decoders(tmp_path, 10_000, seed), 10_000)


def test_the_same_seed_gives_the_same_files():
    assert list(fuzz.mutated(60, 3)) == list(fuzz.mutated(60, 3))
    assert len({data for _, data in fuzz.mutated(600, 3)}) > 590
