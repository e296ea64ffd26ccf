"""A newcomer adds an encoder of a picture and a text together: ``plugins/joint_item.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmfeat
from mmfeat.extract.registry import METHODS
from mmfeat.extract.testing import check_method

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "dark": (5, 5, 5)}
TITLES = {"red": "a red kettle", "green": "a green mug", "blue": "a blue bowl"}
JOINT = {"inputs": ["title", "cover"], "encoder": "joint"}
OPTIONAL = {"inputs": ["title?", "cover"], "encoder": "joint"}


@pytest.fixture(autouse=True)
def joint(install) -> None:
    install("joint", "joint_item:JointItem")


@pytest.fixture
def media(tmp_path) -> Path:
    """A cover per colour; the dark one has no title."""
    root = tmp_path / "media"
    (root / "covers").mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 30), colour).save(root / "covers" / f"{name}.png")
    write_titles(root, TITLES)
    return root


def write_titles(root: Path, titles: dict[str, str]) -> None:
    lines = [f"{item_id},{title}" for item_id, title in titles.items()]
    (root / "titles.csv").write_text("\n".join(["item_id,title", *lines]) + "\n")


def extract(media: Path, table: dict[str, Any]) -> tuple[Any, mmfeat.FeatureStore]:
    store = str(media.parent / "store")
    local = {"executor": "local", "threads": 1}
    report = mmfeat.extract("folder", media, store=store, features={"joint": table}, resources=local)
    return report.features[0], mmfeat.open(store)


def values(store: mmfeat.FeatureStore) -> dict[str, np.ndarray]:
    found = store.lookup(features=["joint"])
    return {
        i: v
        for i, v, there in zip(found.ids, found["joint"].values, found["joint"].mask, strict=True)
        if there
    }


def status(store: mmfeat.FeatureStore) -> dict[str, str]:
    found = store.lookup(features=["joint"])
    return dict(zip(found.ids, map(str, found["joint"].status), strict=True))


@pytest.mark.parametrize("table", [JOINT, OPTIONAL], ids=["both", "optional title"])
def test_the_plug_in_keeps_the_contract_of_methods(table):
    check_method(METHODS["encoder"].get("joint"), table)


def test_a_value_depends_on_the_picture_and_on_the_text(media):
    _, store = extract(media, JOINT)
    before = values(store)
    assert [int(before[name][:3].argmax()) for name in ("red", "green", "blue")] == [0, 1, 2]
    assert [float(vector[3:].sum()) for vector in before.values()] == [3, 3, 3]
    write_titles(media, {**TITLES, "red": "one old red iron kettle"})
    Image.new("RGB", (40, 30), COLOURS["dark"]).save(media / "covers" / "blue.png")
    _, store = extract(media, JOINT)
    after = values(store)
    np.testing.assert_array_equal(after["red"][:3], before["red"][:3])
    assert after["red"][3:].sum() == 5
    np.testing.assert_array_equal(after["blue"][3:], before["blue"][3:])
    assert after["blue"][:3].max() < 0.1
    np.testing.assert_array_equal(after["green"], before["green"])


def test_a_changed_title_recomputes_its_item_and_no_other(media):
    first, _ = extract(media, JOINT)
    assert (first.ok, first.missing) == (3, 1)
    write_titles(media, {**TITLES, "green": "a green cup"})
    second, _ = extract(media, JOINT)
    assert (second.ok, second.missing, second.up_to_date) == (1, 0, 3)
    third, _ = extract(media, JOINT)
    assert (third.ok, third.up_to_date) == (0, 4)


def test_an_item_that_lacks_an_input_is_missing_until_it_has_it(media):
    _, store = extract(media, JOINT)
    assert status(store) == {"red": "ok", "green": "ok", "blue": "ok", "dark": "missing"}
    (media / "covers" / "red.png").unlink()
    write_titles(media, {**TITLES, "dark": "a dark pan"})
    report, store = extract(media, JOINT)
    assert status(store) == {"red": "missing", "green": "ok", "blue": "ok", "dark": "ok"}
    assert (report.ok, report.missing, report.up_to_date) == (1, 1, 2)


def test_an_item_may_lack_an_optional_input_and_is_computed_again_when_it_has_it(media):
    report, store = extract(media, OPTIONAL)
    assert report.ok == 4
    assert values(store)["dark"][3:].sum() == 0
    write_titles(media, {**TITLES, "dark": "a dark pan"})
    report, store = extract(media, OPTIONAL)
    assert (report.ok, report.up_to_date) == (1, 3)
    assert values(store)["dark"][3:].sum() == 3
