"""Pictures: one frame each."""

from __future__ import annotations

from collections.abc import Sequence

from mmfeat.extract.modalities.base import Cost
from mmfeat.extract.modalities.pixels import PixelModality
from mmfeat.schemas.inputs import ImagePrepare, PixelView, Prepare
from mmfeat.schemas.media import Frames, MediaLimits


class ImageModality(PixelModality):
    """A decoding is a view.

    Rule 2 reads orientations of whole numbers in EXIF alone, pictures whose metadata is broken, transparent
    colours of PNG at every depth, and 16-bit negatives.
    """

    name = "image"
    rule = 2

    def max_bytes(self, limits: MediaLimits) -> int:
        """See :meth:`MediaModality.max_bytes`."""
        return limits.image_bytes

    def decoding(self, prepare: ImagePrepare) -> PixelView:
        """See :meth:`MediaModality.decoding`."""
        return prepare.view

    def decode(self, data: bytes, wanted: Sequence[PixelView], limits: MediaLimits) -> list[Frames]:
        """See :meth:`MediaModality.decode`."""
        # Imported where it is used: a run of titles alone needs no decoder.
        from mmfeat.extract.modalities.decoders.image import render_image

        return render_image(data, wanted, limits)

    def changed(self, data: bytes, since: int) -> bool:
        """See :meth:`Modality.changed`."""
        from mmfeat.extract.modalities.decoders.image import read_anew

        return since < self.rule and read_anew(data)

    def cost(self, prepare: Prepare | None) -> Cost:
        """See :meth:`Modality.cost`."""
        if not isinstance(prepare, ImagePrepare):
            return Cost()
        n = prepare.pictures
        return Cost(bytes=3 * prepare.view.height * prepare.view.width * n, pictures=n, covers=n)


IMAGE = ImageModality()
