"""``python -m bench.video_encoders [--rounds N]``: clips through video models, by mmfeat and by a plain loop.

The loop is the one of the models' documentation: frames by decord, ``AutoVideoProcessor``, ``AutoModel``, one
clip after the other. mmfeat decodes and prepares frames behind its fence, while the model runs. Architectures
of full size with random weights, float32, in turn, over the same clips of a pool (bench/media.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from bench import media
from bench.runtimes import cosine
from mmfeat.extract.encoders.transformers_video import TransformersVideo
from mmfeat.extract.fence.decode import MediaRequest, Wanted
from mmfeat.extract.fence.process import decode_fenced_all
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureConfig

CLIPS = 3
# Configuration and preprocessing, as the hub's files of these models have them.
MODELS = {
    "VideoMAE ViT-S": (
        {
            "model_type": "videomae", "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536,
            "use_mean_pooling": True,
        },
        {"image_processor_type": "VideoMAEImageProcessor"},
    ),
    "TimeSformer ViT-B, 8 frames": (
        {"model_type": "timesformer", "num_frames": 8},
        {"video_processor_type": "TimesformerVideoProcessor"},
    ),
}  # fmt: skip


def main() -> None:
    """Clips a second of both, and how alike the vectors are."""
    parser = argparse.ArgumentParser(prog="python -m bench.video_encoders", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place:
        pool = media.write_pool(Path(place) / "pool", 0, CLIPS, 0)
        paths = media.clips_of(pool, "h264", CLIPS)
        for number, (name, (config, processor)) in enumerate(MODELS.items()):
            folder = Path(place) / str(number)
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "preprocessor_config.json").write_text(json.dumps(processor))
            _compare(name, folder, paths, rounds)


def _compare(name: str, folder: Path, paths: Sequence[Path], rounds: int) -> None:
    table = {"source": "video", "encoder": "transformers_video", "model": str(folder), "weights": "random:0"}
    model = load_method(resolve_all({"clips": FeatureConfig.model_validate(table)})[0])
    assert isinstance(model, TransformersVideo)
    sides = {"plain": _plain(model, folder), "mmfeat": _mmfeat(model)}
    for number in range(rounds):
        rates, vectors = {}, []
        for side, encode in sides.items():
            start = time.perf_counter()
            vectors.append(encode(paths))
            rates[side] = len(paths) / (time.perf_counter() - start)
        shown = ", ".join(f"{side} {rate:.3f} clips/s" for side, rate in rates.items())
        ratio, least = rates["mmfeat"] / rates["plain"], cosine(*vectors)
        print(f"{name}, round {number + 1}: {shown}, {ratio:.2f} x; least cosine {least:.6f}", flush=True)


def _plain(model: TransformersVideo, folder: Path) -> Callable[[Sequence[Path]], np.ndarray]:
    """The documentation's loop, with the weights that mmfeat has drawn."""
    import decord
    from transformers import AutoVideoProcessor

    processor = AutoVideoProcessor.from_pretrained(folder)
    network, frames = model._model, model.spec.inputs[0].prepare.sampling.count
    pooling = model.spec.options["pooling"]

    def encode(paths: Sequence[Path]) -> np.ndarray:
        vectors = []
        for path in paths:
            reader = decord.VideoReader(str(path), num_threads=1)
            wanted = ((np.arange(frames) + 0.5) * len(reader) / frames).astype(int)
            inputs = processor(list(reader.get_batch(wanted).asnumpy()), return_tensors="pt")
            with torch.inference_mode():
                tokens = network(**inputs).last_hidden_state[0]
            vectors.append((tokens.mean(0) if pooling == "mean" else tokens[0]).numpy())
        return np.stack(vectors)

    return encode


def _mmfeat(model: TransformersVideo) -> Callable[[Sequence[Path]], np.ndarray]:
    wanted = (Wanted.of(model.spec.inputs[0]),)

    def encode(paths: Sequence[Path]) -> np.ndarray:
        requests = (MediaRequest(str(path), wanted) for path in paths)
        decoded = decode_fenced_all(requests, MediaLimits())
        return np.concatenate([model.encode_clips([one.values[0]]) for one in decoded])

    return encode


if __name__ == "__main__":
    main()
