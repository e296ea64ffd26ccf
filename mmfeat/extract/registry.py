"""Methods by kind and name. A new one is one file and one line here, or an entry point elsewhere.

Other packages add theirs in the entry point groups ``mmfeat.encoders``, ``mmfeat.captioners``,
``mmfeat.transcribers``, ``mmfeat.ocr``, ``mmfeat.quantizers`` and ``mmfeat.transforms``, or in
``mmfeat.models`` whatever their kind: ``NAME = "module:Class"``, the class an
:class:`~mmfeat.extract.base.Encoder`, a :class:`~mmfeat.extract.base.Captioner`, a
:class:`~mmfeat.extract.base.Transcriber` or an :class:`~mmfeat.extract.base.Ocr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from mmfeat.extract.ablations import ablations_of
from mmfeat.extract.base import (
    Ask,
    AskedInput,
    Captioner,
    Encoder,
    Method,
    Ocr,
    Placement,
    Resolvable,
    Transcriber,
)
from mmfeat.extract.fitted.base import Fitted
from mmfeat.extract.proof import prove
from mmfeat.schemas.catalog import NUMBER, USUAL_COLUMNS, Column, readable
from mmfeat.schemas.composed import composed_text
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.registry import Listing, Registry
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec, ModelCard
from mmfeat.schemas.validation import keys_of, near, validated

_ANY_KIND = "mmfeat.models"


def _registry(
    kind: str, base: type, own: Mapping[str, str], groups: Sequence[str]
) -> Registry[type[Resolvable]]:
    """The methods of one kind, which are subclasses of ``base``."""
    return Registry(
        kind,
        own,
        groups,
        fits=lambda thing: isinstance(thing, type) and issubclass(thing, base),
        error=ConfigError,
    )


_ENCODERS = {
    "open_clip": "mmfeat.extract.encoders.open_clip:OpenClip",
    "transformers": "mmfeat.extract.encoders.transformers:TransformersEncoder",
    "transformers_video": "mmfeat.extract.encoders.transformers_video:TransformersVideo",
    "timm": "mmfeat.extract.encoders.timm:Timm",
    "sentence_transformers": "mmfeat.extract.encoders.sentence_transformers.encoder:SentenceTransformers",
    "mllm": "mmfeat.extract.encoders.mllm.encoder:Mllm",
    "openai": "mmfeat.extract.encoders.openai:OpenAIEncoder",
    "vllm": "mmfeat.extract.encoders.vllm:VllmEncoder",
    "efficientnet_lite": "mmfeat.extract.encoders.efficientnet_lite:EfficientNetLite",
    "clap": "mmfeat.extract.encoders.clap:Clap",
    "transformers_audio": "mmfeat.extract.encoders.transformers_audio:TransformersAudio",
    "yamnet": "mmfeat.extract.encoders.yamnet:Yamnet",
    "decoder_states": "mmfeat.extract.describers.captions.decoder_states:DecoderStates",
}
_CAPTIONERS = {
    "transformers": "mmfeat.extract.describers.captions.transformers:TransformersCaptioner",
    "openai": "mmfeat.extract.describers.captions.openai:OpenAICaptioner",
    "vllm": "mmfeat.extract.describers.captions.vllm:VllmCaptioner",
    "imagenet_tags": "mmfeat.extract.describers.imagenet_tags:ImageNetTags",
    "yamnet_tags": "mmfeat.extract.describers.yamnet_tags:YamnetTags",
}
_TRANSCRIBERS = {
    "whisper": "mmfeat.extract.describers.transcripts.whisper:Whisper",
    "openai": "mmfeat.extract.describers.transcripts.openai:OpenAITranscriber",
}
_OCR = {"rapidocr": "mmfeat.extract.describers.ocr.rapidocr:RapidOcr"}
_QUANTIZERS = {
    "balanced_kmeans": "mmfeat.extract.fitted.codes.balanced_kmeans:BalancedKMeans",
    "opq": "mmfeat.extract.fitted.codes.product:RotatedProductQuantizer",
    "pq": "mmfeat.extract.fitted.codes.product:ProductQuantizer",
    "residual_kmeans": "mmfeat.extract.fitted.codes.residual_kmeans:ResidualKMeans",
    "rqvae": "mmfeat.extract.fitted.codes.rqvae:RqVae",
}
_TRANSFORMS = {
    "fuse": "mmfeat.extract.fitted.transforms.fuse:Fuse",
    "int8": "mmfeat.extract.fitted.transforms.int8:Int8",
    "pca": "mmfeat.extract.fitted.transforms.pca:Pca",
    "project": "mmfeat.extract.fitted.transforms.pca:Project",
    "truncate": "mmfeat.extract.fitted.transforms.truncate:Truncate",
    "whiten": "mmfeat.extract.fitted.transforms.pca:Whiten",
}
#: The registries of methods, by the key of a feature's table that names one.
METHODS: dict[str, Registry[type[Resolvable]]] = {
    methods.what: methods
    for methods in (
        _registry("encoder", Encoder, _ENCODERS, ("mmfeat.encoders", _ANY_KIND)),
        _registry("captioner", Captioner, _CAPTIONERS, ("mmfeat.captioners", _ANY_KIND)),
        _registry("transcriber", Transcriber, _TRANSCRIBERS, ("mmfeat.transcribers", _ANY_KIND)),
        _registry("ocr", Ocr, _OCR, ("mmfeat.ocr", _ANY_KIND)),
        _registry("quantizer", Fitted, _QUANTIZERS, ("mmfeat.quantizers",)),
        _registry("transform", Fitted, _TRANSFORMS, ("mmfeat.transforms",)),
    )
}
_KIND_OF_ROLE = {"transcript": "transcriber", "ocr": "ocr"}


@dataclass(frozen=True)
class MethodListing:
    """One line of a listing.

    Attributes:
        kind: the key that names it in a feature's table.
        example: the card of a well-known model of this method; None if there is none to show.
        problem: why there is none.
    """

    name: str
    kind: str
    example: ModelCard | None
    problem: str | None = None


def class_of(spec: FeatureSpec) -> type[Method]:
    """The method of a spec.

    Raises:
        ConfigError: no method makes such a feature, or its module cannot be imported.
    """
    if spec.form == "codes":
        raise ConfigError(f"{spec.version} holds codes, which no model makes of an item by itself")
    if spec.is_imported:
        raise ConfigError(
            f"{spec.version} was imported, and what made its vectors is not here",
            hint="Search it by --item, or search a feature whose model reads such things.",
        )
    if spec.is_fitted:
        raise ConfigError(
            f"{spec.version} is made of {spec.source}, and no model makes it of an item by itself",
            hint=f"Search it by --item, or search {spec.source}.",
        )
    kind = "encoder" if spec.role is None else _KIND_OF_ROLE.get(spec.role, "captioner")
    found = METHODS[kind].get(spec.method)
    assert issubclass(found, Method), "all but what is fitted are methods"
    return found


def load_method(spec: FeatureSpec, place: Placement | None = None) -> Method:
    """The method of a spec, its weights loaded, whose values repeat (:mod:`mmfeat.extract.proof`).

    Raises:
        ConfigError: no method makes such a feature, its weights cannot be loaded, or its values depend on
            chance or on what else is in a batch.
    """
    method, where = class_of(spec), place or Placement()
    loaded = method(spec, where)
    prove(loaded, where)
    return loaded


def shared_models(specs: Sequence[FeatureSpec], numbers: Sequence[int]) -> dict[int, int]:
    """Of features by number, those that the loaded model of another one computes: to the number of that one.

    They come out of its pass, or are an ablation of the same feature.
    """
    found = {}
    for at, number in enumerate(numbers):
        spec = specs[number]
        givers = (n for n in numbers if n != number and class_of(spec).comes_with(spec, specs[n]))
        alike = (n for n in numbers[:at] if specs[n].shares_model(spec))
        if (other := next(chain(givers, alike), None)) is not None:
            found[number] = other
    return found


def load_methods(
    specs: Sequence[FeatureSpec], numbers: Sequence[int], place: Callable[[int], Placement]
) -> dict[int, Method]:
    """The methods of some of the specs by number, as :func:`load_method` gives them, each model once.

    Args:
        place: of the spec of a number.
    """
    loaded: dict[int, Method] = {}
    shared = shared_models(specs, numbers)
    for number in numbers:
        first = loaded.get(shared.get(number, -1))
        if first is not None and first.spec.shares_model(specs[number]):
            loaded[number] = first.reading(specs[number])
            prove(loaded[number], place(number))
        else:
            # One that comes out of another's pass reads what that one reads, and stands behind it.
            loaded[number] = load_method(specs[number], replace(place(number), beside=first))
    return loaded


def methods() -> list[MethodListing]:
    """Every method with an example, encoders first, by name. What cannot be loaded is listed once."""
    found: dict[tuple[str, str], MethodListing] = {}
    for kind, registry in METHODS.items():
        for one in registry.listing():
            # What cannot be loaded may be of any kind.
            key = (one.name, kind if one.thing else one.target)
            found.setdefault(key, _listed(one, kind))
    return list(found.values())


def _listed(one: Listing[type[Resolvable]], kind: str) -> MethodListing:
    if one.thing is None:
        return MethodListing(one.name, kind, None, one.problem)
    example = getattr(one.thing, "example", None)
    problem = None if example else f"{one.target} has no example, the card of a model that it loads"
    return MethodListing(one.name, kind, example, problem)


def resolve_all(
    configs: Mapping[str, FeatureConfig],
    columns: Mapping[str, Column] | None = None,
    stored: Mapping[str, FeatureSpec] | None = None,
) -> list[FeatureSpec]:
    """The specs of a job's features, each after the features that it reads.

    Args:
        configs: feature name to what a person wrote; the order is kept where dependencies allow it.
        columns: what the dataset has; the usual columns if nothing is known of it.
        stored: features that the job's can read beside, and that it does not make: imported ones. A column or
            a feature of the job goes before one of the same name.

    Raises:
        ConfigError: an unknown method, option or source, something that a method cannot read, a circle,
            or what the method itself refuses.
    """
    known = _columns(columns)
    beside = {
        name: spec for name, spec in (stored or {}).items() if name not in known and name not in configs
    }
    names = [*known, *configs, *beside]
    asked = {name: _Asked.of(name, config, names) for name, config in configs.items()}
    specs: dict[str, FeatureSpec] = {}
    for name in _in_order(asked, known):
        specs[name] = asked[name].resolved(known, {**beside, **specs})
    ablations = [
        one
        for name, ask in asked.items()
        if ask.config.ablate
        for one in ablations_of(specs[name], ask.method, names)
    ]
    return [*specs.values(), *ablations]


def resolve_one(name: str, config: FeatureConfig, upstreams: Mapping[str, FeatureSpec]) -> FeatureSpec:
    """The spec of a feature that reads features which are resolved; ConfigError as :func:`resolve_all`."""
    return _Asked.of(name, config, list(upstreams)).resolved({}, upstreams)


def resolve_with(
    method: type[Resolvable],
    name: str,
    config: FeatureConfig,
    columns: Mapping[str, Column] | None = None,
    upstreams: Mapping[str, FeatureSpec] | None = None,
) -> FeatureSpec:
    """The spec of a feature by a method that need not be registered; ConfigError as :func:`resolve_all`."""
    known, specs = _columns(columns), dict(upstreams or {})
    return _Asked.by(method, name, config, [*known, *specs]).resolved(known, specs)


def _columns(columns: Mapping[str, Column] | None) -> dict[str, Column]:
    """What can be read of a dataset's columns; of the usual ones if nothing is known of it."""
    return readable({c.name: c for c in USUAL_COLUMNS} if columns is None else dict(columns))


@dataclass(frozen=True)
class _Asked:
    """A feature's table with its method and its options, both known to exist."""

    name: str
    config: FeatureConfig
    method: type[Resolvable]
    options: Any
    named: Mapping[str, bool]

    @classmethod
    def of(cls, name: str, config: FeatureConfig, known: Sequence[str]) -> _Asked:
        """ConfigError for an unknown method, option or source."""
        try:
            method = METHODS[config.kind].get(config.method)
        except ConfigError as error:
            raise ConfigError(f"feature {name!r}: {error.message}", hint=error.hint) from error
        return cls.by(method, name, config, known)

    @classmethod
    def by(cls, method: type[Resolvable], name: str, config: FeatureConfig, known: Sequence[str]) -> _Asked:
        """ConfigError for an unknown option or source, or one that is named twice."""
        if len(config.sources) < len(config.inputs):
            twice = next(
                n for n in config.sources if sum(one.removesuffix("?") == n for one in config.inputs) > 1
            )
            raise ConfigError(f"feature {name!r}: inputs names {twice!r} twice", hint="Name it once.")
        options = _options(name, config, method)
        asked = cls(name, config, method, options, method.named(options))
        for source in asked.reads:
            if source not in known:
                raise ConfigError(
                    f"feature {name!r} reads {source!r}, which is neither a column nor a feature",
                    hint=f"{near(source, known)}There are: {', '.join(known)}.",
                )
        return asked

    @property
    def reads(self) -> dict[str, bool]:
        """Everything that is read, and whether an item may lack it."""
        return {**self.named, **self.config.sources}

    def resolved(self, columns: Mapping[str, Column], specs: Mapping[str, FeatureSpec]) -> FeatureSpec:
        """The spec, given those of the features that are read."""

        def inputs(sources: Mapping[str, bool], known: Mapping[str, Column]) -> tuple[AskedInput, ...]:
            return tuple(_asked_input(source, lacks, known, specs) for source, lacks in sources.items())

        braces = {name: _in_braces(column) for name, column in columns.items()}
        read = inputs(self.config.sources, columns if self.config.text is None else braces)
        named = inputs(dict(sorted(self.named.items())), braces)
        asked = Ask(self.name, self.config.kind, self.config.method, read, named, self.options)
        ask = asked if self.config.text is None else _composed(asked, self.config.text)
        _check_reads(ask, self.method)
        return self.method.resolve(ask)


def _composed(ask: Ask[Any], said: str) -> Ask[Any]:
    """The question for one text, which is made of what was asked for."""
    return replace(ask, inputs=(AskedInput("text", "text"),), composed=composed_text(said), parts=ask.inputs)


def _in_braces(column: Column) -> Column:
    """The column as a text that names it reads it: a number is a text there."""
    return Column(column.name, "text") if column.modality == NUMBER else column


def _asked_input(
    source: str, optional: bool, columns: Mapping[str, Column], specs: Mapping[str, FeatureSpec]
) -> AskedInput:
    upstream = specs.get(source)
    if upstream is not None:
        return AskedInput(source, "text" if upstream.form == "text" else VECTOR, False, optional, upstream)
    column = columns[source]
    return AskedInput(source, column.modality, column.several, optional)


def _options(name: str, config: FeatureConfig, method: type[Resolvable]) -> Any:
    known = keys_of(method.Options)
    if unknown := [key for key in config.options if key not in known]:
        others = [
            f"{one.name} ({_readable(one.thing)})"
            for one in METHODS[config.kind].listing()
            if one.thing is not None and unknown[0] in keys_of(one.thing.Options)
        ]
        where = f" {', '.join(others)} {'has' if len(others) == 1 else 'have'} it." if others else ""
        raise ConfigError(
            f"feature {name!r}: {config.kind} {config.method!r} has no option "
            f"{', '.join(map(repr, sorted(unknown)))}",
            hint=f"{near(unknown[0], known)}It has: {', '.join(sorted(known)) or 'none'}.{where}",
        )
    return validated(method.Options, config.options, f"feature {name!r}", {"base": config.base})


def _check_reads(ask: Ask[Any], method: type[Resolvable]) -> None:
    """ConfigError unless the method can read these inputs in one feature; names must be texts."""
    for one in (*ask.named, *ask.parts):
        if one.modality != "text":
            what = "text" if one in ask.parts else "a prompt"
            raise ask.error(
                f"{what} names {{{one.source}}}, which is {_what(one)}",
                "Braces can name texts, numbers, and features that hold texts.",
            )
    if all(one.optional for one in ask.inputs):
        raise ask.error(
            f"an item may lack everything that is read: {', '.join(one.source for one in ask.inputs)}",
            "Take the question mark from one of them.",
        )
    modalities = [one.modality for one in ask.inputs]
    fitting = [reads for reads in method.reads if set(modalities) <= set(reads.modalities)]
    if not fitting:
        strange = next(
            (one for one in ask.inputs if not any(one.modality in r.modalities for r in method.reads)),
            ask.inputs[0],
        )
        raise ask.error(
            f"{ask.kind} {ask.method!r} cannot read {strange.source!r}, which is {_what(strange)}",
            f"It reads: {_readable(method)}.",
        )
    if len(modalities) > 1 and not any(reads.together for reads in fitting):
        raise ask.error(
            f"{ask.kind} {ask.method!r} reads one input, and inputs names {len(modalities)}",
            "Make a feature of each.",
        )


_OF_COLUMNS = {"text": "text", "image": "a picture", "video": "a clip", "audio": "sound", NUMBER: "a number"}


def _what(one: AskedInput) -> str:
    if one.upstream is None:
        return _OF_COLUMNS[one.modality]
    return f"a feature of {one.upstream.kind}"


def _readable(method: type[Resolvable]) -> str:
    return ", ".join(dict.fromkeys(m for reads in method.reads for m in reads.modalities))


def _in_order(asked: Mapping[str, _Asked], columns: Mapping[str, Column]) -> Iterator[str]:
    for name in asked:
        if name in columns:
            raise ConfigError(f"feature {name!r} has the name of a column", hint="Rename it.")
    done: set[str] = set()
    for name in asked:
        yield from _with_upstreams(name, asked, done, ())


def _with_upstreams(
    name: str, asked: Mapping[str, _Asked], done: set[str], path: tuple[str, ...]
) -> Iterator[str]:
    """A feature after those that it reads, none of them twice."""
    if name in path:
        circle = " reads ".join(map(repr, [*path[path.index(name) :], name]))
        raise ConfigError(f"features read each other in a circle: {circle}")
    if name in done:
        return
    for source in asked[name].reads:
        if source in asked:
            yield from _with_upstreams(source, asked, done, (*path, name))
    done.add(name)
    yield name
