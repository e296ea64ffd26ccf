"""On-screen text by the packaged PP-OCR: cards whose words are known."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import unrayed
from helpers.changing import write_table
from helpers.digests import DIMS
from helpers.plugins import on_path
from helpers.text_cards import card, sentences, still, written
from PIL import Image
from rapidocr import RapidOCR
from rapidocr.utils.download_file import DownloadFile

import mmfeat
from mmfeat.extract.base import Placement
from mmfeat.extract.describers.ocr import rapidocr as ocr
from mmfeat.extract.describers.ocr.rapidocr import OnScreen, RapidOcr
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.errors import ConfigError, ItemError, MissingExtra
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

SCREEN = {"ocr": "rapidocr"}
HELLO = card([((20, 20), "Big sale 42"), ((20, 90), "only today")])
PHOTOS = Path(__file__).parents[1] / "encoders" / "photos"
NOTHING = np.full((160, 320, 3), 90, np.uint8)


def resolve(**options: Any) -> FeatureSpec:
    return resolve_all({"screen": FeatureConfig(**{"source": "cover", **SCREEN, **options})})[0]


@pytest.fixture(scope="module")
def reader() -> RapidOcr:
    return RapidOcr(resolve(), Placement(threads=1))


@pytest.fixture(scope="module")
def clip_reader() -> RapidOcr:
    return RapidOcr(resolve(source="video", frames=4), Placement(threads=1))


def read(reader: RapidOcr, value: Frames | Pictures) -> OnScreen:
    (found,) = reader.run([(value,)])
    assert isinstance(found, OnScreen)
    return found


def cards_of(number: int) -> list[tuple[str, np.ndarray]]:
    """Texts and their cards, in several sizes and colours."""
    sizes = (16, 22, 32, 48)
    return [
        ("\n".join(lines), written(lines, sizes[n % len(sizes)], n // 2))
        for n, lines in enumerate(sentences(number, seed=20))
    ]


# What is read --------------------------------------------------------------------------------------------


def test_cards_of_several_sizes_and_colours_are_read_to_the_letter(reader):
    for text, picture in cards_of(6):
        assert read(reader, still(picture)).text == text


@pytest.mark.slow
def test_a_hundred_cards_are_read_to_the_letter(reader):
    wrong = [(text, found) for text, c in cards_of(100) if (found := read(reader, still(c)).text) != text]
    assert wrong == []


def test_a_picture_without_text_has_an_empty_text_and_is_ok(reader):
    assert read(reader, still(NOTHING)) == OnScreen("")
    assert OnScreen.can_be_empty


def test_a_thing_that_fills_the_picture_is_no_letter(reader):
    with Image.open(PHOTOS / "coffee.jpg") as cup:
        assert read(reader, still(np.asarray(cup))) == OnScreen("")


@pytest.mark.parametrize("shape", [(1, 1), (3, 900), (900, 3), (20, 40)])
def test_pictures_of_odd_shapes_are_read_and_not_blown_up(reader, shape):
    assert read(reader, still(np.zeros((*shape, 3), np.uint8))).text == ""


@pytest.mark.parametrize("shape", [(34, 320), (320, 34)])
def test_a_banner_is_read_and_its_boxes_lie_in_the_picture_itself(reader, shape):
    flat = card([((4, 3), "Sale")], 12, shape)
    ((line),) = read(reader, still(flat)).lines
    left, top, right, bottom = line["box"]
    ink = np.argwhere(np.abs(flat.astype(int) - flat[0, 0]).sum(axis=2) > 100)
    middle = ink.mean(axis=0) / shape
    assert line["text"] == "Sale"
    assert top < middle[0] < bottom and left < middle[1] < right


def test_of_each_line_its_box_and_score_are_told(reader):
    first, second = read(reader, still(HELLO)).facts()["lines"]
    assert (first["text"], second["text"]) == ("Big sale 42", "only today")
    assert first["score"] > 0.9
    left, top, right, bottom = first["box"]
    assert 0 <= left < 20 / 320 + 0.02 and 0.4 < right < 0.7
    assert 0 <= top < 30 / 160 and bottom < second["box"][1]


def test_lines_of_a_lower_score_are_left_out():
    sure = RapidOcr(resolve(min_score=1.0), Placement(threads=1))
    assert read(sure, still(written(["recipe"], 9))).text == ""


def test_a_clip_has_each_line_once_with_the_times_at_which_it_is_shown(clip_reader):
    other = card([((20, 20), "Big sale 42"), ((100, 120), "buy now")])
    clip = Frames(np.stack([NOTHING, HELLO, other, other]), (0.0, 1.5, 3.0, 4.5))
    found = read(clip_reader, clip)
    assert found.text == "Big sale 42\nonly today\nbuy now"
    times = [(line["start"], line["end"], line["frames"]) for line in found.lines]
    assert times == [(1.5, 4.5, 3), (1.5, 1.5, 1), (3.0, 4.5, 2)]


def test_each_line_of_several_pictures_says_which_one_it_is_of(reader):
    photos = Pictures((HELLO, written(["bakery"], 24)), lost=((2, "decode", "it is broken"),))
    assert [(line["text"], line["picture"]) for line in read(reader, photos).lines] == [
        ("Big sale 42", 1),
        ("only today", 1),
        ("bakery", 3),
    ]


def test_an_item_without_a_frame_fails_alone(reader):
    rows = [(Frames(np.zeros((0, 8, 8, 3), np.uint8), ()),), (still(HELLO),)]
    failed, found = reader.run(rows)
    assert isinstance(failed, ItemError) and failed.stage == "ocr"
    assert found.text == "Big sale 42\nonly today"


def test_the_words_are_those_of_rapidocr_itself(reader, tmp_path):
    theirs = RapidOCR(
        params={
            "Global.log_level": "error",
            "Det.limit_side_len": 64,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
    )
    path = tmp_path / "card.png"
    for _, picture in cards_of(3):
        Image.fromarray(picture).save(path)
        assert read(reader, still(picture)).text.split() == " ".join(theirs(path).txts).split()


# What decides it -----------------------------------------------------------------------------------------


def test_the_three_files_are_in_the_spec_by_their_digest(monkeypatch):
    weights = resolve().weights
    assert (weights.origin, weights.ref) == ("package", "rapidocr")
    for part in ("_DETECTOR", "_TURNER", "_RECOGNISER"):
        with monkeypatch.context() as changed:
            other = ocr._packaged(Path(getattr(ocr, part).file).name, "0" * 64)
            changed.setattr(ocr, part, other)
            assert resolve().weights.digest != weights.digest
            with pytest.raises(ConfigError, match="not those that were planned"):
                RapidOcr(resolve(), Placement())


def test_nothing_is_downloaded(monkeypatch):
    def refuse(asked: Any) -> None:
        raise AssertionError(f"{asked.file_url} is asked for")

    monkeypatch.setattr(DownloadFile, "run", refuse)
    assert read(RapidOcr(resolve(), Placement(threads=1)), still(HELLO)).lines


def test_it_takes_as_many_threads_as_it_is_given(reader):
    read(reader, still(HELLO))
    engine = reader._engine
    parts = (engine.text_det, engine.text_cls, engine.text_rec)
    sessions = [part.session.session.get_session_options() for part in parts]
    assert {session.intra_op_num_threads for session in sessions} == {1}


def test_a_packaged_language_is_accepted_and_changes_nothing():
    assert resolve(language="en") == resolve(language="ch") == resolve()


def test_a_language_that_is_not_packaged_is_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="does not read language = 'korean'") as refused:
        resolve(language="korean")
    assert 'model = "FILE.onnx"' in refused.value.hint and "ch, " in refused.value.hint


def test_a_recognition_model_of_ones_own_is_taken_by_its_contents(tmp_path):
    mine = tmp_path / "mine.onnx"
    shutil.copy(ocr._RECOGNISER.path("screen"), mine)
    spec = resolve(model=str(mine), language="korean")
    assert (spec.model, spec.options["language"]) == ("mine", "korean")
    assert spec.weights.digest == resolve().weights.digest
    found = RapidOcr(spec, Placement(threads=1))
    assert read(found, still(HELLO)).text == "Big sale 42\nonly today"
    mine.write_bytes(b"changed")
    with pytest.raises(ConfigError, match="not the model that was planned"):
        RapidOcr(spec, Placement())


def test_a_model_that_does_not_say_its_letters_is_refused_and_nothing_is_downloaded(tmp_path):
    mine = tmp_path / "mine.onnx"
    shutil.copy(ocr._TURNER.path("screen"), mine)
    with pytest.raises(ConfigError, match="which letters"):
        RapidOcr(resolve(model=str(mine)), Placement())


def test_a_model_that_is_no_file_is_refused():
    with pytest.raises(ConfigError, match=r"no \.onnx file"):
        resolve(model="korean_PP-OCRv5_rec_mobile")


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    known = importlib.util.find_spec
    monkeypatch.setattr(ocr, "find_spec", lambda name: None if name == package else known(name))
    with pytest.raises(MissingExtra, match=package) as refused:
        resolve()
    assert "mmfeat[ocr]" in refused.value.hint


# A whole run ---------------------------------------------------------------------------------------------


def write_clip(path: Path, frames: list[np.ndarray]) -> str:
    """Frames a second apart as an mp4."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("h264", rate=Fraction(1), options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return str(path)


def digest(text: str) -> list[int]:
    return list(hashlib.sha256(text.encode()).digest()[:DIMS])


def test_a_run_stores_text_and_facts_and_composes_them_with_titles(tmp_path):
    for name, picture in (("sale", HELLO), ("plain", NOTHING)):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    clip = write_clip(tmp_path / "clip.mp4", [NOTHING, HELLO, HELLO])
    items = {
        "sale": {"title": "Poster", "cover": "sale.png", "video": clip},
        "plain": {"title": "Wall", "cover": "plain.png"},
        "none": {"title": "Nothing"},
    }
    with on_path(unrayed.PLUGIN):
        mmfeat.extract(
            dataset="table",
            root=write_table(tmp_path / "items.jsonl", items),
            store=str(tmp_path / "store"),
            features={
                "screen": {"source": "cover", **SCREEN},
                "clip_screen": {"source": "video", **SCREEN, "frames": 3},
                "both": {"text": "{title}; {screen?}", "encoder": "digest"},
            },
            resources={"executor": "local", "threads": 1},
        )
    store = mmfeat.open(tmp_path / "store")
    found = store.lookup(["sale", "plain", "none"], features=["screen", "clip_screen", "both"])
    assert found["screen"].values[:2] == ["Big sale 42\nonly today", ""]
    assert list(found["screen"].mask) == [True, True, False]
    assert found["clip_screen"].values[0] == "Big sale 42\nonly today"
    texts = ["Poster; Big sale 42\nonly today", "Wall; ", "Nothing; "]
    assert [list(vector) for vector in found["both"].values] == [digest(text) for text in texts]
    lines = store.facts("clip_screen")["sale"]["lines"]
    assert [(line["text"], line["start"], line["end"]) for line in lines] == [
        ("Big sale 42", 1.0, 2.0),
        ("only today", 1.0, 2.0),
    ]
    assert store.facts("screen")["plain"] == {"lines": []}
