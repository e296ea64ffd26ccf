"""One item's trouble stays that item's, whatever it shares a batch with.

``Faulty`` stands in for a model that misbehaves on some inputs: no real model does so on demand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from media_samples import clip
from PIL import Image

from mmfeat.extract import registry
from mmfeat.extract.base import Caption, Captioner, Encoder
from mmfeat.pipelines.execution.bisect import Halving
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.contents import joint_hash
from mmfeat.pipelines.planning.work import UNITS_SCHEMA
from mmfeat.schemas.errors import ConservationError, ItemError
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import (
    FeatureSpec,
    FrameSampling,
    ImagePreprocess,
    PixelView,
    Prompt,
    SceneCuts,
    Weights,
    text_hash,
)

SIZE = 8


class Faulty(Encoder):
    """The mean colour of each picture, twice; ``fault`` may raise or change it."""

    batch_size = 4
    fault: Callable[[np.ndarray, np.ndarray], np.ndarray] = staticmethod(lambda pixels, values: values)
    calls: ClassVar[list[int]] = []

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        self.spec = spec

    @classmethod
    def resolve(cls, name, config, upstream):
        raise NotImplementedError

    @classmethod
    def card(cls, spec):
        raise NotImplementedError

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        Faulty.calls.append(len(pixels))
        values = pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32)
        return Faulty.fault(pixels, np.stack([values, values], axis=1))


def spec(name: str = "x", size: int = SIZE, store_dtype: str = "float32") -> FeatureSpec:
    return FeatureSpec(
        name=name, source="cover", output="vector", method="faulty", model="m", dims=2,
        weights=Weights(origin="random", ref="seed=0"), store_dtype=store_dtype,
        image=ImagePreprocess(view=PixelView(mode="squash", height=size, width=size)),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setattr(registry, "model_class", lambda method, output: Faulty)
    monkeypatch.setattr(Faulty, "calls", [])
    return Faulty


def units(folder: Path, greys: list[int | bytes]) -> pa.Table:
    """A cover per entry: a grey picture, or these bytes."""
    rows = []
    for number, grey in enumerate(greys):
        path = folder / f"{number}.png"
        if isinstance(grey, bytes):
            path.write_bytes(grey)
        else:
            Image.new("RGB", (16, 16), (grey,) * 3).save(path)
        rows.append((number, f"item-{number}", "cover", str(path), "stamp", [0], None))
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(c, t) for c, t in zip(columns, UNITS_SCHEMA.types, strict=True)], UNITS_SCHEMA)


def run(table: pa.Table, *specs: FeatureSpec) -> list[dict]:
    chosen = specs or (spec(),)
    decoded = Decode(chosen, MediaLimits())(table)
    return Encode(chosen, range(len(chosen)), last=True)(decoded).to_pylist()


def values(rows: list[dict]) -> list[float | None]:
    return [None if r["value"] is None else float(np.frombuffer(r["value"], np.float32)[0]) for r in rows]


def test_every_unit_gets_its_own_value(tmp_path):
    greys = [10 * n for n in range(11)]
    assert values(run(units(tmp_path, greys))) == greys


def test_a_broken_file_fails_alone_with_its_reason(tmp_path):
    rows = run(units(tmp_path, [1, b"this is not a picture", 3, b"", 5]))
    assert values(rows) == [1, None, 3, None, 5]
    assert [r["status"] for r in rows] == ["ok", "failed", "ok", "failed", "ok"]
    assert [(r["stage"], bool(r["reason"])) for r in rows if r["status"] == "failed"] == [
        ("decode", True),
        ("read", True),
    ]
    assert rows[3]["reason"] == "file is empty"


def test_a_model_that_raises_on_one_item_costs_that_item_only(tmp_path, faulty, monkeypatch):
    def fault(pixels, out):
        if (pixels == 30).all(axis=(1, 2, 3)).any():
            raise ValueError("cannot do thirty")
        return out

    monkeypatch.setattr(faulty, "fault", staticmethod(fault))
    rows = run(units(tmp_path, [10, 20, 30, 40, 50]))
    assert values(rows) == [10, 20, None, 40, 50]
    assert (rows[2]["stage"], rows[2]["reason"]) == ("encode", "ValueError: cannot do thirty")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_no_number_is_never_stored(tmp_path, faulty, monkeypatch, bad):
    def fault(pixels, out):
        out[out[:, 0] == 20, 1] = bad
        return out

    monkeypatch.setattr(faulty, "fault", staticmethod(fault))
    rows = run(units(tmp_path, [10, 20, 30]))
    assert values(rows) == [10, None, 30]
    assert rows[1]["reason"] == "the model gave NaN or infinity"


def test_a_value_that_half_precision_cannot_hold_is_never_stored(tmp_path, faulty, monkeypatch):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out * 1e6))
    rows = run(units(tmp_path, [10]), spec(store_dtype="float16"))
    assert (rows[0]["status"], rows[0]["reason"]) == ("failed", "the model gave values too large for float16")


def test_a_vector_of_the_wrong_length_is_never_stored(tmp_path, faulty, monkeypatch):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out[:, :1]))
    (row,) = run(units(tmp_path, [10]))
    assert (row["status"], row["reason"]) == ("failed", "the model gave (1,) instead of (2,)")


def test_a_model_that_gives_fewer_rows_than_it_got_ends_no_row_in_another_place(
    tmp_path, faulty, monkeypatch
):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out[1:]))
    rows = run(units(tmp_path, [10, 20, 30]))
    assert [r["status"] for r in rows] == ["failed"] * 3


def test_a_batch_that_does_not_fit_is_halved_and_the_smaller_size_is_remembered(
    tmp_path, faulty, monkeypatch
):
    def fault(pixels, out):
        if len(pixels) > 2:
            raise MemoryError
        return out

    monkeypatch.setattr(faulty, "fault", staticmethod(fault))
    assert values(run(units(tmp_path, [10, 20, 30, 40, 50, 60, 70]))) == [10, 20, 30, 40, 50, 60, 70]
    assert faulty.calls == [4, 2, 2, 2, 1]


def test_each_picture_is_read_and_decoded_once_for_all_encoders(tmp_path, monkeypatch):
    from mmfeat.extract.media import image, read

    counted = {"read": 0, "render": 0}
    reader, renderer = read.read_media, image.render_image

    def counting_read(*args):
        counted["read"] += 1
        return reader(*args)

    def counting_render(*args):
        counted["render"] += 1
        return renderer(*args)

    monkeypatch.setattr(read, "read_media", counting_read)
    monkeypatch.setattr(image, "render_image", counting_render)
    table = units(tmp_path, [10, 20, 30])
    table = table.set_column(
        5, UNITS_SCHEMA.field("features"), pa.array([[0, 1, 2]] * 3, pa.list_(pa.int32()))
    )
    rows = run(table, spec("x"), spec("y", size=4), spec("z"))
    assert counted == {"read": 3, "render": 3}
    assert sorted((r["feature"], v) for r, v in zip(rows, values(rows), strict=True)) == [
        (f, v) for f in range(3) for v in (10, 20, 30)
    ]


def test_models_are_called_once_per_full_batch(tmp_path, faulty):
    run(units(tmp_path, list(range(10))))
    assert faulty.calls == [4, 4, 2]


class Teller(Captioner):
    """Tells what it was given: stands in for a captioner, to see what reaches one."""

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        self.spec = spec

    @classmethod
    def resolve(cls, name, config, upstream):
        raise NotImplementedError

    @classmethod
    def card(cls, spec):
        raise NotImplementedError

    def caption(self, inputs):
        return [
            ItemError("caption", "no word for black")
            if not item.frames.pixels.any()
            else Caption(f"{item.texts} {[s.start for s in item.frames.scenes]} {item.frames.times}", "stop")
            for item in inputs
        ]


def teller(text: str, source: str = "cover", frames: FrameSampling | None = None) -> FeatureSpec:
    return FeatureSpec(
        name="told", source=source, output="text", method="teller", model="m", text_kind="caption",
        weights=Weights(origin="random", ref="seed=0"), frames=frames,
        image=ImagePreprocess(view=PixelView(mode="squash", height=SIZE, width=SIZE)),
        prompt=Prompt(name="p", version=1, text=text),
    )  # fmt: skip


def test_a_captioner_gets_the_texts_that_its_prompt_reads_and_its_row_depends_on_them(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "model_class", lambda method, output: Teller)
    table = units(tmp_path, [10, 20, 0])
    texts = [{"title": t, "description": "d"} for t in ("one", "two", "three")]
    table = table.set_column(
        6, UNITS_SCHEMA.field("texts"), pa.array(texts, UNITS_SCHEMA.field("texts").type)
    )
    rows = run(table, teller("What is {title}?"))
    plain = run(table, teller("What is this?"))
    assert [r["value"] for r in rows[:2]] == [b"{'title': 'one'} [] (0.0,)", b"{'title': 'two'} [] (0.0,)"]
    assert [r["content_hash"] for r in rows] == [
        joint_hash(r["content_hash"], text_hash(t["title"])) for r, t in zip(plain, texts, strict=True)
    ]
    assert (rows[2]["status"], rows[2]["reason"]) == ("failed", "no word for black")


def test_scenes_reach_the_captioner_with_their_times(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "model_class", lambda method, output: Teller)
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(frames=50))
    cuts = SceneCuts(detector="content", threshold=250.0, min_seconds=0.0, max_scenes=4)
    spec = teller("What?", "video", FrameSampling(mode="scenes", count=2, scenes=cuts))
    unit = {"unit": 0, "item_id": "a", "source": "video", "payload": str(path), "stamp": "s", "features": [0]}
    (row,) = run(pa.Table.from_pylist([unit], UNITS_SCHEMA), spec)
    assert row["value"] == b"{} [0.0] (0.48, 1.48)"


def test_a_feature_that_no_stage_computed_is_an_error_and_not_a_gap(tmp_path):
    chosen = [spec("x"), spec("y")]
    table = units(tmp_path, [1])
    table = table.set_column(5, UNITS_SCHEMA.field("features"), pa.array([[0, 1]], pa.list_(pa.int32())))
    with pytest.raises(ConservationError, match="without feature 1"):
        Encode(chosen, [0], last=True)(Decode(chosen, MediaLimits())(table))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_whatever_inputs_are_at_fault_all_others_get_their_output(good):
    def call(numbers: list[int]) -> list[int]:
        if not all(good[n] for n in numbers):
            raise ItemError("encode", "no")
        return [n * 10 for n in numbers]

    assume(not all(good))
    outputs = Halving(call)(list(range(len(good))))
    assert len(outputs) == len(good)
    for number, output in enumerate(outputs):
        assert output == number * 10 if good[number] else isinstance(output, ItemError)
