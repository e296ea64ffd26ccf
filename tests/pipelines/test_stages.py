"""One item's trouble stays that item's, whatever it shares a batch with.

``Faulty`` stands in for a model that misbehaves on some inputs: no real model does so on demand. It and
``Described`` are plug-ins, installed as those of other packages are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from helpers.media_samples import clip
from helpers.plugins import on_path, write_plugin
from helpers.sound_samples import Track, talkie, tone
from helpers.work_items import work_items
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from mmfeat.extract.base import Caption, Captioner, Encoder, Placement
from mmfeat.extract.registry import load_method
from mmfeat.pipelines.execution.bisect import Bisection
from mmfeat.pipelines.execution.ray.isolate import failed_results
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.contents import BETWEEN_STAMPS, joint_hash
from mmfeat.schemas.errors import ConservationError, ItemError
from mmfeat.schemas.inputs import (
    AudioPrepare,
    FrameSampling,
    ImagePrepare,
    Input,
    PixelView,
    SceneCuts,
    VideoPrepare,
)
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights, text_hash

SIZE = 8


class _Plugin:
    @classmethod
    def resolve(cls, ask):
        raise NotImplementedError("the specs are made by hand")

    @classmethod
    def card(cls, spec):
        raise NotImplementedError("no listing shows it")

    reads = ()
    example = None


class Faulty(_Plugin, Encoder):
    """The mean colour of each picture, twice; ``fault`` may raise or change it."""

    batch_size = 4
    fault: Callable[[np.ndarray, np.ndarray], np.ndarray] = staticmethod(lambda pixels, values: values)
    calls: ClassVar[list[int]] = []

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        Faulty.calls.append(len(pixels))
        values = pixels.reshape(len(pixels), -1).mean(axis=1, dtype=np.float32)
        return Faulty.fault(pixels, np.stack([values, values], axis=1))


class Described(_Plugin, Captioner):
    """Says what it was given: stands in for a captioner, to see what reaches one."""

    batch_size = 2
    calls: ClassVar[list[int]] = []

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def caption(self, rows):
        Described.calls.append(len(rows))
        return [self._described(values) for values in rows]

    def _described(self, values):
        words = []
        for value in values:
            if value is None or isinstance(value, str):
                words.append(repr(value))
            elif hasattr(value, "samples"):
                words.append(f"sound at {value.sample_rate}")
            elif not value.pixels.any():
                return ItemError("caption", "no word for black")
            else:
                words.append(f"{[s.start for s in value.scenes]} {value.times}")
        return Caption(" ".join(words), "stop")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory) -> Iterator[None]:
    points = {
        "mmfeat.encoders": {"faulty": f"{__name__}:Faulty"},
        "mmfeat.captioners": {"described": f"{__name__}:Described"},
    }
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), points)):
        # It proves itself when it is loaded for the first time, before it is made to fail.
        load_method(spec())
        yield


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setattr(Faulty, "calls", [])
    return Faulty


def cover(size: int = SIZE, **more: object) -> Input:
    view = PixelView(mode="squash", height=size, width=size)
    return Input(source="cover", modality="image", prepare=ImagePrepare(view=view), **more)


def spec(name: str = "x", size: int = SIZE, dtype: str = "float32") -> FeatureSpec:
    return FeatureSpec(
        name=name, inputs=(cover(size),), output=VectorOut(dims=2, dtype=dtype), method="faulty", model="m",
        weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


def described(*inputs: Input, name: str = "caption") -> FeatureSpec:
    return FeatureSpec(
        name=name, inputs=inputs, output=TextOut(role="caption"), method="described", model="m",
        weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip


def covers(folder: Path, greys: list[int | bytes]) -> list[dict[str, Path]]:
    """A cover per entry: a grey picture, or these bytes."""
    rows = []
    for number, grey in enumerate(greys):
        path = folder / f"{number}.png"
        if isinstance(grey, bytes):
            path.write_bytes(grey)
        else:
            Image.new("RGB", (16, 16), (grey,) * 3).save(path)
        rows.append({"cover": path})
    return rows


def work(folder: Path, greys: list[int | bytes], *features: int) -> pa.Table:
    return work_items(covers(folder, greys), features or (0,))


def run(table: pa.Table, *specs: FeatureSpec) -> list[dict]:
    chosen = specs or (spec(),)
    decoded = Decode(chosen, MediaLimits())(table)
    return Encode(chosen, range(len(chosen)), last=True)(decoded).to_pylist()


def values(rows: list[dict]) -> list[float | None]:
    return [None if r["value"] is None else float(np.frombuffer(r["value"], np.float32)[0]) for r in rows]


def test_every_work_item_gets_its_own_value(tmp_path):
    greys = [10 * n for n in range(11)]
    assert values(run(work(tmp_path, greys))) == greys


def test_a_broken_file_fails_alone_with_its_reason(tmp_path):
    rows = run(work(tmp_path, [1, b"this is not a picture", 3, b"", 5]))
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
    rows = run(work(tmp_path, [10, 20, 30, 40, 50]))
    assert values(rows) == [10, 20, None, 40, 50]
    assert (rows[2]["stage"], rows[2]["reason"]) == ("encode", "ValueError: cannot do thirty")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_no_number_is_never_stored(tmp_path, faulty, monkeypatch, bad):
    def fault(pixels, out):
        out[out[:, 0] == 20, 1] = bad
        return out

    monkeypatch.setattr(faulty, "fault", staticmethod(fault))
    rows = run(work(tmp_path, [10, 20, 30]))
    assert values(rows) == [10, None, 30]
    assert rows[1]["reason"] == "the model gave NaN or infinity"


def test_a_value_that_half_precision_cannot_hold_is_never_stored(tmp_path, faulty, monkeypatch):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out * 1e6))
    rows = run(work(tmp_path, [10]), spec(dtype="float16"))
    assert (rows[0]["status"], rows[0]["reason"]) == ("failed", "the model gave values too large for float16")


def test_a_vector_of_the_wrong_length_is_never_stored(tmp_path, faulty, monkeypatch):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out[:, :1]))
    (row,) = run(work(tmp_path, [10]))
    assert (row["status"], row["reason"]) == ("failed", "the model gave (1,) instead of (2,)")


def test_a_model_that_gives_fewer_rows_than_it_got_ends_no_row_in_another_place(
    tmp_path, faulty, monkeypatch
):
    monkeypatch.setattr(faulty, "fault", staticmethod(lambda pixels, out: out[1:]))
    rows = run(work(tmp_path, [10, 20, 30]))
    assert [r["status"] for r in rows] == ["failed"] * 3


def test_a_batch_that_does_not_fit_is_bisected_and_the_smaller_size_is_remembered(
    tmp_path, faulty, monkeypatch
):
    def fault(pixels, out):
        if len(pixels) > 2:
            raise MemoryError
        return out

    monkeypatch.setattr(faulty, "fault", staticmethod(fault))
    assert values(run(work(tmp_path, [10, 20, 30, 40, 50, 60, 70]))) == [10, 20, 30, 40, 50, 60, 70]
    canary = [2]
    assert faulty.calls == [*canary, 4, 2, 2, 2, 1]


def test_each_picture_is_read_and_decoded_once_for_all_encoders(tmp_path, monkeypatch):
    from mmfeat.extract.media import read
    from mmfeat.extract.modalities.decoders import image

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
    table = work(tmp_path, [10, 20, 30], 0, 1, 2)
    rows = run(table, spec("x"), spec("y", size=4), spec("z"))
    canaries = 3
    assert counted == {"read": 3 + canaries, "render": 3 + canaries}
    assert sorted((r["feature"], v) for r, v in zip(rows, values(rows), strict=True)) == [
        (f, v) for f in range(3) for v in (10, 20, 30)
    ]


def test_models_are_called_once_per_full_batch(tmp_path, faulty):
    run(work(tmp_path, list(range(10))))
    canary = [2]
    assert faulty.calls == [*canary, 4, 4, 2]


TITLE = Input(source="title", modality="text", named=True)


def test_a_captioner_gets_the_texts_that_its_prompt_reads_and_its_row_depends_on_them(tmp_path):
    titles = ["one", "two", "three"]
    rows = [
        {**row, "title": title, "description": "d"}
        for row, title in zip(covers(tmp_path, [10, 20, 0]), titles, strict=True)
    ]
    read = run(work_items(rows), described(cover(), TITLE))
    plain = run(work_items(rows), described(cover()))
    assert [r["value"] for r in read[:2]] == [b"[] (0.0,) 'one'", b"[] (0.0,) 'two'"]
    assert [r["content_hash"] for r in read] == [
        joint_hash(r["content_hash"], text_hash(title)) for r, title in zip(plain, titles, strict=True)
    ]
    assert (read[2]["status"], read[2]["reason"]) == ("failed", "no word for black")


def test_scenes_reach_the_captioner_with_their_times(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(frames=50))
    cuts = SceneCuts(detector="content", threshold=250.0, min_seconds=0.0, max_scenes=4)
    (row,) = run(work_items([{"video": path}]), described(video(mode="scenes", count=2, scenes=cuts)))
    assert row["value"] == b"[0.0] (0.48, 1.48)"


def video(**sampling: object) -> Input:
    view = PixelView(mode="squash", height=SIZE, width=SIZE)
    prepare = VideoPrepare(view=view, sampling=FrameSampling(**sampling))
    return Input(source="video", modality="video", prepare=prepare)


SOUND = Input(source="video.sound", modality="audio", prepare=AudioPrepare(sample_rate=8000))


def test_one_decode_of_a_clip_serves_its_frames_and_its_sound(tmp_path, monkeypatch):
    from mmfeat.extract.media import read

    reads, reader = [], read.read_media
    monkeypatch.setattr(read, "read_media", lambda *a: (reads.append(a[0]), reader(*a))[1])
    path = tmp_path / "clip.mp4"
    path.write_bytes(talkie(Track(tone(440, 1, 16000)[None], 16000, "aac"), frames=25))
    specs = described(video(count=1), SOUND, name="both"), described(SOUND, name="heard")
    both, heard = run(work_items([{"video": path}], (0, 1)), *specs)
    assert (both["value"], heard["value"]) == (b"[] (0.48,) sound at 8000", b"sound at 8000")
    assert both["content_hash"] == joint_hash(heard["content_hash"], heard["content_hash"])
    assert both["stamp"] == heard["stamp"] and reads.count(str(path)) == 1


def test_a_mute_clip_has_no_sound_and_its_row_says_of_which_content(tmp_path):
    path = tmp_path / "mute.mp4"
    path.write_bytes(clip(frames=5))
    specs = described(SOUND, name="heard"), described(video(count=1), name="seen")
    heard, seen = run(work_items([{"video": path}], (0, 1)), *specs)
    assert [row["status"] for row in (heard, seen)] == ["missing", "ok"]
    assert heard["content_hash"] == seen["content_hash"] and heard["stamp"] == seen["stamp"]


def test_inputs_come_in_the_order_of_the_spec_and_none_stands_for_what_an_item_lacks(tmp_path):
    optional = Input(source="brand", modality="text", optional=True)
    rows = [{**row, "brand": brand} for row, brand in zip(covers(tmp_path, [9, 9]), ["b", None], strict=True)]
    first, second = run(work_items(rows), described(optional, cover()))
    assert [first["value"], second["value"]] == [b"'b' [] (0.0,)", b"None [] (0.0,)"]
    picture = first["content_hash"].split("+")[1]
    assert first["content_hash"] == joint_hash(text_hash("b"), picture)
    assert second["content_hash"] == joint_hash("0" * 64, picture)


def test_stamps_of_several_files_are_joined_in_the_order_of_the_inputs(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(frames=5))
    rows = [{"video": path, **covers(tmp_path, [9])[0]}]
    specs = described(cover(), video(count=1), name="both"), described(cover(), name="one")
    both, one = run(work_items(rows, (0, 1)), *specs)
    (other,) = run(work_items(rows), described(video(count=1)))
    assert both["stamp"] == BETWEEN_STAMPS.join([one["stamp"], other["stamp"]])


UPSTREAM = Input(source="seen", modality="text", upstream="0" * 64)


def test_a_feature_reads_the_text_that_the_same_stage_has_just_made(tmp_path):
    rows = [{**row, "title": "t"} for row in covers(tmp_path, [10, 0])]
    specs = described(cover(), name="seen"), described(TITLE, UPSTREAM, name="item")
    table = run(work_items(rows, (0, 1)), *specs)
    item = [row for row in table if row["feature"] == 1]
    assert item[0]["value"] == b"'t' '[] (0.0,)'"
    assert item[0]["content_hash"] == joint_hash(text_hash("t"), text_hash("[] (0.0,)"))
    assert (item[1]["status"], item[1]["stage"], item[1]["content_hash"]) == ("failed", "upstream", None)
    assert item[1]["reason"] == "caption: no word for black"


def test_a_feature_reads_the_committed_text_that_its_work_item_carries(tmp_path):
    rows = [{"title": "t", "seen": "said before"}]
    specs = described(cover(), name="seen"), described(TITLE, UPSTREAM, name="item")
    decoded = Decode(specs, MediaLimits())(work_items(rows, (1,)))
    (row,) = Encode(specs, [1], last=True)(decoded).to_pylist()
    assert row["value"] == b"'t' 'said before'"


def test_a_failed_feature_is_lacking_where_it_may_lack(tmp_path):
    may = UPSTREAM.model_copy(update={"optional": True})
    rows = [{**row, "title": "t"} for row in covers(tmp_path, [0])]
    specs = described(cover(), name="seen"), described(TITLE, may, name="item")
    _, item = run(work_items(rows, (0, 1)), *specs)
    assert (item["status"], item["value"]) == ("ok", b"'t' None")
    assert item["content_hash"] == joint_hash(text_hash("t"), "0" * 64)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_missing_text_comes_before_a_failure_and_a_failure_before_a_mute_clip(tmp_path, order):
    """So the next plan, which looks into no file, comes to the same."""
    path = tmp_path / "mute.mp4"
    path.write_bytes(clip(frames=5))
    (row,) = covers(tmp_path, [b"no picture"])
    row = {**row, "video": path}
    heard = described(SOUND, name="seen")
    mute = described(*[(cover(), SOUND)[n] for n in order], name="mute")
    unheard = described(*[(cover(), UPSTREAM)[n] for n in order], name="unheard")
    table = run(work_items([row], (0, 1, 2)), heard, mute, unheard)
    assert [r["status"] for r in table] == ["missing", "failed", "missing"]


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_text_of_a_feature_is_none_whether_a_prompt_names_it_or_not(tmp_path, blank, is_named):
    named = UPSTREAM.model_copy(update={"named": is_named})
    rows = [{**row, "seen": blank, "title": "t"} for row in covers(tmp_path, [9])]
    specs = described(cover(), name="seen"), described(cover(), named, name="asked")
    decoded = Decode(specs, MediaLimits())(work_items(rows, (1,)))
    (row,) = Encode(specs, [1], last=True)(decoded).to_pylist()
    assert row["status"] == "missing"


@pytest.mark.parametrize("is_decoded", [False, True])
def test_a_work_item_that_took_its_process_with_it_fails_with_the_content_that_is_known(tmp_path, is_decoded):
    """So it is not tried again until that changes."""
    rows = [{**row, "title": "t"} for row in covers(tmp_path, [9])]
    texts = described(TITLE, name="texts")
    specs = described(cover(), name="seen"), described(TITLE, UPSTREAM, name="item"), texts
    table = work_items(rows, (0, 1, 2))
    whole = run(table, *specs)
    given = Decode(specs, MediaLimits())(table) if is_decoded else table
    lost = failed_results(given, specs, ItemError("encode", "model crashed its process")).to_pylist()
    assert {(r["status"], r["stage"], r["reason"]) for r in lost} == {
        ("failed", "encode", "model crashed its process")
    }
    seen = whole[0]["content_hash"] if is_decoded else None
    assert [r["content_hash"] for r in lost] == [seen, None, text_hash("t")]
    assert lost[0]["stamp"] == (whole[0]["stamp"] if is_decoded else "planned")


def test_a_feature_that_no_stage_computed_is_an_error_and_not_a_gap(tmp_path):
    chosen = [spec("x"), spec("y")]
    table = work(tmp_path, [1], 0, 1)
    with pytest.raises(ConservationError, match="without feature 1"):
        Encode(chosen, [0], last=True)(Decode(chosen, MediaLimits())(table))


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_whatever_inputs_are_at_fault_all_others_get_their_output(good):
    def call(numbers: list[int]) -> list[int]:
        if not all(good[n] for n in numbers):
            raise ItemError("encode", "no")
        return [n * 10 for n in numbers]

    assume(not all(good))
    outputs = Bisection(call)(list(range(len(good))))
    assert len(outputs) == len(good)
    for number, output in enumerate(outputs):
        assert output == number * 10 if good[number] else isinstance(output, ItemError)


@pytest.mark.parametrize(("wanted", "sizes"), [(None, [5, 2]), (4, [4, 3])])
def test_a_block_goes_to_a_model_on_a_cpu_in_calls_as_large_as_it_gains_by(
    tmp_path, monkeypatch, wanted, sizes
):
    monkeypatch.setattr(Described, "together", 5)
    monkeypatch.setattr(Described, "calls", [])
    chosen = [described(cover())]
    encode = Encode(chosen, [0], last=True, batch_size=wanted)
    # What proves itself is over.
    Described.calls.clear()
    encode(Decode(chosen, MediaLimits())(work(tmp_path, [9] * 7)))
    assert Described.calls == sizes
