"""What the tests want of each file, and the folder of the codec that does harm on demand."""

from __future__ import annotations

from pathlib import Path

from mmfeat.extract.media.decode import MediaRequest, Rendering
from mmfeat.schemas.spec import FrameSampling, PixelView

CODEC = Path(__file__).parent / "codec"
VIEW = PixelView(mode="squash", height=32, width=32)
_WANTED = {
    "cover": Rendering("cover", None, VIEW),
    "video": Rendering("video", FrameSampling(count=3), VIEW),
}


def request(path: Path, source: str) -> MediaRequest:
    """One rendering of a file: 32 x 32 pixels, of three frames where it is a clip."""
    return MediaRequest(source, str(path), (_WANTED[source],))
