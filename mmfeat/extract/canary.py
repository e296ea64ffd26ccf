"""A version's canary: what a method gives for the same few inputs, then and now.

A library, a driver or an engine may change the values of a model that nobody touched. So a version's first
run stores what the method gives for inputs that are the same every time, and each later run computes it
again before its first row of that version. Where the two differ, the run stops.

The inputs are made up (:mod:`mmfeat.extract.probes`). What reads files gets one row more, of a cover or a
clip of the sample dataset, which goes through the decoder: so a change of a decoder is noticed too.

What runs on a server or in an engine, or samples, has no canary, and neither have texts that are computed in
half precision, since there the rounding of another machine may turn a word.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from mmfeat.extract import modalities
from mmfeat.extract.agreement import difference, outcomes, said, value_problem
from mmfeat.extract.base import Captioner, Method, Row, Text, Transcriber
from mmfeat.extract.fence.decode import MediaRequest, Wanted, decode_media
from mmfeat.extract.localcache import PACKAGES
from mmfeat.extract.probes import probe, probe_value
from mmfeat.extract.proof import least_cosine, repeats
from mmfeat.schemas.errors import ItemError, ValuesChanged
from mmfeat.schemas.inputs import ImagePrepare, Input
from mmfeat.schemas.media import MediaLimits, Pictures
from mmfeat.schemas.spec import FeatureSpec

#: Which inputs those are; raised when they change. A canary of others is replaced, and compared with none.
FORMAT = 1

_SAMPLE = Path(__file__).parents[1] / "datasets" / "sample_data"
#: The file that goes through the decoder, by the modality as which it is read. They are full of detail: of a
#: smooth picture all filters make the same.
FILES = {
    "image": _SAMPLE / "sample_covers" / "578.jpg",
    "video": _SAMPLE / "sample_videos" / "105.mp4",
    "audio": _SAMPLE / "sample_videos" / "105.mp4",
}

# Made-up rows of what reads texts alone, and of what reads files, which cost more.
_TEXT_ROWS, _MEDIA_ROWS = 3, 1

# Packages that decide values beside those that compute them.
_FURTHER_PACKAGES = (
    "mmfeat", "numpy", "pillow", "simplejpeg", "av", "faster-whisper", "ctranslate2", "rapidocr",
)  # fmt: skip


@dataclass(frozen=True)
class Canary:
    """What a method gave for the inputs of :data:`FORMAT`.

    Attributes:
        values: of each row a float32 array, a text, or the exception that stands for it.
        made_by: what may decide them, with its version: packages, the runtime, the processor.
        date: when, UTC, ISO 8601.
    """

    values: tuple[Any, ...]
    made_by: Mapping[str, str]
    date: str

    def to_json(self) -> str:
        """As it is stored."""
        return json.dumps(
            {
                "format": FORMAT,
                "values": [*map(_packed, self.values)],
                "made_by": dict(self.made_by),
                "date": self.date,
            }
        )

    @classmethod
    def from_json(cls, stored: str) -> Canary | None:
        """What was stored; None if it is of other inputs."""
        found = json.loads(stored)
        if found["format"] != FORMAT:
            return None
        return cls(tuple(map(_unpacked, found["values"])), found["made_by"], found["date"])


@dataclass(frozen=True)
class Change:
    """How the values of a version changed.

    Attributes:
        what: the first difference, in words.
        since: the date of the older ones.
        made_by: what is another now, to its version then and now; None if there was or is none.
    """

    what: str
    since: str
    made_by: Mapping[str, tuple[str | None, str | None]]

    def __str__(self) -> str:
        """In words, without a stop."""
        others = "; ".join(
            f"{name} {then or 'none'} -> {now or 'none'}" for name, (then, now) in self._sorted
        )
        since = f"since {self.since[:10]}"
        return f"{self.what}; {since}: {others}" if others else f"{self.what}; no version is another {since}"

    @property
    def packages(self) -> list[str]:
        """What ``pip install`` takes to have the versions of then."""
        return [
            f"{name}=={then}" for name, (then, _) in self._sorted if then and name in _packages_of_canaries()
        ]

    @property
    def _sorted(self) -> list[tuple[str, tuple[str | None, str | None]]]:
        return sorted(self.made_by.items())


def canary_of(method: Method, device: str) -> Canary | None:
    """The canary of a method as it is now; None if it has none, or fails for all inputs.

    Args:
        device: on which the method was loaded.
    """
    if not _has_one(method):
        return None
    try:
        rows = list(_rows(method.spec))
    except TypeError:
        # A plug-in's modality, of which nothing can be made up.
        return None
    if isinstance(method, Captioner | Transcriber):
        method = method.brief()
    given = [row for row in rows if not isinstance(row, ItemError)]
    found = iter(outcomes(method, given) if given else [])
    values = tuple(_kept(method.spec, row if isinstance(row, ItemError) else next(found)) for row in rows)
    if all(isinstance(value, Exception) for value in values):
        return None
    return Canary(values, _circumstances(method, device), datetime.now(UTC).isoformat(timespec="seconds"))


def changed(spec: FeatureSpec, then: Canary, now: Canary) -> Change | None:
    """How a version's values differ between two moments; None if they are the same.

    Vectors are from a cosine on, by the number type that the model computes in, as in its proof; texts if
    they are equal. A row that failed both times tells nothing.
    """
    least = least_cosine(spec)
    for one, other in zip(then.values, now.values, strict=True):
        if isinstance(one, Exception) and isinstance(other, Exception):
            continue
        if what := difference(spec, one, other, least):
            names = {*then.made_by, *now.made_by}
            made_by = {name: (then.made_by.get(name), now.made_by.get(name)) for name in names}
            return Change(what, then.date, {n: pair for n, pair in made_by.items() if pair[0] != pair[1]})
    return None


def disagreement(spec: FeatureSpec, change: Change) -> ValuesChanged:
    """The error that two processes of one run come to different values."""
    return ValuesChanged(
        f"{spec.version}: {spec.model!r} by {spec.method!r} gives other values for the same input in two "
        f"processes of this run: {change}. Rows of the first may have been written.",
        hint="Give all machines of the cluster the same packages and processors, or compute on one: "
        "--executor local.",
    )


def refusal(spec: FeatureSpec, change: Change) -> ValuesChanged:
    """The error that a version's values are others than they were."""
    name = "give the feature another name, so that all of its rows are made anew"
    if change.packages:
        first = f"Install what made the version: pip install {' '.join(change.packages)}. Or {name}."
    else:
        first = f"{name[0].upper()}{name[1:]}."
    return ValuesChanged(
        f"{spec.version}: {spec.model!r} by {spec.method!r} gives other values for the same input than when "
        f"the version was begun: {change}. No row of it was written.",
        hint=f"{first} Or have both in one version: --accept-changed ([run] accept_changed = true).",
    )


def _has_one(method: Method) -> bool:
    spec = method.spec
    return repeats(method) and (spec.form != "text" or spec.compute_dtype == "float32")


def _rows(spec: FeatureSpec) -> Iterator[Row | ItemError]:
    """The inputs of a spec; of a file that cannot be decoded why.

    Raises:
        TypeError: there is an input of which nothing can be made up.
    """
    from_files = any(modalities.is_media(one.modality) for one in spec.given)
    yield from probe(spec, 1 + (_MEDIA_ROWS if from_files else _TEXT_ROWS))[1:]
    if from_files:
        try:
            yield tuple(_decoded(one) for one in spec.given)
        except ItemError as error:
            yield error


def _decoded(read: Input) -> Any:
    """The sample's value of an input that is read from files; of others a made-up one."""
    if read.modality not in FILES:
        return probe_value(read, 1)
    request = MediaRequest(str(FILES[read.modality]), (Wanted.of(read),))
    done = decode_media(request, MediaLimits())
    if done.failure is not None:
        raise done.failure
    value = done.values[0]
    several = isinstance(read.prepare, ImagePrepare) and read.prepare.several is not None
    return Pictures((value.pixels[0],)) if several else value


def _circumstances(method: Method, device: str) -> dict[str, str]:
    found = {"runtime": method.runtime} if method.runtime else {}
    for name in _packages_of_canaries():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | dict(_processor(device))


def _packages_of_canaries() -> Sequence[str]:
    return (*PACKAGES, *_FURTHER_PACKAGES)


def _processor(device: str) -> Iterator[tuple[str, str]]:
    if device.startswith("cuda"):
        import torch

        yield "GPU", torch.cuda.get_device_name(device)
        yield "CUDA", str(torch.version.cuda)
        driver = Path("/proc/driver/nvidia/version")
        if driver.is_file():
            yield "driver", driver.read_text().splitlines()[0]
    elif (cpus := Path("/proc/cpuinfo")).is_file():
        models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")]
        yield from (("CPU", line.partition(":")[2].strip()) for line in models[:1])


def _kept(spec: FeatureSpec, value: Any) -> Any:
    """What a canary keeps of an outcome: of a text not when each part was said; of what is no value, why."""
    if not isinstance(value, Exception) and (problem := value_problem(spec, value)):
        return ItemError("encode", problem)
    return Text(value.text) if isinstance(value, Text) else value


def _packed(value: Any) -> dict[str, Any]:
    if isinstance(value, Exception):
        return {"failure": said(value)}
    if isinstance(value, Text):
        return {"text": value.text}
    numbers = np.ascontiguousarray(value, np.float32)
    return {"shape": list(numbers.shape), "numbers": base64.b64encode(numbers.tobytes()).decode()}


def _unpacked(stored: Mapping[str, Any]) -> Any:
    if "failure" in stored:
        return ItemError("encode", stored["failure"])
    if "text" in stored:
        return Text(stored["text"])
    return np.frombuffer(base64.b64decode(stored["numbers"]), np.float32).reshape(stored["shape"])
