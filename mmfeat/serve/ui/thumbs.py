"""Small JPEGs of pictures and frames of clips: bounded in size, made where hostile media can do no harm."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from mmfeat.extract.fence.decode import MediaRequest, clip_of, picture_of
from mmfeat.extract.fence.process import decode_fenced
from mmfeat.extract.media.read import stamp_of
from mmfeat.schemas.errors import ItemError, MissingExtra
from mmfeat.schemas.inputs import FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

FRAMES = 4
_SIDE = 320
_QUALITY = 80
_KEPT = 1000
# A picture beside a text is not worth what a run spends on an item.
_LIMITS = MediaLimits(clip_bytes=256 << 20, item_seconds=20, item_memory=1 << 30)
_VIEW = PixelView(mode="bound", height=_SIDE, width=_SIDE, interpolation="lanczos", jpeg="scaled")
_WANTED = {"image": picture_of(_VIEW), "video": clip_of(FrameSampling(mode="uniform", count=FRAMES), _VIEW)}


class Thumbnails:
    """Makes thumbnails and keeps the last 1,000 files' in memory. May be used from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], tuple[bytes, ...] | ItemError] = OrderedDict()
        self._lock = threading.Lock()

    def frames(self, modality: str, location: str, buckets: Sequence[str] = ()) -> tuple[bytes, ...]:
        """JPEGs of at most 320 pixels a side: one of a picture, up to four of a clip.

        Args:
            modality: ``image`` or ``video``.
            buckets: of object stores, that may be read.

        Raises:
            ItemError: the file cannot be read or decoded, or is larger than a thumbnail is worth.
        """
        # With the buckets: what one of them refused is not refused where it is allowed later.
        key = (modality, location, stamp_of(location), frozenset(buckets))
        # One at a time: there is one process that decodes, and a page asks for a clip's frames at once.
        with self._lock:
            made = self._kept.get(key)
            if made is None:
                made = self._kept[key] = _made(modality, location, buckets)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        if isinstance(made, ItemError):
            raise made
        return made


def _made(modality: str, location: str, buckets: Sequence[str]) -> tuple[bytes, ...] | ItemError:
    if find_spec("simplejpeg") is None:
        raise MissingExtra("A picture on a page", "extract", "simplejpeg")
    decoded = decode_fenced(MediaRequest(location, (_WANTED[modality],)), _LIMITS.with_buckets(buckets))
    if decoded.failure is not None:
        return decoded.failure
    return tuple(_jpeg(pixels) for pixels in decoded.values[0].pixels)


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
