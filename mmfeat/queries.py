"""Queries by text or picture: what a search turns into vectors with the searched feature's own encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.schemas.errors import ItemError, MissingExtra, UsageError
from mmfeat.schemas.inputs import PixelPrepare
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.spec import FeatureSpec

if TYPE_CHECKING:
    from mmfeat.extract.base import Method, Query

# A service that runs for months meets many versions; each encoder holds its weights in memory.
_KEPT_METHODS = 4

# Encoders whose text tower searches pictures too.
_TWO_TOWERS = frozenset({"open_clip"})


def reads(spec: FeatureSpec, modality: str) -> bool:
    """Whether a ``text`` or an ``image`` can be a query, as far as a spec tells without its encoder."""
    # What a model of sentence-transformers takes, each of it alone.
    if (takes := spec.options.get("takes")) is not None:
        return modality in takes
    if len(spec.given) > 1:
        return False
    if modality == "image":
        return spec.pixels is not None
    return spec.given[0].modality == modality or spec.method in _TWO_TOWERS


class QueryEncoders:
    """The encoders of the features that were searched by text or picture, each loaded on its first use.

    May be used from several threads; one query is encoded at a time.
    """

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, Method] = OrderedDict()
        self._lock = threading.Lock()

    def text(self, spec: FeatureSpec, text: str) -> np.ndarray:
        """The ``[dims]`` vector of a text, or its ``[m, dims]`` token vectors; by CLIP's text tower where the
        feature is of pictures.

        Raises:
            UsageError: the text is empty, or the feature cannot be searched by text.
        """
        if not text.strip():
            raise UsageError("The text to search for is empty.")
        with self._lock:
            return self._encoded(spec, "text", lambda query: text)

    def image(self, spec: FeatureSpec, image: str | Path | bytes) -> np.ndarray:
        """The ``[dims]`` vector of a picture, or its ``[m, dims]`` ones: a path, a URL, or a file's bytes.

        Raises:
            UsageError: the picture cannot be read, or the feature cannot be searched by pictures.
        """
        try:
            with self._lock:
                return self._encoded(spec, "image", lambda query: _decoded(image, query))
        except ItemError as error:
            name = "this picture" if isinstance(image, bytes) else str(image)
            raise UsageError(f"Cannot search by {name}: {error.reason}.") from None

    def _encoded(self, spec: FeatureSpec, modality: str, value: Callable[[Query], Any]) -> np.ndarray:
        """The vector of one value, which is made ready as the feature's query says."""
        query = self._method(spec).query(modality)
        if query is None:
            what = {"text": "a text", "image": "a picture"}[modality]
            raise UsageError(
                f"{spec.version} cannot be searched by {what}: {spec.method} makes it of {spec.source}.",
                hint="Search it by --item, or search a feature whose model reads such things.",
            )
        return np.asarray(query.encode([value(query)])[0])

    def _method(self, spec: FeatureSpec) -> Method:
        from mmfeat.extract.registry import load_method

        if spec.fingerprint not in self._loaded:
            try:
                self._loaded[spec.fingerprint] = load_method(spec)
            except ModuleNotFoundError as error:
                raise MissingExtra("A search by text or picture", "extract", error.name or "torch") from None
            if len(self._loaded) > _KEPT_METHODS:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(spec.fingerprint)
        return self._loaded[spec.fingerprint]


def _decoded(image: str | Path | bytes, query: Query) -> Any:
    """A picture as a query takes it; ItemError where it is no picture that can be read."""
    if isinstance(image, bytes):
        # It may come from a stranger, and the process that decodes such things takes a place to read.
        with NamedTemporaryFile(prefix="mmfeat-query-") as file:
            file.write(image)
            file.flush()
            return _decoded(file.name, query)
    from mmfeat.extract.fence.decode import MediaRequest, picture_of
    from mmfeat.extract.fence.process import decode_fenced

    assert isinstance(query.prepare, PixelPrepare), "a picture is prepared as pixels"
    request = MediaRequest(_place(image), (picture_of(query.prepare.view),))
    decoded = decode_fenced(request, MediaLimits().with_buckets([request.location]))
    if decoded.failure is not None:
        raise decoded.failure
    return decoded.values[0]


def _place(location: str | Path) -> str:
    place = str(location)
    return place if "://" in place else str(Path(place).expanduser().absolute())
