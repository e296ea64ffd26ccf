"""Pixeltable's function of CLIP's image tower: it must not be defined in the script that uses it."""

import sys

import open_clip
import pixeltable as pxt
import torch
from PIL import Image
from pixeltable.func import Batch

model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32", pretrained=sys.argv[2])
model.eval()


@pxt.udf(batch_size=64)
def embed(images: Batch[Image.Image]) -> Batch[pxt.Array[(512,), pxt.Float]]:
    """Vectors of a batch."""
    pixels = torch.stack([preprocess(image.convert("RGB")) for image in images])
    with torch.inference_mode():
        return list(model.encode_image(pixels).numpy())
