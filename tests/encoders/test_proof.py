"""A model whose values depend on chance or on a neighbour is refused when it is loaded; one that was proved
is loaded without a second proof."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import worlds
from helpers.encoder_checks import MODELS, encoder
from helpers.plugins import on_path, write_plugin

import mmfeat
from mmfeat.extract.base import Ask, Caption, Captioner, Encoder, Placement, Reads
from mmfeat.extract.probes import probe
from mmfeat.extract.proof import LEAST_COSINES
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.extract.testing import check_method, check_proof
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import AudioPrepare, TextPrepare
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard, Weights
from mmfeat.store.store import Store

DIMS = 16
CARD = ModelCard(method="m", model="m", reads=("text",), licence="MIT", weights_from="nowhere")


class Options(Frozen):
    dtype: str | None = None
    temperature: float | None = None
    trial: int = 0


class Words(Encoder):
    """The mean of a vector per character, computed in a padded batch."""

    Options = Options
    reads = (Reads(("text",)), Reads(("audio",)))
    example = CARD
    output: ClassVar = VectorOut(dims=DIMS)
    passes: ClassVar[list[int]] = []

    @classmethod
    def resolve(cls, ask: Ask[Options]) -> FeatureSpec:
        sound = ask.only.modality == "audio"
        decoding = {"max_new_tokens": 8, "temperature": ask.options.temperature or 0.0}
        return ask.spec(
            inputs=(ask.only.prepared(AudioPrepare(sample_rate=8000) if sound else TextPrepare()),),
            output=cls.output,
            model=cls.__name__,
            weights=Weights(origin="package", ref="plugin"),
            options={
                "compute_dtype": ask.options.dtype or "float32",
                "trial": ask.options.trial,
                **({"decoding": decoding} if cls.output.kind == "text" else {}),
            },
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec
        self.table = torch.randn(128, DIMS, generator=torch.Generator().manual_seed(0))

    def padded(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(c) % 127 + 1 for c in t] + [0] * (longest - len(t)) for t in texts])
        return self.table[ids], (ids > 0).float()[..., None]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.passes.append(len(texts))
        return self.pooled(*self.padded(texts)).numpy()

    def encode_sounds(self, sounds) -> np.ndarray:
        return self.encode_texts(
            [f"{sound.samples[0]}" + "." * (len(sound.samples) // 1000) for sound in sounds]
        )

    def pooled(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (tokens * mask).sum(1) / mask.sum(1)


class Dropping(Words):
    """Dropout is left on."""

    def pooled(self, tokens, mask):
        return super().pooled(torch.nn.functional.dropout(tokens, 0.1, training=True), mask)


class Unmasked(Words):
    """Padding counts."""

    def pooled(self, tokens, mask):
        return tokens.mean(1)


class Overflowing(Words):
    """Squares that float16 cannot hold."""

    def pooled(self, tokens, mask):
        vectors = super().pooled(tokens, mask) * 1000
        return (vectors.to(getattr(torch, self.spec.compute_dtype)) ** 2).float()


class Rounding(Words):
    """Another last bit of its number type in a batch of another size, as in half precision."""

    def pooled(self, tokens, mask):
        vectors = super().pooled(tokens, mask)
        return vectors * (1 + (0.003 * torch.arange(DIMS) % 0.01) * (len(tokens) - 1))


class Picky(Words):
    """Fails for what no person would write."""

    def encode_texts(self, texts):
        raise ValueError("too long")


class Lazy(Words):
    """Imports what it needs when it is used."""

    def encode_texts(self, texts):
        import no_such_package  # noqa: F401


class Talker(Captioner):
    """Says the number of characters, and of its temperature as well a random one."""

    Options = Options
    reads = (Reads(("text",)),)
    example = CARD
    output: ClassVar = TextOut(role="caption")
    resolve = classmethod(Words.resolve.__func__)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        self.spec = spec

    def caption(self, rows):
        return [Caption(self.said(text, len(rows)), "stop") for (text,) in rows]

    def said(self, text: str, rows: int) -> str:
        return f"{len(text)}"


class Random(Talker):
    """Samples whatever it is asked."""

    def said(self, text, rows):
        return f"{np.random.default_rng().integers(1 << 40)}"


class Crowded(Talker):
    """Answers otherwise beside others."""

    def said(self, text, rows):
        return f"{len(text)} of {rows}"


PLUGINS = (Words, Dropping, Unmasked, Overflowing, Rounding, Picky, Lazy)
TALKERS = (Talker, Random, Crowded)


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory) -> Iterator[None]:
    points = {
        "mmfeat.encoders": {one.__name__.lower(): f"{__name__}:{one.__name__}" for one in PLUGINS},
        "mmfeat.captioners": {one.__name__.lower(): f"{__name__}:{one.__name__}" for one in TALKERS},
    }
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), points)):
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Words, "passes", [])
    return tmp_path / "cache" / "mmfeat" / "proofs"


def loaded(method: type, source: str = "title", **options: object):
    kind = "captioner" if issubclass(method, Captioner) else "encoder"
    table = FeatureConfig(**{"source": source, kind: method.__name__.lower(), **options})
    return load_method(resolve_all({"words": table})[0])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            Dropping,
            r"'words': 'Dropping' by 'dropping' gives the same input another value in a second pass: cos",
        ),
        (
            Unmasked,
            r"'words': 'Unmasked' .* another value alone: cosine 0\.\d+; in float32 it must be 0.99999",
        ),
        (
            Random,
            r"'Random' by 'random' gives the same input another value in a second pass: '\d+' and '\d+'",
        ),
        (Crowded, r"another value alone: '\d+ of 2' and '\d+ of 1'"),
    ],
)
def test_a_model_whose_values_do_not_repeat_is_refused(method, message, cache):
    with pytest.raises(ConfigError, match=message) as refused:
        loaded(method)
    assert refused.value.hint
    # Nothing is kept of it: the next time it is refused again.
    assert not list(cache.glob("*"))
    with pytest.raises(ConfigError):
        loaded(method)


def test_a_neighbour_decides_no_sound_either():
    assert loaded(Words, "audio").spec.modalities == ("audio",)
    with pytest.raises(ConfigError, match="another value alone"):
        loaded(Unmasked, "audio")


def test_what_was_proved_is_not_proved_again_on_the_same_machine(cache):
    loaded(Words)
    assert Words.passes == [2, 2, 1]
    assert len(list(cache.glob("*"))) == 1
    loaded(Words)
    assert Words.passes == [2, 2, 1]


@pytest.mark.parametrize("other", [{"trial": 1}, {"dtype": "bfloat16"}])
def test_other_options_or_another_precision_are_proved_on_their_own(other):
    loaded(Words)
    loaded(Words, **other)
    assert len(Words.passes) == 6


def test_nan_in_half_precision_is_refused_with_the_precisions_that_hold():
    for dtype in ("float32", "bfloat16"):
        assert np.isfinite(loaded(Overflowing, dtype=dtype).encode_texts(["a cat"])).all()
    with pytest.raises(ConfigError, match="NaN or infinity in float16") as refused:
        loaded(Overflowing, dtype="float16")
    assert 'dtype = "bfloat16" or "float32"' in refused.value.hint


def test_half_precision_has_a_bar_of_its_own():
    assert LEAST_COSINES == {"float32": 0.99999, "float16": 0.999, "bfloat16": 0.99}
    with pytest.raises(ConfigError, match="alone"):
        loaded(Rounding)
    loaded(Rounding, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "table",
    [
        worlds.CLIP,
        {**worlds.CLIP, "source": "title"},
        worlds.DINO,
        {
            "source": "title",
            "encoder": "sentence_transformers",
            "model": "all-MiniLM-L6-v2",
            "weights": "package",
        },
    ],
    ids=["CLIP", "CLIP, texts", "DINO", "MiniLM"],
)
def test_real_models_prove_themselves_in_every_precision(table, dtype):
    method = encoder(**{**table, "dtype": dtype})
    assert not method.notes
    assert len(method.run(probe(method.spec, 2))) == 2


def test_a_captioner_proves_that_its_greedy_answers_repeat_and_keeps_its_own_length(cache):
    method = load_method(resolve_all({"caption": FeatureConfig(**worlds.CAPTION)})[0])
    assert method.settings.decoding.max_new_tokens > 16
    assert method.brief().settings.decoding.max_new_tokens == 16
    assert len(list(cache.glob("*"))) == 1


def test_what_samples_is_not_proved(cache):
    assert loaded(Random, temperature=0.7).notes == ()
    assert not cache.exists()


def test_what_fails_for_made_up_inputs_is_loaded_and_says_that_it_proved_nothing():
    (note,) = loaded(Picky).notes
    assert (
        note
        == "words could not prove that its values repeat: it fails for made-up inputs: ValueError: too long"
    )


def test_a_package_that_is_missed_when_a_model_is_used_is_an_error_before_any_row():
    with pytest.raises(ConfigError, match="'Lazy' needs the package 'no_such_package'") as lacking:
        loaded(Lazy)
    assert lacking.value.hint == "Install it with: pip install no_such_package"


def test_a_run_with_such_a_model_stops_before_its_first_row(tmp_path):
    worlds.cover_folder(tmp_path / "media", worlds.synthetic.held_out(3))
    (tmp_path / "media" / "titles.csv").write_text("item,title\nitem-000,a\nitem-001,b\nitem-002,c\n")
    features = {
        "good": {"source": "title", "encoder": "words"},
        "bad": {"source": "title", "encoder": "dropping"},
    }
    with pytest.raises(ConfigError, match="feature 'bad': 'Dropping' by 'dropping'"):
        mmfeat.extract(
            **worlds.job(tmp_path / "media", tmp_path / "store", features, resources={"executor": "local"})
        )
    store = Store.open(str(tmp_path / "store"))
    assert not any(store.counts(version) for version in store.versions())


def test_the_contract_kit_refuses_what_a_run_would():
    method = check_method(Words, {"source": "title", "encoder": "words"})
    with pytest.raises(
        AssertionError, match=r"a run refuses it: feature 'contract': 'Words' .* alone: cosine"
    ):
        check_proof(Unmasked(method.spec, Placement()))


def test_a_masked_autoencoder_sees_every_patch(tmp_path):
    """Its mask is drawn anew in every pass, so that the same cover had another vector in every run."""
    import transformers
    from helpers.encoder_checks import cosines, encoded, opened, pictures

    torch.manual_seed(1)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTMAEConfig(**shape, image_size=32, patch_size=8, decoder_num_hidden_layers=1)
    transformers.ViTMAEModel(config).save_pretrained(tmp_path / "mae")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path / "mae")
    files = pictures(6)
    whole = transformers.ViTMAEModel.from_pretrained(tmp_path / "mae", mask_ratio=0.0).eval()
    with torch.inference_mode():
        inputs = processor(opened(files), return_tensors="pt")
        tokens = whole(**inputs, noise=torch.arange(16.0).repeat(6, 1)).last_hidden_state
    assert tokens.shape[1] == 1 + 16
    for pooling, theirs in {"cls": tokens[:, 0], "mean": tokens[:, 1:].mean(1)}.items():
        ours = encoder(encoder="transformers", model=str(tmp_path / "mae"), pooling=pooling)
        # Rows of version 1 are out of date, and those of no other model.
        assert ours.spec.method_version == 2
        assert cosines(encoded(ours, files), theirs.numpy()).min() >= 0.9999
    assert encoder(encoder="transformers", model=str(MODELS / "tiny-dino")).spec.method_version == 1
