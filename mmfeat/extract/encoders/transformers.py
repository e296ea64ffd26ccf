"""Image features of any vision model that transformers' ``AutoModel`` loads: DINOv2, DINOv3, ViT, ..."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.own_processor import (
    OWN_VIEW,
    Inputs,
    ProcessedPictures,
    by_own_processor,
    outlined,
    refuse_crop,
)
from mmfeat.extract.encoders.pixels import adjusted, checked, picture_query, picture_tower, to_vectors
from mmfeat.extract.encoders.processor import load_processor, picture_prepare
from mmfeat.extract.encoders.vectors import card_of, settings_of, vector_spec
from mmfeat.extract.loaded import Loaded, check_loaded
from mmfeat.extract.localcache import remembered
from mmfeat.extract.options import PictureOptions, VectorOptions, WeightsOptions, need_model, pixel_input
from mmfeat.extract.runtimes.choice import picture_network, torch_runtime, use_torch_threads
from mmfeat.extract.weights import find_weights, folder_digest, loadable_folder, loading, seeded
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import ImagePrepare
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Pooling

if TYPE_CHECKING:
    import torch

_READS = ("image", "video")
# Trained on a quarter of the patches, drawn anew in every pass, and used on all of them.
_MASKED = "vit_mae"
# Their hidden states are maps ``[n, height, width, dims]``, and their last one ``[n, dims, height, width]``.
_CHANNELS_LAST = ("sam_vision_model", "sam_hq_vision_model")
# The only tower whose layers are called otherwise in files of the whole model.
_LAYERS = {"altclip_vision_model": {r"^encoder\.layer\.": "encoder.layers."}}


class TransformersOptions(WeightsOptions, PictureOptions, VectorOptions):
    """What is read of the model's tokens, and how pictures are shown to it.

    Attributes:
        pooling: ``cls``, ``mean`` of the patches, or ``attention``, the model's own pooler; the model's own
            way when None.
        layer: hidden layer to read; negative counts from the end. The last when None.
        hidden_states: a vector of every layer, the embeddings first.
    """

    pooling: Pooling | None = None
    layer: int | None = None
    hidden_states: bool | None = None


class TransformersEncoder(Encoder):
    """One vector per picture, pooled from the tokens of a vision model.

    ``model`` is a hub id or a folder; of a model with an image and a text tower the image tower is
    taken. ``weights = "random:SEED"`` initialises it from its configuration. Preprocessing is the
    model's image processor's, as a view of ours or, where no view expresses it, by the processor itself.
    Vectors keep their length unless ``normalize = true``.

    Pooling:
        ``default``: what transformers returns as ``pooler_output``: DINO's and CLIP's normalised CLS
        token, SigLIP's attention head, the average of a convolutional network. Where that would be
        the dense layer of a classification head (ViT, DeiT), or with ``layer``, the CLS token.
        ``cls``: the CLS token. ``mean``: the mean of the patch tokens, without CLS and register
        tokens. Both are of the last hidden state, or of hidden state ``layer`` (0: the embeddings;
        negative: from the end; no final layer norm).
        ``attention``: the model's attention pooling head.
    A masked autoencoder (ViT-MAE) sees all patches.

    With ``hidden_states = true`` an item has a vector of every hidden state, embeddings first, as
    ``output_hidden_states`` of transformers gives them: ``[layers + 1, dims]``, what IISAN reads
    (arXiv 2404.02059). Of each it is the CLS token, or the mean of the patch tokens with
    ``pooling = "mean"`` and for models without a CLS token. A clip's are means over its frames.
    """

    Options: ClassVar[type[TransformersOptions]] = TransformersOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="transformers",
        model="facebook/dinov2-small",
        reads=_READS,
        dims=384,
        input_size=(224, 224),
        licence="Apache-2.0",
        weights_from="hub: facebook/dinov2-small",
    )

    @classmethod
    def resolve(cls, ask: Ask[TransformersOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        options = ask.options
        if options.hidden_states and options.layer is not None:
            raise ask.error(
                f"hidden_states gives every layer, and layer = {options.layer} one of them",
                "Leave one of the two out.",
            )
        model = need_model(ask, "facebook/dinov2-small")
        found = find_weights(ask)
        shown = found.called(model)
        facts = {
            "transformers": shown,
            "configuration": folder_digest(found.folder, (".json",)),
            "options": options.model_dump(include={"crop", "jpeg", "pooling", "layer", "hidden_states"}),
        }
        outline = remembered(facts, lambda: _outline(ask, shown, found.folder))
        image = ImagePrepare.model_validate(outline.pop("image"))
        read = pixel_input(ask, ask.only, image.view, mean=image.mean, std=image.std)
        return vector_spec(ask, read, model=shown, weights=found.weights, normalize=False, **outline)

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Method.card`."""
        return card_of(spec, _READS)

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where some are missing or not those of the spec."""
        self.spec = spec
        self._own = _by_own_processor(spec, place) if by_own_processor(spec) else None
        if self._own is not None:
            self.runtime, self.notes = torch_runtime(), (self._own.note,)
            return
        self.network = picture_network(spec, place, lambda own: _tower(own, place.device))
        self.runtime, self.notes = self.network.runtime, self.network.notes

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a picture, also where the feature is of clips."""
        pixels = self.spec.pixels
        if modality != "image" or pixels is None:
            return None
        if self._own is not None:
            return Query(
                ImagePrepare(view=pixels.view),
                lambda asked: self.encode_frames([one.pixels[0] for one in asked]),
            )
        return picture_query(pixels, self.encode_images)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        if self._own is not None:
            return self.encode_frames(list(pixels))
        return to_vectors(self.network(checked(pixels, self.spec))[0], self.spec)

    def encode_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """See :meth:`Encoder.encode_frames`. Of any sizes where the model's own processor prepares them."""
        if self._own is None:
            return super().encode_frames(frames)
        return to_vectors(self._own(frames), self.spec)


def _outline(ask: Ask[TransformersOptions], model: str, folder: Path) -> dict[str, Any]:
    """What of the spec only the model itself shows."""
    options = ask.options
    processor = load_processor(ask.name, model, folder)
    image = picture_prepare(processor, options.crop)
    if image is None:
        refuse_crop(ask.name, model, processor, options.crop)
        image = ImagePrepare(view=OWN_VIEW)
    image = image.model_copy(update={"view": adjusted(image.view, options.crop, options.jpeg)})
    empty = _Outline(ask.name, model, str(folder), image, processor)
    layer = empty.layer(options.layer)
    final = layer is None and not options.hidden_states
    pooling = empty.pooling(options.pooling or "default", final)
    vectors, dims = empty.shape(pooling, layer, bool(options.hidden_states))
    # Version 1 masked patches.
    version = 2 if empty.module.config.model_type == _MASKED else 1
    fields = {"pooling": pooling, "layer": layer, "vectors": vectors, "dims": dims, "method_version": version}
    return {"image": image.model_dump(mode="json"), **fields}


class _Outline:
    """The model without weights: what it would put out, known before anything is loaded."""

    def __init__(self, name: str, model: str, folder: str, image: ImagePrepare, processor: Any) -> None:
        import torch

        self.name, self.model = name, model
        view = image.view
        shown = f"{view.height} x {view.width} pixels" if image.mean else f"a {type(processor).__name__}"
        try:
            with torch.device("meta"):
                self.module = _built(_vision_config(folder)).eval()
                inputs = {"pixel_values": torch.empty(1, 3, view.height, view.width)}
            inputs = inputs if image.mean else outlined(processor, self.module)
            with torch.device("meta"):
                self.outputs = self.module(**inputs, output_hidden_states=True)
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise ConfigError(
                f"feature {name!r}: {model!r} does not load as a vision model for "
                f"{shown}: {str(error).splitlines()[0]}"
            ) from error
        self.read = _Read(self.module.config, self.outputs, inputs)

    def layer(self, asked: int | None) -> int | None:
        """A hidden state's index from the front; ConfigError if there is none."""
        if asked is None:
            return None
        count = len(self.outputs.hidden_states)
        if not -count <= asked < count:
            raise ConfigError(
                f"feature {self.name!r}: {self.model!r} has no layer {asked}",
                hint=f"It has hidden states 0 to {count - 1}.",
            )
        return asked % count

    def pooling(self, asked: Pooling, final: bool) -> Pooling:
        """What ``asked`` means for this model, of its final output or else of hidden states.

        Raises:
            ConfigError: it cannot be had.
        """
        attention = final and any("AttentionPool" in type(m).__name__ for m in self.module.modules())
        pooled = final and getattr(self.outputs, "pooler_output", None) is not None
        possible: list[Pooling] = ["default", "mean"]
        possible += ["cls"] if self.read.prefix else []
        possible += ["attention"] if attention else []
        if asked not in possible:
            raise ConfigError(
                f"feature {self.name!r}: {self.model!r} has no pooling {asked!r}"
                f"{'' if final else ' of hidden states'}",
                hint=f"It has: {', '.join(possible)}.",
            )
        if asked != "default":
            return asked
        if attention:
            return "attention"
        if pooled and not hasattr(getattr(self.module, "pooler", None), "dense"):
            return "default"
        return "cls" if self.read.prefix else "mean"

    def shape(self, pooling: Pooling, layer: int | None, every_layer: bool) -> tuple[int | None, int]:
        """``(vectors, dims)`` per picture; ConfigError where hidden states are of several lengths."""
        if not every_layer:
            return None, int(self.read.pooled(pooling, layer).shape[1])
        dims = [int(state.shape[1]) for state in self.read.every_layer(pooling)]
        if len(set(dims)) > 1:
            raise ConfigError(
                f"feature {self.name!r}: the hidden states of {self.model!r} have {dims} dims, "
                "which do not fit into one feature",
                hint="Choose one of them with layer, or a model whose layers are all as wide.",
            )
        return len(dims), dims[0]


class _Read:
    """What is read of a model's outputs for its inputs."""

    def __init__(self, config: Any, outputs: Any, inputs: Inputs) -> None:
        self._outputs = outputs
        self._channels_last = config.model_type in _CHANNELS_LAST
        # Of patches in a row which are padded to the number that the longest has.
        self._mask = inputs.get("pixel_attention_mask")
        pixels = inputs["pixel_values"]
        self.prefix = _prefix_tokens(config, outputs, tuple(pixels.shape[2:])) if pixels.ndim == 4 else 0

    def pooled(self, pooling: Pooling | None, layer: int | None) -> torch.Tensor:
        """``[n, dims]``."""
        pooled: torch.Tensor
        if pooling in ("default", "attention"):
            pooled = self._outputs.pooler_output.flatten(1)
        else:
            tokens = self._tokens(layer)
            pooled = tokens[:, 0] if pooling == "cls" else self._mean(tokens[:, self.prefix :])
        return pooled

    def every_layer(self, pooling: Pooling | None) -> list[torch.Tensor]:
        """``[n, dims]`` of each hidden state, the embeddings first."""
        return [self.pooled(pooling, layer) for layer in range(len(self._outputs.hidden_states))]

    def _tokens(self, layer: int | None) -> Any:
        """A state as ``[n, tokens, dims]``, whether it is that or a map."""
        state = self._outputs.last_hidden_state if layer is None else self._outputs.hidden_states[layer]
        if state.ndim == 3:
            return state
        if layer is not None and self._channels_last:
            return state.flatten(1, 2)
        return state.flatten(2).transpose(1, 2)

    def _mean(self, tokens: Any) -> Any:
        if self._mask is None:
            return tokens.mean(dim=1)
        seen = self._mask[..., None].to(tokens)
        return (tokens * seen).sum(dim=1) / seen.sum(dim=1)


def _prefix_tokens(config: Any, outputs: Any, size: tuple[int, ...]) -> int:
    """How many tokens stand before the patches: CLS and registers. 0 for models without patches."""
    side = getattr(config, "patch_size", None)
    state = outputs.last_hidden_state
    if side is None or state.ndim == 4:
        return 0
    height, width = (side, side) if isinstance(side, int) else side
    patches = (size[0] // height) * (size[1] // width)
    return max(0, int(state.shape[1]) - patches)


def _vision_config(folder: str) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    config = getattr(config, "vision_config", config)
    if config.model_type == _MASKED:
        config.mask_ratio = 0.0
    return config


def _vision_class(config: Any) -> Any:
    """What builds and loads the model of a configuration: AutoModel, or the class of an image tower that it
    does not know by itself (BLIP's, BLIP-2's, ALIGN's, AltCLIP's, MetaCLIP 2's in transformers 5.24)."""
    from transformers import AutoModel, PreTrainedModel

    if type(config) in AutoModel._model_mapping:
        return AutoModel
    module = import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
    for name, known in vars(module).items():
        if name.endswith("VisionModel") and isinstance(known, type) and issubclass(known, PreTrainedModel):
            return known
    return AutoModel


def _built(config: Any) -> Any:
    known = _vision_class(config)
    return (known.from_config if hasattr(known, "from_config") else known._from_config)(config)


def _names(folder: str, config: Any) -> dict[str, str] | None:
    """What a file of a whole model calls the weights of its image tower, and what the tower by itself does;
    None if nothing is renamed."""
    import torch
    from transformers import AutoConfig

    if AutoConfig.from_pretrained(folder).model_type == config.model_type:
        return None
    with torch.device("meta"):
        own = list(_built(config).state_dict())
    if any(name.startswith("vision_model.") for name in own):
        return None
    return {r"^vision_model\.": "", **_LAYERS.get(config.model_type, {})}


def _tower(spec: FeatureSpec, device: str) -> torch.nn.Module:
    import torch

    model = _placed(spec, device).to(memory_format=torch.channels_last)
    return picture_tower(spec, model, lambda model, pixels: _vectors(spec, model, {"pixel_values": pixels}))


def _by_own_processor(spec: FeatureSpec, place: Placement) -> ProcessedPictures:
    use_torch_threads(place.threads)
    processor = load_processor(spec.name, spec.model, loadable_folder(spec))
    return ProcessedPictures(spec, processor, _placed(spec, place.device).eval(), partial(_vectors, spec))


def _placed(spec: FeatureSpec, device: str) -> Any:
    """The loaded model, in the spec's compute dtype."""
    import torch

    return _load(spec).to(device, getattr(torch, spec.compute_dtype))


def _vectors(spec: FeatureSpec, model: Any, inputs: Inputs) -> torch.Tensor:
    """``[n, dims]``, or ``[n, vectors, dims]`` of every hidden state."""
    import torch

    settings = settings_of(spec)
    hidden = settings.layer is not None or spec.vectors is not None
    outputs = model(**inputs, output_hidden_states=hidden)
    read = _Read(model.config, outputs, inputs)
    if spec.vectors is None:
        return read.pooled(settings.pooling, settings.layer)
    return torch.stack(read.every_layer(settings.pooling), dim=1)


def _load(spec: FeatureSpec) -> Any:
    import torch

    folder = str(loadable_folder(spec))
    config = _vision_config(folder)
    if spec.weights.origin == "random":
        with seeded(spec.weights):
            return _built(config)
    known = _vision_class(config)
    with loading(spec):
        model, report = known.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            key_mapping=_names(folder, config),
        )
    unused = ("pooler.",) if settings_of(spec).pooling in ("cls", "mean") else ()
    check_loaded(spec, Loaded.by_transformers(model, report, Path(folder)), unused)
    return model
