"""A version's values are the same in every run, or the run stops before it writes and says what changed.

The models are plug-ins of an engine whose values are turned from one run to the next, as an upgrade does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from helpers import worlds
from helpers.plugins import on_path, write_plugin

import mmfeat
from mmfeat.extract import canary as canaries
from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Method, Placement, Reads
from mmfeat.extract.canary import FILES, Canary, canary_of, changed
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.execution.canaries import Canaries
from mmfeat.pipelines.execution.servers import reached
from mmfeat.pipelines.execution.stages import Encode
from mmfeat.pipelines.planning.work import WORK_SCHEMA
from mmfeat.schemas.errors import ValuesChanged
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import (
    AudioPrepare,
    FrameSampling,
    ImagePrepare,
    PixelView,
    TextPrepare,
    VideoPrepare,
)
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard, Weights
from mmfeat.store import Retention, Store

DIMS = 4
CARD = ModelCard(method="m", model="m", reads=("text",), licence="MIT", weights_from="nowhere")


class Options(Frozen):
    dtype: str = "float32"
    temperature: float = 0.0


class Turned(Encoder):
    """Vectors of anything, turned by an angle that is another in another version of its engine."""

    Options = Options
    reads = tuple(Reads((one,)) for one in ("text", "image", "video", "audio"))
    example = CARD
    output: ClassVar = VectorOut(dims=DIMS)
    angle: ClassVar[float] = 0.0
    engine: ClassVar[str] = "engine 1.0"
    loads: ClassVar[int] = 0

    @classmethod
    def resolve(cls, ask: Ask[Options]) -> FeatureSpec:
        view = PixelView(mode="squash", height=8, width=8)
        prepare: Any = {
            "text": TextPrepare(),
            "image": ImagePrepare(view=view),
            "video": VideoPrepare(view=view, sampling=FrameSampling(count=2)),
            "audio": AudioPrepare(sample_rate=8000),
        }[ask.only.modality]
        decoding = {"max_new_tokens": 8, "temperature": ask.options.temperature}
        return ask.spec(
            inputs=(ask.only.prepared(prepare),),
            output=cls.output,
            model="turned",
            weights=Weights(origin="package", ref="plugin"),
            options={
                "compute_dtype": ask.options.dtype,
                **({"decoding": decoding} if cls.output.kind == "text" else {}),
            },
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec, self.runtime = spec, self.engine
        Turned.loads += 1

    def run(self, rows: Sequence[Any]) -> np.ndarray:
        return np.stack([self.vector(value) for (value,) in rows])

    def vector(self, value: Any) -> np.ndarray:
        raw = value if isinstance(value, str) else getattr(value, "pixels", getattr(value, "samples", None))
        digest = sha256(
            raw.encode() if isinstance(raw, str) else np.ascontiguousarray(raw).tobytes()
        ).digest()
        one = np.frombuffer(digest[:DIMS], np.uint8).astype(np.float32) + 1
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([cos * one[0] - sin * one[1], sin * one[0] + cos * one[1], *one[2:]], np.float32)


class Told(Captioner):
    """A text's length, and a word that is another in another version of its engine."""

    Options = Options
    reads = (Reads(("text",)),)
    example = CARD
    output: ClassVar = TextOut(role="caption")
    resolve = classmethod(Turned.resolve.__func__)
    word: ClassVar[str] = "letters"

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def caption(self, rows):
        return [Caption(f"{len(text)} {self.word}", "stop") for (text,) in rows]


class Served(Turned):
    """Its model is on a server."""

    runs = "server"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory) -> Iterator[None]:
    points = {
        "mmfeat.encoders": {"turned": f"{__name__}:Turned", "served": f"{__name__}:Served"},
        "mmfeat.captioners": {"told": f"{__name__}:Told"},
    }
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), points)):
        yield


PINNED = {"image": "31f4df4003484fbe", "video": "2f98b401959729bf", "audio": "2f98b401959729bf"}
VECTOR = {"source": "title", "encoder": "turned"}


@pytest.fixture
def shop(tmp_path):
    """Runs over a table of so many titles, as a job of every day has them."""

    def run(items: int, features: dict[str, Any] | None = None, **options: Any):
        lines = ["item_id,title", *(f"i{n},title {n}" for n in range(items))]
        (tmp_path / "items.csv").write_text("\n".join(lines) + "\n")
        return mmfeat.extract(
            "table",
            root=tmp_path / "items.csv",
            store=str(tmp_path / "store"),
            features=features or {"words": VECTOR},
            resources={"executor": "local", "threads": 1},
            run=options,
        )

    return run


@pytest.fixture
def store(tmp_path):
    return lambda: Store.open(str(tmp_path / "store"))


def upgrade(monkeypatch, angle: float = 0.5) -> None:
    monkeypatch.setattr(Turned, "angle", angle)
    monkeypatch.setattr(Turned, "engine", "engine 2.0")


def method(table: dict[str, Any]) -> Method:
    return load_method(resolve_all({"f": FeatureConfig(**table)})[0])


def stored(loaded: Method) -> Canary:
    """A method's canary as it comes back from a store."""
    made = canary_of(loaded, "cpu")
    assert made is not None
    again = Canary.from_json(made.to_json())
    assert again is not None and changed(loaded.spec, made, again) is None
    return again


# Runs


def test_a_run_whose_engine_changed_the_values_stops_before_it_writes_and_names_both_versions(
    shop, store, monkeypatch, tmp_path
):
    shop(3)
    assert shop(5).features[0].ok == 2, "the same engine goes on"
    (folder := tmp_path / "newer" / "timm-99.0.dist-info").mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: timm\nVersion: 99.0\n")
    upgrade(monkeypatch)
    before = store().catalog().num_rows
    with on_path(folder.parent), pytest.raises(ValuesChanged) as stopped:
        shop(9)
    assert stopped.value.exit_code == 3
    assert "runtime engine 1.0 -> engine 2.0; timm " in stopped.value.message
    assert "-> 99.0" in stopped.value.message and "cosine 0." in stopped.value.message
    assert "pip install timm==" in stopped.value.hint and "engine" not in stopped.value.hint
    assert "another name" in stopped.value.hint and "--accept-changed" in stopped.value.hint
    assert before == 5 and store().counts(store().resolve("words")) == {"ok": 5}
    monkeypatch.undo()
    assert shop(9).features[0].ok == 4, "with the older engine it goes on"


def test_a_run_that_has_nothing_to_compute_loads_no_model_and_is_not_stopped(shop, monkeypatch):
    shop(3)
    upgrade(monkeypatch)
    loads = Turned.loads
    assert shop(3).features[0].up_to_date == 3
    assert Turned.loads == loads


def test_changed_values_that_are_accepted_are_in_the_runs_record_and_count_from_then_on(
    shop, store, monkeypatch
):
    shop(3)
    upgrade(monkeypatch)
    report = shop(5, accept_changed=True)
    assert report.features[0].ok == 2
    assert report.features[0].changed["made_by"]["runtime"] == ("engine 1.0", "engine 2.0")
    (notice,) = report.notices
    assert notice.startswith(report.features[0].version) and "engine 1.0 -> engine 2.0" in notice
    record = [one for one in store().runs() if one.get("report")][-1]
    assert notice in json.dumps(record) and record["report"]["features"][0]["changed"]["what"]
    again = shop(6)
    assert (again.features[0].ok, again.notices, again.features[0].changed) == (1, [], None)
    monkeypatch.undo()
    with pytest.raises(ValuesChanged):
        shop(7)


def test_small_turns_that_are_accepted_one_by_one_do_not_add_up_to_a_large_one(shop, monkeypatch):
    shop(1)
    upgrade(monkeypatch, 0.004)
    assert shop(2, accept_changed=True).features[0].changed is None
    upgrade(monkeypatch, 0.008)
    with pytest.raises(ValuesChanged):
        shop(3)


def test_a_store_from_before_gets_its_canary_in_the_next_run(shop, store, monkeypatch):
    shop(3)
    opened = store()
    version = opened.resolve("words")
    with opened.lease("test"):
        opened.retaining._database.delete("_canaries", "true")
    assert opened.canary(version) is None
    assert shop(4).features[0].ok == 1
    assert store().canary(version) is not None
    upgrade(monkeypatch)
    with pytest.raises(ValuesChanged):
        shop(5)


def test_a_canary_of_other_inputs_is_replaced_and_compared_with_nothing(shop, store, monkeypatch):
    shop(3)
    monkeypatch.setattr(canaries, "FORMAT", 2)
    upgrade(monkeypatch)
    shop(4)
    assert json.loads(store().canary(store().resolve("words")))["format"] == 2


def test_gc_removes_a_canary_with_its_version_and_a_snapshot_is_read_without_one(shop, store):
    shop(3)
    shop(3, {"words": {**VECTOR, "dtype": "bfloat16"}})
    opened = store()
    first, second = opened.versions("words")
    with opened.lease("test"):
        opened.create_snapshot("then")
    assert opened.at("then").lookup(["i0"]).ids == ["i0"]
    with opened.lease("gc"):
        opened.delete_snapshot("then")
        opened.retaining.collect(opened.retaining.survey(Retention(versions=1)))
    assert store().canary(first) is None and store().canary(second) is not None


def test_a_caption_that_says_another_word_stops_the_run_in_float32_alone(shop, monkeypatch):
    tables = {name: {"source": "title", "captioner": "told"} for name in ("exact", "half", "sampled")}
    tables["half"]["dtype"], tables["sampled"]["temperature"] = "bfloat16", 0.5
    for table in tables.values():
        shop(2, {"caption": table})
    monkeypatch.setattr(Told, "word", "characters")
    for name in ("half", "sampled"):
        assert shop(3, {"caption": tables[name]}).features[0].ok == 1
    with pytest.raises(ValuesChanged, match="'27 letters' and '27 characters'"):
        shop(3, {"caption": tables["exact"]})


# Processes


def test_a_process_that_loads_another_library_than_the_first_one_did_gives_no_rows(monkeypatch):
    (spec,) = resolve_all({"words": FeatureConfig(**VECTOR)})
    row = {"work": 0, "item_id": "i", "group": "", "features": [0], "payload.title": "a title"}
    work = pa.Table.from_pylist([row], schema=WORK_SCHEMA.append(pa.field("payload.title", pa.string())))
    known = {0: stored(method(VECTOR))}
    (result,) = Encode([spec], [0], last=True, canaries=known)(work).to_pylist()
    assert (result["status"], result["canary"]) == ("ok", None), "there is nothing to tell"
    upgrade(monkeypatch)
    results = Encode([spec], [0], last=True, canaries=known)(work)
    rows, stop = reached(results)
    assert not len(rows) and results["value"].null_count == 1
    assert isinstance(stop, ValuesChanged) and "engine 1.0 -> engine 2.0" in stop.message and stop.hint


def test_two_processes_of_a_first_run_that_differ_stop_it(tmp_path, monkeypatch):
    (spec,) = resolve_all({"words": FeatureConfig(**VECTOR)})
    opened = Store.open(str(tmp_path / "store"), create=True)

    def result() -> pa.Table:
        (made,) = Encode([spec], [0], last=True).new_canaries.values()
        return pa.Table.from_pylist([{"work": 0, "feature": 0, "canary": made}], schema=RESULTS_SCHEMA)

    with opened.lease("test"):
        held = Canaries(opened, [opened.add_version(spec)], accept=False)
        assert held.known == {}
        assert list(held.add(result())) == list(held.add(result())) == []
        assert list(held.known) == [0]
        upgrade(monkeypatch)
        with pytest.raises(ValuesChanged, match="in two processes of this run") as caught:
            list(held.add(result()))
        assert "No row" not in caught.value.message and "--accept-changed" not in caught.value.hint


# What is looked at


def test_the_files_that_go_through_the_decoders_are_the_pinned_ones():
    digests = {name: sha256(path.read_bytes()).hexdigest()[:16] for name, path in FILES.items()}
    assert digests == PINNED, "raise FORMAT where they have to change"


@pytest.mark.parametrize("source", ["title", "cover", "video", "audio"])
def test_every_modality_has_a_canary_and_files_go_through_their_decoder(source, monkeypatch):
    loaded = method({**VECTOR, "source": source})
    then = stored(loaded)
    assert len(then.values) == (3 if source == "title" else 2)
    if source != "title":
        monkeypatch.setitem(FILES, "image", FILES["image"].with_name("96.jpg"))
        for name in ("video", "audio"):
            monkeypatch.setitem(FILES, name, FILES[name].with_name("96.mp4"))
        assert changed(loaded.spec, then, stored(loaded)), "it reads the file"


@pytest.mark.parametrize(("dtype", "angle"), [("float32", 0.002), ("float16", 0.02), ("bfloat16", 0.1)])
def test_the_bar_is_that_of_the_number_type(dtype, angle, monkeypatch):
    loaded = method({**VECTOR, "dtype": dtype})
    then = stored(loaded)
    monkeypatch.setattr(Turned, "angle", angle)
    assert changed(loaded.spec, then, stored(loaded)) is None
    monkeypatch.setattr(Turned, "angle", 4 * angle)
    assert changed(loaded.spec, then, stored(loaded))


def test_what_runs_on_a_server_has_no_canary():
    (spec,) = resolve_all({"words": FeatureConfig(source="title", encoder="served")})
    assert canary_of(Served(spec, Placement()), "cpu") is None


@pytest.mark.parametrize(
    "table",
    [{**worlds.CLIP, "source": "title"}, worlds.HEARD, worlds.WATCHED, worlds.CAPTION],
    ids=["texts", "sound", "video", "caption"],
)
def test_real_models_come_to_the_same_canary_twice(table):
    loaded = method(table)
    assert changed(loaded.spec, stored(loaded), stored(loaded)) is None
