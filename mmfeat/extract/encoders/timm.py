"""Pooled features of any image model that timm knows."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from mmfeat.extract.base import Encoder
from mmfeat.extract.encoders.pixels import adjusted, to_input, to_vectors
from mmfeat.extract.encoders.vectors import COMMON_OPTIONS, PICTURE_OPTIONS, card_of, vector_spec
from mmfeat.extract.options import PICTURES, check_options, check_source, close_matches, need_model
from mmfeat.extract.weights import (
    find_on_hub,
    find_weights,
    is_path,
    loadable_folder,
    loading,
    random_seed_of,
    random_weights,
    seeded,
)
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ImagePreprocess, ModelCard, PixelView, Weights

_OPTIONS = ("model", "weights", "revision", *PICTURE_OPTIONS, *COMMON_OPTIONS)


class Timm(Encoder):
    """What the model's classifier would read: ``timm.create_model(..., num_classes=0)``.

    ``model`` is a timm name, with its pretrained tag after a dot (``resnet50.a1_in1k``) or without
    one for timm's default, or the path of a folder as timm writes it (``config.json`` and
    ``model.safetensors``). ``weights = "random:SEED"`` initialises it. Preprocessing is
    ``timm.data.resolve_model_data_config``'s.
    """

    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="timm",
        model="resnet50.a1_in1k",
        reads=PICTURES,
        dims=2048,
        input_size=(224, 224),
        licence="apache-2.0",
        weights_from="hub: timm/resnet50.a1_in1k",
    )

    @classmethod
    def resolve(cls, name: str, config: FeatureConfig, upstream: FeatureSpec | None) -> FeatureSpec:
        """See :meth:`Model.resolve`."""
        import timm
        import torch

        check_source(name, config, upstream)
        check_options(name, config, _OPTIONS)
        model, timm_name, weights = _find(name, config)
        with torch.device("meta"):
            empty = timm.create_model(timm_name, pretrained=False, num_classes=0).eval()
            data = timm.data.resolve_model_data_config(empty)  # type: ignore[attr-defined,no-untyped-call]
            dims = empty(torch.empty(1, *data["input_size"])).shape[1]
        view = adjusted(_view(name, model, data), config.crop, config.jpeg)
        image = ImagePreprocess(view=view, mean=tuple(data["mean"]), std=tuple(data["std"]))
        return vector_spec(
            name, config, model=model, weights=weights, image=image, normalize=False, dims=dims
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Model.card`."""
        import timm

        known = timm.get_pretrained_cfg(spec.model) if spec.weights.origin == "hub" else None
        return card_of(spec, PICTURES, licence=known.license if known else None)

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        """Load the weights; ConfigError where they are missing or not those of the spec."""
        import torch

        self.spec = spec
        self._device = device
        model = _load(spec).to(device, getattr(torch, spec.compute_dtype))
        self._model = model.to(memory_format=torch.channels_last).eval()

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        import torch

        with torch.inference_mode():
            return to_vectors(self._model(to_input(pixels, self.spec, self._device)), self.spec)


def _find(name: str, config: FeatureConfig) -> tuple[str, str, Weights]:
    """The model's name in the spec, what timm calls it, and its weights."""
    import timm

    model = need_model(name, config, "resnet50.a1_in1k")
    if is_path(model):
        found = find_weights(name, config)
        return found.folder.name, f"local-dir:{found.folder}", found.weights
    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        raise ConfigError(
            f"feature {name!r}: timm has no model {architecture!r}",
            hint=f"{close_matches(architecture, timm.list_models())}All: timm.list_models().",
        )
    if config.weights is not None:
        return model, model, random_weights(random_seed_of(name, config))
    pretrained = timm.list_models(f"{architecture}.*", pretrained=True)
    try:
        known = timm.get_pretrained_cfg(model)
    except RuntimeError:
        known = None
    if known is None or not known.hf_hub_id:
        raise ConfigError(
            f"feature {name!r}: timm has no weights for {model!r}",
            hint=f'There are: {", ".join(pretrained) or "none"}; weights = "random:0" measures speed.',
        )
    full = f"{architecture}.{known.tag}" if known.tag else architecture
    return full, full, find_on_hub(name, known.hf_hub_id, config.revision, needs=None).weights


def _view(name: str, model: str, data: dict[str, Any]) -> PixelView:
    """timm's evaluation transform as a view; ConfigError where one view cannot express it."""
    _, height, width = data["input_size"]
    mode, share = data["crop_mode"], data["crop_pct"]
    fill = tuple(round(255 * v) for v in data["mean"])
    shown = {"height": height, "width": width, "interpolation": data["interpolation"]}
    if mode == "squash" and share == 1:
        return PixelView(mode="squash", **shown)
    if mode == "border" and share == 1:
        return PixelView(mode="pad", fill=fill, **shown)
    if mode == "center" and height == width:
        return PixelView(mode="shortest", resize=math.floor(height / share), fill=fill, **shown)
    raise ConfigError(
        f"feature {name!r}: the preprocessing of {model!r} cannot be expressed: crop_mode {mode!r}, "
        f"crop_pct {share}, {height} x {width} pixels"
    )


def _load(spec: FeatureSpec) -> Any:
    import timm

    weights = spec.weights
    if weights.origin == "random":
        place = f"local-dir:{weights.location}" if weights.location else spec.model
        with seeded(weights):
            return timm.create_model(place, pretrained=False, num_classes=0)
    folder = loadable_folder(spec)
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(f"feature {spec.name!r}: the weights of {spec.model!r} are not safetensors")
    with loading(spec):
        if weights.origin == "folder":
            return timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
        here = {"source": "local-dir", "file": str(folder)}
        return timm.create_model(spec.model, pretrained=True, num_classes=0, pretrained_cfg_overlay=here)
