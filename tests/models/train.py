"""Train the tiny models of this folder, or those that are named: ``python tests/models/train.py [clip] ...``.

CPU, seeded, minutes each. The folders it writes have the layout of the same architecture's folder on
the Hugging Face hub. They know one thing each of the synthetic world of ``tests/helpers``: the colour and
shape in the pictures of ``synthetic.py``, what they are made of in the goods of ``synthetic_goods.py``, the
names of the tones of ``synthetic_tones.py``, or what happens in the stories of ``synthetic_stories.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from training.audio_lm import train_audio_lm  # noqa: E402
from training.clap import train_clap  # noqa: E402
from training.clip import train_clip  # noqa: E402
from training.dino import train_dino  # noqa: E402
from training.joint import train_joint  # noqa: E402
from training.video import train_video  # noqa: E402
from training.video_lm import train_video_lm  # noqa: E402
from training.vlm import train_vlm  # noqa: E402

# Each with its number of steps.
TRAINERS = {
    "clip": (train_clip, 1500),
    "dino": (train_dino, 4500),
    "vlm": (train_vlm, 1200),
    "clap": (train_clap, 800),
    "video": (train_video, 800),
    "audio-lm": (train_audio_lm, 500),
    "video-lm": (train_video_lm, 550),
    # From the weights of "vlm".
    "joint": (train_joint, 140),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(TRAINERS))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.models:
        train, steps = TRAINERS[name]
        torch.manual_seed(0)
        started = time.monotonic()
        train(args.out / f"tiny-{name}", args.steps or steps)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
