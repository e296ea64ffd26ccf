"""Pictures through OpenVINO: the same vectors, and by which rule they go there."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.encoder_checks import MODELS, cosines, in_any_batch, pictures, pixels, resolve

from mmfeat.extract.base import Placement
from mmfeat.extract.encoders.pixels import picture_tower
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.extract.runtimes.choice import TorchNetwork, picture_network, picture_original
from mmfeat.extract.runtimes.openvino import kept as networks
from mmfeat.extract.runtimes.openvino.conversion import LEAST_COSINE
from mmfeat.extract.runtimes.openvino.network import openvino
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec

MANY = 1000
CLIP = {"encoder": "open_clip", "model": str(MODELS / "tiny-clip")}
BFLOAT16 = "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
DINO = {"encoder": "transformers", "model": str(MODELS / "tiny-dino")}


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    cache = tmp_path_factory.mktemp("once")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        find_small()
    return cache


@pytest.fixture
def one_small(once, tmp_path, monkeypatch) -> Path:
    """The folder of converted networks, with the small one in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shutil.copytree(once, tmp_path / "cache")))
    return tmp_path / "cache" / "mmfeat" / "models"


class Counting(torch.nn.Module):
    """A small network that counts how often it was built."""

    built = 0

    def __init__(self, read=None) -> None:
        super().__init__()
        type(self).built += 1
        torch.manual_seed(0)
        self.network = torch.nn.Conv2d(3, 64, 8, stride=4)
        self.read = read or (lambda network, inputs: network(inputs).mean((2, 3)))


def small(read=None, dtype="float32"):
    """The spec of the tiny CLIP, and what builds a small network's tower: in float32, whatever is asked."""
    Counting.built = 0

    def build(_) -> torch.nn.Module:
        module = Counting(read)
        return picture_tower(resolve(**CLIP), module.network, module.read)

    return resolve(**CLIP, dtype=dtype), build


def find_small(read=None, dtype="float32"):
    """The small network: the one that is kept, or else a new one."""
    spec, build = small(read, dtype)
    return networks.find(spec, picture_original(spec, Placement(), build), 1)


def unconvertible(network, inputs):
    """What is computed depends on the pixels: no graph can say that."""
    return network(inputs if inputs.sum() > 0 else -inputs).mean((2, 3))


def chaotic(network, inputs):
    """The logistic map, many times: what two runtimes round differently ends up anywhere."""
    numbers = network(inputs).mean((2, 3)).sigmoid()
    for _ in range(40):
        numbers = 3.99 * numbers * (1 - numbers)
    return numbers


def noise(spec: FeatureSpec, number: int, seed: int = 0) -> np.ndarray:
    view = spec.pixels.view
    shape = (number, view.height, view.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def entries(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/entry.json"))


@pytest.mark.parametrize(
    "options",
    [
        CLIP,
        {**DINO, "hidden_states": True, "normalize": True},
        {"encoder": "timm", "model": "test_resnet", "weights": "random:0"},
        {"encoder": "efficientnet_lite"},
    ],
    ids=["open_clip", "transformers", "timm", "efficientnet_lite"],
)
def test_a_converted_network_gives_what_torch_gives_in_any_batch(options, kept):
    spec = resolve(**options)
    ours = load_method(spec, Placement(threads=1, expected=MANY))
    theirs = load_method(spec, Placement(threads=1))
    assert ours.runtime.startswith("openvino 20")
    assert (theirs.runtime, ours.notes) == (f"torch {torch.__version__.partition('+')[0]}", ())
    batch = pixels(spec, pictures(6))
    expected = theirs.encode_images(batch)
    found = ours.encode_images(batch)
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    middle = expected.mean(0)
    assert cosines(found, expected).min() >= LEAST_COSINE
    assert cosines(found - middle + 1e-9, expected - middle + 1e-9).min() >= 0.9999
    assert in_any_batch(ours.encode_images, batch, size=4) >= 0.99999


@pytest.mark.parametrize("options", [CLIP, DINO], ids=["open_clip", "transformers"])
def test_bfloat16_of_a_converted_network_is_as_near_to_float32_as_torchs(options, kept):
    exact = load_method(resolve(**options), Placement(threads=1))
    spec = resolve(**options, dtype="bfloat16")
    ours = load_method(spec, Placement(threads=1, expected=2 * MANY))
    theirs = load_method(spec, Placement(threads=1))
    assert (ours.runtime.split()[0], theirs.runtime.split()[0], ours.notes) == ("openvino", "torch", ())
    batch = pixels(spec, pictures(24))
    found, torchs, expected = (model.encode_images(batch) for model in (ours, theirs, exact))
    assert cosines(found, expected).min() >= 0.999
    # Of other pictures than it was chosen by: some are farther and more are nearer.
    assert 1 - cosines(found, expected).mean() <= 1.2 * (1 - cosines(torchs, expected).mean())
    assert in_any_batch(ours.encode_images, batch, size=7) >= 0.999


@pytest.mark.skipif(not BFLOAT16, reason="OpenVINO computes it in float32 on this CPU")
def test_bfloat16_stays_with_torch_where_openvino_is_farther_from_float32(empty):
    # A network that torch computes in float32, whatever type it has: no bfloat16 comes as near.
    spec, build = small(dtype="bfloat16")
    network = picture_network(spec, Placement(expected=2 * MANY), build)
    assert network.runtime.startswith("torch")
    (note,) = network.notes
    assert re.fullmatch(
        r"feature runs in torch: its converted network is farther from float32 "
        r"\(mean cosine 0\.9999\d+\) than torch's \(1\.000000\)",
        note,
    )


def test_tags_come_from_the_network_of_the_vectors(kept):
    configs = {
        "cover_cnn": FeatureConfig(source="cover", encoder="efficientnet_lite"),
        "cover_tags": FeatureConfig(source="cover", captioner="imagenet_tags"),
    }
    vectors, tags = (load_method(spec, Placement(threads=1, expected=MANY)) for spec in resolve_all(configs))
    before = entries(kept)
    assert tags.runtime == vectors.runtime
    batch = pixels(vectors.spec, pictures(4))
    plain = load_method(vectors.spec, Placement(threads=1))
    np.testing.assert_allclose(vectors.classify(batch), plain.classify(batch), atol=1e-4)
    assert entries(kept) == before


@pytest.mark.parametrize(("dtype", "few"), [("float32", MANY - 1), ("bfloat16", 2 * MANY - 1)])
def test_few_pictures_do_not_pay_for_a_conversion(empty, dtype, few):
    model = load_method(resolve(**CLIP, dtype=dtype), Placement(expected=few))
    assert (model.runtime.split()[0], model.notes, empty.exists()) == ("torch", (), False)


def test_one_picture_goes_through_a_network_that_is_already_converted(kept):
    load_method(resolve(**CLIP), Placement(expected=MANY))
    assert load_method(resolve(**CLIP), Placement(expected=1)).runtime.startswith("openvino")


def test_a_clip_counts_as_many_pictures_as_frames_are_taken_of_it(empty):
    _, build = small(unconvertible)
    clips = resolve(**CLIP, source="video", frames=8)
    few = picture_network(clips, Placement(expected=MANY // 8 - 1), build)
    many = picture_network(clips, Placement(expected=MANY // 8), build)
    assert [len(few.notes), len(many.notes)] == [0, 1]  # the note is of a conversion that was tried


@pytest.mark.parametrize(
    ("options", "expected"), [({"dtype": "float16"}, MANY), ({}, None)], ids=["float16", "nobody counts"]
)
def test_what_stays_with_torch_whatever_is_kept(options, expected, kept):
    load_method(resolve(**CLIP), Placement(expected=MANY))
    assert load_method(resolve(**CLIP, **options), Placement(expected=expected)).runtime.startswith("torch")


def test_texts_of_a_feature_of_pictures_are_encoded_all_the_same(kept):
    spec = resolve(**CLIP)
    texts = ["a red square", "two circles"]
    found = load_method(spec, Placement(expected=MANY)).encode_texts(texts)
    np.testing.assert_allclose(found, load_method(spec).encode_texts(texts), atol=1e-6)


def test_threads_are_those_that_were_asked_for(kept):
    before = torch.get_num_threads()
    try:
        load_method(resolve(**DINO), Placement(threads=2))
        assert torch.get_num_threads() == 2
        network = load_method(resolve(**CLIP), Placement(threads=1, expected=MANY)).network
        assert network._compiled.get_property("INFERENCE_NUM_THREADS") == 1
    finally:
        torch.set_num_threads(before)


def test_a_kept_network_and_its_canary_need_no_torch_and_report_to_nobody(kept):
    load_method(resolve(**CLIP), Placement(expected=MANY))
    code = f"""
import sys
import numpy as np
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.stages import Encode
from mmfeat.schemas.spec import FeatureConfig
spec = resolve_all({{"feature": FeatureConfig(source="cover", **{CLIP!r})}})[0]
view = spec.pixels.view
stage = Encode([spec], [0], last=True, threads=1, expected={{0: 1}})
assert list(stage.new_canaries) == [0]
model = stage.methods[0]
assert model.encode_images(np.zeros((2, view.height, view.width, 3), np.uint8)).shape == (2, 64)
print(model.runtime.split()[0], *(m for m in ("torch", "open_clip") if m in sys.modules))
print(*(m for m, module in sys.modules.items() if m.startswith("openvino_telemetry") and module))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("openvino\n\n", "")


def test_converting_reports_to_nobody(once):
    assert "openvino" in sys.modules
    assert sys.modules.get("openvino_telemetry") is None


def test_of_several_that_want_a_network_one_converts_it(one_small):
    shutil.rmtree(entries(one_small)[0])
    spec, build = small()
    batch, found = noise(spec, 3), []

    def original():
        return picture_original(spec, Placement(), build)

    threads = [
        threading.Thread(target=lambda: found.append(networks.find(spec, original(), 1)(batch)[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Counting.built, len(entries(one_small)), len(found)) == (1, 1, 3)
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("file", ["model.bin", "model.xml", "entry.json"])
def test_a_damaged_network_is_not_used(file, one_small):
    path = entries(one_small)[0] / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert networks.find(small()[0], None, 1) is None


def test_a_damaged_network_is_made_again(one_small):
    spec, build = small()
    whole = networks.find(spec, None, 1)(noise(spec, 2))[0]
    (entries(one_small)[0] / "model.bin").write_bytes(b"")
    found = networks.find(spec, picture_original(spec, Placement(), build), 1)
    np.testing.assert_array_equal(found(noise(spec, 2))[0], whole)
    assert (Counting.built, networks.find(spec, None, 1) is None) == (1, False)


def test_a_network_that_others_could_have_written_is_not_used(one_small):
    (entry,) = entries(one_small)
    assert entry.stat().st_mode & 0o777 == 0o700
    entry.chmod(0o777)
    assert networks.find(small()[0], None, 1) is None


def test_a_cache_that_cannot_be_written_costs_a_note_and_nothing_else(tmp_path, monkeypatch):
    spec, build = small()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network = picture_network(spec, Placement(expected=MANY), build)
    batch = noise(spec, 3)
    expected = TorchNetwork(build(spec), "cpu")(batch)[0]
    assert cosines(network(batch)[0], expected).min() >= LEAST_COSINE
    assert network.runtime.startswith("openvino")
    (note,) = network.notes
    assert note.startswith("The converted network of feature could not be kept in")
    assert "NotADirectoryError" in note


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (unconvertible, "its network cannot be converted: "),
        (chaotic, "its converted network gives other values (cosine "),
    ],
    ids=["no graph", "other values"],
)
def test_a_network_that_openvino_does_not_run_alike_stays_with_torch_and_says_so(read, reason, empty):
    spec, build = small(read)
    first = picture_network(spec, Placement(expected=MANY), build)
    (note,) = first.notes
    assert note.startswith(f"feature runs in torch: {reason}")
    assert first.runtime.startswith("torch")
    # It is not tried again, by this process or another.
    assert picture_network(spec, Placement(expected=MANY), build).notes == (note,)
    assert json.loads((entries(empty)[0] / "entry.json").read_text())["digests"] == {}
    assert Counting.built == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_cannot_be_loaded_are_an_error_and_the_next_run_converts(empty, dtype):
    spec, build = small(dtype=dtype)

    def gone(_):
        raise ConfigError("no weights there")

    with pytest.raises(ConfigError, match="no weights there"):
        picture_network(spec, Placement(expected=2 * MANY), gone)
    assert entries(empty) == []
    picture_network(spec, Placement(expected=2 * MANY), build)
    assert len(entries(empty)) == 1


def test_everything_that_decides_a_network_gives_it_a_place_of_its_own(copied, edit, empty):
    def place(**options):
        return networks._place(resolve(**{**CLIP, **options}))

    same = [place(), place(jpeg="scaled"), place(normalize=False), place(store_dtype="float16")]
    same.append(place(dtype="bfloat16"))
    assert len({*same, place(source="video", frames=3)}) == 1
    folder = copied("tiny-clip")
    others = [
        place(weights="random:0"),
        place(weights="random:1"),
        networks._place(resolve(**DINO)),
        networks._place(resolve(**DINO, layer=1)),
        networks._place(resolve(**DINO, pooling="mean")),
    ]
    edit(folder / "open_clip_config.json", more=1)
    others += [place(model=str(folder)), place(model=str(folder), weights="random:0")]
    assert len({*same, *others}) == 1 + len(others)


def test_memory_that_runs_out_is_an_error_and_the_next_batch_is_right(kept):
    """In a process of its own: its memory is bounded."""
    load_method(resolve(**CLIP), Placement(expected=MANY))
    code = f"""
import resource
import numpy as np
from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.base import Placement
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.spec import FeatureConfig
spec = resolve_all({{"feature": FeatureConfig(source="cover", **{CLIP!r})}})[0]
model = load_method(spec, Placement(threads=1, expected=1))
view = spec.pixels.view
few = np.random.default_rng(0).integers(0, 256, (4, view.height, view.width, 3), dtype=np.uint8)
right = model.encode_images(few)
many = np.zeros((20_000, view.height, view.width, 3), np.uint8)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
for batch in (many, many[:10_000]):
    try:
        model.encode_images(batch)
        print("no error")
    except Exception as error:
        print(ran_out_of_memory(error), np.array_equal(model.encode_images(few), right))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("True True\nTrue True\n", 0), done.stderr


def test_a_second_dtype_gets_a_verdict_of_its_own_and_the_same_network(one_small):
    (entry,) = entries(one_small)
    graph = (entry / "model.bin").stat().st_ino
    assert json.loads((entry / "entry.json").read_text())["refused"] == {"float32": None}
    spec = small(dtype="bfloat16")[0]
    assert networks.find(spec, None, 1) is None
    with contextlib.suppress(networks.NotConverted):
        find_small(dtype="bfloat16")
    assert entries(one_small) == [entry]
    assert (entry / "model.bin").stat().st_ino == graph
    assert sorted(json.loads((entry / "entry.json").read_text())["refused"]) == ["bfloat16", "float32"]
    assert networks.find(small()[0], None, 1).runtime.startswith("openvino")


def test_what_was_not_used_for_long_goes_when_something_new_is_kept(one_small):
    (old,) = entries(one_small)
    used = shutil.copytree(old, old.with_name("0" * 32))
    long_ago = time.time() - (networks.KEPT_FOR_DAYS + 1) * 24 * 3600
    os.utime(used / "entry.json", (long_ago, long_ago))
    # Used once more, it stays.
    os.utime(old / "entry.json", (long_ago, long_ago))
    networks.find(small()[0], None, 1)
    load_method(resolve(**DINO), Placement(expected=MANY))
    assert (used in entries(one_small), old in entries(one_small)) == (False, True)
    assert len(entries(one_small)) == 2
