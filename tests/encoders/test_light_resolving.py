"""Resolving features imports no library that takes seconds, where that can be avoided."""

import dataclasses
import json
import subprocess
import sys

import open_clip
import pytest
from helpers.encoder_checks import MODELS, resolve
from open_clip.transform import PreprocessCfg

from mmfeat.extract import localcache
from mmfeat.extract.base import Ask
from mmfeat.extract.encoders.open_clip import PREPROCESSING, OpenClipOptions, architecture_of
from mmfeat.extract.localcache import remembered
from mmfeat.schemas.errors import ConfigError

DINO = {"encoder": "transformers", "model": str(MODELS / "tiny-dino")}
RESNET = {"encoder": "timm", "model": "resnet18", "weights": "random:0"}

CODE = """
import json, sys
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import FeatureConfig
features = json.loads(sys.argv[1])
configs = {name: FeatureConfig(**{"source": "cover", **options}) for name, options in features.items()}
specs = resolve_all(configs)
heavy = ("torch", "open_clip", "timm", "transformers", "sentence_transformers", "openvino")
print(json.dumps([[spec.fingerprint for spec in specs], [name for name in heavy if name in sys.modules]]))
"""


def resolved_elsewhere(**features) -> tuple[list[str], list[str]]:
    """Fingerprints, and the heavy libraries that a process of its own imported for them."""
    command = [sys.executable, "-c", CODE, json.dumps(features)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    fingerprints, imported = json.loads(done.stdout)
    return fingerprints, imported


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mmfeat" / "outlines"


def test_packaged_and_random_weights_and_open_clips_folders_need_no_library(empty):
    packaged = {"encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"}
    _, imported = resolved_elsewhere(
        title_text={"source": "title", **packaged},
        cover_cnn={"encoder": "efficientnet_lite"},
        video_cnn={"source": "video", "encoder": "efficientnet_lite", "frames": 4},
        cover_tags={"captioner": "imagenet_tags"},
        cover_tags_text={"source": "cover_tags", **packaged},
        open_clip_random={"encoder": "open_clip", "model": "ViT-B-32", "weights": "random:0"},
        open_clip_folder={"encoder": "open_clip", "model": str(MODELS / "tiny-clip")},
    )
    assert imported == []


def test_what_a_library_said_of_a_model_is_asked_once(empty):
    here = [resolve(**DINO), resolve(**DINO, layer=1), resolve(**RESNET)]
    fingerprints, imported = resolved_elsewhere(first=DINO, layer={**DINO, "layer": 1}, resnet=RESNET)
    assert fingerprints == [spec.fingerprint for spec in here]
    assert imported == []


def test_another_configuration_is_another_question(copied, edit, empty):
    folder = copied("tiny-dino")
    first = resolve(**{**DINO, "model": str(folder)})
    edit(folder / "preprocessor_config.json", do_normalize=False)
    changed = resolve(**{**DINO, "model": str(folder)})
    assert first.pixels.mean != (0, 0, 0)
    assert changed.pixels.mean == (0, 0, 0)


def test_an_answer_is_kept_until_it_is_damaged_or_others_could_have_written_it(empty):
    asked = []

    def find_out():
        asked.append(1)
        return {"dims": 3}

    def ask(**facts):
        return remembered(facts, find_out)

    assert [ask(model="a"), ask(model="a"), len(asked)] == [{"dims": 3}, {"dims": 3}, 1]
    ask(model="b")
    assert (len(asked), len(list(empty.iterdir()))) == (2, 2)
    place = localcache.place_of("outlines", {"model": "a"})
    place.write_text('{"dims": 4')
    assert [ask(model="a"), len(asked)] == [{"dims": 3}, 3]
    place.chmod(0o666)
    assert [ask(model="a"), len(asked)] == [{"dims": 3}, 4]


def test_a_refusal_is_not_kept(empty):
    for _ in range(2):
        with pytest.raises(ConfigError, match="has no model 'nonesuch'"):
            resolve(encoder="timm", model="nonesuch", weights="random:0")
    assert not empty.exists()


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch):
    expected = resolve(**DINO)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert resolve(**DINO) == expected


def test_open_clip_is_read_as_it_reads_itself():
    theirs = dataclasses.asdict(PreprocessCfg())
    assert {name: theirs[name] for name in PREPROCESSING} == PREPROCESSING
    ask = Ask("feature", "encoder", "open_clip", (), (), OpenClipOptions())
    for model in open_clip.list_models():
        assert architecture_of(ask, model) == open_clip.get_model_config(model)
