"""Every method that comes with mmfeat keeps the contract that a plug-in's is held to.

What asks a server is checked beside its server (``tests/engines``); what needs an engine or
learns from a store is checked as far as its spec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import synthetic, worlds
from helpers.sound_models import clap, hubert, needs_yamnet
from helpers.text_cards import card, still

from mmfeat.extract.base import Placement
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.extract.probes import probe
from mmfeat.extract.registry import METHODS, resolve_all
from mmfeat.extract.testing import check_method, check_resolve
from mmfeat.schemas.inputs import AudioPrepare, Input
from mmfeat.schemas.media import Frames, MediaLimits
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, Weights

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"
MINILM = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
RESNET = {"encoder": "timm", "model": "test_resnet", "weights": "random:0"}
CLIP, DINO, VLM = worlds.CLIP, worlds.DINO, worlds.CAPTION
VIDEO = {"source": "video", "frames": 2}
VIDEOMAE = {
    "encoder": "transformers_video",
    "model": str(worlds.MODELS / "tiny-videomae"),
    "weights": "random:0",
}
ONE_THREAD = Placement(threads=1)

COMPUTED: dict[str, dict[str, Any]] = {
    "open_clip of pictures": CLIP,
    "open_clip of clips": {**CLIP, **VIDEO},
    "open_clip of texts": {**CLIP, "source": "title"},
    "open_clip with random weights": {**CLIP, "weights": "random:0"},
    "transformers": DINO,
    "transformers, every layer": {**DINO, "hidden_states": True, "normalize": True},
    "transformers_video": {**VIDEOMAE, "source": "video"},
    "timm": {**RESNET, "source": "cover"},
    "timm of clips": {**RESNET, **VIDEO},
    "sentence_transformers": {**MINILM, "source": "title"},
    "sentence_transformers, every layer": {**MINILM, "source": "title", "hidden_states": True},
    "mllm": {"source": "title", "encoder": "mllm", "model": VLM["model"]},
    "efficientnet_lite": {"source": "cover", "encoder": "efficientnet_lite"},
    "imagenet_tags": {"source": "cover", "captioner": "imagenet_tags"},
    "imagenet_tags of clips": {**VIDEO, "captioner": "imagenet_tags"},
}
# The first two are given a tiny model's folder.
HEARD: dict[str, dict[str, Any]] = {
    "clap": {"source": "audio", "encoder": "clap"},
    "transformers_audio": {"source": "video.sound", "encoder": "transformers_audio", "layer": 1},
    "yamnet": {"source": "audio", "encoder": "yamnet", "max_windows": 2},
    "yamnet_tags": {"source": "audio", "captioner": "yamnet_tags", "max_windows": 2},
}
CAPTIONED: dict[str, dict[str, Any]] = {
    "pictures": VLM,
    "clips": {**VLM, **VIDEO},
    "clips scene by scene": {**VLM, "source": "video", "sampling": "scenes", "frames": 2, "max_scenes": 2},
    "pictures with their title": {**VLM, "prompt": "describe-titled"},
}
READ: dict[str, dict[str, Any]] = {
    "rapidocr": {"source": "cover", "ocr": "rapidocr"},
    "rapidocr of clips": {**VIDEO, "ocr": "rapidocr"},
}
TRANSCRIBED = {"source": "audio", "transcriber": "whisper", "weights": "package", "beam_size": 1}
RESOLVED: dict[str, dict[str, Any]] = {
    "openai": {"source": "cover", "captioner": "openai", "model": "m"},
    "openai of sound": {"source": "video.sound", "captioner": "openai", "model": "m"},
    "vllm": {**VLM, "captioner": "vllm"},
    "openai, of speech": {"source": "audio", "transcriber": "openai", "model": "m"},
    "openai, of vectors": {"source": "title", "encoder": "openai", "model": "m", "dims": 8},
    "vllm, of vectors": {"source": "cover", "encoder": "vllm", "model": DINO["model"], "dims": 8},
    "residual_kmeans": {"source": "vectors", "quantizer": "residual_kmeans", "levels": 2},
    "rqvae": {"source": "vectors", "quantizer": "rqvae"},
    "balanced_kmeans": {"source": "vectors", "quantizer": "balanced_kmeans", "sinkhorn_epsilon": 0.003},
    "pq": {"source": "vectors", "quantizer": "pq", "fit_sample": 1000},
    "opq": {"source": "vectors", "quantizer": "opq"},
    "fuse": {"inputs": ["vectors", "others"], "transform": "fuse"},
    "int8": {"source": "vectors", "transform": "int8"},
    "pca": {"source": "vectors", "transform": "pca", "dims": 4},
    "project": {"source": "vectors", "transform": "project", "dims": 4},
    "truncate": {"source": "vectors", "transform": "truncate", "dims": 4},
    "whiten": {"source": "vectors", "transform": "whiten"},
}
STATES = {"source": "caption", "encoder": "decoder_states", "layers": [0, -1], "pooling": "mean"}
VECTORS = FeatureSpec(
    name="vectors", inputs=[Input(source="title", modality="text")], output=VectorOut(dims=8),
    method="m", model="m", weights=Weights(origin="random", ref="seed=0"),
)  # fmt: skip


def method_of(table: dict[str, Any]) -> tuple[str, str]:
    return next((kind, table[kind]) for kind in METHODS if kind in table)


def class_named(table: dict[str, Any]) -> Any:
    kind, name = method_of(table)
    return METHODS[kind].get(name)


def test_every_shipped_method_is_checked():
    others = {"whisper": TRANSCRIBED, "decoder_states": STATES}
    groups = (COMPUTED, HEARD, CAPTIONED, READ, RESOLVED, others)
    tables = [table for group in groups for table in group.values()]
    shipped = {(kind, name) for kind, registry in METHODS.items() for name in registry.own}
    assert {method_of(table) for table in tables} == shipped


@pytest.mark.parametrize("table", COMPUTED.values(), ids=list(COMPUTED))
def test_the_contract_is_kept(table):
    other_size = Frames(np.zeros((2, 7, 5, 3), np.uint8), (0.0, 1.0))
    failing = [] if table["source"] == "title" else [(other_size,)]
    check_method(class_named(table), table, failing=failing, place=ONE_THREAD)


@pytest.mark.parametrize(("name", "model"), [("clap", clap), ("transformers_audio", hubert)])
def test_encoders_of_sound_keep_the_contract(tmp_path, name, model):
    table = {**HEARD[name], "model": str(model(tmp_path / name))}
    blip = Sound(np.zeros(0, np.float32), 16_000, ((0.0, 0.0, 0),), 0.0)
    check_method(class_named(table), table, failing=[(blip,)], place=ONE_THREAD)


@needs_yamnet
@pytest.mark.parametrize("name", ["yamnet", "yamnet_tags"])
def test_yamnet_keeps_the_contract(name):
    other_rate = Sound(np.zeros(480, np.float32), 48_000, ((0.0, 0.01, 480),), 0.0)
    check_method(class_named(HEARD[name]), HEARD[name], failing=[(other_rate,)], place=ONE_THREAD)


@pytest.mark.parametrize("table", CAPTIONED.values(), ids=list(CAPTIONED))
def test_captions_of_a_language_model_keep_the_contract(table):
    scenes = synthetic.held_out(4, seed=11)
    nothing = Frames(np.zeros((0, 8, 8, 3), np.uint8), ())
    titled = "prompt" in table
    # What the model was trained on: it has more to say of it than of blocks of colours.
    pictures = [(Frames(synthetic.render(scene)[None], (0.0,)),) for scene in scenes]
    titles = [("a kettle",), ("x",), ("The title is: a day by the river with the red fox!",), ("a bag",)]
    rows = [picture + title for picture, title in zip(pictures, titles, strict=True)] if titled else pictures
    failing = [(nothing, "a kettle"), (*pictures[0], " ")] if titled else [(nothing,)]
    rows = None if "sampling" in table else rows
    check_method(class_named(table), table, rows, failing=failing, place=ONE_THREAD)


def test_states_of_a_captioners_question_keep_the_contract():
    caption = resolve_all({"caption": FeatureConfig(**VLM, prompt="describe-titled")})[0]
    rows = [(still(synthetic.render(scene)), "a kettle") for scene in synthetic.held_out(3, seed=11)]
    check_method(
        class_named(STATES), STATES, rows, failing=[(*rows[0][:1], " ")],
        upstreams={"caption": caption}, place=ONE_THREAD,
    )  # fmt: skip


@pytest.mark.parametrize("table", READ.values(), ids=list(READ))
def test_what_reads_pictures_keeps_the_contract(table):
    cards = [card([((8, 8), text)], 16, (48, 40 + 12 * len(text))) for text in ("sale", "only today", "shop")]
    nothing = Frames(np.zeros((0, 8, 8, 3), np.uint8), ())
    check_method(
        class_named(table), table, [(still(card),) for card in cards], failing=[(nothing,)], place=ONE_THREAD
    )


def test_transcripts_keep_the_contract():
    speech = TRANSCRIPTS / "spoken" / "team.opus"
    (team,) = render_sound(speech.read_bytes(), [AudioPrepare(sample_rate=16_000)], MediaLimits())
    rows = [(team,), *probe(resolve_all({"said": FeatureConfig(**TRANSCRIBED)})[0], 2)]
    check_method(class_named(TRANSCRIBED), TRANSCRIBED, rows, place=ONE_THREAD)


@pytest.mark.parametrize("table", RESOLVED.values(), ids=list(RESOLVED))
def test_a_spec_keeps_the_contract_before_anything_is_loaded(table):
    fitted = "quantizer" in table or "transform" in table
    upstreams = (
        {name: VECTORS.model_copy(update={"name": name}) for name in ("vectors", "others")}
        if fitted
        else None
    )
    check_resolve(class_named(table), table, upstreams=upstreams)
