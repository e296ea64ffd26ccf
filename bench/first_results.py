"""``python -m bench.first_results [--rounds N]``: ten covers and one title, beside bare scripts.

A bare script loads the model as its library's page shows, encodes and saves a matrix. mmfeat is ``mmfeat
run`` with the local executor and a new store. Its networks were converted before; the proof at load, which
a machine keeps, is made again each time. The two take turns and read the same weights: of CLIP ViT-B/32
random ones from a folder, of MiniLM its own. Seconds are of whole commands, by the clock and of the
processor, all processes of a command together.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import media
from bench.ends import LOAD, RUN, agreement
from bench.minilm import folder as minilm_folder
from bench.models import CLIP, SEED

COVERS = 10
_PR_SET_CHILD_SUBREAPER = 36
_BARE = {
    "covers": """
import sys
from pathlib import Path
import numpy as np, open_clip, torch
from PIL import Image
data, weights, out = sys.argv[1:]
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{weights}")
model.eval()
files = sorted(Path(data, "covers").iterdir())
pixels = torch.stack([preprocess(Image.open(file).convert("RGB")) for file in files])
with torch.inference_mode():
    np.save(out, model.encode_image(pixels, normalize=True).numpy())
""",
    "titles": """
import csv, sys
import numpy as np
from sentence_transformers import SentenceTransformer
data, weights, out = sys.argv[1:]
texts = [row["title"] for row in csv.DictReader(open(data + "/titles.csv"))]
np.save(out, SentenceTransformer(weights, device="cpu").encode(texts))
""",
}
_FEATURES = {
    "covers": 'source = "cover"\nencoder = "open_clip"\nmodel = "{weights}"',
    "titles": 'source = "title"\nencoder = "sentence_transformers"\n'
    'model = "all-MiniLM-L6-v2"\nweights = "package"',
}


def main() -> None:
    """Rounds, and the least of each side."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_results", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    # Processes that outlive the one that started them are waited for here, so that their time counts.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        pool = media.write_pool(folder / "pool", COVERS, 0, 0)
        covers = media.gather(folder / "covers", covers=media.covers_of(pool, COVERS))
        _pairs("covers", covers, _clip(folder / "clip"), folder, rounds)
        _pairs("titles", media.gather(folder / "titles", titles=1), minilm_folder(), folder, rounds)


def _pairs(what: str, data: Path, weights: Path, folder: Path, rounds: int) -> None:
    store, job, out = folder / f"{what}-store", folder / f"{what}.toml", folder / f"{what}.npy"
    job.write_text(
        f'[store]\nuri = "{store}"\n[dataset]\nname = "folder"\nroot = "{data}"\n'
        f'[resources]\nexecutor = "local"\n[features.{what}]\n{_FEATURES[what].format(weights=weights)}\n'
    )
    _measured([sys.executable, "-c", LOAD, str(job)])
    found = []
    for number in range(rounds):
        for made in (store, folder / "cache" / "mmfeat" / "proofs"):
            shutil.rmtree(made, ignore_errors=True)
        bare = _measured([sys.executable, "-c", _BARE[what], str(data), str(weights), str(out)])
        ours = _measured([sys.executable, "-c", RUN, "run", str(job), "--json"])
        found.append([bare, ours])
        _say(f"{what}, round {number + 1}", np.array(found[-1]))
    _say(f"{what}, the least", np.array(found).min(axis=0))
    print(f"{what}: {json.dumps(agreement(store, what, np.load(out)))}")


def _say(what: str, found: np.ndarray) -> None:
    """``[2, 2]``: bare and ours, seconds of the clock and of the processor."""
    (bare, bare_cpu), (ours, ours_cpu) = found
    print(
        f"{what}: bare {bare:.2f} s, mmfeat {ours:.2f} s, {ours / bare:.2f} x; "
        f"of the processor {bare_cpu:.2f} and {ours_cpu:.2f} s, {ours_cpu / bare_cpu:.2f} x",
        flush=True,
    )


def _measured(command: list[str]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor with all processes that were started."""
    before, began = _processor(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return seconds, _processor() - before


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _clip(folder: Path) -> Path:
    """ViT-B/32 with random weights, in the layout of open_clip's folders."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(SEED)
    weights = open_clip.create_model(CLIP).state_dict()
    save_file(
        {name: one.contiguous() for name, one in weights.items()}, folder / "open_clip_model.safetensors"
    )
    config = {"model_cfg": open_clip.get_model_config(CLIP), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main()
