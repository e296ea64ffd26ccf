"""The main job on a table whose items have a title, a brand, three photos, a clip and a sound: run by its
file, killed once in the middle, run again, exported."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.plugins import write_plugin
from PIL import Image

import mmfeat
from mmfeat.schemas.errors import StoreError

MODELS = Path(__file__).parents[1] / "models"
HERE = Path(__file__).parent / "plugins"
N_ITEMS, RATE = 12, 16_000
# Items that lack something: a title, a sound track of the clip, all photos.
UNTITLED, MUTE, UNSEEN = "item-3", "item-4", "item-5"

# Rows are committed a few at a time, so that there is a middle.
PROGRAM = """
from mmfeat.pipelines.execution import commit
commit.GROUP_ROWS = 2
from mmfeat.cli import main
main()
"""

JOB = f"""
[store]
uri = "features"
[dataset]
name = "table"
root = "items.jsonl"
[dataset.columns]
photos = "image"
clip = "video"
sound = "audio"
brand = "text"
[resources]
executor = "EXECUTOR"
[features.title_text]
source = "title"
encoder = "open_clip"
model = "{MODELS / "tiny-clip"}"
[features.brand_text]
source = "brand"
encoder = "open_clip"
model = "{MODELS / "tiny-clip"}"
[features.photo]
source = "photos"
encoder = "open_clip"
model = "{MODELS / "tiny-clip"}"
[features.told]
source = "photos"
captioner = "transformers"
model = "{MODELS / "tiny-vlm"}"
max_new_tokens = 4
[features.told_text]
source = "told"
encoder = "open_clip"
model = "{MODELS / "tiny-clip"}"
[features.scene]
source = "clip"
encoder = "open_clip"
model = "{MODELS / "tiny-clip"}"
frames = 2
[features.heard]
source = "sound"
encoder = "bands"
[features.track]
source = "clip.sound"
encoder = "bands"
[features.item]
inputs = ["title", "brand", "photos", "told?"]
encoder = "joint"
[features.codes]
source = "photo"
quantizer = "residual_kmeans"
levels = 2
codebook_size = 3
[keep]
versions = 2
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """A folder with ``items.jsonl`` and its files."""
    folder = tmp_path_factory.mktemp("items")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(N_ITEMS):
        item = f"item-{n}"
        photos = [_photo(folder / f"{item}-{k}.png", rng) for k in range(3)]
        tone = _tone(220 + 40 * n)
        rows.append(
            {
                "item_id": item,
                "title": None if item == UNTITLED else f"thing number {n}",
                "brand": f"brand {n % 3}",
                "photos": [] if item == UNSEEN else photos,
                "clip": _clip(folder / f"{item}.mp4", rng, None if item == MUTE else tone),
                "sound": _sound(folder / f"{item}.wav", tone),
            }
        )
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """A process's environment in which the plug-ins are installed."""
    site = write_plugin(
        tmp_path_factory.mktemp("site"),
        {"mmfeat.encoders": {"bands": "band_energies:BandEnergies", "joint": "joint_item:JointItem"}},
    )
    path = os.pathsep.join([str(site), str(HERE), *sys.path])
    return {**os.environ, "PYTHONPATH": path}


def test_a_table_with_everything_is_extracted_killed_in_the_middle_and_exported(media, environment, tmp_path):
    shutil.copytree(media, tmp_path, dirs_exist_ok=True)
    (tmp_path / "job.toml").write_text(JOB.replace("EXECUTOR", "local"))
    killed = start(tmp_path, environment)
    before = rows_when_some_are_there(tmp_path / "features", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    report = finish(start(tmp_path, environment))
    store = mmfeat.open(tmp_path / "features")
    found = {status.version.partition("@")[0]: status for status in store.status()}
    assert {name: (s.ok, s.missing, s.failed, s.absent) for name, s in found.items()} == {
        "title_text": (11, 1, 0, 0),
        "brand_text": (12, 0, 0, 0),
        "photo": (11, 1, 0, 0),
        "told": (11, 1, 0, 0),
        "told_text": (11, 1, 0, 0),
        "scene": (12, 0, 0, 0),
        "heard": (12, 0, 0, 0),
        "track": (11, 1, 0, 0),
        "item": (10, 2, 0, 0),
        "codes": (11, 1, 0, 0),
    }
    assert all(status.state == "current" for status in found.values())
    again = {f["version"].partition("@")[0]: f["up_to_date"] for f in report["features"]}
    assert all(again[name] >= rows for name, rows in before.items()), "what was committed is not paid twice"
    looked_up = store.lookup([MUTE, UNTITLED, UNSEEN], ["track", "title_text", "photo"])
    assert [looked_up[name].status.tolist().index("missing") for name in looked_up] == [0, 1, 2]
    nothing = finish(start(tmp_path, environment))
    assert (nothing["computed"], nothing["copied"]) == (0, 0)
    store.export(
        "parquet",
        tmp_path / "out",
        features=["photo", "heard", "item"],
        missing="mask",
    )
    exported = pq.read_table(tmp_path / "out" / "features.parquet")
    assert exported.num_rows == N_ITEMS
    assert {"photo", "heard", "item"} <= set(exported.column_names)


def start(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", "job.toml", "--json"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> dict:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return json.loads(out.splitlines()[-1])


def rows_when_some_are_there(store: Path, process: subprocess.Popen[str]) -> dict[str, int]:
    """Waits until the run has committed rows; how many of each feature."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        with contextlib.suppress(StoreError, OSError):
            rows = {s.version.partition("@")[0]: s.ok + s.missing for s in mmfeat.open(store).status()}
            if sum(rows.values()) > N_ITEMS:
                return rows
        time.sleep(0.05)
    raise AssertionError("no row was committed")


def _photo(path: Path, rng: np.random.Generator) -> str:
    Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    return path.name


def _tone(hertz: float) -> np.ndarray:
    """int16 ``[RATE]``: a second."""
    return (20_000 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.int16)


def _sound(path: Path, samples: np.ndarray) -> str:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return path.name


def _clip(path: Path, rng: np.random.Generator, samples: np.ndarray | None) -> str:
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width = pictures.height = 48
        sound = None if samples is None else container.add_stream("aac", rate=RATE)
        for _ in range(10):
            pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(pictures.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.rate = RATE
            container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path.name
