"""Language models as embedders: of a message what the published rule gives, written out here with the model's
own class of transformers, whatever else is in a batch.

The models are tiny and have random weights. No published weights were tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_models as sm
import tiny_listeners
import torch
import transformers as t
from encoder_checks import cosines
from PIL import Image

from mmfeat.extract.base import Placement, Row
from mmfeat.extract.encoders.mllm import Mllm
from mmfeat.extract.encoders.mllm_recipes import RECIPES
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import Column
from mmfeat.schemas.media import Pictures
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

SAME = 0.99999
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
CLASSES = {
    "qwen2_vl": t.Qwen2VLForConditionalGeneration,
    "qwen2_5_vl": t.Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": t.Qwen3VLForConditionalGeneration,
    "qwen2_5_omni": t.Qwen2_5OmniThinkerForConditionalGeneration,
    "qwen2_audio": t.Qwen2AudioForConditionalGeneration,
    "smolvlm": t.SmolVLMForConditionalGeneration,
    "llava_next": t.LlavaNextForConditionalGeneration,
    "llama": t.LlamaForCausalLM,
    "qwen3": t.Qwen3ForCausalLM,
}
TEXTS = ["A red shoe", "A blue hat of wool, warm in any winter and dry in any rain", "x", "A pan"]
SEEN = [Pictures((sm.picture(1),)), Pictures((sm.picture(2, 84, 32),)), None, Pictures((sm.picture(3),))]


def spec_of(folder: Path, **options: Any) -> FeatureSpec:
    table = {"encoder": "mllm", "model": str(folder), **options}
    return resolve_all({"feature": FeatureConfig(**table)}, COLUMNS)[0]


def ours(folder: Path, **options: Any) -> Mllm:
    method = load_method(spec_of(folder, **options), Placement(threads=1))
    assert isinstance(method, Mllm)
    # Its values repeat, as was proved.
    assert not method.notes
    return method


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory) -> Callable[[str], Path]:
    """The folder of a tiny model, by its kind."""

    @cache
    def make(kind: str) -> Path:
        place = tmp_path_factory.mktemp("models") / kind
        getattr(tiny_listeners, kind)(place)
        return place

    return make


@pytest.fixture(scope="module")
def upstream_of(folder_of) -> Callable[[str], tuple[Any, Any]]:
    """Upstream's model of a kind, and a processor or tokenizer to be set up."""
    models = cache(lambda kind: CLASSES[kind].from_pretrained(folder_of(kind)).eval())

    def load(kind: str) -> tuple[Any, Any]:
        auto = t.AutoTokenizer if kind in ("llama", "qwen3") else t.AutoProcessor
        return models(kind), auto.from_pretrained(folder_of(kind))

    return load


@torch.no_grad()
def last_state(model: Any, inputs: Any, **more: Any) -> np.ndarray:
    """The last hidden state of the last token of one message, of length 1."""
    state = model(**inputs, **more, output_hidden_states=True).hidden_states[-1][0, -1]
    return torch.nn.functional.normalize(state, dim=0).numpy()


def agrees(model: Mllm, rows: Sequence[Row], wanted: Sequence[np.ndarray]) -> None:
    """Together in a batch of mixed lengths, and each alone."""
    together = np.stack(model.run(rows))
    alone = np.concatenate([model.run([row]) for row in rows])
    assert min(cosines(together, np.stack(wanted)).min(), cosines(alone, np.stack(wanted)).min()) >= SAME
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), np.linalg.norm(wanted, axis=1), rtol=1e-4)


def shown(pictures: Pictures | None) -> list[Image.Image] | None:
    return None if pictures is None else [Image.fromarray(one) for one in pictures.pixels]


def test_qwen3_vl_embedding_reads_the_last_token_behind_its_own_system_message(folder_of, upstream_of):
    model, processor = upstream_of("qwen3_vl")
    # The rule's own bounds: 4 to 1,800 tokens of 28 pixels a side for this tiny model.
    processor.image_processor.size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 1800 * 28 * 28}
    wanted = []
    for text, pictures in zip(TEXTS, SEEN, strict=True):
        place = "" if pictures is None else "<|vision_start|><|image_pad|><|vision_end|>"
        said = (
            "<|im_start|>system\nRepresent the user's input.<|im_end|>\n"
            f"<|im_start|>user\n{place}{text}<|im_end|>\n<|im_start|>assistant\n"
        )
        wanted.append(last_state(model, processor(text=[said], images=shown(pictures), return_tensors="pt")))
    recipe = ours(folder_of("qwen3_vl"), inputs=["title", "photos?"], recipe="qwen3-vl-embedding")
    agrees(recipe, list(zip(TEXTS, SEEN, strict=True)), wanted)


def test_qwen3_vl_embedding_ends_an_instruction_with_a_full_stop(folder_of):
    folder, row = folder_of("qwen3_vl"), [("A pan",)]
    table = {"source": "title", "recipe": "qwen3-vl-embedding"}
    told = [
        ours(folder, **table, instruction=said).run(row)[0] for said in ("Find a pan", "Find a pan.", "!")
    ]
    np.testing.assert_allclose(told[0], told[1], atol=1e-6)
    assert told[0] @ told[2] < 0.9999


def test_gme_reads_the_end_token_behind_the_answer_s_beginning(folder_of, upstream_of):
    model, processor = upstream_of("qwen2_vl")
    processor.image_processor.size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 1280 * 28 * 28}
    wanted = []
    for text, pictures in zip(TEXTS, SEEN, strict=True):
        place = "" if pictures is None else "<|vision_start|><|image_pad|><|vision_end|>"
        said = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{place}{text}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
        )
        wanted.append(last_state(model, processor(text=[said], images=shown(pictures), return_tensors="pt")))
    agrees(
        ours(folder_of("qwen2_vl"), inputs=["title", "photos?"], recipe="gme"),
        list(zip(TEXTS, SEEN, strict=True)),
        wanted,
    )


def test_vlm2vec_v2_shows_pictures_by_a_bare_token_whose_places_count_one_by_one(folder_of, upstream_of):
    model, processor = upstream_of("qwen2_vl")
    processor.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": 64 * 28 * 28}
    wanted = []
    for text, pictures in zip(TEXTS, SEEN, strict=True):
        said = text
        if pictures is not None:
            said = f"<|image_pad|> Represent the given image with related text information: {text}"
        inputs = processor(text=[said], images=shown(pictures), return_tensors="pt")
        # Code before transformers 5 looked for a vision token, found none, and counted.
        places = torch.arange(inputs["input_ids"].shape[1]).expand(3, 1, -1)
        wanted.append(last_state(model, inputs, position_ids=places))
    model = ours(folder_of("qwen2_vl"), inputs=["title", "photos?"], recipe="vlm2vec-v2")
    agrees(model, list(zip(TEXTS, SEEN, strict=True)), wanted)


def test_lco_omni_asks_for_a_summary_in_one_word_by_the_folder_s_own_template(folder_of, upstream_of):
    model, processor = upstream_of("qwen2_5_omni")
    sounds = [None, sm.tone(300, 0.5), sm.tone(500, 1.2), None]
    wanted, rows = [], list(zip(TEXTS, SEEN, sounds, strict=True))
    for text, pictures, sound in rows:
        content = [{"type": "image"}] if pictures is not None else []
        content += [{"type": "audio"}] if sound is not None else []
        what = "" if content else " text"
        content += [{"type": "text", "text": f"{text}\nSummarize the above{what} in one word:"}]
        messages = [{"role": "user", "content": content}]
        said = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(
            text=[said],
            images=shown(pictures),
            audio=None if sound is None else list(sound.parts),
            return_tensors="pt",
            text_kwargs={"padding": True, "add_special_tokens": False},
        )
        wanted.append(last_state(model, inputs))
    agrees(
        ours(folder_of("qwen2_5_omni"), inputs=["title", "photos?", "audio?"], recipe="lco-omni"),
        rows,
        wanted,
    )


def test_unime_asks_for_one_word_of_what_stands_above_it(folder_of, upstream_of):
    model, processor = upstream_of("llava_next")
    folder, wanted = folder_of("llava_next"), []
    for text in TEXTS:
        said = f"[INST] {text}\nSummary above sentence in one word: [/INST]"
        wanted.append(last_state(model, processor(text=[said], return_tensors="pt")))
    agrees(ours(folder, source="title", recipe="unime"), [(text,) for text in TEXTS], wanted)
    pictures = [one for one in SEEN if one is not None]
    said = "[INST] <image>\nSummary above image in one word: [/INST]"
    wanted = [
        last_state(model, processor(text=[said], images=shown(one), return_tensors="pt")) for one in pictures
    ]
    agrees(ours(folder, source="photos", recipe="unime"), [(one,) for one in pictures], wanted)


def test_alpharec_reads_the_last_token_of_a_title_of_128_tokens_at_most(folder_of, upstream_of):
    model, tokenizer = upstream_of("llama")
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    titles = [*TEXTS, "a very long title " * 20]
    inputs = tokenizer(titles, return_tensors="pt", padding=True, truncation=True, max_length=128)
    with torch.no_grad():
        wanted = model(**inputs, output_hidden_states=True).hidden_states[-1][:, -1, :].numpy()
    agrees(ours(folder_of("llama"), source="title", recipe="alpharec"), [(one,) for one in titles], wanted)


def test_every_recipe_is_held_to_its_rule():
    told = {name.replace("-", "_") for name in RECIPES}
    here = " ".join(name for name in globals() if name.startswith("test_"))
    assert all(name in here for name in told)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "smolvlm"])
def test_without_a_recipe_the_folder_s_template_says_how_an_item_is_shown(folder_of, upstream_of, kind):
    model, processor = upstream_of(kind)
    wanted = []
    for text, pictures in zip(TEXTS, SEEN, strict=True):
        content = [{"type": "text", "text": text}] + ([{"type": "image"}] if pictures is not None else [])
        messages = [
            {"role": "system", "content": [{"type": "text", "text": "Represent the item."}]},
            {"role": "user", "content": content},
        ]
        said = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=[said], images=shown(pictures), return_tensors="pt", add_special_tokens=False)
        wanted.append(last_state(model, inputs))
    model = ours(folder_of(kind), inputs=["title", "photos?"], instruction="Represent the item.")
    agrees(model, list(zip(TEXTS, SEEN, strict=True)), wanted)
