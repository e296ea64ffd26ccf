"""Folders of synthetic media and jobs on the tiny models, for tests of whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers import sound_samples, synthetic, synthetic_stories, synthetic_tones
from helpers.media_samples import film

MODELS = Path(__file__).parents[1] / "models"

CLIP = {"source": "cover", "encoder": "open_clip", "model": str(MODELS / "tiny-clip")}
DINO = {"source": "cover", "encoder": "transformers", "model": str(MODELS / "tiny-dino")}
CAPTION = {"source": "cover", "captioner": "transformers", "model": str(MODELS / "tiny-vlm")}
CAPTION_CLIP = {"source": "caption", "encoder": "open_clip", "model": str(MODELS / "tiny-clip")}
HEARD = {"source": "audio", "encoder": "clap", "model": str(MODELS / "tiny-clap")}
WATCHED = {"source": "video", "encoder": "transformers_video", "model": str(MODELS / "tiny-video")}
CAPTION_SOUND = {**CAPTION, "source": "audio", "model": str(MODELS / "tiny-audio-lm")}
CAPTION_STORY = {**CAPTION, "source": "video", "as": "video", "model": str(MODELS / "tiny-video-lm")}

FEATURES = {"clip": CLIP, "dino": DINO, "caption": CAPTION, "caption_clip": CAPTION_CLIP}
N_ITEMS = 56


def write_cover(folder: Path, item_id: str, scene: synthetic.Scene) -> Path:
    """The scene as ``covers/{item_id}.png``."""
    path = folder / "covers" / f"{item_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(synthetic.render(scene)).save(path)
    return path


def cover_folder(folder: Path, scenes: Sequence[synthetic.Scene], names: Sequence[str] | None = None) -> Path:
    """A dataset for the adapter ``folder``: one cover per scene, ids ``item-000`` and up by default."""
    for number, scene in enumerate(scenes):
        write_cover(folder, names[number] if names else f"item-{number:03d}", scene)
    return folder


def write_tone(folder: Path, item_id: str, tone: synthetic_tones.Tone, rate: int = 16_000) -> Path:
    """The tone as ``audio/{item_id}.wav``."""
    path = folder / "audio" / f"{item_id}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sound_samples.sound(synthetic_tones.samples(tone, rate), rate))
    return path


def write_story(folder: Path, item_id: str, story: synthetic_stories.Story) -> Path:
    """The story as ``videos/{item_id}.mp4``, 10 frames a second."""
    path = folder / "videos" / f"{item_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(film(list(synthetic_stories.render(story))))
    return path


def job(
    folder: Path, store: Path, features: dict[str, dict[str, Any]], **tables: dict[str, Any]
) -> dict[str, Any]:
    """What :func:`mmfeat.extract` takes: in this process, or by Ray with one worker where ``resources`` say
    so, so that tests fight for no cores."""
    resources = {"executor": "local", "workers": 1, "threads": 1, **tables.pop("resources", {})}
    return {
        "dataset": "folder",
        "root": folder,
        "store": str(store),
        "features": features,
        "resources": resources,
        **tables,
    }


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    matrix = matrix.astype(np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row cosine of two ``[n, dims]`` arrays."""
    return (unit_rows(a) * unit_rows(b)).sum(axis=1)
