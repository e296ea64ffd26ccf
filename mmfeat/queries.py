"""Queries by text or picture: what a search turns into a vector with the searched feature's own encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.schemas.errors import ItemError, MissingExtra, UsageError
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec, PixelView

if TYPE_CHECKING:
    from mmfeat.extract.base import Encoder

# A service that runs for months meets many versions; each encoder holds its weights in memory.
_KEPT_ENCODERS = 4


class QueryEncoders:
    """The encoders of the features that were searched by text or picture, each loaded on its first use.

    May be used from several threads; one query is encoded at a time.
    """

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, Encoder] = OrderedDict()
        self._lock = threading.Lock()

    def text(self, spec: FeatureSpec, text: str) -> np.ndarray:
        """The ``[dims]`` vector of a text: by CLIP's text tower where the feature is of pictures.

        Raises:
            UsageError: the text is empty, or the feature's encoder reads none.
        """
        if not text.strip():
            raise UsageError("The text to search for is empty.")
        try:
            with self._lock:
                return np.asarray(self._encoder(spec).encode_texts([text])[0])
        except NotImplementedError:
            raise UsageError(
                f"{spec.version} was made by {spec.method}, which reads no text.",
                hint="Search it by --image or --item, or search a CLIP or text feature.",
            ) from None

    def image(self, spec: FeatureSpec, image: str | Path | bytes) -> np.ndarray:
        """The ``[dims]`` vector of a picture: a path, a URL, or the bytes of a file.

        Raises:
            UsageError: the picture cannot be read, or the feature's encoder reads none.
        """
        if spec.image is None:
            raise UsageError(
                f"{spec.version} was made by {spec.method} from texts, and reads no image.",
                hint="Search it by --text or --item.",
            )
        try:
            pixels = _decoded(image, spec.image.view)
        except ItemError as error:
            name = "this picture" if isinstance(image, bytes) else str(image)
            raise UsageError(f"Cannot search by {name}: {error.reason}.") from None
        with self._lock:
            return np.asarray(self._encoder(spec).encode_images(pixels)[0])

    def _encoder(self, spec: FeatureSpec) -> Encoder:
        from mmfeat.extract.base import Encoder
        from mmfeat.extract.registry import load_model

        if spec.fingerprint not in self._loaded:
            try:
                model = load_model(spec, "cpu")
            except ModuleNotFoundError as error:
                raise MissingExtra("A search by text or picture", "extract", error.name or "torch") from None
            assert isinstance(model, Encoder), f"{spec.version} is a vector feature"
            self._loaded[spec.fingerprint] = model
            if len(self._loaded) > _KEPT_ENCODERS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(spec.fingerprint)
        return self._loaded[spec.fingerprint]


def _decoded(image: str | Path | bytes, view: PixelView) -> np.ndarray:
    """uint8 ``[1, height, width, 3]``; ItemError where it is no picture that can be read."""
    if isinstance(image, bytes):
        # It may come from a stranger, and the process that decodes such things takes a place to read.
        with NamedTemporaryFile(prefix="mmfeat-query-") as file:
            file.write(image)
            file.flush()
            return _decoded(file.name, view)
    from mmfeat.extract.media.decode import MediaRequest, Rendering
    from mmfeat.extract.media.fence import decode_fenced

    request = MediaRequest("cover", _place(image), (Rendering("cover", None, view),))
    decoded = decode_fenced(request, MediaLimits())
    if decoded.failure is not None:
        raise decoded.failure
    return decoded.frames[0].pixels


def _place(location: str | Path) -> str:
    place = str(location)
    return place if "://" in place else str(Path(place).expanduser().absolute())
