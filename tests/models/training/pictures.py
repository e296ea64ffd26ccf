"""Pictures of the synthetic world, as the tiny models of pictures are given them."""

from __future__ import annotations

import numpy as np
import torch
from helpers import synthetic
from PIL import Image

SIDE = 48
PATCH = 8
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def pool(number: int, first_seed: int, squash: bool) -> tuple[torch.Tensor, list[synthetic.Scene]]:
    """Training pictures, squashed or centre cropped, as uint8 ``[number, 3, SIDE, SIDE]``; their scenes."""
    scenes = [synthetic.scene(first_seed + i) for i in range(number)]
    pixels = np.stack([_fit(synthetic.render(s), squash) for s in scenes])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), scenes


def _fit(pixels: np.ndarray, squash: bool) -> np.ndarray:
    image = Image.fromarray(pixels)
    if not squash:
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        image = image.crop((left, top, left + short, top + short))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    scale = torch.tensor(std).view(3, 1, 1) * 255
    return (pixels.float() - torch.tensor(mean).view(3, 1, 1) * 255) / scale


def combo_index(scenes: list[synthetic.Scene]) -> torch.Tensor:
    return torch.tensor([synthetic.COMBOS.index((s.colour, s.shape)) for s in scenes])
