"""A raised rule number of a modality: which rows are computed again, and who is told."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.media_samples import encoded, picture

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


def keyed(seed: int) -> bytes:
    """A grey PNG of 16 x 16 pixels of 4 bits with a transparent grey: rule 2 of pictures reads it anew."""
    rows = np.random.default_rng(seed).integers(0, 256, (16, 8), np.uint8)
    parts = (
        (b"IHDR", (16).to_bytes(4, "big") * 2 + b"\4\0\0\0\0"),
        (b"tRNS", b"\0\7"),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def with_broken_profile(side: int) -> bytes:
    """A PNG that rule 1 of pictures failed on."""
    data = encoded(picture(side, side), "PNG")
    return data[:33] + chunk(b"iCCP", b"name\0\7") + data[33:]


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "items"
    (folder / "covers").mkdir(parents=True)
    for seed, name in enumerate("abc"):
        (folder / "covers" / f"{name}.png").write_bytes(keyed(seed))
    (folder / "titles.csv").write_text("item,title\na,red\nb,green\nc,blue\n")
    return folder


def run(dataset: Path, store: Path, **tables):
    own = {"store": str(store), "features": FEATURES, "resources": {"executor": "local"}}
    return mmfeat.extract("folder", dataset, **own, **tables)


def committed(report) -> dict[str, int]:
    return {feature.version.partition("@")[0]: feature.ok for feature in report.features}


def said_rules(store: Path, name: str) -> set[str | None]:
    opened = Store.open(str(store))
    batches = opened.ledger_batches(opened.resolve(name), ["rules"])
    return {rule for batch in batches for rule in batch["rules"].to_pylist()}


@pytest.fixture
def before():
    """As before a fix of the pictures' decoder."""
    with pytest.MonkeyPatch.context() as earlier:
        earlier.setattr(type(IMAGE), "rule", 1)
        yield earlier


def test_a_fix_of_a_decoder_has_what_read_such_media_computed_again_and_nothing_else(
    dataset, tmp_path, before
):
    assert committed(run(dataset, tmp_path / "store")) == {"picture": 3, "words": 3, "both": 3}
    assert said_rules(tmp_path / "store", "picture") == {None}
    before.undo()
    report = run(dataset, tmp_path / "store")
    assert committed(report) == {"picture": 3, "words": 0, "both": 3}
    assert any("3 rows were out of date" in notice and "image" in notice for notice in report.notices)
    assert said_rules(tmp_path / "store", "picture") == {"2"}
    assert said_rules(tmp_path / "store", "both") == {"2+1"}
    assert said_rules(tmp_path / "store", "words") == {None}
    again = run(dataset, tmp_path / "store")
    assert committed(again) == {"picture": 0, "words": 0, "both": 0}
    assert not again.notices


def test_a_row_by_another_rule_is_never_copied_to_an_item_of_the_same_content(dataset, tmp_path, before):
    run(dataset, tmp_path / "store")
    before.undo()
    (dataset / "covers" / "d.png").write_bytes((dataset / "covers" / "a.png").read_bytes())
    report = run(dataset, tmp_path / "store")
    assert report.copied == 1, "d is computed with a, by the rules of now"
    assert said_rules(tmp_path / "store", "picture") == {"2"}


@pytest.mark.parametrize("decode", [decode_media, decode_fenced])
def test_a_modality_is_asked_of_a_file_whether_a_fix_touches_it(dataset, decode):
    (dataset / "covers" / "b.png").write_bytes(encoded(picture(20, 20), "PNG"))
    for name, touched in (("a", True), ("b", False)):
        request = MediaRequest(str(dataset / "covers" / f"{name}.png"), (Wanted("image", Changed(1)),))
        assert decode(request, MediaLimits()).values[0].tolist() == [touched]


def test_a_fix_reaches_the_rows_that_it_touches_failed_ones_too_and_no_other(dataset, tmp_path, before):
    store, covers = tmp_path / "store", dataset / "covers"
    (covers / "a.png").write_bytes(encoded(picture(20, 20), "PNG"))
    (covers / "c.png").write_bytes(with_broken_profile(40))
    (covers / "d.png").write_bytes(b"<html>")
    # In the place of the first decoder, which failed on such notes: here on the size.
    first = run(dataset, store, limits={"image_pixels": 1200}, run={"max_failed": 1.0})
    assert committed(first)["picture"] == 2
    kept = mmfeat.open(store).lookup(["a"], ["picture"])["picture"].matrix
    before.undo()
    report = run(dataset, store, run={"max_failed": 1.0})
    assert committed(report)["picture"] == 2, "b and c"
    assert any("2 rows were out of date" in notice and "image" in notice for notice in report.notices)
    assert said_rules(store, "picture") == {"2"}
    assert np.array_equal(mmfeat.open(store).lookup(["a"], ["picture"])["picture"].matrix, kept)
    assert mmfeat.open(store).failures("picture")["item_id"].to_pylist() == ["d"]
    assert committed(run(dataset, store, run={"max_failed": 1.0}))["picture"] == 0


def test_rows_that_a_fix_does_not_touch_stay_and_say_the_rule_of_now(dataset, tmp_path, monkeypatch):
    """The store's rows of a text, whose modality can be asked in this process."""
    from mmfeat.extract.modalities.text import TEXT

    run(dataset, tmp_path / "store")
    monkeypatch.setattr(type(TEXT), "rule", 2)
    monkeypatch.setattr(type(TEXT), "changed", lambda self, data, since: data == b"green", raising=False)
    report = run(dataset, tmp_path / "store")
    assert committed(report) == {"picture": 0, "words": 1, "both": 1}
    assert said_rules(tmp_path / "store", "words") == {"2"}
    assert committed(run(dataset, tmp_path / "store")) == {"picture": 0, "words": 0, "both": 0}


def test_every_modality_says_that_a_fix_touches_all_files_unless_it_knows_better():
    assert Modality.changed(IMAGE, b"", IMAGE.rule - 1)
