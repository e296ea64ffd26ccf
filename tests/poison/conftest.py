"""One item decoded as a run decodes it: in a process that may die."""

from __future__ import annotations

import decoding
import pytest

from mmfeat.extract.fence import process as fence
from mmfeat.extract.fence.decode import Decoded
from mmfeat.schemas.media import MediaLimits


@pytest.fixture(scope="session", autouse=True)
def codec():
    """Decoder processes know the format of ``codec/sitecustomize.py``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(decoding.CODEC))
        fence.stop_fence()
        yield
        fence.stop_fence()


@pytest.fixture
def decode(tmp_path):
    """``decode(data, "audio", **limits)``: what becomes of a file of these bytes, a picture by default."""

    def run(data: bytes, *modalities: str, **limits: float) -> Decoded:
        path = tmp_path / "media"
        path.write_bytes(data)
        return fence.decode_fenced(decoding.request(path, *modalities or ("image",)), MediaLimits(**limits))

    return run
