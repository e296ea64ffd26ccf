"""Small pictures and short sounds of a few items, for the gallery."""

from __future__ import annotations

import base64
import io

import numpy as np

from mmfeat.extract.fence.decode import MediaRequest, clip_of, picture_of, sound_of
from mmfeat.extract.fence.process import decode_fenced
from mmfeat.report.captions import Captions
from mmfeat.report.model import Item, Picture, Recording, Shelf, Shown
from mmfeat.report.pictures import Progress
from mmfeat.schemas.featureset import FAILED, OK
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound

# 48 items of 4 frames at some 5 kB: a page that can be sent by mail.
_PER_SHELF = 12
_STRIP_FRAMES = 4
_LONGER_SIDE = 160
_JPEG_QUALITY = 75
# So much of a sound is 24 kB.
_SOUND_SECONDS = 8.0
_SOUND_RATE = 16_000
_SOUND_BITS = 24_000


def make_gallery(
    captions: Captions, items: tuple[Item, ...], seed: int, progress: Progress
) -> tuple[Shelf, ...]:
    """Worst and best by grounding, random ones (seeded), and failures; empty shelves are left out."""
    chosen = _chosen(items, seed, "sound" if captions.modality == "audio" else "picture")
    wanted = sorted({at for _, _, members in chosen for at in members})
    shown = {}
    for done, at in enumerate(wanted, start=1):
        place, source = captions.locations[at], captions.source
        shown[at] = shown_of(captions.ids[at], place, source, captions.modality, captions.limits)
        progress("pictures of the gallery", done, len(wanted))
    return tuple(
        Shelf.model_validate({"kind": kind, "about": about, "shown": [shown[at] for at in members]})
        for kind, about, members in chosen
        if members
    )


def _chosen(items: tuple[Item, ...], seed: int, what: str) -> list[tuple[str, str, list[int]]]:
    rated = [(item.grounding, at) for at, item in enumerate(items) if item.grounding is not None]
    order = [at for _, at in sorted(rated)]
    ok = [at for at, item in enumerate(items) if item.status == OK]
    failed = [at for at, item in enumerate(items) if item.status == FAILED]
    rng = np.random.default_rng(seed)
    return [
        ("worst", f"Captions that fit their {what} least.", order[:_PER_SHELF]),
        ("best", f"Captions that fit their {what} best.", order[::-1][:_PER_SHELF]),
        ("random", f"Drawn at random, seed {seed}.", _drawn(ok, rng)),
        ("failures", f"Items that failed, drawn at random, seed {seed}.", _drawn(failed, rng)),
    ]


def _drawn(positions: list[int], rng: np.random.Generator) -> list[int]:
    return sorted(rng.permutation(positions)[:_PER_SHELF].astype(int).tolist())


def shown_of(item_id: str, location: str | None, source: str, modality: str, limits: MediaLimits) -> Shown:
    """An item's picture, frames of its clip or the beginning of its sound, or why there is nothing to show.

    Args:
        source: the column that the location is of.
    """
    if not location:
        return Shown(item_id=item_id, pictures=(), absent=f"The item has no {source}.")
    if modality == "audio":
        return _heard(item_id, location, limits)
    view = PixelView(mode="bound", height=_LONGER_SIDE, width=_LONGER_SIDE)
    is_clip = modality == "video"
    wanted = clip_of(FrameSampling(count=_STRIP_FRAMES), view) if is_clip else picture_of(view)
    found = decode_fenced(MediaRequest(location, (wanted,)), limits)
    if found.failure is not None:
        return Shown(item_id=item_id, pictures=(), absent=f"Cannot be shown: {found.failure.reason}.")
    frames = found.values[0]
    pictures = tuple(_jpeg(one, time) for one, time in zip(frames.pixels, frames.times, strict=True))
    return Shown(item_id=item_id, pictures=pictures, absent="")


def _heard(item_id: str, location: str, limits: MediaLimits) -> Shown:
    wanted = sound_of(AudioPrepare(sample_rate=_SOUND_RATE, seconds=_SOUND_SECONDS))
    found = decode_fenced(MediaRequest(location, (wanted,)), limits)
    if found.failure is not None:
        return Shown(item_id=item_id, pictures=(), absent=f"Cannot be played: {found.failure.reason}.")
    (sound,) = found.values
    if sound is None:
        return Shown(item_id=item_id, pictures=(), absent="It has no sound.")
    seconds = len(sound.samples) / _SOUND_RATE
    return Shown(item_id=item_id, pictures=(), absent="", sound=Recording(mp3=_mp3(sound), seconds=seconds))


def _mp3(sound: Sound) -> str:
    """A sound as base64 of an MP3 file, which every browser plays."""
    import av

    written = io.BytesIO()
    with av.open(written, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=sound.sample_rate, layout="mono")
        stream.bit_rate = _SOUND_BITS
        frame = av.AudioFrame.from_ndarray(sound.samples[None], format="fltp", layout="mono")
        frame.sample_rate = sound.sample_rate
        for packet in [*stream.encode(frame), *stream.encode()]:
            output.mux(packet)
    return base64.b64encode(written.getvalue()).decode("ascii")


def _jpeg(pixels: np.ndarray, time: float) -> Picture:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    height, width = pixels.shape[:2]
    data = base64.b64encode(written.getvalue()).decode("ascii")
    return Picture(jpeg=data, width=width, height=height, time=time)
