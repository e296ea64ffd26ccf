"""Models that bring their own code: refused, unless a feature names the very code that it trusts."""

import json
import shutil

import numpy as np
import pytest
import transformers
from helpers.encoder_checks import encoder, resolve

from mmfeat.extract.encoders.own_code import digest_of_code
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.media import Frames

COMMIT = "c" * 40
# A model as Cosmos-Embed1 is asked: the mean colour of each frame, one frame after the other.
CODE = """
import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class ColoursConfig(PreTrainedConfig):
    model_type = "colours_of_clips"
    num_frames: int = 3


class Colours(PreTrainedModel):
    config_class = ColoursConfig

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(9))
        self.post_init()

    def get_video_embeddings(self, pixel_values):
        return ModelOutput(visual_proj=pixel_values.mean(dim=(3, 4)).flatten(1) * self.scale)
"""


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """The folder of a model with its own code and known weights."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("code") / "colours"
    folder.mkdir()
    (folder / "colours.py").write_text(CODE)
    own = {"AutoConfig": "colours.ColoursConfig", "AutoModel": "colours.Colours"}
    config = {
        "model_type": "colours_of_clips",
        "num_frames": 3,
        "architectures": ["Colours"],
        "auto_map": own,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"scale": torch.arange(1, 10).float()}, folder / "model.safetensors", {"format": "pt"})
    transformers.VideoMAEVideoProcessor(
        do_center_crop=False, size={"height": 8, "width": 8}, do_normalize=False
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def changed(colours, tmp_path):
    """The folder, to be changed."""
    return shutil.copytree(colours, tmp_path / "changed")


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Where transformers puts the code of models, which it then imports."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def asked(folder, **options):
    return {"source": "video", "encoder": "transformers_video", "model": str(folder), **options}


def test_a_folder_with_code_is_refused_and_nothing_of_it_runs(changed):
    (changed / "colours.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ConfigError, match=r"runs code of its own \(AutoConfig, AutoModel\)") as raised:
        resolve(**asked(changed))
    assert f'trust_remote_code = "{digest_of_code(changed)}"' in raised.value.hint


@pytest.mark.parametrize("moving", ["main", "v1.0", "true", "c" * 39, "C" * 40])
def test_a_branch_and_whatever_else_may_move_pins_no_code(colours, moving):
    with pytest.raises(ConfigError, match="does not say which code") as raised:
        resolve(**asked(colours, trust_remote_code=moving))
    assert "40 hex digits" in raised.value.hint


def test_code_that_is_trusted_computes_the_clips_of_a_folder(colours):
    model = encoder(**asked(colours, trust_remote_code=digest_of_code(colours), normalize=False))
    reds = np.zeros((3, 8, 8, 3), np.uint8)
    reds[..., 0] = np.array([0, 51, 255])[:, None, None]
    found = model.encode_clips([Frames(reds, (0.0, 1.0, 2.0))])
    np.testing.assert_allclose(found, [[0, 0, 0, 0.2 * 4, 0, 0, 7, 0, 0]], atol=1e-6)
    assert model.spec.inputs[0].prepare.sampling.count == 3


def test_code_that_changed_is_not_the_trusted_one(changed):
    trusted = digest_of_code(changed)
    spec = resolve(**asked(changed, trust_remote_code=trusted))
    assert spec.options["trusted_code"] == trusted
    (changed / "colours.py").write_text(CODE + "\nprint('and more')\n")
    with pytest.raises(ConfigError, match="is not the one that trust_remote_code names"):
        resolve(**asked(changed, trust_remote_code=trusted))


def test_code_that_changes_between_plan_and_run_is_not_run(changed):
    from mmfeat.extract.registry import load_method

    spec = resolve(**asked(changed, trust_remote_code=digest_of_code(changed)))
    (changed / "colours.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(ConfigError, match="is not the one that trust_remote_code names"):
        load_method(spec)


def test_code_of_another_repository_is_refused_always(changed):
    config = json.loads((changed / "config.json").read_text())
    config["auto_map"]["AutoModel"] = "someone/else--colours.Colours"
    (changed / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="code of another repository"):
        resolve(**asked(changed, trust_remote_code=digest_of_code(changed)))


def test_a_hub_models_weights_and_code_are_those_of_the_trusted_commit(hub, colours):
    hub("example/colours", COMMIT, colours)
    with pytest.raises(ConfigError, match="runs code of its own") as raised:
        resolve(**asked("example/colours"))
    assert f'trust_remote_code = "{COMMIT}"' in raised.value.hint
    spec = resolve(**asked("example/colours", trust_remote_code=COMMIT))
    assert (spec.weights.revision, spec.options["trusted_code"]) == (COMMIT, COMMIT)
    with pytest.raises(ConfigError, match="is another one than trust_remote_code"):
        resolve(**asked("example/colours", trust_remote_code=COMMIT, revision="d" * 40))
