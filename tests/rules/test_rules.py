"""A raised rule number of a modality: which rows are computed again, and who is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmfeat
from mmfeat.extract.fence.decode import Changed, MediaRequest, Wanted, decode_media
from mmfeat.extract.fence.process import decode_fenced
from mmfeat.extract.modalities.base import Modality
from mmfeat.extract.modalities.image import IMAGE
from mmfeat.schemas.media import MediaLimits
from mmfeat.store import Store

MODELS = Path(__file__).parents[1] / "models"
FEATURES = {
    "picture": {"source": "cover", "encoder": "open_clip", "model": str(MODELS / "tiny-clip")},
    "words": {"source": "title", "encoder": "open_clip", "model": str(MODELS / "tiny-clip")},
    "both": {
        "source": "cover",
        "captioner": "transformers",
        "model": str(MODELS / "tiny-vlm"),
        "max_new_tokens": 4,
        "prompt": "describe-titled",
    },
}


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "items"
    (folder / "covers").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for name, picture in zip("abc", pixels, strict=True):
        Image.fromarray(picture).save(folder / "covers" / f"{name}.png")
    (folder / "titles.csv").write_text("item,title\na,red\nb,green\nc,blue\n")
    return folder


def run(dataset: Path, store: Path):
    return mmfeat.extract(
        "folder", dataset, store=str(store), features=FEATURES, resources={"executor": "local"}
    )


def committed(report) -> dict[str, int]:
    return {feature.version.partition("@")[0]: feature.ok for feature in report.features}


def said_rules(store: Path, name: str) -> set[str | None]:
    opened = Store.open(str(store))
    batches = opened.ledger_batches(opened.resolve(name), ["rules"])
    return {rule for batch in batches for rule in batch["rules"].to_pylist()}


@pytest.fixture
def fixed_images(monkeypatch):
    """As after a fix of the pictures' decoder."""
    monkeypatch.setattr(type(IMAGE), "rule", 2)
    return monkeypatch


def test_a_fix_of_a_decoder_has_what_read_such_media_computed_again_and_nothing_else(
    dataset, tmp_path, fixed_images
):
    with pytest.MonkeyPatch.context() as before:
        before.setattr(type(IMAGE), "rule", 1)
        assert committed(run(dataset, tmp_path / "store")) == {"picture": 3, "words": 3, "both": 3}
        assert said_rules(tmp_path / "store", "picture") == {None}
    report = run(dataset, tmp_path / "store")
    assert committed(report) == {"picture": 3, "words": 0, "both": 3}
    assert any("3 rows were out of date" in notice and "image" in notice for notice in report.notices)
    assert said_rules(tmp_path / "store", "picture") == {"2"}
    assert said_rules(tmp_path / "store", "both") == {"2+1"}
    assert said_rules(tmp_path / "store", "words") == {None}
    again = run(dataset, tmp_path / "store")
    assert committed(again) == {"picture": 0, "words": 0, "both": 0}
    assert not again.notices


def test_a_row_by_another_rule_is_never_copied_to_an_item_of_the_same_content(
    dataset, tmp_path, fixed_images
):
    with pytest.MonkeyPatch.context() as before:
        before.setattr(type(IMAGE), "rule", 1)
        run(dataset, tmp_path / "store")
    (dataset / "covers" / "d.png").write_bytes((dataset / "covers" / "a.png").read_bytes())
    report = run(dataset, tmp_path / "store")
    assert report.copied == 1, "d is computed with a, by the rules of now"
    assert said_rules(tmp_path / "store", "picture") == {"2"}


@pytest.mark.parametrize("decode", [decode_media, decode_fenced])
def test_a_modality_is_asked_of_a_file_whether_a_fix_touches_it(dataset, decode):
    request = MediaRequest(str(dataset / "covers" / "a.png"), (Wanted("image", Changed(IMAGE.rule - 1)),))
    assert decode(request, MediaLimits()).values[0].tolist() == [True]


def test_rows_that_a_fix_does_not_touch_stay_and_say_the_rule_of_now(dataset, tmp_path, fixed_images):
    """The store's rows of a text, whose modality can be asked in this process."""
    from mmfeat.extract.modalities.text import TEXT

    run(dataset, tmp_path / "store")
    fixed_images.setattr(type(TEXT), "rule", 2)
    fixed_images.setattr(type(TEXT), "changed", lambda self, data, since: data == b"green", raising=False)
    report = run(dataset, tmp_path / "store")
    assert committed(report) == {"picture": 0, "words": 1, "both": 1}
    assert said_rules(tmp_path / "store", "words") == {"2"}
    assert committed(run(dataset, tmp_path / "store")) == {"picture": 0, "words": 0, "both": 0}


def test_every_modality_says_that_a_fix_touches_all_files_unless_it_knows_better():
    assert Modality.changed(IMAGE, b"", IMAGE.rule - 1)
