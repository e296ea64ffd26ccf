"""Sound: of an audio file, or of a clip's own track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmfeat.extract.modalities.base import Cost, MediaModality, Packed
from mmfeat.schemas.inputs import AudioPrepare, Prepare
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound

# What is reckoned with where a preparation takes all of a sound, or all up to a limit that is longer.
_USUAL_SECONDS = 60.0
# No less than this share of a limit is reckoned with: where all sounds of a block are as long as that, they
# take so many times the memory that was reckoned, and no more.
_LEAST_SHARE = 1 / 15
_SOUND_COVERS = 4


class AudioModality(MediaModality):
    """A decoding is the preparation itself: sample rate and windows."""

    name = "audio"

    def max_bytes(self, limits: MediaLimits) -> int:
        """See :meth:`MediaModality.max_bytes`. The file may be a clip; the decoder knows which it is."""
        return max(limits.sound_bytes, limits.clip_bytes)

    def decoding(self, prepare: AudioPrepare) -> AudioPrepare:
        """See :meth:`MediaModality.decoding`."""
        return prepare

    def decode(self, data: bytes, wanted: Sequence[AudioPrepare], limits: MediaLimits) -> list[Sound | None]:
        """See :meth:`MediaModality.decode`. One pass over the file serves every rate and window."""
        from mmfeat.extract.modalities.decoders.sound import render_sound

        sounds = render_sound(data, wanted, limits)
        return [None] * len(wanted) if sounds is None else list(sounds)

    def pack(self, value: Sound) -> Packed:
        """See :meth:`MediaModality.pack`."""
        facts = {"sample_rate": value.sample_rate, "windows": list(value.windows), "rms": value.rms}
        return Packed(facts, value.samples)

    def unpack(self, packed: Packed) -> Sound:
        """See :meth:`MediaModality.unpack`."""
        windows = tuple((start, end, samples) for start, end, samples in packed.facts["windows"])
        return Sound(packed.data, packed.facts["sample_rate"], windows, packed.facts["rms"])

    def cost(self, prepare: Prepare | None) -> Cost:
        """See :meth:`Modality.cost`."""
        if not isinstance(prepare, AudioPrepare):
            return Cost(covers=_SOUND_COVERS)
        seconds = (prepare.seconds or _USUAL_SECONDS) * prepare.count
        if prepare.windows == "first":
            seconds = max(min(seconds, _USUAL_SECONDS), _LEAST_SHARE * seconds)
        sample = np.dtype(np.float32).itemsize
        return Cost(int(sample * prepare.sample_rate * seconds), prepare.count, _SOUND_COVERS)


AUDIO = AudioModality()
