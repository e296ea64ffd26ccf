"""Vectors of the pictures, clips and sounds that captions describe: of the store, or made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.report.captions import Captions
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.store import FeatureVersion, Store

if TYPE_CHECKING:
    from mmfeat.extract.base import Encoder
    from mmfeat.extract.fence.decode import Wanted

_BATCH = 32
_CLIP_FRAMES = 8

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PictureVectors:
    """Unit vectors of the pictures or the sounds of some items.

    Attributes:
        at: positions in the catalog, rising.
        frames: per position ``[frames, dims]``; one frame of a picture, one vector of a sound.
        origin: where they came from, for people.
    """

    at: list[int]
    frames: list[np.ndarray]
    origin: str

    @property
    def clips(self) -> bool:
        """Whether any item has several frames."""
        return any(len(one) > 1 for one in self.frames)

    def of(self, positions: Collection[int]) -> PictureVectors:
        """Those of some positions in the catalog."""
        kept = [i for i, at in enumerate(self.at) if at in positions]
        return PictureVectors([self.at[i] for i in kept], [self.frames[i] for i in kept], self.origin)

    @property
    def means(self) -> np.ndarray:
        """``[n, dims]``: the mean of each item's frames, of unit length."""
        return unit(np.stack([one.mean(axis=0) for one in self.frames]))


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32 rows of length 1; rows of zeros stay."""
    vectors = vectors.astype(np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length == 0, 1, length))


def grounding_feature(store: Store, name: str | None, source: str, modality: str) -> FeatureVersion | None:
    """The feature whose encoder reads what is described, and texts, into one space: CLIP's of pictures and
    clips, CLAP's of sounds.

    Args:
        name: what the user chose; the store's own where None: one of ``source`` before any other.
        source, modality: what is described.

    Raises:
        UsageError: the one chosen has no such encoder.
    """
    if name is not None:
        chosen = store.resolve(name)
        if not _reads_both(chosen.spec, modality):
            what, such = ("sounds", "CLAP") if modality == "audio" else ("pictures", "CLIP or SigLIP")
            raise UsageError(
                f"{chosen.version} was not made by an encoder of {what} and texts.",
                hint=f"Choose a {such} feature of {what}.",
            )
        return chosen
    current = [store.resolve(one) for one in sorted(store.current())]
    fit = [version for version in current if _reads_both(version.spec, modality)]
    return min(fit, key=lambda version: version.spec.source != source, default=None)


def picture_vectors(
    store: Store, captions: Captions, feature: FeatureVersion, encoder: Encoder, progress: Progress
) -> PictureVectors:
    """A vector per picture, per sound and per frame of a clip, of the items whose caption says something.

    Pictures' and sounds' vectors are the store's where it holds them. A clip's frames are encoded here:
    the store holds the mean of them, which does not say how well the best one fits.
    """
    if captions.source == feature.spec.source and captions.modality != "video":
        column = store.lookup(captions.ids, [feature.version], unknown="mask")[feature.name]
        at = [i for i in captions.told if column.mask[i]]
        vectors = unit(column.matrix[at])
        return PictureVectors(at, [vector[None] for vector in vectors], f"{feature.version} in the store")
    return _encoded(captions, feature.spec, encoder, progress)


def _encoded(captions: Captions, spec: FeatureSpec, encoder: Encoder, progress: Progress) -> PictureVectors:
    from mmfeat.extract.fence.decode import MediaRequest
    from mmfeat.extract.fence.process import decode_fenced

    wanted = _wanted(captions, spec)
    places = [(at, location) for at in captions.told if (location := captions.locations[at])]
    what = "sounds encoded" if captions.modality == "audio" else "pictures encoded"
    at_, frames = [], []
    waiting: list[tuple[int, Any]] = []
    for done, (at, location) in enumerate(places, start=1):
        found = decode_fenced(MediaRequest(location, (wanted,)), captions.limits)
        if found.values and found.values[0] is not None:
            waiting.append((at, found.values[0]))
        if len(waiting) == _BATCH or done == len(places):
            at_ += [position for position, _ in waiting]
            frames += _vectors(captions, encoder, [one for _, one in waiting])
            waiting = []
            progress(what, done, len(places))
    many = f", {_CLIP_FRAMES} frames a clip" if captions.modality == "video" else ""
    return PictureVectors(at_, frames, f"{captions.source} files, encoded for this report{many}")


def _wanted(captions: Captions, spec: FeatureSpec) -> Wanted:
    """How the files described are read for an encoder."""
    from mmfeat.extract.fence.decode import clip_of, picture_of, sound_of

    if captions.modality == "audio":
        prepare = spec.inputs[0].prepare
        assert isinstance(prepare, AudioPrepare), f"{spec.version} is of sounds"
        return sound_of(prepare)
    assert spec.pixels is not None, f"{spec.version} is of pictures"
    view = spec.pixels.view
    return (
        clip_of(FrameSampling(count=_CLIP_FRAMES), view) if captions.modality == "video" else picture_of(view)
    )


def _vectors(captions: Captions, encoder: Encoder, values: Sequence[Any]) -> list[np.ndarray]:
    """Per item ``[frames, dims]``."""
    if not values or captions.modality != "audio":
        return _frame_vectors(encoder, values)
    return [vector[None] for vector in unit(np.asarray(encoder.encode_sounds(values)))]


def _frame_vectors(encoder: Encoder, clips: Sequence[Frames]) -> list[np.ndarray]:
    if not clips:
        return []
    pixels = np.concatenate([clip.pixels for clip in clips])
    batches = [
        np.asarray(encoder.encode_images(pixels[i : i + _BATCH])) for i in range(0, len(pixels), _BATCH)
    ]
    ends = np.cumsum([len(clip.pixels) for clip in clips])
    return np.split(unit(np.concatenate(batches)), ends[:-1])


def _reads_both(spec: FeatureSpec, modality: str) -> bool:
    """Whether the encoder of these vectors of sounds, or else of pictures, has a text tower into the same
    space."""
    is_of_sound = spec.modalities == ("audio",)
    fits = is_of_sound if modality == "audio" else spec.pixels is not None
    if spec.form != "vector" or not fits or spec.vectors is not None:
        return False
    from mmfeat.extract.registry import class_of

    return {"audio" if is_of_sound else "image", "text"} <= {
        name for reads in class_of(spec).reads for name in reads.modalities
    }
