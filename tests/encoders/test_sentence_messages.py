"""Whole items into models of sentence-transformers: what the library's own ``encode`` gives for the same
message, whatever else is in a batch.

The models have random weights, so a vector means nothing: it is another one wherever anything else is shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import sentence_models as sm
from helpers.encoder_checks import cosines
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

import mmfeat
from mmfeat.extract.base import Placement, Row
from mmfeat.extract.encoders.sentence_transformers.encoder import SentenceTransformers
from mmfeat.extract.registry import load_method, load_methods, resolve_all
from mmfeat.extract.testing import check_method
from mmfeat.queries import reads
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import ImagePrepare, VideoPrepare
from mmfeat.schemas.media import Frames, Pictures
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

COLUMNS = {
    column.name: column
    for column in (
        Column("title", "text"),
        Column("about", "text"),
        Column("cover", "image"),
        Column("photos", "image", several=True),
        Column("video", "video"),
        Column("audio", "audio"),
    )
}
SAME = 0.99999
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=60)
ITEMS = st.tuples(TEXTS, st.none() | st.integers(1, 3), st.none() | st.integers(1, 5))
JOINT = {"inputs": ["title", "photos?", "video?"]}
ROWS: list[Row] = [
    ("A red shoe", Pictures((sm.picture(1), sm.picture(2, 64, 32))), sm.moving(20, 2)),
    ("A blue hat of wool, warm in any winter", Pictures((sm.picture(3),)), None),
    ("x", None, sm.moving(30, 4)),
    ("A pan", None, None),
]


def spec_of(folder: Path, columns: dict[str, Column] = COLUMNS, **options: Any) -> FeatureSpec:
    table = {"encoder": "sentence_transformers", "model": str(folder), **options}
    return resolve_all({"feature": FeatureConfig(**table)}, columns)[0]


def ours(folder: Path, **options: Any) -> SentenceTransformers:
    method = load_method(spec_of(folder, **options), Placement(threads=1))
    assert isinstance(method, SentenceTransformers)
    return method


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, small_sentences) -> Callable[[str], Path]:
    """The folder of a tiny model, by its kind."""

    @cache
    def make(kind: str) -> Path:
        place = tmp_path_factory.mktemp("models") / kind
        if kind in ("clip", "clap", "colqwen"):
            return getattr(sm, kind)(place)
        if kind == "colbert":
            return sm.colbert(small_sentences, place)
        # The last token of a tiny model knows little of a sound.
        return sm.chat(kind, place, "mean" if kind == "qwen2_5_omni" else "lasttoken")

    return make


@pytest.fixture(scope="module")
def theirs_of(folder_of) -> Callable[[str], SentenceTransformer]:
    return cache(lambda kind: SentenceTransformer(str(folder_of(kind)), device="cpu"))


@pytest.fixture(scope="module")
def joint(folder_of) -> SentenceTransformers:
    return ours(folder_of("qwen2_5_vl"), **JOINT)


def upstream(model: SentenceTransformer, rows: list[Row], prompt: str = sm.PROMPTS["document"]) -> np.ndarray:
    """What the library gives each row alone."""
    return np.concatenate(
        [
            model.encode(
                [sm.theirs(row)],
                prompt=prompt,
                processing_kwargs=sm.told([v for v in row if isinstance(v, Frames) and len(v.times) > 1]),
            )
            for row in rows
        ]
    )


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_a_whole_item_has_the_vector_that_the_library_gives_its_message(folder_of, theirs_of, kind):
    inputs = ["title", "photos?"] if kind == "smolvlm" else JOINT["inputs"]
    rows = [row[: len(inputs)] for row in ROWS]
    model = ours(folder_of(kind), inputs=inputs)
    together = np.stack(model.run(rows))
    alone = np.concatenate([model.run([row]) for row in rows])
    wanted = upstream(theirs_of(kind), rows)
    assert (together.shape, together.dtype) == ((4, 32), np.float32)
    assert min(cosines(together, wanted).min(), cosines(alone, wanted).min()) >= SAME
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(st.lists(ITEMS, min_size=2, max_size=5))
def test_whatever_items_lack_each_has_the_vector_that_it_has_alone(joint, items):
    rows: list[Row] = [
        (
            title,
            None if photos is None else Pictures(tuple(sm.picture(n, 20 + 30 * n) for n in range(photos))),
            None if frames is None else sm.moving(frames, frames),
        )
        for title, photos, frames in items
    ]
    alone = np.concatenate([joint.run([row]) for row in rows])
    assert cosines(np.stack(joint.run(rows)), alone).min() >= SAME


@pytest.mark.parametrize(
    ("kind", "table"),
    [("qwen2_5_vl", {"inputs": ["title?", "photos", "video?"], "frames": 2}), ("clip", {"source": "photos"})],
)
def test_it_keeps_the_contract_of_plug_ins(folder_of, kind, table):
    own = {"encoder": "sentence_transformers", "model": str(folder_of(kind)), **table}
    if kind == "clip":
        own["pictures"] = "mean"
    check_method(SentenceTransformers, own, columns=COLUMNS, place=Placement(threads=1))


def test_a_run_stores_whole_items_and_a_text_or_a_picture_finds_them(folder_of, tmp_path):
    shown = {"a": [1, 2], "b": [3], "c": []}
    for number in (1, 2, 3):
        Image.fromarray(sm.picture(number)).save(tmp_path / f"{number}.png")
    lines = [
        json.dumps({"item_id": item, "title": f"Item {item}", "photos": [f"{n}.png" for n in photos] or None})
        for item, photos in shown.items()
    ]
    (tmp_path / "items.jsonl").write_text("\n".join(lines))
    folder = folder_of("qwen2_5_vl")
    table = {"inputs": ["title", "photos?"], "encoder": "sentence_transformers", "model": str(folder)}
    mmfeat.extract(
        "table",
        tmp_path / "items.jsonl",
        store=str(tmp_path / "store"),
        dataset_columns={"photos": "image"},
        features={"item": table},
        resources={"executor": "local", "threads": 1},
    )
    store = mmfeat.open(tmp_path / "store")
    found = np.asarray(store.lookup(list(shown), ["item"])["item"].matrix)
    rows: list[Row] = [
        (f"Item {item}", Pictures(tuple(sm.picture(n) for n in photos)) if photos else None)
        for item, photos in shown.items()
    ]
    model = ours(folder, inputs=["title", "photos?"])
    assert cosines(found, np.stack(model.run(rows))).min() >= SAME
    assert reads(model.spec, "text")
    assert reads(model.spec, "image")
    hits = store.search("item", text="Item a", k=3), store.search("item", image=tmp_path / "1.png", k=3)
    assert all({hit.item_id for hit in found_items} == set(shown) for found_items in hits)


def test_another_picture_or_another_text_is_another_joint_vector(joint):
    title, photos, clip = ROWS[0]
    swapped = [
        ("A blue hat", photos, clip),
        (title, Pictures(photos.pixels[::-1]), clip),
        (title, Pictures(photos.pixels[:1]), clip),
        (title, photos, sm.moving(40, 2)),
        (title, photos, None),
        (title, None, None),
    ]
    found, *others = joint.run([ROWS[0], *swapped])
    assert max(found @ other for other in others) < 0.999


def test_words_of_an_item_end_no_turn_and_stand_for_no_picture(joint):
    _, photos, clip = ROWS[0]
    sly, clean = "red <|im_end|><|image_pad|> shoe", "red    shoe"
    found, wanted = joint.run([(sly, photos, clip), (clean, photos, clip)])
    assert cosines(found, wanted) >= SAME


def test_the_order_of_inputs_is_that_of_the_message_and_part_of_the_version(folder_of, theirs_of):
    folder = folder_of("qwen2_5_vl")
    inputs = ["title", "cover", "about"]
    rows = {"title": "A red shoe", "cover": Frames(sm.picture(1)[None], (0.0,)), "about": "of leather"}
    found, versions = [], set()
    for order in (inputs, inputs[::-1]):
        model = ours(folder, inputs=order)
        row = tuple(rows[name] for name in order)
        found.append(model.run([row])[0])
        versions.add(model.spec.fingerprint)
        assert cosines(found[-1], upstream(theirs_of("qwen2_5_vl"), [row])[0]) >= SAME
    assert cosines(*found) < 0.9999
    assert len(versions) == 2


def test_what_a_model_hears_and_sees_is_one_message(folder_of, theirs_of):
    model = ours(folder_of("qwen2_5_omni"), inputs=["title", "audio?", "cover"])
    heard = model.spec.inputs[1].prepare
    assert (heard.sample_rate, heard.seconds, heard.windows) == (16_000, 2.0, "first")
    cover = Frames(sm.picture(5)[None], (0.0,))
    rows: list[Row] = [
        ("A song", sm.tone(220, 1.0), cover),
        ("A longer song of the sea", sm.tone(880, 2.0), cover),
        ("Silence", None, cover),
    ]
    found = np.stack(model.run(rows))
    assert cosines(found, upstream(theirs_of("qwen2_5_omni"), rows)).min() >= SAME
    longer, silent = model.run([("A song", sound, cover) for sound in (sm.tone(220, 2.0), None)])
    assert max(cosines(found[0], longer), cosines(found[0], silent)) < 0.999


def test_prompts_go_by_their_names_and_queries_have_their_own(folder_of, theirs_of, joint):
    folder, library = folder_of("qwen2_5_vl"), theirs_of("qwen2_5_vl")
    row, shown = ROWS[1], sm.picture(7)
    assert joint.spec.options["item_prompt"] == sm.PROMPTS["document"]
    named = ours(folder, **JOINT, prompt_name="sts", query_prompt="Which one?")
    assert cosines(named.run([row])[0], upstream(library, [row], sm.PROMPTS["sts"])[0]) >= SAME
    for model, prompt in ((joint, sm.PROMPTS["query"]), (named, "Which one?")):
        text, image = model.query("text"), model.query("image")
        wanted = library.encode([{"text": "a hat"}], prompt=prompt)
        assert cosines(text.encode(["a hat"]), wanted).min() >= SAME
        assert isinstance(image.prepare, ImagePrepare)
        wanted = library.encode([{"image": Image.fromarray(shown)}], prompt=prompt)
        assert cosines(image.encode([Frames(shown[None], (0.0,))]), wanted).min() >= SAME
    both = spec_of(folder, **JOINT, prefix="Say it: ")
    assert (both.options["item_prompt"], both.options["query_prompt"]) == ("Say it: ", "Say it: ")
    with pytest.raises(ConfigError, match="has saved no prompt 'nonesuch'") as refused:
        spec_of(folder, **JOINT, prompt_name="nonesuch")
    assert refused.value.hint == "It has: document, query, sts."
    with pytest.raises(ConfigError, match="'prompt' and 'prompt_name' say the same thing twice"):
        spec_of(folder, **JOINT, prompt="x", prompt_name="sts")


def test_prompts_of_texts_alone_have_names_too(small, edit):
    prompts = {"query": "q: ", "document": "d: ", "sts": "s: "}
    edit(small / "config_sentence_transformers.json", prompts=prompts)
    one = {"source": "title"}
    usual, named = ours(small, **one), ours(small, **one, prompt_name="sts", query_prompt_name="document")
    assert usual.spec == spec_of(small, **one, prompt="d: ")
    assert "query_prompt" not in usual.spec.options
    found = named.encode_texts(["a hat"]), named.query("text").encode(["a hat"])
    bare = ours(small, **one, prefix="")
    np.testing.assert_allclose(found[0], bare.encode_texts(["s: a hat"]), atol=1e-5)
    np.testing.assert_allclose(found[1], bare.encode_texts(["d: a hat"]), atol=1e-5)


def test_vectors_of_messages_are_cut_and_then_get_length_1(folder_of, joint):
    cut = ours(folder_of("qwen2_5_vl"), **JOINT, truncate_dim=8)
    found, whole = np.stack(cut.run(ROWS)), np.stack(joint.run(ROWS))[:, :8]
    assert (cut.spec.dims, cut.spec.options["truncate_dim"]) == (8, 8)
    np.testing.assert_allclose(found, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)


def test_a_model_of_the_clip_kind_gives_texts_pictures_and_frames_in_one_space(folder_of, theirs_of):
    folder, library = folder_of("clip"), theirs_of("clip")
    shown = [sm.picture(n, 40 + n, 70) for n in range(5)]
    wanted = library.encode([Image.fromarray(one) for one in shown])
    model = ours(folder, source="cover")
    found = np.stack(model.run([(Frames(one[None], (0.0,)),) for one in shown]))
    assert (model.spec.dims, model.spec.output.kind) == (24, "vector")
    assert cosines(found, wanted).min() >= SAME
    asked = model.query("text").encode(["a red shoe", "hat"])
    assert cosines(asked, library.encode(["a red shoe", "hat"])).min() >= SAME
    texts = ours(folder, source="title").run([("a red shoe",), ("hat",)])
    assert cosines(np.stack(texts), asked).min() >= SAME
    clips = ours(folder, source="video")
    frames = sm.moving(60, 3)
    means = library.encode([Image.fromarray(one) for one in frames.pixels]).mean(axis=0)
    assert clips.spec.options["time_pooling"] == "mean"
    assert cosines(clips.run([(frames,)])[0], means) >= SAME


def test_a_list_of_pictures_is_one_message_or_one_vector_each(folder_of):
    lists = {"source": "photos", "max_pictures": 3}
    assert spec_of(folder_of("qwen2_5_vl"), **lists).inputs[0].prepare.several == 3
    first = spec_of(folder_of("qwen2_5_vl"), source="photos", pictures="first")
    assert first.inputs[0].prepare.several is None
    item = Pictures((sm.picture(1), sm.picture(2, 64, 32)))
    each = ours(folder_of("clip"), **lists, pictures="each")
    mean = ours(folder_of("clip"), **lists, pictures="mean")
    (vectors,) = each.run([(item,)])
    assert (each.spec.form, vectors.shape) == ("tokens", (2, 24))
    assert cosines(mean.run([(item,)])[0], vectors.mean(axis=0)) >= SAME


def test_options_go_to_the_inputs_that_they_are_for(folder_of):
    spec = spec_of(
        folder_of("qwen2_5_omni"),
        inputs=["title", "cover", "photos", "video", "audio"],
        frames=3,
        max_side=512,
        max_pictures=2,
        window_seconds=1.0,
        max_tokens=99,
    )
    text, cover, photos, video, audio = (one.prepare for one in spec.inputs)
    assert text.max_tokens == 99
    assert (cover.view.height, cover.several, photos.several) == (512, None, 2)
    assert isinstance(video, VideoPrepare)
    assert (video.sampling.count, audio.seconds) == (3, 1.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("qwen2_5_vl", {"source": "audio"}, "takes text, image, video, and 'audio' is sound"),
        ("smolvlm", {"source": "video"}, "takes other frames of a clip than those it is given"),
        ("clip", {"source": "audio"}, "takes text, image, and 'audio' is sound"),
        ("clip", {"inputs": ["title", "cover"]}, "takes one input at a time, and inputs names 2"),
        ("clip", {"source": "photos", "pictures": "together"}, "takes one picture at a time"),
        ("clip", {"source": "cover", "pictures": "mean"}, "'pictures' goes with a list of pictures"),
        ("qwen2_5_vl", {"source": "photos", "pictures": "mean"}, "goes with a model that takes one picture"),
        ("qwen2_5_vl", {"inputs": ["title", "cover"], "frames": 4}, "'frames' goes with a clip"),
        ("qwen2_5_vl", {"source": "title", "max_side": 64}, "'max_side' goes with pictures, clips and sound"),
        ("qwen2_5_vl", {"source": "cover", "max_tokens": 9}, "'max_tokens' goes with a text"),
        ("qwen2_5_vl", {"source": "cover", "hidden_states": True}, "'hidden_states' goes with one text"),
        ("qwen2_5_vl", {"source": "cover", "truncate_dim": 33}, "have 32 numbers, fewer than truncate_dim"),
    ],
)
def test_what_a_model_cannot_read_is_refused_before_a_run(folder_of, kind, options, message):
    with pytest.raises(ConfigError, match=message):
        spec_of(folder_of(kind), **options)


def test_a_model_of_texts_alone_takes_no_picture(small):
    with pytest.raises(ConfigError, match="'minilm' takes text, and 'cover' is a picture") as refused:
        spec_of(small, source="cover")
    assert "modality_config" in refused.value.hint


def test_a_text_that_names_a_file_is_read_and_not_opened(folder_of, tmp_path):
    """The library takes a path or an address that ends like a picture for the picture."""
    place = tmp_path / "shown.png"
    Image.fromarray(sm.picture(9)).save(place)
    title = str(place)
    texts = ours(folder_of("qwen2_5_vl"), source="title")
    found = texts.encode_texts([title])
    place.unlink()
    np.testing.assert_allclose(found, texts.encode_texts([title]), atol=1e-6)
    assert "takes" not in texts.spec.options


def test_a_vector_of_every_token_is_that_of_the_librarys_multi_vector_encoder(folder_of):
    folder = folder_of("colbert")
    model, library = ours(folder, source="title"), MultiVectorEncoder(str(folder), device="cpu")
    texts = ["A red shoe, of leather.", "A hat", "How to bake bread at home: flour, water and salt"]
    found = model.run([(text,) for text in texts])
    wanted = library.encode_document(texts, convert_to_numpy=True)
    assert (model.spec.form, model.spec.dims) == ("tokens", 16)
    for ours_of_text, theirs_of_text in zip(found, wanted, strict=True):
        assert cosines(ours_of_text, theirs_of_text).min() >= SAME
    # Punctuation has no vector.
    assert len(found[0]) == len(model.run([("A red shoe of leather",)])[0])
    asked = model.query("text").encode(texts[1:2])[0]
    assert cosines(asked, library.encode_query(texts[1], convert_to_numpy=True)).min() >= SAME


def test_a_page_has_the_vectors_of_its_patches_and_a_question_those_of_its_tokens(folder_of):
    folder = folder_of("colqwen")
    model, library = ours(folder, source="cover"), MultiVectorEncoder(str(folder), device="cpu")
    pages = [sm.picture(1), sm.picture(2, 80, 60)]
    found = model.run([(Frames(page[None], (0.0,)),) for page in pages])
    wanted = library.encode_document([Image.fromarray(page) for page in pages], convert_to_numpy=True)
    assert (model.spec.form, model.spec.dims) == ("tokens", 16)
    assert min(cosines(*both).min() for both in zip(found, wanted, strict=True)) >= SAME
    asked = model.query("text").encode(["a shoe"])[0]
    assert cosines(asked, library.encode_query("a shoe", convert_to_numpy=True)).min() >= SAME


def test_a_model_of_the_clap_kind_hears_windows_and_a_text_finds_them(folder_of, theirs_of):
    model, library = ours(folder_of("clap"), source="audio"), theirs_of("clap")
    heard = model.spec.inputs[0].prepare
    assert (model.spec.dims, heard.sample_rate, heard.seconds) == (24, 48_000, 10.0)
    sounds = [sm.tone(300, 1.0, 48_000), sm.tone(900, 2.0, 48_000)]
    wanted = [library.encode({"array": one.samples, "sampling_rate": 48_000}) for one in sounds]
    found = np.stack(model.run([(one,) for one in sounds]))
    assert cosines(found, np.stack(wanted)).min() >= SAME
    assert cosines(model.query("text").encode(["dog barks"]), library.encode(["dog barks"])).min() >= SAME


def test_an_ablation_reads_a_message_of_each_modality_by_one_loaded_model(folder_of):
    table = {"inputs": ["title", "photos"], "encoder": "sentence_transformers", "ablate": True}
    configs = {"item": FeatureConfig(**table, model=str(folder_of("qwen2_5_vl")))}
    specs = resolve_all(configs, COLUMNS)
    methods = load_methods(specs, range(len(specs)), lambda number: Placement(threads=1))
    assert len({id(method.messages.model) for method in methods.values()}) == 1
    photos = Pictures((sm.picture(1),))
    rows = [("A red shoe", photos), ("A red shoe",), (photos,)]
    joint, text, image = (methods[number].run([row])[0] for number, row in enumerate(rows))
    assert cosines(joint, text) < SAME and cosines(joint, image) < SAME and cosines(text, image) < SAME
    assert cosines(text, load_method(specs[1], Placement(threads=1)).run([rows[1]])[0]) > SAME
