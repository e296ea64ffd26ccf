"""Every model proves itself when it is loaded: a value must depend neither on chance nor on a neighbour.

Two made-up rows, the second of them longer, go through the method three times: together, together in the
opposite order, and the first one alone. What a row gets must be the same each time, or the method is refused
before it has computed anything of a dataset. What was proved is kept (:mod:`mmfeat.extract.localcache`), so
that it costs once on a machine.

Vectors are the same from a cosine on, in half precision from a lower one: its rounding depends on the size
of a batch. Texts are the same if they are equal. A language model proves it for a few tokens at temperature
0; in half precision for two equal batches alone, since there the rounding of another batch may turn a word.
What runs on a server, samples, or reads what cannot be made up, proves nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfeat.extract.agreement import LEAST_COSINE, difference, outcomes, said, value_problem
from mmfeat.extract.base import Captioner, Method, Placement, Row, Transcriber
from mmfeat.extract.localcache import remembered
from mmfeat.extract.probes import probe
from mmfeat.extract.weights import file_digest, identity, missing_package
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

#: Between two vectors of one row that are held to be the same, by the number type that the model computes in
#: (seen on a CPU: bfloat16 0.99992 or more, float16 0.999998, float32 1.0000000; faults had 0.2 to 0.9).
LEAST_COSINES: dict[ComputeDtype, float] = {"float32": LEAST_COSINE, "float16": 0.999, "bfloat16": 0.99}

# Number types of plug-ins, quantized ones for example.
_LEAST_OF_OTHERS = min(LEAST_COSINES.values())

# What is proved, and how; raised when that changes.
_FORMAT = 1
# What decides values, whatever the column is called.
_OF_INPUTS = {"modality", "prepare", "optional"}
_OF_SPECS = {"output", "method", "method_version", "model", "options"}
_CHANCE = (
    "Its values would be other ones in every run. Such models leave dropout on, or mask or crop at random: "
    "take one that does not, or switch that off where its configuration can."
)
_NEIGHBOUR = (
    "Its values would depend on what else is in a batch, most often on padding that no mask hides: take a "
    "model that masks its padding."
)
_NOT_FINITE: dict[ComputeDtype, str] = {
    "float32": "Its weights may be damaged, or of another model.",
    "bfloat16": 'Set dtype = "float32".',
    "float16": 'Its numbers are too large for float16: set dtype = "bfloat16" or "float32".',
}


class _Unproved(Exception):
    """There is nothing to prove a method with; the message says why."""


def prove(method: Method, place: Placement) -> None:
    """Refuse a method whose values depend on chance or on their neighbours.

    Where its values cannot be compared, a note of the method says so.

    Raises:
        ConfigError: it is refused, or lacks a package; the message names model and feature, what differed,
            and what can be done.
    """
    if not repeats(method):
        return
    try:
        remembered(_facts(method, place), lambda: _proved(method), kind="proofs")
    except _Unproved as why:
        method.notes = (*method.notes, f"{method.spec.name} could not prove that its values repeat: {why}")


def least_cosine(spec: FeatureSpec) -> float:
    """From which cosine on two vectors of one row are held to be the same."""
    return LEAST_COSINES.get(spec.compute_dtype, _LEAST_OF_OTHERS)


def refusal(method: Method) -> ConfigError | None:
    """Why a method is refused, whatever was proved before; None if it is not."""
    try:
        if repeats(method):
            _proved(method)
    except ConfigError as error:
        return error
    except _Unproved:
        return None
    return None


def repeats(method: Method) -> bool:
    """Whether a method's values must repeat: its model is in this process, and does not sample."""
    decoding = method.spec.decoding
    return method.runs == "here" and (decoding is None or decoding.temperature == 0)


def _facts(method: Method, place: Placement) -> dict[str, Any]:
    """All that decides what a proof finds, but for what every name in the cache is made of."""
    spec, own = method.spec, type(method)
    device = place.device
    if device.startswith("cuda"):
        import torch

        device = f"{device} {torch.cuda.get_device_name(device)}"
    source = getattr(sys.modules.get(own.__module__), "__file__", None)
    return {
        "format": _FORMAT,
        "inputs": [one.model_dump(mode="json", include=_OF_INPUTS) for one in spec.given],
        "spec": spec.model_dump(mode="json", include=_OF_SPECS),
        "weights": identity(spec.weights),
        "runtime": method.runtime,
        "device": device,
        "class": f"{own.__module__}.{own.__qualname__}",
        "source": source and Path(source).is_file() and file_digest(Path(source)),
    }


def _proved(method: Method) -> dict[str, Any]:
    """What is kept of a proof.

    Raises:
        ConfigError, _Unproved: there is none.
    """
    spec = method.spec
    try:
        rows = probe(spec, 3)[1:]
    except TypeError as error:
        raise _Unproved(str(error)) from error
    if isinstance(method, Captioner | Transcriber):
        method = method.brief()
    together = _values(method, rows)
    if spec.form == "text" and spec.compute_dtype != "float32":
        # Rounding differs from batch to batch, and may turn a word.
        _compare(spec, together, _values(method, rows), "in a second pass", _CHANCE)
        return {"rows": len(rows)}
    _compare(spec, together, _values(method, rows[::-1])[::-1], "in a second pass", _CHANCE)
    _compare(spec, together[:1], _values(method, rows[:1]), "alone", _NEIGHBOUR)
    return {"rows": len(rows)}


def _values(method: Method, rows: Sequence[Row]) -> list[Any]:
    """A value, or the exception that stands for it, per row.

    Raises:
        ConfigError: a package is not installed, or there is NaN or infinity.
        _Unproved: no row has a value.
    """
    spec, found = method.spec, outcomes(method, rows)
    for outcome in found:
        if isinstance(outcome, Exception) and (lack := missing_package(spec.name, spec.model, outcome)):
            raise lack from outcome
        if not isinstance(outcome, Exception) and spec.form != "text":
            _check_value(spec, outcome)
    if all(isinstance(outcome, Exception) for outcome in found):
        raise _Unproved(f"it fails for made-up inputs: {said(found[0])}")
    return found


def _check_value(spec: FeatureSpec, value: Any) -> None:
    problem = value_problem(spec, value)
    if problem is None:
        return
    hint = "A plug-in's own test finds such things: mmfeat.extract.testing."
    if problem == "NaN or infinity":
        hint = _NOT_FINITE.get(spec.compute_dtype, _NOT_FINITE["bfloat16"])
        problem = f"{problem} in {spec.compute_dtype}"
    raise ConfigError(f"feature {spec.name!r}: {_model(spec)} gives {problem} for a made-up input", hint=hint)


def _compare(spec: FeatureSpec, values: Sequence[Any], others: Sequence[Any], when: str, hint: str) -> None:
    """ConfigError where two lists of outcomes of the same rows differ. A row that failed proves nothing."""
    least = least_cosine(spec)
    for one, other in zip(values, others, strict=True):
        if isinstance(one, Exception) or isinstance(other, Exception):
            continue
        if what := difference(spec, one, other, least):
            raise ConfigError(
                f"feature {spec.name!r}: {_model(spec)} gives the same input another value {when}: {what}"
                + ("" if spec.form == "text" else f"; in {spec.compute_dtype} it must be {least} or more"),
                hint=hint,
            )


def _model(spec: FeatureSpec) -> str:
    return f"{spec.model!r} by {spec.method!r}"
