"""A model that fails costs the items that it failed on, and a batch that is too large is made smaller.

``Faulty`` of ``faulty_models`` goes through the real stages; its faults lie in the pictures.
"""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import faulty_models as faulty
import numpy as np
import pyarrow as pa
import pytest
from helpers.plugins import on_path, write_plugin
from PIL import Image

from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.bisect import Bisection
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig

WORK_COLUMNS = pa.schema([*WORK_SCHEMA, (f"{PAYLOAD}cover", pa.string()), (f"{STAMP}cover", pa.string())])


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path_factory):
    points = {"mmfeat.encoders": {"faulty": "faulty_models:Faulty"}}
    with on_path(write_plugin(tmp_path_factory.mktemp("site"), points)):
        # It proves itself when it is loaded for the first time.
        encoder()
        monkeypatch.setattr(faulty.Faulty, "sizes", [])
        yield


def encoder() -> Encode:
    config = FeatureConfig(source="cover", encoder="faulty")
    return Encode(resolve_all({"colour": config}), [0], last=True, batch_size=32)


def covers(folder: Path, faults: list[int]) -> pa.Table:
    """A work item per fault: a picture ``[n, 9]`` in red and green that brings it."""
    rows = []
    for n, fault in enumerate(faults):
        path = folder / f"{n}.png"
        Image.new("RGB", (16, 16), (n, 9, fault)).save(path)
        read = {f"{PAYLOAD}cover": str(path), f"{STAMP}cover": "s"}
        rows.append({"work": n, "item_id": f"item-{n}", "group": "cover", "features": [0], **read})
    return pa.Table.from_pylist(rows, WORK_COLUMNS)


def run(stage: Encode, work: pa.Table) -> list[dict]:
    return stage(Decode(stage.specs, MediaLimits())(work)).to_pylist()


def vector(row: dict) -> list[float] | None:
    return None if row["value"] is None else np.frombuffer(row["value"], np.float32).tolist()


def test_every_fault_in_one_batch_costs_its_own_item_and_every_vector_is_its_own_items(tmp_path):
    faults = [faulty.FINE] * 20
    faults[3], faults[4], faults[11] = faulty.RAISES, faulty.NOT_A_NUMBER, faulty.INFINITE
    rows = run(encoder(), covers(tmp_path, faults))
    assert [row["work"] for row in rows] == list(range(20))
    assert {n: row["reason"] for n, row in enumerate(rows) if row["status"] == "failed"} == {
        3: "ValueError: cannot do this picture",
        4: "the model gave NaN or infinity",
        11: "the model gave NaN or infinity",
    }
    for n, row in enumerate(rows):
        assert vector(row) == (None if faults[n] else [n, 9])


def test_a_batch_that_fits_is_found_once_and_kept_for_the_run(tmp_path):
    stage, work = encoder(), covers(tmp_path, [faulty.FINE] * 24)
    assert [vector(row) for row in run(stage, work)] == [[n, 9] for n in range(24)]
    canary = [2]
    assert faulty.Faulty.sizes == [*canary, 24, 12, 6, 3, 3, 6, 3, 3, 12, 6, 3, 3, 6, 3, 3]
    faulty.Faulty.sizes.clear()
    run(stage, work)
    assert faulty.Faulty.sizes == [3] * 8


def test_an_item_too_large_for_memory_fails_alone_and_makes_no_batch_smaller(tmp_path):
    faults = [faulty.FINE] * 8
    faults[5] = faulty.TOO_LARGE
    stage = encoder()
    rows = run(stage, covers(tmp_path, faults[:4] + faults[4:]))
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["failed"] + ["ok"] * 2
    assert rows[5]["reason"] == "RuntimeError: DefaultCPUAllocator: can't allocate memory"
    stage = encoder()
    run(stage, covers(tmp_path, [faulty.TOO_LARGE, faulty.FINE, faulty.FINE, faulty.FINE]))
    faulty.Faulty.sizes.clear()
    run(stage, covers(tmp_path, [faulty.FINE] * 4))
    assert faulty.Faulty.sizes == [4]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_every_librarys_word_for_no_memory_is_understood(error):
    assert ran_out_of_memory(error)


def test_torchs_own_error_is_understood():
    import torch

    assert ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert ran_out_of_memory(caught.value)


def test_halves_run_when_the_failed_batch_has_given_its_memory_back():
    class Tensor:
        pass

    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def call(inputs: list[int]) -> list[int]:
        assert not alive, "an earlier call's tensor is still held"
        tensor = Tensor()
        alive.add(tensor)
        if len(inputs) > 2:
            raise MemoryError
        return inputs

    assert Bisection(call)(list(range(8))) == list(range(8))


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("[[0.1, 0.2, 0.3]]", "the model gave (3,) instead of (2,)"),
        ("[null]", "the model gave () instead of (2,)"),
        ('[["a", "b"]]', "the model gave str32 values instead of numbers"),
        ("[[0.5, NaN]]", "the model gave NaN or infinity"),
    ],
)
def test_what_is_no_vector_is_failed_whatever_type_it_has(tmp_path, monkeypatch, output, reason):
    monkeypatch.setattr(faulty.Faulty, "encode_images", lambda self, pixels: json.loads(output))
    (row,) = run(encoder(), covers(tmp_path, [faulty.FINE]))
    assert (row["status"], row["stage"], row["reason"], row["value"]) == ("failed", "encode", reason, None)
