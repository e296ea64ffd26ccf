"""Models alone on ready tensors, with seeded random weights: the same in every side of a comparison.

``python -m bench.models FOLDER [weights] [graphs]`` writes the weights of CLIP ViT-B/32 as a file that peers
load, and every model converted to OpenVINO.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.rates import Step

if TYPE_CHECKING:
    import torch

SEED = 0
SIDE = 224
CLIP = "ViT-B-32"
CLIP_NAME = "CLIP ViT-B/32"
#: Image encoders by their name in tables: the encoder's name in a job, and the model's.
ENCODERS = {
    CLIP_NAME: ("open_clip", CLIP),
    "ResNet-50": ("timm", "resnet50"),
    "ViT-S/16": ("timm", "vit_small_patch16_224"),
}
MODES = ("torch fp32", "torch bf16", "OpenVINO f32", "OpenVINO bf16")
EXACT_MODES = ("torch fp32", "OpenVINO f32")


def image_model(name: str) -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    """The image tower and its library's own preprocessing, as upstream makes them."""
    import torch

    encoder, model_name = ENCODERS[name]
    # open_clip warns that the weights are random.
    logging.disable(logging.WARNING)
    torch.manual_seed(SEED)
    if encoder == "open_clip":
        import open_clip

        model, _, preprocess = open_clip.create_model_and_transforms(model_name)
        # encode_image of the whole model is its image tower's forward.
        return model.visual.eval(), preprocess
    import timm

    model = timm.create_model(model_name, num_classes=0).eval()
    data = timm.data.resolve_model_data_config(model)
    return model, timm.data.create_transform(**data, is_training=False)


def images(name: str, mode: str, batches: tuple[int, ...], threads: int, graphs: Path) -> dict[str, Step]:
    """One batch per step; a step per batch size."""
    import torch

    torch.set_num_threads(threads)
    run = (
        _openvino(graphs / f"{_file(name)}.xml", mode, threads) if "OpenVINO" in mode else _torch(name, mode)
    )
    pixels = torch.randn(max(batches), 3, SIDE, SIDE, generator=torch.Generator().manual_seed(SEED))

    def step(batch: int) -> Step:
        ready = pixels[:batch].clone()

        def once() -> int:
            run(ready)
            return batch

        return once

    return {f"batch {batch}": step(batch) for batch in batches}


def products(mode: str, side: int, threads: int) -> dict[str, Step]:
    """A product of two square matrices per step, counted in 10^9 floating-point operations."""
    import torch

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if "bf16" in mode else torch.float32
    generator = torch.Generator().manual_seed(SEED)
    left, right = (torch.randn(side, side, generator=generator).to(dtype) for _ in range(2))

    def step() -> float:
        left @ right
        return 2 * side**3 / 1e9

    return {"": step}


def _torch(name: str, mode: str) -> Callable[[torch.Tensor], object]:
    import torch

    dtype = torch.bfloat16 if "bf16" in mode else torch.float32
    model = image_model(name)[0].to(dtype)

    def run(pixels: torch.Tensor) -> object:
        with torch.inference_mode():
            return model(pixels.to(dtype))

    return run


def _openvino(graph: Path, mode: str, threads: int) -> Callable[[torch.Tensor], object]:
    request = infer_request(graph, mode, threads)
    return lambda pixels: request.infer([pixels.numpy()], share_inputs=True)


def infer_request(graph: Path, mode: str, threads: int) -> Any:
    """OpenVINO's request of a graph in a mode."""
    import openvino

    precision = "bf16" if "bf16" in mode else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinned, the one thread of every process would sit on the same core.
        "ENABLE_CPU_PINNING": False,
    }
    return openvino.Core().compile_model(graph, "CPU", settings).create_infer_request()


def convert(name: str, graphs: Path) -> None:
    """Write OpenVINO's graph of an image model, once."""
    import openvino
    import torch

    path = graphs / f"{_file(name)}.xml"
    if path.exists():
        return
    torch.backends.mha.set_fastpath_enabled(False)
    example = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        program = torch.export.export(
            image_model(name)[0], (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )
    graph = openvino.convert_model(program)
    graph.reshape([-1, 3, SIDE, SIDE])
    openvino.save_model(graph, path, compress_to_fp16=False)


def write_weights(path: Path) -> None:
    """All of CLIP ViT-B/32's seeded weights, as open_clip's ``pretrained`` and torch.load read them."""
    import open_clip
    import torch

    if not path.exists():
        logging.disable(logging.WARNING)
        torch.manual_seed(SEED)
        torch.save(open_clip.create_model(CLIP).state_dict(), path)


def _file(name: str) -> str:
    return name.lower().replace("/", "-").replace(" ", "-")


def main() -> None:
    """Write what is asked for and missing."""
    folder, *wanted = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    if "weights" in wanted:
        write_weights(Path(folder) / "clip.pt")
    if "graphs" in wanted and find_spec("openvino") is not None:
        for name in ENCODERS:
            convert(name, Path(folder))
        # It compiles its graph as the others here.
        from bench import minilm

        minilm.convert(Path(folder))


if __name__ == "__main__":
    main()
