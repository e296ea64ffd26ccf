"""Pooled features of any image model that timm knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.pixels import adjusted, checked, picture_query, picture_tower, to_vectors
from mmfeat.extract.encoders.vectors import card_of, vector_spec
from mmfeat.extract.loaded import check_loaded, torch_reports
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import PictureOptions, VectorOptions, WeightsOptions, need_model, pixel_input
from mmfeat.extract.runtimes.choice import picture_network
from mmfeat.extract.weights import (
    find_on_hub,
    find_weights,
    folder_digest,
    is_path,
    loadable_folder,
    loading,
    random_seed_of,
    random_weights,
    seeded,
)
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights
from mmfeat.schemas.validation import near

if TYPE_CHECKING:
    import torch

_READS = ("image", "video")


class TimmOptions(WeightsOptions, PictureOptions, VectorOptions):
    """Which model, and how pictures are shown to it."""


class Timm(Encoder):
    """What the model's classifier would read: ``timm.create_model(..., num_classes=0)``.

    ``model`` is a timm name, with its pretrained tag after a dot (``resnet50.a1_in1k``) or without
    one for timm's default, or the path of a folder as timm writes it (``config.json`` and
    ``model.safetensors``). ``weights = "random:SEED"`` initialises it. Preprocessing is
    ``timm.data.resolve_model_data_config``'s.
    """

    Options: ClassVar[type[TimmOptions]] = TimmOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="timm",
        model="resnet50.a1_in1k",
        reads=_READS,
        dims=2048,
        input_size=(224, 224),
        licence="apache-2.0",
        weights_from="hub: timm/resnet50.a1_in1k",
    )

    @classmethod
    def resolve(cls, ask: Ask[TimmOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        found = _find(ask)
        facts = {"timm": found.place, "configuration": found.configuration}
        outline = remembered(facts, lambda: _outline(found.place))
        data = outline["data"]
        view = adjusted(_view(ask, found.model, data), ask.options.crop, ask.options.jpeg)
        read = pixel_input(ask, ask.only, view, mean=tuple(data["mean"]), std=tuple(data["std"]))
        return vector_spec(
            ask,
            read,
            model=found.model,
            weights=found.weights,
            normalize=False,
            dims=outline["dims"],
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        import timm

        known = timm.get_pretrained_cfg(spec.model) if spec.weights.origin == "hub" else None
        return card_of(spec, _READS, licence=known.license if known else None)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where they are missing or not those of the spec."""
        self.spec = spec
        self.network = picture_network(spec, place, lambda own: _tower(own, place.device))
        self.runtime, self.notes = self.network.runtime, self.network.notes

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a picture, also where the feature is of clips."""
        pixels = self.spec.pixels
        return None if modality != "image" or pixels is None else picture_query(pixels, self.encode_images)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        return to_vectors(self.network(checked(pixels, self.spec))[0], self.spec)


@dataclass(frozen=True)
class _Found:
    """A model by its name in the spec, the place that timm builds it from, and its weights, not loaded.

    Attributes:
        configuration: digest of the configuration that the place holds, where it is a folder.
    """

    model: str
    place: str
    weights: Weights
    configuration: str | None = None


def _find(ask: Ask[TimmOptions]) -> _Found:
    model = need_model(ask, "resnet50.a1_in1k")
    if is_path(model):
        found = find_weights(ask)
        configuration = folder_digest(found.folder, (".json",))
        return _Found(found.folder.name, f"local-dir:{found.folder}", found.weights, configuration)
    if ask.options.weights is not None:
        remembered({"timm": model}, lambda: _architecture(ask, model))
        return _Found(model, model, random_weights(random_seed_of(ask)))
    listed = remembered({"timm": model, "pretrained": True}, lambda: _pretrained(ask, model))
    weights = find_on_hub(ask.name, listed["hub_id"], ask.options.revision, needs=None).weights
    return _Found(listed["full"], listed["full"], weights)


def _architecture(ask: Ask[TimmOptions], model: str) -> dict[str, Any]:
    """What a model is a variant of; ConfigError where timm has no such."""
    import timm

    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        raise ask.error(
            f"timm has no model {architecture!r}",
            hint=f"{near(architecture, timm.list_models())}All: timm.list_models().",
        )
    return {"architecture": architecture}


def _pretrained(ask: Ask[TimmOptions], model: str) -> dict[str, Any]:
    """A model's name with its tag, and where the hub has its weights; ConfigError where it has none."""
    import timm

    architecture = _architecture(ask, model)["architecture"]
    pretrained = timm.list_models(f"{architecture}.*", pretrained=True)
    try:
        known = timm.get_pretrained_cfg(model)
    except RuntimeError:
        known = None
    if known is None or not known.hf_hub_id:
        raise ask.error(
            f"timm has no weights for {model!r}",
            hint=f'There are: {", ".join(pretrained) or "none"}; weights = "random:0" measures speed.',
        )
    full = f"{architecture}.{known.tag}" if known.tag else architecture
    return {"full": full, "hub_id": known.hf_hub_id}


def _outline(place: str) -> dict[str, Any]:
    """What timm's evaluation transform does, and how long vectors are."""
    import timm
    import torch

    with torch.device("meta"):
        empty = timm.create_model(place, pretrained=False, num_classes=0).eval()
        data = timm.data.resolve_model_data_config(empty)  # type: ignore[attr-defined,no-untyped-call]
        dims = empty(torch.empty(1, *data["input_size"])).shape[1]
    return {"data": data, "dims": dims}


def _view(ask: Ask[TimmOptions], model: str, data: dict[str, Any]) -> PixelView:
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
    raise ask.error(
        f"the preprocessing of {model!r} cannot be expressed: crop_mode {mode!r}, "
        f"crop_pct {share}, {height} x {width} pixels"
    )


def _tower(spec: FeatureSpec, device: str) -> torch.nn.Module:
    import torch

    model = _load(spec).to(device, getattr(torch, spec.compute_dtype))
    model = model.to(memory_format=torch.channels_last)
    return picture_tower(spec, model, lambda model, inputs: model(inputs))


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
    of_folder = weights.origin == "folder"
    place = f"local-dir:{folder}" if of_folder else spec.model
    here = None if of_folder else {"source": "local-dir", "file": str(folder)}
    with loading(spec), torch_reports() as reports:
        model = timm.create_model(place, pretrained=True, num_classes=0, pretrained_cfg_overlay=here)
    for report in reports:
        check_loaded(spec, report)
    return model
