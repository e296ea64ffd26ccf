"""Encoders and captioners by name. A new one is one file and one line here, or an entry point elsewhere.

Other packages add theirs in the entry point group ``mmfeat.models``: ``NAME = "module:Class"``, the
class an :class:`~mmfeat.extract.base.Encoder` or a :class:`~mmfeat.extract.base.Captioner`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Literal

from mmfeat.extract.base import Captioner, Encoder, Model, Work
from mmfeat.extract.gc_pause import collected_afterwards
from mmfeat.extract.options import close_matches
from mmfeat.extract.runtimes.runtime import use_torch_threads
from mmfeat.schemas.catalog import SOURCES
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.server import Sending
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard

ENTRY_POINT_GROUP = "mmfeat.models"

Output = Literal["vector", "text"]

_ENCODERS = {
    "open_clip": "mmfeat.extract.encoders.open_clip:OpenClip",
    "transformers": "mmfeat.extract.encoders.transformers:TransformersEncoder",
    "timm": "mmfeat.extract.encoders.timm:Timm",
    "sentence_transformers": "mmfeat.extract.encoders.sentence_transformers:SentenceTransformers",
    "efficientnet_lite": "mmfeat.extract.encoders.efficientnet_lite:EfficientNetLite",
}
_CAPTIONERS = {
    "transformers": "mmfeat.extract.describers.captions.transformers:TransformersCaptioner",
    "openai": "mmfeat.extract.describers.captions.openai:OpenAICaptioner",
    "vllm": "mmfeat.extract.describers.captions.vllm:VllmCaptioner",
    "imagenet_tags": "mmfeat.extract.describers.imagenet_tags:ImageNetTags",
}
_KINDS: dict[Output, tuple[str, type[Model], dict[str, str]]] = {
    "vector": ("encoder", Encoder, _ENCODERS),
    "text": ("captioner", Captioner, _CAPTIONERS),
}


@dataclass(frozen=True)
class Method:
    """One line of a listing.

    Attributes:
        kind: ``encoder`` or ``captioner``.
        example: the card of a well-known model of this method; None where it cannot be loaded.
        problem: why it cannot be loaded.
    """

    name: str
    kind: str
    example: ModelCard | None
    problem: str | None = None


def model_class(method: str, output: Output = "vector") -> type[Model]:
    """The encoder of that name, or with ``output="text"`` the captioner; imported when first wanted.

    Raises:
        ConfigError: there is none, or its module cannot be imported.
    """
    kind, base, own = _KINDS[output]
    others = _entry_points()
    target = own.get(method) or others.get(method)
    if target is None:
        known = sorted({*own, *others})
        raise ConfigError(
            f"there is no {kind} {method!r}",
            hint=f"{close_matches(method, known)}There are: {', '.join(known)}.",
        )
    model = _imported(kind, method, target)
    if not issubclass(model, base):
        raise ConfigError(f"{method!r} ({target}) is not a {kind}")
    return model


def class_of(spec: FeatureSpec) -> type[Model]:
    """The encoder or captioner of a spec.

    Raises:
        ConfigError: no model makes such a feature, or its module cannot be imported.
    """
    if spec.output == "codes":
        raise ConfigError(f"{spec.version} holds codes, which no encoder or captioner makes")
    return model_class(spec.method, spec.output)


def asks_server(spec: FeatureSpec) -> bool:
    """Whether a feature's model is on a server."""
    return spec.output == "text" and model_class(spec.method, "text").asks_server


def load_model(
    spec: FeatureSpec,
    device: str,
    sending: Sending | None = None,
    *,
    threads: int | None = None,
    expected: int | None = None,
) -> Model:
    """The model of a spec, its weights loaded on ``device`` (``cpu``, ``cuda``).

    Args:
        sending: how a model on a server is asked.
        threads: compute threads that it may use; None for as many as its library takes.
        expected: items that it will be given. Where many are, or a converted network is at hand, a CPU's
            pictures go through OpenVINO (:mod:`mmfeat.extract.runtimes.runtime`); None for torch in any case.

    Raises:
        ConfigError: no model makes such a feature, or its weights cannot be loaded.
    """
    model = class_of(spec)
    make: Callable[..., Model] = model
    if model.asks_server:
        return make(spec, device, sending)
    with collected_afterwards():
        if model.weighs_work:
            return make(spec, device, Work(threads, expected))
        use_torch_threads(threads)
        return make(spec, device)


def resolve_all(configs: dict[str, FeatureConfig]) -> list[FeatureSpec]:
    """The specs of a job's features, each after the feature that it reads.

    Args:
        configs: feature name to what a person wrote; the order is kept where dependencies allow it.

    Raises:
        ConfigError: an unknown method or source, a source that is a vector feature, a cycle, or what
            the method itself refuses.
    """
    specs: dict[str, FeatureSpec] = {}
    for name in _in_order(configs):
        config = configs[name]
        upstream = specs.get(config.source)
        if upstream is not None and upstream.output != "text":
            raise ConfigError(
                f"feature {name!r} reads {config.source!r}, which is a vector feature",
                hint="A feature can read an item's title, description or media, or a captioner's text.",
            )
        spec = _class_of(name, config).resolve(name, config, upstream)
        if upstream is not None:
            spec = spec.model_copy(update={"upstream": upstream.fingerprint})
        specs[name] = spec
    return list(specs.values())


def methods() -> list[Method]:
    """Every encoder and captioner with an example, encoders first, by name."""
    return [_listed(name, output) for output in _KINDS for name in sorted(_names(output))]


def _in_order(configs: dict[str, FeatureConfig]) -> Iterator[str]:
    for name, config in configs.items():
        if name in SOURCES:
            raise ConfigError(f"feature {name!r} has the name of an item's source", hint="Rename it.")
        if config.source not in SOURCES and config.source not in configs:
            known = [*SOURCES, *configs]
            raise ConfigError(
                f"feature {name!r} reads {config.source!r}, which is neither a source nor a feature",
                hint=f"{close_matches(config.source, known)}There are: {', '.join(known)}.",
            )
    done: set[str] = set()
    for name in configs:
        path: list[str] = []
        while name in configs and name not in done:
            if name in path:
                circle = " reads ".join(map(repr, [*path[path.index(name) :], name]))
                raise ConfigError(f"features read each other in a circle: {circle}")
            path.append(name)
            name = configs[name].source
        done.update(path)
        yield from reversed(path)


def _class_of(name: str, config: FeatureConfig) -> type[Model]:
    try:
        return model_class(config.method, "vector" if config.encoder else "text")
    except ConfigError as error:
        raise ConfigError(f"feature {name!r}: {error.message}", hint=error.hint) from error


def _entry_points() -> dict[str, str]:
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


def _names(output: Output) -> set[str]:
    """Names of one kind. What cannot be imported is listed as an encoder: it must be seen somewhere."""
    _, base, own = _KINDS[output]
    names = set(own)
    for name, target in _entry_points().items():
        try:
            fits = issubclass(_imported("model", name, target), base)
        except ConfigError:
            fits = output == "vector"
        if fits:
            names.add(name)
    return names


def _listed(name: str, output: Output) -> Method:
    kind = _KINDS[output][0]
    try:
        return Method(name, kind, model_class(name, output).example)
    except ConfigError as error:
        # One broken third-party package must not hide the others.
        return Method(name, kind, None, error.message)


def _imported(kind: str, method: str, target: str) -> type[Model]:
    module, _, attribute = target.partition(":")
    try:
        model: type[Model] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the {kind} {method!r} ({target}) cannot be imported: {error}") from error
    return model
