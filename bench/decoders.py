"""Decoders alone: a file on disk to the uint8 RGB pixels that ViT-B/32 reads."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from bench.rates import Step

SIDE = 224
FRAMES = 8
TORCHCODEC = Path(__file__).parent.parent / ".venv-bench" / "torchcodec"

Decoder = Callable[[Path], np.ndarray]
Decoding = Callable[[Iterable[Path]], Iterator[np.ndarray]]


def reading(paths: list[Path]) -> dict[str, Step]:
    """Files read whole, from the page cache after the first round."""
    return _each("", paths, partial(map, Path.read_bytes))


def images(name: str, paths: list[Path]) -> dict[str, Step]:
    """One JPEG per step."""
    return _each("", paths, _images(name))


def clips(name: str, paths: dict[str, list[Path]]) -> dict[str, Step]:
    """One clip per step, 8 uniform frames of it; a step per codec."""
    decoder = partial(map, CLIPS[name]())
    return {codec: step for codec, files in paths.items() for step in _each(codec, files, decoder).values()}


def _images(name: str) -> Decoding:
    return _mmfeat_fenced if name == FENCED else partial(map, IMAGES[name]())


def _each(
    case: str, paths: list[Path], decode: Callable[[Iterable[Path]], Iterator[object]]
) -> dict[str, Step]:
    decoded = decode(cycle(paths))

    def step() -> int:
        next(decoded)
        return 1

    return {case: step}


def _pillow() -> Decoder:
    from PIL import Image

    return lambda path: _cropped_pillow(Image.open(path).convert("RGB"))


def _pillow_draft() -> Decoder:
    """libjpeg's reduced scale, at least twice the size that is wanted."""
    from PIL import Image

    def decode(path: Path) -> np.ndarray:
        image = Image.open(path)
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        return _cropped_pillow(image.convert("RGB"))

    return decode


def _torchvision() -> Decoder:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    return lambda path: _cropped_tensor(decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB))


def _simplejpeg() -> Decoder:
    import simplejpeg
    import torch

    def decode(path: Path) -> np.ndarray:
        pixels = simplejpeg.decode_jpeg(path.read_bytes(), fastdct=False, fastupsample=False)
        return _cropped_tensor(torch.from_numpy(pixels).permute(2, 0, 1))

    return decode


def _mmfeat_image(jpeg: str) -> Decoder:
    from mmfeat.extract.modalities.decoders.image import render_image
    from mmfeat.schemas.inputs import PixelView
    from mmfeat.schemas.media import MediaLimits

    view = PixelView(mode="shortest", height=SIDE, width=SIDE, resize=SIDE, jpeg=jpeg)
    limits = MediaLimits()
    return lambda path: render_image(path.read_bytes(), [view], limits)[0].pixels[0]


def _mmfeat_fenced(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    """As a run does it: by the decoding process behind the fence, which has the next file while its answer is
    taken; content hash included."""
    from mmfeat.extract.fence.decode import MediaRequest, picture_of
    from mmfeat.extract.fence.process import decode_fenced_all
    from mmfeat.schemas.inputs import PixelView
    from mmfeat.schemas.media import MediaLimits

    view = PixelView(mode="shortest", height=SIDE, width=SIDE, resize=SIDE)
    wanted = (picture_of(view),)
    requests = (MediaRequest(str(path), wanted) for path in paths)
    return (decoded.values[0].pixels[0] for decoded in decode_fenced_all(requests, MediaLimits()))


def _pyav() -> Decoder:
    """Every frame in order until the last one that is wanted."""
    import av
    from PIL import Image

    def decode(path: Path) -> np.ndarray:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            wanted = set(_middles(stream.frames))
            pixels = []
            for index, frame in enumerate(container.decode(stream)):
                if index in wanted:
                    pixels.append(_cropped_pillow(Image.fromarray(frame.to_ndarray(format="rgb24"))))
                if len(pixels) == FRAMES:
                    break
        return np.stack(pixels)

    return decode


def _decord2() -> Decoder:
    import decord
    from PIL import Image

    def decode(path: Path) -> np.ndarray:
        reader = decord.VideoReader(str(path), num_threads=1)
        frames = reader.get_batch(_middles(len(reader))).asnumpy()
        return np.stack([_cropped_pillow(Image.fromarray(frame)) for frame in frames])

    return decode


def _torchcodec() -> Decoder:
    # In an environment of its own: without FFmpeg's libraries on the system it breaks what finds it.
    sys.path += map(str, TORCHCODEC.glob("lib/python*/site-packages"))
    from torchcodec.decoders import VideoDecoder

    def decode(path: Path) -> np.ndarray:
        reader = VideoDecoder(str(path), num_ffmpeg_threads=1)
        frames = reader.get_frames_at(_middles(len(reader))).data
        return np.stack([_cropped_tensor(frame) for frame in frames])

    return decode


def _mmfeat_clip(mode: str) -> Decoder:
    from mmfeat.extract.modalities.decoders.video import render_clip
    from mmfeat.schemas.inputs import FrameSampling, PixelView
    from mmfeat.schemas.media import MediaLimits

    view = PixelView(mode="shortest", height=SIDE, width=SIDE, resize=SIDE)
    sampling, limits = FrameSampling(mode=mode, count=FRAMES), MediaLimits()
    return lambda path: render_clip(path.read_bytes(), sampling, [view], limits)[0].pixels


IMAGES: dict[str, Callable[[], Decoder]] = {
    "Pillow": _pillow,
    "Pillow, draft": _pillow_draft,
    "torchvision": _torchvision,
    "simplejpeg": _simplejpeg,
    "mmfeat exact": lambda: _mmfeat_image("exact"),
    "mmfeat scaled": lambda: _mmfeat_image("scaled"),
}
FENCED = "mmfeat exact, fenced"
#: Decoders of JPEGs.
NAMES = (*IMAGES, FENCED)
#: Those whose pixels are not Pillow's.
INEXACT = ("Pillow, draft", "mmfeat scaled")
#: Those that take other frames.
OTHER_FRAMES = ("mmfeat keyframes",)
CLIPS: dict[str, Callable[[], Decoder]] = {
    "PyAV, in order": _pyav,
    "decord2": _decord2,
    "torchcodec": _torchcodec,
    "mmfeat": lambda: _mmfeat_clip("uniform"),
    "mmfeat keyframes": lambda: _mmfeat_clip("keyframes"),
}


def difference(name: str, paths: list[Path]) -> dict[str, float]:
    """Mean and greatest difference of a decoder's pixels from Pillow's, of 255."""
    pairs = zip(map(_pillow(), paths), _images(name)(paths), strict=True)
    apart = [np.abs(expected.astype(int) - found) for expected, found in pairs]
    return {
        "mean_difference": round(float(np.mean([a.mean() for a in apart])), 4),
        "most_difference": int(max(a.max() for a in apart)),
    }


def _middles(frames: int) -> list[int]:
    return ((np.arange(FRAMES) + 0.5) * frames / FRAMES).astype(int).tolist()


def _cropped_pillow(image: object) -> np.ndarray:
    from torchvision.transforms import v2

    resized = v2.functional.resize(image, SIDE, v2.InterpolationMode.BICUBIC)
    return np.asarray(v2.functional.center_crop(resized, SIDE))


def _cropped_tensor(pixels: object) -> np.ndarray:
    from torchvision.transforms import v2

    resized = v2.functional.resize(pixels, SIDE, v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.functional.center_crop(resized, SIDE).permute(1, 2, 0).contiguous().numpy()
