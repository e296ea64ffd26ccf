"""What a folder of sentence-transformers says beside its transformer: the order of modules, cut vectors,
saved prompts and limits, and what gives no one vector per text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, encoder, resolve
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from mmfeat.extract.base import Placement
from mmfeat.extract.registry import load_method
from mmfeat.schemas.errors import ConfigError

TEXTS = ["A red running shoe", "How to bake bread at home: flour, water and salt", "", "x"]
ABOUT = "config_sentence_transformers.json"


def ours(folder: Path, **options: object):
    return encoder(source="title", encoder="sentence_transformers", model=str(folder), **options)


def spec_of(folder: Path, **options: object):
    return resolve(source="title", encoder="sentence_transformers", model=str(folder), **options)


@pytest.fixture
def saved(small, tmp_path):
    """Save a small transformer with other modules behind it: the folder, and the library's model of it."""

    def save(*modules: torch.nn.Module, **about: object) -> tuple[Path, SentenceTransformer]:
        place = tmp_path / "saved"
        model = SentenceTransformer(modules=[Transformer(str(small)), *modules], device="cpu", **about)
        model.save(str(place))
        return place, SentenceTransformer(str(place), device="cpu")

    torch.manual_seed(0)
    return save


def dense() -> Dense:
    return Dense(32, 24)


@pytest.mark.parametrize(
    ("modules", "normalize", "version"),
    [
        (lambda: [Pooling(32, "mean"), Normalize(), dense()], False, 2),
        (lambda: [Pooling(32, "mean"), Normalize(), dense(), Normalize()], True, 2),
        (lambda: [Pooling(32, "mean"), dense(), Normalize()], True, 1),
        (lambda: [Pooling(32, "mean"), dense()], False, 1),
        (lambda: [Pooling(32, ["mean", "max"]), Normalize()], True, 1),
    ],
    ids=["normalised before", "before and after", "after", "never", "two poolings"],
)
def test_modules_run_in_the_order_of_the_folder(saved, modules, normalize, version):
    place, theirs = saved(*modules())
    model = ours(place)
    spec = model.spec
    # What version 1 computed otherwise is another version now, and nothing else is.
    assert (spec.options["normalize"], spec.method_version) == (normalize, version)
    np.testing.assert_allclose(model.encode_texts(TEXTS), theirs.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("expected", [None, 100_000], ids=["torch", "openvino"])
def test_a_saved_truncation_cuts_and_then_normalises(saved, expected):
    place, theirs = saved(Pooling(32, "mean"), Normalize(), dense(), truncate_dim=16)
    model = load_method(spec_of(place), Placement(threads=1, expected=expected))
    assert (model.spec.dims, model.spec.options["truncate_dim"]) == (16, 16)
    assert model.runtime.startswith("torch" if expected is None else "openvino")
    np.testing.assert_allclose(model.encode_texts(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    unit = load_method(spec_of(place, normalize=True), Placement(threads=1, expected=expected))
    wanted = theirs.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(unit.encode_texts(TEXTS), wanted, atol=1e-5)
    asked = model.query("text").encode(TEXTS)
    np.testing.assert_allclose(asked, theirs.encode_query(TEXTS), atol=1e-5)


def test_cut_vectors_of_a_model_that_normalises_have_length_1_and_the_librarys_direction(saved):
    place, theirs = saved(Pooling(32, "mean"), Normalize(), truncate_dim=16)
    found = ours(place).encode_texts(TEXTS)
    assert np.linalg.norm(theirs.encode(TEXTS), axis=1).max() < 0.99
    np.testing.assert_allclose(found, theirs.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    assert cosines(found, theirs.encode(TEXTS)).min() >= 0.99999


@pytest.mark.parametrize("expected", [None, 100_000], ids=["torch", "openvino"])
@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "Find what this question asks for in a long, long prompt: "},
        {"document": "A document that has a long, long prompt: "},
        {"query": "Find what this asks for: ", "document": "title: none | text: "},
    ],
    ids=" and ".join,
)
def test_prompts_that_are_not_pooled_are_left_out_of_items_and_of_queries(saved, prompts, expected):
    place, theirs = saved(Pooling(32, "mean", include_prompt=False), Normalize(), prompts=prompts)
    model = load_method(spec_of(place), Placement(threads=1, expected=expected))
    np.testing.assert_allclose(model.encode_texts(TEXTS), theirs.encode_document(TEXTS), atol=1e-5)
    asked = model.query("text").encode(TEXTS)
    np.testing.assert_allclose(asked, theirs.encode_query(TEXTS), atol=1e-5)
    assert bool(model.notes) == (expected is not None)


def test_a_model_that_leaves_out_prompts_and_has_none_is_converted(saved):
    place, theirs = saved(Pooling(32, "mean", include_prompt=False), Normalize())
    model = load_method(spec_of(place), Placement(threads=1, expected=100_000))
    assert (model.runtime.split()[0], model.notes) == ("openvino", ())
    np.testing.assert_allclose(model.query("text").encode(TEXTS), theirs.encode_query(TEXTS), atol=1e-5)


def test_several_prompts_that_are_pooled_keep_no_model_from_being_converted(saved):
    place, theirs = saved(Pooling(32, "mean"), prompts={"query": "query: ", "document": "passage: "})
    model = load_method(spec_of(place), Placement(threads=1, expected=100_000))
    assert (model.runtime.split()[0], model.notes) == ("openvino", ())
    np.testing.assert_allclose(model.query("text").encode(TEXTS), theirs.encode_query(TEXTS), atol=1e-5)


def test_truncation_is_an_option_and_part_of_the_version(saved):
    place, theirs = saved(Pooling(32, "mean"), truncate_dim=16)
    for dims in (8, 16, 32):
        model = ours(place, truncate_dim=dims)
        assert model.spec.dims == dims
        np.testing.assert_allclose(
            model.encode_texts(TEXTS), theirs.encode(TEXTS, truncate_dim=dims), atol=1e-5
        )
    assert ours(place, truncate_dim=16).spec.fingerprint == ours(place).spec.fingerprint
    assert "truncate_dim" not in ours(place, truncate_dim=32).spec.options
    with pytest.raises(ConfigError, match="have 32 numbers, fewer than truncate_dim = 33"):
        spec_of(place, truncate_dim=33)
    with pytest.raises(ConfigError, match="not with hidden_states"):
        spec_of(place, truncate_dim=8, hidden_states=True)


def test_items_get_the_saved_prompt_for_documents_and_searches_the_one_for_queries(saved):
    prompts = {"query": "Find what this asks for: ", "document": "title: none | text: "}
    place, theirs = saved(Pooling(32, "mean"), prompts=prompts)
    model = ours(place)
    assert model.spec.inputs[0].prepare.prefix == prompts["document"]
    np.testing.assert_allclose(model.encode_texts(TEXTS), theirs.encode_document(TEXTS), atol=1e-5)
    asked = model.query("text").encode(TEXTS)
    np.testing.assert_allclose(asked, theirs.encode_query(TEXTS), atol=1e-5)
    assert cosines(asked[:2], model.encode_texts(TEXTS[:2])).max() < 0.999


def test_a_prefix_that_a_person_chose_is_put_before_items_and_searches(saved):
    place, theirs = saved(Pooling(32, "mean"), prompts={"query": "q: ", "document": "d: "})
    model = ours(place, prefix="")
    for found in (model.encode_texts(TEXTS), model.query("text").encode(TEXTS)):
        np.testing.assert_allclose(found, theirs.encode(TEXTS, prompt=""), atol=1e-5)


@pytest.mark.parametrize(
    ("about", "document", "query"),
    [
        ({}, "", ""),
        ({"prompts": {"query": "q: "}}, "", "q: "),
        ({"prompts": {"query": "q: "}, "default_prompt_name": "query"}, "q: ", "q: "),
        ({"prompts": {"passage": "p: "}}, "p: ", ""),
        ({"prompts": {"query": "q: ", "passage": "p: "}, "default_prompt_name": "query"}, "p: ", "q: "),
        ({"prompts": {"sts": "s: "}, "default_prompt_name": "sts"}, "s: ", "s: "),
        ({"prompts": {"query": "q: ", "document": ""}}, "", "q: "),
        ({"prompts": {"query": None, "document": None}}, "", ""),
    ],
)
def test_whatever_prompts_are_saved_each_side_gets_its_own(small, edit, about, document, query):
    edit(small / ABOUT, **{"prompts": {}, "default_prompt_name": None, **about})
    model = ours(small)
    assert model.spec.inputs[0].prepare.prefix == document
    bare = ours(small, prefix="")
    wanted = bare.encode_texts([query + text for text in TEXTS[:2]])
    np.testing.assert_allclose(model.query("text").encode(TEXTS[:2]), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("own", "tokenizer", "room", "tokens"),
    [
        (256, 512, 512, 256),
        (None, int(1e30), 512, 512),
        (None, int(1e30), None, None),
        (int(1e30), 128, None, 128),
        (None, int(1e20), -1, None),
        (None, 100, -1, 100),
        (None, None, 512, 512),
    ],
)
def test_a_limit_that_is_none_is_not_stored_as_a_number(folder, edit, own, tokenizer, room, tokens):
    edit(folder / "sentence_bert_config.json", max_seq_length=own)
    edit(folder / "tokenizer_config.json", model_max_length=tokenizer)
    edit(folder / "config.json", max_position_embeddings=room)
    assert spec_of(folder).inputs[0].prepare.max_tokens == tokens


def test_a_model_that_says_nothing_of_its_limit_asks_for_one(folder, edit):
    edit(folder / "sentence_bert_config.json", max_seq_length=None)
    edit(folder / "tokenizer_config.json", model_max_length=None)
    edit(folder / "config.json", max_position_embeddings=None)
    with pytest.raises(ConfigError, match="does not say how many tokens"):
        spec_of(folder)
    assert spec_of(folder, max_tokens=64).inputs[0].prepare.max_tokens == 64


def listed(folder: Path, *types: str) -> None:
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_m" if n else "", "type": t} for n, t in enumerate(types)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def splade(folder: Path, edit) -> None:
    of = "sentence_transformers.sparse_encoder.models"
    listed(folder, f"{of}.MLMTransformer.MLMTransformer", f"{of}.SpladePooling.SpladePooling")


def old_splade(folder: Path, edit) -> None:
    listed(folder, "sentence_transformers.models.Transformer", "sparse.SpladePooling")


def sparse_by_its_name(folder: Path, edit) -> None:
    edit(folder / ABOUT, model_type="SparseEncoder")


def cross(folder: Path, edit) -> None:
    (folder / "modules.json").unlink()
    edit(folder / "config.json", architectures=["BertForSequenceClassification"])


def cross_by_its_name(folder: Path, edit) -> None:
    edit(folder / ABOUT, model_type="CrossEncoder")


def colbert(folder: Path, edit) -> None:
    (folder / "modules.json").unlink()
    edit(folder / "config.json", architectures=["HF_ColBERT"])


def pylate(folder: Path, edit) -> None:
    listed(folder, "sentence_transformers.models.Transformer", "pylate.models.Dense.Dense")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (splade, "'minilm' is a sparse encoder"),
        (old_splade, "sparse encoder"),
        (sparse_by_its_name, "sparse encoder"),
        (cross, "'minilm' is a cross encoder or classifier: it scores texts"),
        (cross_by_its_name, "cross encoder"),
        (colbert, "'minilm' is a multi-vector model"),
        (pylate, "in a layout that is older"),
    ],
)
def test_what_gives_no_one_vector_per_text_is_refused_and_not_pooled(folder, edit, make, message):
    make(folder, edit)
    with pytest.raises(ConfigError, match=message) as refused:
        spec_of(folder)
    old = make in (colbert, pylate)
    assert ("MultiVectorEncoder(model).save(folder)" if old else "made for embeddings") in refused.value.hint


def test_the_layers_of_a_classifier_can_be_read(folder, edit):
    cross(folder, edit)
    assert spec_of(folder, hidden_states=True).vectors == 7
