"""Whole runs over hostile media and failing models end; each bad item says why, and all others are right."""

from __future__ import annotations

from pathlib import Path

import decoding
import faulty_models as faulty
import hostile_media as hostile
import numpy as np
import pytest
import worlds
from PIL import Image

import mmfeat
from mmfeat.extract import registry
from mmfeat.pipelines.progress import Silent

POISON = {
    "crash": (b"POISON crash ", "decoder crashed (SIGSEGV)"),
    "hang": (b"POISON hang ", "decoder timed out after 5 s"),
    "eat": (b"POISON eat ", "too large: out of memory"),
    "lie": (hostile.png(100_000, 100_000, bytes(1000)), "too large: 100,000 x 100,000 pixels"),
    "bomb": (hostile.png_text_bomb(50), "too large: "),
}
FAULTS = {
    faulty.RAISES: "ValueError: cannot do this picture",
    faulty.NOT_A_NUMBER: "the model gave NaN or infinity",
    faulty.INFINITE: "the model gave NaN or infinity",
    faulty.CRASHES: "model crashed its process",
}
FEATURES = {"colour": {"source": "cover", "encoder": "faulty", "model": "m"}}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """``faulty_models`` as an installed package, for this process and for those that Ray starts."""
    info = tmp_path / "site" / "faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\nfaulty = faulty_models:Faulty\n")
    folders = [info.parent, decoding.CODEC, decoding.CODEC.parent]
    for folder in folders:
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, folders)))


def covers(folder: Path, number: int, faults: dict[int, int]) -> Path:
    """A cover per item, ``[n, 7 n]`` as red and green of the ``n``-th; its fault as blue."""
    (folder / "covers").mkdir(parents=True)
    for n in range(number):
        colour = (n, 7 * n % 256, faults.get(n, faulty.FINE))
        Image.new("RGB", (16, 16), colour).save(folder / "covers" / f"item-{n:03d}.png")
    return folder


class Opener(Silent):
    """Makes a file when results are taken."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def advance(self, rows: int) -> None:
        self.gate.touch()


def test_a_blocks_results_are_taken_while_the_next_block_is_computed(tmp_path, installed, monkeypatch):
    gate = tmp_path / "gate"
    monkeypatch.setenv("FAULTY_GATE", str(gate))
    # In each of the three blocks: whichever is second waits until the first one's results were taken.
    media = covers(tmp_path / "media", 96, dict.fromkeys((5, 40, 80), faulty.WAITS))
    job = worlds.job(media, tmp_path / "store", FEATURES, reporter=Opener(gate))
    (report,) = mmfeat.extract(**job).features
    assert (report.ok, report.failed) == (96, 0)


def test_poison_and_failing_models_cost_their_own_items_and_no_other(tmp_path, installed):
    # In three blocks: two of them have an item that kills the model's process.
    number, faults = 160, {}
    for n, fault in ((5, faulty.CRASHES), (6, faulty.RAISES), (70, faulty.NOT_A_NUMBER)):
        faults[n] = fault
    faults |= {100: faulty.CRASHES, 150: faulty.INFINITE}
    media = covers(tmp_path / "media", number, faults)
    for name, (data, _) in POISON.items():
        (media / "covers" / f"{name}.bmp").write_bytes(data)
    limits = {"item_seconds": 5, "item_memory": 512 * hostile.MB}
    job = worlds.job(media, tmp_path / "store", FEATURES, limits=limits, run={"max_failed": 0.5})
    (report,) = mmfeat.extract(**job).features
    assert (report.ok, report.failed) == (number - len(faults), len(faults) + len(POISON))

    store = mmfeat.open(tmp_path / "store")
    found = store.lookup([f"item-{n:03d}" for n in range(number)], ["colour"])["colour"]
    for n in range(number):
        if n in faults:
            assert found.status[n] == "failed"
            assert FAULTS[faults[n]] in found.reason[n]
            assert np.isnan(found.matrix[n]).all()
        else:
            assert found.status[n] == "ok"
            assert found.matrix[n].tolist() == [n, 7 * n % 256]
    poisoned = store.lookup(list(POISON), ["colour"])["colour"]
    for reason, (_, expected) in zip(poisoned.reason, POISON.values(), strict=True):
        assert expected in reason


def test_too_many_failures_stop_the_run_early_with_code_3_and_the_commonest_reasons(tmp_path, installed, run):
    number = 1200
    media = covers(tmp_path / "media", number, {n: faulty.RAISES for n in range(number) if n % 2})
    job = tmp_path / "job.toml"
    job.write_text(
        f'[store]\nuri = "{tmp_path / "store"}"\n[dataset]\nname = "folder"\nroot = "{media}"\n'
        '[resources]\nworkers = 1\nthreads = 1\n[features.colour]\nsource = "cover"\nencoder = "faulty"\n'
        'model = "m"\n'
    )
    code, _, err = run("run", job)
    assert code == 3
    assert "more than 5.0%" in err
    assert "x encode: ValueError: cannot do this picture" in err
    rows = mmfeat.open(tmp_path / "store").lookup(None, ["colour"])["colour"].status
    # It stopped at a hundred failures and the batches under way, with what succeeded kept.
    assert 100 <= sum(status == "failed" for status in rows) < number / 2
    assert 50 <= sum(status == "ok" for status in rows) < number / 2
