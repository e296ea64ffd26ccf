"""Items with several pictures: what is made of them, what a broken one costs, and what is read again."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import synthetic
from helpers.web_server import answer, running
from helpers.worlds import CAPTION, CLIP
from PIL import Image

import mmfeat
from mmfeat.export import verify
from mmfeat.extract.fence.decode import MediaRequest
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.batch import decodings
from mmfeat.pipelines.execution.stages import Decode
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.schemas.templates import listed

SCENES = synthetic.held_out(9)
#: Item to its photos, by the number of the scene that each shows.
PHOTOS = {"one": [0], "two": [1, 2], "five": [3, 4, 5, 6, 7], "none": []}
MEAN = {**CLIP, "source": "photos", "pictures": "mean"}
EACH = {**CLIP, "source": "photos", "pictures": "each"}
FIRST = {**CLIP, "source": "photos"}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> np.ndarray:
    """``[9, dims]``: what the encoder gives of each scene as the one cover of an item."""
    folder = write(tmp_path_factory.mktemp("single"), {f"{n}": [n] for n in range(len(SCENES))})
    extract(folder, single=FIRST)
    return values(folder, "single", [f"{n}" for n in range(len(SCENES))])


def write(folder: Path, photos: dict[str, list[int]]) -> Path:
    """A table of items and their photos in ``folder``."""
    for item_id, scenes in photos.items():
        for place, number in enumerate(scenes):
            draw(folder, item_id, place, number)
    rows = [
        {"item_id": item_id, "photos": [photo(item_id, place) for place in range(len(scenes))] or None}
        for item_id, scenes in photos.items()
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def photo(item_id: str, place: int) -> str:
    return f"photos/{item_id}-{place}.png"


def draw(folder: Path, item_id: str, place: int, number: int) -> None:
    path = folder / photo(item_id, place)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(drawn(number))


def drawn(number: int) -> bytes:
    """A scene as PNG."""
    file = io.BytesIO()
    Image.fromarray(synthetic.render(SCENES[number])).save(file, "PNG")
    return file.getvalue()


def extract(
    folder: Path, run: Mapping[str, Any] = MappingProxyType({}), **features: dict[str, Any]
) -> RunReport:
    return mmfeat.extract(
        "table",
        folder / "items.jsonl",
        store=str(folder / "store"),
        dataset_columns={"photos": "image"},
        features=features,
        resources={"executor": "local", "threads": 1},
        run={"max_failed": 1.0, **run},
        limits={"fetch": {"allow_private_addresses": True}},
    )


def values(folder: Path, name: str, ids: Sequence[str]) -> np.ndarray:
    return np.asarray(mmfeat.open(folder / "store").lookup(ids, [name])[name].matrix)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector))


def resolved(**table: Any) -> Any:
    columns = {c.name: c for c in (Column("photos", "image", several=True), Column("cover", "image"))}
    return resolve_all({"a": FeatureConfig(**table)}, columns)[0]


# What is made of them -------------------------------------------------------------------------------------


def test_an_item_has_the_mean_the_first_or_each_vector_of_its_pictures(tmp_path, vectors):
    folder = write(tmp_path, PHOTOS)
    report = extract(folder, mean=MEAN, each=EACH, first=FIRST)
    assert [(f.ok, f.missing, f.failed) for f in report.features] == [(3, 1, 0)] * 3
    found = mmfeat.open(folder / "store").lookup(list(PHOTOS))
    for row, scenes in enumerate(PHOTOS.values()):
        assert bool(found["mean"].mask[row]) == bool(scenes)
        if scenes:
            np.testing.assert_allclose(found["each"].values[row], vectors[scenes], atol=1e-5)
            np.testing.assert_allclose(found["mean"].values[row], unit(vectors[scenes].mean(0)), atol=1e-5)
            np.testing.assert_allclose(found["first"].values[row], vectors[scenes[0]], atol=1e-5)
    assert extract(folder, mean=MEAN, each=EACH, first=FIRST).computed == 0


def test_no_more_pictures_are_read_than_are_asked_for(tmp_path, vectors):
    folder = write(tmp_path, PHOTOS)
    extract(folder, mean={**MEAN, "max_pictures": 2})
    np.testing.assert_allclose(
        values(folder, "mean", ["five"])[0], unit(vectors[[3, 4]].mean(axis=0)), atol=1e-5
    )
    # What is not read makes nothing out of date.
    draw(folder, "five", 4, 0)
    assert extract(folder, mean={**MEAN, "max_pictures": 2}).computed == 0


def test_a_captioner_is_shown_all_of_them_in_one_question(tmp_path):
    folder = write(tmp_path, {"one": [0], "three": [1, 2, 3]})
    extract(
        folder,
        caption={**CAPTION, "source": "photos"},
        single={**CAPTION, "source": "photos", "max_pictures": 1},
    )
    opened = mmfeat.open(folder / "store")
    tokens = {
        name: {i: f["prompt_tokens"] for i, f in opened.facts(name).items()} for name in ("caption", "single")
    }
    assert tokens["single"]["three"] == tokens["single"]["one"] == tokens["caption"]["one"]
    of_pictures = (tokens["caption"]["three"] - tokens["caption"]["one"]) / 2
    assert 1 < of_pictures < tokens["caption"]["one"]


def test_each_picture_is_decoded_once_for_all_features_that_read_it(tmp_path):
    folder = write(tmp_path, PHOTOS)
    specs = [resolved(**{**table, "normalize": n}) for table in (MEAN, EACH) for n in (True, False)]
    assert len(decodings(specs)) == 1
    asked: list[MediaRequest] = []

    class Counted(Decode):
        def _media(self, requests: Sequence[MediaRequest]) -> Any:
            asked.extend(requests)
            return super()._media(requests)

    places = [str(folder / photo("five", place)) for place in range(5)]
    work = {"work": [0], "item_id": ["five"], "group": ["photos[8]"], "features": [[0, 1, 2, 3]]}
    table = pa.table({**work, "payload.photos[8]": [listed(places)], "stamp.photos[8]": [None]})
    Counted(specs, MediaLimits())(table)
    assert [request.location for request in asked] == places


@pytest.mark.parametrize("format", ["parquet", "hf"])
def test_the_vectors_of_each_picture_are_exported(tmp_path, format):
    folder = write(tmp_path, PHOTOS)
    extract(folder, each=EACH)
    opened = mmfeat.open(folder / "store")
    opened.export(format, folder / "out")
    assert verify(folder / "out").ok
    own = opened.lookup(list(PHOTOS), ["each"])["each"].tokens
    held = dict(_vectors_in(folder / "out", format))
    for item_id, vectors in zip(PHOTOS, own, strict=True):
        if vectors is None:
            assert held[item_id] is None
        else:
            np.testing.assert_array_equal(np.array(held[item_id], np.float32), vectors)


def _vectors_in(folder: Path, format: str) -> Iterator[tuple[str, Any]]:
    """Each item's vectors in the files of an export."""
    if format == "parquet":
        table = pq.read_table(folder / "features.parquet")
    else:
        (file,) = folder.glob("data-*.arrow")
        table = pa.ipc.open_stream(file.read_bytes()).read_all()
    yield from zip(table["item_id"].to_pylist(), table["each"].to_pylist(), strict=True)


# What one that is broken costs ----------------------------------------------------------------------------


def test_a_broken_picture_costs_itself_and_is_recorded(tmp_path, vectors):
    folder = write(tmp_path, PHOTOS)
    (folder / photo("five", 1)).write_bytes(b"no picture")
    (folder / photo("five", 3)).unlink()
    report = extract(folder, mean=MEAN, each=EACH)
    assert [(f.ok, f.failed, f.marks) for f in report.features] == [(3, 0, {"lost picture": 1})] * 2
    np.testing.assert_allclose(
        values(folder, "mean", ["five"])[0], unit(vectors[[3, 5, 7]].mean(axis=0)), atol=1e-5
    )
    opened = mmfeat.open(folder / "store")
    lost = opened.facts("mean")["five"]["lost_pictures"]
    assert [(number, stage) for number, stage, _ in lost] == [(2, "decode"), (4, "read")]
    assert opened.marked("mean")["item_id"].to_pylist() == ["five"]
    assert "picture 2: decode: not an image" in opened.marked("mean")["reason"].to_pylist()[0]
    assert extract(folder, mean=MEAN, each=EACH).computed == 0
    # Mended ones are read.
    draw(folder, "five", 1, 4)
    assert extract(folder, mean=MEAN, each=EACH).computed == 1
    assert [n for n, _, _ in mmfeat.open(folder / "store").facts("mean")["five"]["lost_pictures"]] == [4]


def test_an_item_without_a_picture_left_says_what_may_pass_before_what_stays(tmp_path):
    folder = write(tmp_path, PHOTOS)
    (folder / photo("two", 0)).write_bytes(b"no picture")
    (folder / photo("two", 1)).unlink()
    extract(folder, mean=MEAN)
    (failure,) = mmfeat.open(folder / "store").failures("mean").to_pylist()
    assert (failure["item_id"], failure["stage"]) == ("two", "read")


def test_an_item_fails_when_its_last_picture_does(tmp_path):
    folder = write(tmp_path, PHOTOS)
    for place in range(2):
        (folder / photo("two", place)).write_bytes(b"no picture")
    report = extract(folder, mean=MEAN)
    assert (report.features[0].ok, report.features[0].failed) == (2, 1)
    assert "not an image" in mmfeat.open(folder / "store").failures("mean")["reason"].to_pylist()[0]


def test_a_picture_that_a_server_did_not_send_is_asked_for_again_with_retry_failed(tmp_path, vectors):
    with running() as server:
        urls = [server.on(f"/{n}.png", answer(body=drawn(n))) for n in range(3)]
        server.on("/1.png", answer(503, Retry_After="3600"))
        line = {"item_id": "web", "photos": urls}
        (tmp_path / "items.jsonl").write_text(json.dumps(line) + "\n")
        first = extract(tmp_path, mean=MEAN)
        assert first.features[0].marks == {"lost picture": 1}
        server.on("/1.png", answer(body=drawn(1)))
        told = "1 rows lack pictures because a server was in trouble; --retry-failed tries these again"
        assert told in extract(tmp_path, mean=MEAN).notices[0]
        again = extract(tmp_path, {"retry_failed": True}, mean=MEAN)
        assert (again.computed, again.features[0].ok, again.features[0].marks) == (1, 1, {})
        assert "1 rows lack pictures that could not be read; these are tried again" in again.notices[0]
        assert extract(tmp_path, {"retry_failed": True}, mean=MEAN).computed == 0
    np.testing.assert_allclose(
        values(tmp_path, "mean", ["web"])[0], unit(vectors[[0, 1, 2]].mean(axis=0)), atol=1e-5
    )


def test_an_item_keeps_its_value_while_a_server_has_one_of_its_pictures(tmp_path, vectors):
    with running() as server:
        draw(tmp_path, "both", 0, 0)
        line = {"item_id": "both", "photos": [photo("both", 0), server.on("/1.png", answer(body=drawn(1)))]}
        (tmp_path / "items.jsonl").write_text(json.dumps(line) + "\n")
        extract(tmp_path, mean=MEAN)
        (tmp_path / photo("both", 0)).unlink()
        report = extract(tmp_path, {"max_lost": 0.0}, mean=MEAN)
    assert report.features[0].marks == {"lost picture": 1}
    np.testing.assert_allclose(values(tmp_path, "mean", ["both"])[0], unit(vectors[1]), atol=1e-5)


def test_what_a_picture_does_not_decode_to_is_not_asked_again(tmp_path):
    folder = write(tmp_path, PHOTOS)
    (folder / photo("five", 1)).write_bytes(b"no picture")
    extract(folder, mean=MEAN)
    assert extract(folder, {"retry_failed": True}, mean=MEAN).computed == 0


# What is read again ---------------------------------------------------------------------------------------


def test_a_changed_picture_recomputes_what_reads_it(tmp_path, vectors):
    folder = write(tmp_path, PHOTOS)
    extract(folder, mean=MEAN, first=FIRST)
    draw(folder, "two", 1, 8)
    report = extract(folder, mean=MEAN, first=FIRST)
    assert report.computed == 1 and report.features[1].up_to_date == 4
    np.testing.assert_allclose(
        values(folder, "mean", ["two"])[0], unit(vectors[[1, 8]].mean(axis=0)), atol=1e-5
    )


def test_a_picture_that_was_only_touched_recomputes_nothing(tmp_path):
    folder = write(tmp_path, PHOTOS)
    extract(folder, mean=MEAN)
    os.utime(folder / photo("five", 2), (1, 1))
    assert extract(folder, mean=MEAN).computed == 0


def test_a_run_with_nothing_new_asks_no_server_for_pictures(tmp_path):
    with running() as server:
        urls = [server.on(f"/{n}.png", answer(body=drawn(n))) for n in range(3)]
        lines = [{"item_id": "all", "photos": urls}, {"item_id": "one", "photos": urls[:1]}]
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        extract(tmp_path, mean=MEAN)
        asked = {path: len(headers) for path, headers in server.asked.items()}
        assert extract(tmp_path, mean=MEAN).computed == 0
        assert {path: len(headers) for path, headers in server.asked.items()} == asked


def test_items_with_the_same_pictures_cost_one_computation(tmp_path, vectors):
    folder = write(tmp_path, {"two": [1, 2], "twin": [1, 2], "turned": [2, 1]})
    assert extract(folder, mean=MEAN).computed == 2
    np.testing.assert_allclose(*values(folder, "mean", ["two", "twin"]), atol=0)


def test_another_order_of_the_pictures_is_other_content(tmp_path):
    folder = write(tmp_path, {"two": [1, 2]})
    extract(folder, each=EACH)
    before = values_of(folder)
    rows = [{"item_id": "two", "photos": [photo("two", 1), photo("two", 0)]}]
    (folder / "items.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert extract(folder, each=EACH).computed == 1
    np.testing.assert_allclose(values_of(folder), before[::-1], atol=1e-5)


def values_of(folder: Path) -> np.ndarray:
    return np.asarray(mmfeat.open(folder / "store").lookup(["two"], ["each"])["each"].values[0])


# Options --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({**CLIP, "pictures": "mean"}, "'pictures' goes with a list of pictures, not with 'cover'"),
        ({**FIRST, "max_pictures": 3}, "'max_pictures' goes with pictures ="),
        ({**CAPTION, "max_pictures": 3}, "'max_pictures' goes with a list of pictures"),
    ],
)
def test_options_for_lists_are_refused_where_they_say_nothing(table, says):
    with pytest.raises(ConfigError, match=says):
        resolved(**table)


def test_reading_the_first_picture_is_the_feature_that_it_was():
    first, cover = resolved(**FIRST), resolved(**CLIP)
    assert first.inputs[0].prepare == cover.inputs[0].prepare
    assert "several" not in first.inputs[0].identity()["prepare"]
