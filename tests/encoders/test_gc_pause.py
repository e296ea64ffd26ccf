"""Garbage is looked for once after models are loaded, and then as ever."""

from __future__ import annotations

import gc
import weakref

import pytest
import worlds

from mmfeat.extract.gc_pause import collected_afterwards
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.stages import Encode
from mmfeat.schemas.spec import FeatureConfig


class Knot:
    """Refers to itself, so only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_of_a_block_is_gone_after_the_outermost_one() -> None:
    with collected_afterwards():
        with collected_afterwards():
            knot = weakref.ref(Knot())
        assert knot() is not None
        assert not gc.isenabled()
    assert knot() is None
    assert gc.isenabled()


def test_a_block_that_fails_leaves_collections_as_they_were() -> None:
    with pytest.raises(ValueError), collected_afterwards():
        raise ValueError
    assert gc.isenabled()


def test_who_has_switched_collections_off_keeps_them_off() -> None:
    gc.disable()
    try:
        with collected_afterwards():
            knot = weakref.ref(Knot())
        assert knot() is not None
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_all_models_of_a_stage_are_loaded_with_one_look_for_garbage() -> None:
    specs = resolve_all({name: FeatureConfig(**worlds.CLIP) for name in ("one", "other")})
    looks: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looks.append(info["generation"])

    gc.callbacks.append(look)
    try:
        stage = Encode(specs, [0, 1], last=True)
    finally:
        gc.callbacks.remove(look)
    assert len(stage.methods) == 2
    assert looks == [2]
