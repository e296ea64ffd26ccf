"""The contract that every method keeps, as checks for tests: those of our own methods and of a plug-in.

A plug-in's whole test may be::

    def test_bands_keep_the_contract():
        check_method(Bands, {"source": "audio", "encoder": "bands", "bands": 8})

A check that fails raises AssertionError and says which promise is broken, and how.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmfeat.extract.agreement import (
    LEAST_COSINE,
    difference,
    differences,
    outcomes,
    said,
    shown,
    value_problem,
)
from mmfeat.extract.base import Method, Placement, Query, Resolvable, Row
from mmfeat.extract.probes import probe, probe_value
from mmfeat.extract.proof import refusal
from mmfeat.extract.registry import resolve_with
from mmfeat.schemas.catalog import MODALITIES, Column
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard
from mmfeat.schemas.validation import validated

_FEATURE = "contract"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".npy", ".onnx", ".gguf", ".h5")


# Everything --------------------------------------------------------------------------------------------


def check_method(
    method: type[Method],
    table: Mapping[str, Any],
    rows: Sequence[Row] | None = None,
    *,
    failing: Sequence[Row] = (),
    columns: Mapping[str, Column] | None = None,
    upstreams: Mapping[str, FeatureSpec] | None = None,
    place: Placement | None = None,
    least_cosine: float = LEAST_COSINE,
) -> Method:
    """Check every promise of a method that computes in this process or on a server.

    Args:
        method: need not be registered.
        table: a feature's table of a job file.
        rows: at least three, of several lengths, not all with the same value; made up by :func:`probe` if
            left out.
        failing: rows that the method cannot compute.
        columns: of the dataset; the usual ones if left out.
        upstreams: features that the table reads, by name.
        place: where the method is loaded.
        least_cosine: between two vectors of one row.

    Returns:
        The method, loaded.
    """
    spec = check_resolve(method, table, columns=columns, upstreams=upstreams)
    loaded = method(spec, place or Placement())
    some = probe(spec) if rows is None else rows
    values = check_values(loaded, some)
    check_passes(loaded, some, values, least_cosine)
    check_order(loaded, some, values, least_cosine)
    check_batches(loaded, some, values, least_cosine)
    check_failing(loaded, some, values, failing, least_cosine)
    check_proof(loaded)
    check_queries(loaded)
    return loaded


# Before anything is loaded -----------------------------------------------------------------------------


def check_resolve(
    method: type[Resolvable],
    table: Mapping[str, Any],
    *,
    columns: Mapping[str, Column] | None = None,
    upstreams: Mapping[str, FeatureSpec] | None = None,
) -> FeatureSpec:
    """Check that a table resolves to one spec, without weights, and that a typo in it is refused.

    Returns:
        The spec.
    """

    def resolve(**changes: Any) -> FeatureSpec:
        return resolve_with(method, _FEATURE, FeatureConfig(**{**table, **changes}), columns, upstreams)

    _need(bool(getattr(method, "reads", ())), f"{method.__name__} does not say what it reads")
    spec = resolve()
    _check_inputs(method, FeatureConfig(**table), spec, upstreams or {})
    _need(resolve() == spec, "a table resolves to one spec today and to another one tomorrow")
    _check_travels(spec)
    _check_unknown_option(method, resolve)
    _check_needs_no_weights(spec, table, resolve)
    _need(
        isinstance(getattr(method, "example", None), ModelCard),
        f"{method.__name__} has no example, the card of a model that it loads",
    )
    _need(isinstance(method.card(spec), ModelCard), "card(spec) gives no ModelCard")
    return spec


def _check_inputs(
    method: type[Resolvable], config: FeatureConfig, spec: FeatureSpec, upstreams: Mapping[str, FeatureSpec]
) -> None:
    """The spec reads what the table and its prompts name, as they name it."""
    if method.reads_through:
        (source,) = config.sources
        _need(spec.inputs == upstreams[source].inputs, f"the spec does not read what {source!r} reads")
        return
    named = method.named(validated(method.Options, config.options, _FEATURE))
    for what, asked in (("table", config.sources), ("prompt", named)):
        of_prompts = what == "prompt"
        read = {one.source: one for one in spec.inputs if (one.named and not spec.composed) == of_prompts}
        _need(set(read) == set(asked), f"the spec reads {sorted(read)}, and the {what} names {sorted(asked)}")
        for source, optional in asked.items():
            above = upstreams.get(source)
            _need(
                read[source].optional == optional and read[source].upstream == (above and above.fingerprint),
                f"the spec's input {source!r} was not made by prepared(), which keeps what is optional "
                "and which feature is read",
            )


def _check_travels(spec: FeatureSpec) -> None:
    """A spec goes to other processes by pickle, and into stores as JSON."""
    copies = {
        "pickle": pickle.loads(pickle.dumps(spec)),
        "JSON": FeatureSpec.model_validate_json(spec.model_dump_json()),
    }
    for way, copy in copies.items():
        _need(
            copy == spec and copy.fingerprint == spec.fingerprint,
            f"the spec is another one after it went through {way}: options must be of JSON's types, "
            "and the keys of objects texts",
        )


def _check_unknown_option(method: type[Resolvable], resolve: Any) -> None:
    known = next(iter(method.Options.model_fields), "")
    typo = known + known[-1] if known else "nonesuch"
    try:
        resolve(**{typo: "x"})
    except ConfigError as error:
        _need(
            repr(typo) in error.message and _FEATURE in error.message,
            f"an unknown option is refused without its name and the feature's: {error.message}",
        )
        _need(
            not known or f"Did you mean {known!r}" in (error.hint or ""),
            f"the option {typo!r} is refused without a word of {known!r}: {error.hint}",
        )
        return
    raise AssertionError(f"the unknown option {typo!r} is taken: Options must forbid what they do not know")


def _check_needs_no_weights(spec: FeatureSpec, table: Mapping[str, Any], resolve: Any) -> None:
    """Resolve once more with a folder whose files of weights are empty."""
    location = spec.weights.location
    if location is None:
        return
    keys = [key for key, value in table.items() if isinstance(value, str) and _is_folder(value, location)]
    with TemporaryDirectory() as place:
        copy = Path(place) / Path(location).name
        for file in Path(location).rglob("*"):
            if file.is_file():
                there = copy / file.relative_to(location)
                there.parent.mkdir(parents=True, exist_ok=True)
                there.write_bytes(b"" if file.suffix in _WEIGHTS else file.read_bytes())
        try:
            without = resolve(**dict.fromkeys(keys, str(copy)))
        except Exception as error:
            raise AssertionError(f"the table cannot be resolved without its weights: {error}") from error
    _need(
        without.model_copy(update={"weights": spec.weights}) == spec,
        "without its weights a table resolves to another spec",
    )


def _is_folder(value: str, location: str) -> bool:
    return Path(value).expanduser().resolve() == Path(location).resolve()


# What is computed --------------------------------------------------------------------------------------


def check_values(method: Method, rows: Sequence[Row]) -> list[Any]:
    """Check that there is one value per row, as the spec says it: shape, dtype, finite numbers, texts.

    Returns:
        The values, which the other checks hold theirs against.
    """
    try:
        values = list(method.run(rows))
    except Exception as error:
        raise AssertionError(f"run raises {said(error)} for rows that are all right") from error
    _need(len(values) == len(rows), f"run gives {len(values)} values for {len(rows)} rows")
    for number, value in enumerate(values):
        if problem := value_problem(method.spec, value):
            raise AssertionError(f"row {number}: {problem}")
    return values


def check_proof(method: Method) -> None:
    """Check that a run would load the method: that it proves itself on made-up rows
    (:mod:`mmfeat.extract.proof`). One that those say nothing to is loaded too."""
    error = refusal(method)
    _need(error is None, f"a run refuses it: {error}")


def check_passes(
    method: Method, rows: Sequence[Row], values: Sequence[Any], least_cosine: float = LEAST_COSINE
) -> None:
    """Check that the same rows have the same values once more."""
    again = outcomes(method, rows)
    _refuse(differences(method.spec, values, again, least_cosine), "a second pass gives other values")


def check_order(
    method: Method, rows: Sequence[Row], values: Sequence[Any], least_cosine: float = LEAST_COSINE
) -> None:
    """Check that values follow their rows, in whatever order these come."""
    spec = method.spec
    _need(
        any(difference(spec, values[0], other, least_cosine) for other in values[1:]),
        "every row has the same value, so nothing tells whether values follow their rows; "
        "give rows that differ",
    )
    backwards = outcomes(method, rows[::-1])[::-1]
    for number, (one, other) in enumerate(zip(values, backwards, strict=True)):
        if difference(spec, one, other, least_cosine) is None:
            continue
        for place, strange in enumerate(values):
            _need(
                bool(difference(spec, strange, other, least_cosine)),
                f"values do not follow their rows: row {number} gets the value of row {place} "
                "when all rows come in the opposite order",
            )


def check_batches(
    method: Method, rows: Sequence[Row], values: Sequence[Any], least_cosine: float = LEAST_COSINE
) -> None:
    """Check that a row's value is the same alone, in batches and with all other rows."""
    alone = [value for row in rows for value in outcomes(method, [row])]
    in_threes = [value for k in range(0, len(rows), 3) for value in outcomes(method, rows[k : k + 3])]
    for how, others in {"alone": alone, "in a smaller batch": in_threes}.items():
        _refuse(differences(method.spec, values, others, least_cosine), f"a row's value is another one {how}")


def check_failing(
    method: Method,
    rows: Sequence[Row],
    values: Sequence[Any],
    failing: Sequence[Row],
    least_cosine: float = LEAST_COSINE,
) -> None:
    """Check that rows which cannot be computed fail, and leave the values of all others as they are.

    Args:
        rows: rows that are all right.
        failing: a method may raise for the batch that one of these is in, or give an ItemError in its place.
    """
    middle = len(rows) // 2
    for number, row in enumerate(failing):
        (alone,) = outcomes(method, [row])
        _need(isinstance(alone, Exception), f"failing row {number} has a value: {shown(alone)}")
        mixed = outcomes(method, [*rows[:middle], row, *rows[middle:]])
        taken = mixed.pop(middle)
        _need(
            isinstance(taken, Exception),
            f"failing row {number} fails alone and has a value beside others: {shown(taken)}",
        )
        _refuse(
            differences(method.spec, values, mixed, least_cosine),
            f"failing row {number} changes the values of others",
        )


def check_queries(method: Method) -> None:
    """Check of every modality that the feature either can be searched by it, or says that it cannot be."""
    spec = method.spec
    for modality in MODALITIES:
        try:
            query = method.query(modality)
        except Exception as error:
            raise AssertionError(
                f"query({modality!r}) raises {said(error)}; where nothing can be searched it gives None"
            ) from error
        if query is None:
            continue
        _need(isinstance(query, Query), f"query({modality!r}) gives no Query")
        _need(
            spec.form != "text", f"query({modality!r}) gives a Query, and texts are not searched by vectors"
        )
        _check_query(spec, modality, query)


def _check_query(spec: FeatureSpec, modality: str, query: Query) -> None:
    _need(
        modality == "text" or query.prepare is not None,
        f"query({modality!r}) does not say how such a thing is prepared",
    )
    asked = [
        probe_value(Input(source="query", modality=modality, prepare=query.prepare), n) for n in range(3)
    ]
    found = np.asarray(query.encode(asked))
    wanted = (len(asked), *spec.shape)
    _need(
        found.dtype == np.float32 and found.shape == wanted,
        f"query({modality!r}) gives {found.dtype} {found.shape} instead of float32 {wanted}",
    )


# Words -------------------------------------------------------------------------------------------------


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _refuse(differing: Sequence[str], what: str) -> None:
    _need(not differing, f"{what}: {'; '.join(differing[:3])}")
