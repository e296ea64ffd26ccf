"""Eight public reports of a model that silently gave other vectors, each planted in a tiny model and caught.

``BUGS`` is the table: what happened, where it is told, and what of mmfeat stops it: the proof at load
(``extract/proof.py``, ``extract/loaded.py``), the canary of a version (``extract/canary.py``) or the
certificate of an engine (``pipelines/certify.py``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import transformers
from helpers import worlds
from helpers.plugins import on_path, write_plugin
from PIL import Image
from safetensors.torch import load_file, save_file

import mmfeat
from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.pipelines.certify import certify
from mmfeat.schemas.errors import ConfigError, ValuesChanged
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import ImagePrepare, PixelView, TextPrepare
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard, Weights
from mmfeat.store import Store

WIDTH, DIMS, SIDE = 32, 16, 16
MANY = 1 << 30


class Options(Frozen):
    dtype: str = "float32"


class Tiny(Encoder):
    """A transformer of one layer: a template around a text, attention, a last norm, the mean, ``DIMS`` of
    ``WIDTH`` dimensions, and length 1. Of a picture four by four patches are its tokens.

    Attributes:
        fault: what is wrong with the library that it stands for; empty if nothing is.
        engine_fault: what is wrong with the other engine alone, which many items are given to.
    """

    Options = Options
    reads = (Reads(("text",)), Reads(("image",)))
    example = ModelCard(method="tiny", model="tiny", reads=("text",), licence="MIT", weights_from="nowhere")
    fault: ClassVar[str] = ""
    engine_fault: ClassVar[str] = ""

    @classmethod
    def resolve(cls, ask: Ask[Options]) -> FeatureSpec:
        view = PixelView(mode="squash", height=SIDE, width=SIDE, interpolation="lanczos")
        prepare = ImagePrepare(view=view) if ask.only.modality == "image" else TextPrepare()
        return ask.spec(
            inputs=(ask.only.prepared(prepare),),
            output=VectorOut(dims=DIMS),
            model="tiny",
            weights=Weights(origin="random", ref="seed=0"),
            options={"compute_dtype": ask.options.dtype, "normalize": True},
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec
        engine = (place.expected or 0) > MANY
        self.runtime = "openvino 1.0" if engine else "torch 1.0"
        self.wrong = (self.fault, self.engine_fault if engine else "")
        torch.manual_seed(0)
        self.words, self.patches = torch.nn.Embedding(128, WIDTH), torch.nn.Linear(48, WIDTH)
        self.query, self.key = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH)
        torch.nn.init.normal_(self.norm.weight, 1.0, 0.5)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        if "template" not in self.wrong:
            texts = [f"Represent this: {text}" for text in texts]
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(c) % 127 + 1 for c in t] + [0] * (longest - len(t)) for t in texts])
        mask = torch.ones_like(ids) if "no mask" in self.wrong else ids > 0
        with torch.inference_mode():
            return self.vectors(self.words(ids), mask.float())

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(pixels).float() / 255
        if "preprocessing" not in self.wrong:
            values = (values - 0.5) / 0.2
        patches = values.unfold(1, 4, 4).unfold(2, 4, 4).reshape(len(pixels), 16, 48)
        with torch.inference_mode():
            return self.vectors(self.patches(patches), torch.ones(len(pixels), 16))

    def vectors(self, tokens: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        """Of ``[n, tokens, WIDTH]``, of which those count that the mask has."""
        tokens = tokens * (1e4 if self.spec.compute_dtype == "float16" else 1)
        dtype = getattr(torch, self.spec.compute_dtype)
        scores = self.query(tokens).to(dtype) @ self.key(tokens).to(dtype).transpose(1, 2)
        scores = scores.float() / WIDTH**0.5 + (1 - mask[:, None, :]) * -1e9
        hidden = tokens + scores.softmax(-1) @ tokens
        if "before the norm" not in self.wrong:
            hidden = self.norm(hidden)
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        if "cut behind length 1" in self.wrong:
            return torch.nn.functional.normalize(mean, dim=-1)[:, :DIMS].numpy()
        return torch.nn.functional.normalize(mean[:, :DIMS], dim=-1).numpy()


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory) -> Iterator[None]:
    points = {"mmfeat.encoders": {"tiny": f"{__name__}:Tiny"}}
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), points)):
        yield


@pytest.fixture
def plant(monkeypatch) -> Callable[..., None]:
    """Puts faults into the library of the tiny model, or into its other engine."""
    return lambda **faults: [monkeypatch.setattr(Tiny, name, fault) for name, fault in faults.items()]


def extract(folder: Path, source: str, items: int) -> Store:
    """A run over so many items of the folder's store, and the store."""
    media = folder / "media"
    worlds.cover_folder(media, worlds.synthetic.held_out(items))
    lines = ["item,title", *(f"item-{n:03d},{'long ' * n}title {n}" for n in range(items))]
    (media / "titles.csv").write_text("\n".join(lines) + "\n")
    feature = {"source": source, "encoder": "tiny"}
    mmfeat.extract(**worlds.job(media, folder / "store", {"tiny": feature}))
    return Store.open(str(folder / "store"))


def refused_at_load(match: str, table: dict[str, Any]) -> None:
    (spec,) = resolve_all({"f": FeatureConfig(**table)})
    with pytest.raises(ConfigError, match=match):
        load_method(spec)


def stopped_by_the_canary(folder: Path, source: str, plant: Callable[[], Any]) -> None:
    """The next run, with the fault, writes nothing."""
    store = extract(folder, source, 3)
    plant()
    with pytest.raises(ValuesChanged, match="gives other values for the same input"):
        extract(folder, source, 5)
    store.refresh()
    assert store.counts(store.resolve("tiny")) == {"ok": 3}


def refused_a_certificate(folder: Path, source: str, plant: Callable[[], Any], problem: str) -> None:
    """The engine with the fault, and no other one."""
    store = extract(folder, source, 12)
    plant()
    torch_, engine = certify(store, "tiny", ["torch", "openvino"], 20).engines
    assert torch_.passed and torch_.items == 12 and torch_.least > 0.99999
    assert not engine.passed and problem in str(engine.problem)


def zero_biases(folder: Path, plant: Callable[..., None]) -> None:
    """The library knows the biases by other names, and makes up zeros. (The one of now knows both names of
    the report, so that these are yet others.)"""
    place = folder / "model"
    shutil.copytree(worlds.MODELS / "tiny-videomae", place)
    torch.manual_seed(0)
    transformers.VideoMAEModel(transformers.VideoMAEConfig.from_pretrained(place)).save_pretrained(place)
    weights = load_file(place / "model.safetensors")
    renamed = {key: key.replace("q_bias", "q.bias").replace("v_bias", "v.bias") for key in weights}
    assert list(renamed) != list(renamed.values()), "they have other names than those of now"
    save_file(
        {name: weights[key] for key, name in renamed.items()}, place / "model.safetensors", {"format": "pt"}
    )
    refused_at_load(
        r"lack .*bias and \d+ more; they would be random or zero", {**worlds.WATCHED, "model": str(place)}
    )


def before_the_norm(folder: Path, plant: Callable[..., None]) -> None:
    stopped_by_the_canary(folder, "title", lambda: plant(fault="before the norm"))


def other_template(folder: Path, plant: Callable[..., None]) -> None:
    stopped_by_the_canary(folder, "title", lambda: plant(fault="template"))


def other_preprocessing(folder: Path, plant: Callable[..., None]) -> None:
    refused_a_certificate(folder, "cover", lambda: plant(engine_fault="preprocessing"), "cosine ")


def other_filter(folder: Path, plant: Callable[..., None]) -> None:
    """The library that resizes takes BICUBIC where LANCZOS is asked for."""
    plain = Image.Image.resize

    def resize(self: Any, size: Any, resample: Any = None, *args: Any, **options: Any) -> Any:
        other = Image.Resampling.BICUBIC if resample == Image.Resampling.LANCZOS else resample
        return plain(self, size, other, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        stopped_by_the_canary(folder, "cover", lambda: patch.setattr(Image.Image, "resize", resize))


def padding_without_mask(folder: Path, plant: Callable[..., None]) -> None:
    plant(fault="no mask")
    refused_at_load("another value alone: cosine", {"source": "title", "encoder": "tiny"})


def nan_in_half_precision(folder: Path, plant: Callable[..., None]) -> None:
    refused_at_load("NaN or infinity in float16", {"source": "title", "encoder": "tiny", "dtype": "float16"})


def cut_behind_length_one(folder: Path, plant: Callable[..., None]) -> None:
    """The cosines are the same, and every dot product is wrong."""
    refused_a_certificate(folder, "title", lambda: plant(engine_fault="cut behind length 1"), "lengths 0.")


@dataclass(frozen=True)
class Bug:
    """A public report, and the test that plants it.

    Attributes:
        reports: where it is told.
        caught_by: what of mmfeat stops it.
    """

    what: str
    reports: str
    caught_by: str
    planted: Callable[[Path, Callable[..., None]], None]


BUGS = (
    Bug("zero q/v biases", "huggingface/transformers#48675, mteb#5094", "load proof", zero_biases),
    Bug("state before the last norm", "vllm-project/vllm#33167", "canary", before_the_norm),
    Bug("template changed", "jundot/omlx#1817, QwenLM/Qwen3-VL-Embedding#8", "canary", other_template),
    Bug("preprocessing differs", "vllm-project/vllm#33419, #16406", "certificate", other_preprocessing),
    Bug("LANCZOS became BICUBIC", "huggingface/transformers#48026", "canary", other_filter),
    Bug(
        "padding without mask",
        "lean-dojo/ReProver#34",
        "load proof",
        padding_without_mask,
    ),
    Bug("NaN in float16", "unslothai/unsloth#4014", "load proof", nan_in_half_precision),
    Bug("MRL behind length 1", "michaelfeil/infinity#538", "certificate", cut_behind_length_one),
)


@pytest.mark.parametrize("bug", BUGS, ids=[f"{bug.what} ({bug.caught_by})" for bug in BUGS])
def test_a_public_bug_is_caught(bug, tmp_path, monkeypatch, plant):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bug.planted(tmp_path, plant)


def test_without_a_fault_all_of_it_passes(tmp_path):
    store = extract(tmp_path, "cover", 3)
    assert extract(tmp_path, "cover", 4).counts(store.resolve("tiny")) == {"ok": 4}
    assert certify(store, "tiny", ["torch", "openvino"], 20).passed
