"""Writes ``fingerprints-2.json``: features that store format 1 could not express, and their fingerprints.

    PYTHONPATH=tests python tests/golden/write_fingerprints.py

A frozen fingerprint must stay: run this to add features, and look at the difference. ``fingerprints.json``
holds those of format 1, as mmfeat made them then, and is not written again.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from golden_models import golden_hub, placed

from mmfeat import presets
from mmfeat.extract.registry import resolve_all

HERE = Path(__file__).parent
Tables = dict[str, dict[str, Any]]

SOUND = {"source": "video.sound"}
CLAP = {**SOUND, "encoder": "clap", "model": "laion/larger_clap_general"}
HEARS = {"encoder": "transformers_audio", "model": "openai/whisper-large-v3-turbo"}
VIDEOMAE = {"source": "video", "encoder": "transformers_video", "model": "MCG-NJU/videomae-base"}
WRITES = {**SOUND, "transcriber": "whisper", "weights": "package"}
READS = {"source": "video", "ocr": "rapidocr"}
QWEN = {"source": "video", "captioner": "transformers", "model": "Qwen/Qwen2.5-VL-7B-Instruct"}
LISTENS = {**SOUND, "captioner": "transformers", "model": "Qwen/Qwen2-Audio-7B-Instruct"}

METHODS: dict[str, Tables] = {
    "sound": {
        "clap": CLAP,
        "clap_all": {**CLAP, "windows": "all", "max_windows": 3, "window_seconds": 5.0},
        "clap_text": {"source": "title", "encoder": "clap", "model": "laion/larger_clap_general"},
        "whisper_states": {**HEARS, "source": "audio", "layer": 4},
        "yamnet": {**SOUND, "encoder": "yamnet"},
        "yamnet_tags": {**SOUND, "captioner": "yamnet_tags", "top_k": 3},
        "told": {**LISTENS, "prompt": "paper-audio"},
        "told_by_server": {**SOUND, "captioner": "openai", "model": "m"},
    },
    "states of questions": {
        "asked": {"source": "cover", "captioner": "transformers", "model": "{models}/tiny-vlm"},
        "states": {"source": "asked", "encoder": "decoder_states"},
        "some": {"source": "asked", "encoder": "decoder_states", "layers": [-1, 1], "pooling": "mean"},
    },
    "speech": {
        "packaged": WRITES,
        "one_beam": {**WRITES, "beam_size": 1},
        "transformers": {**SOUND, "transcriber": "whisper", "model": "openai/whisper-large-v3-turbo"},
        "served": {**SOUND, "transcriber": "openai", "model": "m"},
    },
    "on-screen text": {
        "frames": READS,
        "of_covers": {**READS, "source": "cover", "max_side": 640, "min_score": 0.7},
    },
    "clips as clips": {
        "videomae": VIDEOMAE,
        "videomae_stride": {**VIDEOMAE, "sampling": "middle", "stride": 4},
        "decord": {**VIDEOMAE, "reader": "decord"},
        "shown_as_video": {**QWEN, "as": "video"},
    },
}


def main() -> None:
    known = json.loads((HERE / "fingerprints.json").read_text(encoding="utf-8"))
    shipped = {f"preset {name}": presets.load(name) for name in presets.names()}
    groups: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache, golden_hub(Path(cache)):
        for name, features in shipped.items():
            old = known.get(name, {}).get("specs", {})
            new = [spec for spec in resolve_all(features) if spec.name not in old]
            groups[name] = {"features": {}, "specs": _frozen(new)}
        for name, tables in METHODS.items():
            groups[name] = {"features": tables, "specs": _frozen(resolve_all(placed(tables)))}
    written = {name: group for name, group in groups.items() if group["specs"]}
    (HERE / "fingerprints-2.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")


def _frozen(specs: list[Any]) -> dict[str, dict[str, str]]:
    """What must stay of specs."""
    return {
        spec.name: {"fingerprint": spec.fingerprint, "stored": spec.model_dump_json(exclude_none=True)}
        for spec in specs
    }


if __name__ == "__main__":
    main()
