"""A package that a model's processor or tokenizer wants and that is not installed: one error, before any row,
which says what to install."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from helpers import worlds

from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.extract.weights import missing_package
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def vlm(tmp_path) -> Path:
    return Path(shutil.copytree(worlds.MODELS / "tiny-vlm", tmp_path / "vlm"))


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def load(model: Path) -> None:
    load_method(resolve_all({"caption": FeatureConfig(**{**worlds.CAPTION, "model": str(model)})})[0])


def as_smolvlm(folder: Path) -> Path:
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["image_processor"]["image_processor_type"] = "SmolVLMImageProcessor"
    edit(
        folder / "processor_config.json",
        processor_class="SmolVLMProcessor",
        image_processor=processor["image_processor"],
        video_processor={"video_processor_type": "SmolVLMVideoProcessor"},
    )
    edit(folder / "tokenizer_config.json", processor_class="SmolVLMProcessor")
    edit(folder / "config.json", model_type="smolvlm", architectures=["SmolVLMForConditionalGeneration"])
    return folder


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine if nobody installed it."""
    from importlib import metadata

    from mmfeat.extract import weights

    def absent(name: str) -> metadata.Distribution:
        if name == package:
            raise metadata.PackageNotFoundError(name)
        return metadata.distribution(name)

    monkeypatch.setattr(weights, "distribution", absent)


def test_smolvlm_without_num2words_says_what_to_install(vlm, monkeypatch):
    from transformers.models.smolvlm import processing_smolvlm

    without("num2words", monkeypatch)
    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(
        ConfigError, match="feature 'caption': 'vlm' needs the package 'num2words'"
    ) as lacking:
        load(as_smolvlm(vlm))
    assert lacking.value.hint == "Install it with: pip install num2words"


def test_what_the_presets_models_need_comes_with_the_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {line.partition(">=")[0] for line in project["optional-dependencies"]["extract"]}
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    # SmolVLM2's processor, and image and video processors of all others.
    assert {"num2words", "torchvision", "pillow"} <= extra
    assert {"num2words", "docopt", "torchvision", "pillow"} <= pinned


def test_a_tokenizer_that_has_to_be_converted_says_what_it_needs(vlm, monkeypatch):
    for package in ("sentencepiece", "tiktoken"):
        without(package, monkeypatch)
    (vlm / "tokenizer.json").unlink()
    (vlm / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    edit(vlm / "tokenizer_config.json", tokenizer_class="LlamaTokenizer")
    with pytest.raises(ConfigError, match="'vlm'"):
        load(vlm)


@pytest.mark.parametrize(
    ("error", "package"),
    [
        (ModuleNotFoundError("No module named 'absent_a'", name="absent_a"), "absent_a"),
        (ModuleNotFoundError("No module named 'absent_a.b'", name="absent_a.b"), "absent_a"),
        (
            ImportError("\nX requires the Absent-A library but it was not found in your environment.\n"),
            "absent-a",
        ),
        (
            ImportError("X requires the A library but it was not found. `pip install -U absent-a`."),
            "absent-a",
        ),
        (ImportError("You can install it with pip: `pip\ninstall absent-a`."), "absent-a"),
        (ImportError("Package `absent-a` is required to run it."), "absent-a"),
        (ImportError("X requires absent_a and absent_b, which were not found"), "absent_b"),
        (ValueError("`absent-a` reads it. Install it with `pip install absent-a`."), "absent-a"),
    ],
)
def test_whatever_words_a_library_has_for_it_the_package_is_named(error, package):
    lacking = missing_package("f", "m", error)
    assert lacking is not None
    assert repr(package) in lacking.message
    assert lacking.hint.endswith(f"pip install {package}")
    wrapped = OSError("cannot load the processor")
    wrapped.__cause__ = error
    assert missing_package("f", "m", wrapped).message == lacking.message


@pytest.mark.parametrize(
    "error",
    [
        OSError("no file named config.json"),
        ValueError("`image` is required to be square"),
        ImportError("Run `pip install git+https://example.org/x.git`"),
        ImportError("numpy: `pip install numpy` for a newer one"),
        RuntimeError("pip install absent-a"),
    ],
)
def test_an_error_that_names_nothing_missing_is_left_as_it_is(error):
    assert missing_package("f", "m", error) is None
