"""How an export is wanted: the one list of its settings, and what a format makes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from mmfeat.export import missing
from mmfeat.export.base import Exporter
from mmfeat.export.interactions import SplitRule
from mmfeat.export.missing import Asked
from mmfeat.export.shared import SharedIds, read_shared
from mmfeat.schemas.composed import composed_text
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.interactions import InteractionsConfig
from mmfeat.schemas.validation import in_words, listed, near, refuse_unnamed, validated

# Features to choose from, or role to feature; a feature is NAME or, of a store, NAME@PREFIX.
Chosen = Mapping[str, str] | Sequence[str]
Items = Literal["present", "all", "interacted"]
Unmatched = Literal["count", "error"]


@dataclass(frozen=True)
class Shaping:
    """What is done to features before they are written, in this order; see :mod:`mmfeat.export.select`.

    Attributes:
        text: new text feature to its template (:mod:`mmfeat.schemas.templates`) or recipe, which names
            features of texts and fields of the catalog.
        join: new feature to the features it is made of. What is said of a part below happens before
            the join, what is said of the new feature after it.
        cut: feature to how many numbers of each vector stay.
        project: feature to the number of principal components.
        quantize: features to write as int8, last of all.
    """

    text: Mapping[str, str] = field(default_factory=dict)
    join: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cut: Mapping[str, int] = field(default_factory=dict)
    project: Mapping[str, int] = field(default_factory=dict)
    quantize: Sequence[str] = ()

    def __post_init__(self) -> None:
        for setting in ("text", "join", "cut", "project"):
            refuse_unnamed(getattr(self, setting), setting)
        for name, template in self.text.items():
            try:
                composed_text(template)
            except ValueError as error:
                raise UsageError(f"The text {name!r} cannot be composed: {error}.") from None
        for refs in (self.quantize, *self.join.values()):
            listed(refs, "feature")


@dataclass(frozen=True)
class Request:
    """How an export is wanted. :meth:`mmfeat.FeatureStore.export` makes one, for the command line too.

    Attributes:
        format: the format's name; see ``mmfeat export --list``.
        out: a folder that is not there yet, or empty. It appears whole or not at all. Its name is
            what the target will call the dataset.
        features: role to feature, or the features to choose among; of a store ``name`` or
            ``name@fingerprint``. All (current) ones that the format can hold when None, a joined one
            in the place of its parts. A role is guessed where only one feature fits.
        force_role: whether a feature of pictures may be named for a role of sounds, or one of sounds for
            pictures, which is refused otherwise.
        items: ``present``, those that the dataset has; ``all``, also those that are gone from it;
            ``interacted``, of all those with interactions; or these, in this order.
        missing: what becomes of items that lack a feature: ``mask``, ``mean``, ``zero``, ``empty``
            (texts), ``drop`` or ``error``; or role to one of these. The format's default for roles that
            are not named.
        interactions: a file of them, for a store without: a path, or a table that also names its columns, see
            :class:`mmfeat.schemas.interactions.InteractionsConfig`.
        replace_interactions: whether that file's are taken where the store has interactions of its own.
        k_core: keep users and items with at least so many interactions, until all have; all stay
            when None.
        split: ``leave-one-out``, ``ratio:0.8,0.1,0.1`` or ``time:VALID,TEST``; the format's own
            default when None.
        seed: of everything that is drawn at random.
        shaping: features to join, cut, project or quantise first; none when None.
        unmatched: what to do with interactions whose item is not exported: count them in the
            manifest, or fail.
        fields: columns of the catalog, texts and numbers, to write beside the features.
        ids_of: folder of an export that this one is used together with: this one gets its id map, of
            items and, where both have users, of users. None for a map of its own.
        options: the format's own options; its defaults when None.

    Raises:
        UsageError: a value that no export can follow.
    """

    format: str
    out: str | Path
    features: Chosen | None = None
    force_role: bool = False
    items: Items | Sequence[str] = "present"
    missing: Asked | None = None
    interactions: InteractionsConfig | Mapping[str, Any] | str | Path | None = None
    replace_interactions: bool = False
    k_core: int | None = None
    split: str | None = None
    seed: int = 0
    shaping: Shaping | None = None
    unmatched: Unmatched = "count"
    fields: Sequence[str] = ()
    ids_of: str | Path | None = None
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.items, str):
            _refuse_other("items", self.items, get_args(Items), " or a list of item ids")
        else:
            listed(self.items, "item id")
        if self.features is not None:
            refs_of(self.features)
        listed(self.fields, "field")
        if self.options is not None:
            refuse_unnamed(self.options, "options")
        if self.missing is not None and not isinstance(self.missing, str):
            refuse_unnamed(self.missing, "missing")
        _refuse_other("unmatched", self.unmatched, get_args(Unmatched))
        if self.replace_interactions and self.interactions is None:
            raise UsageError(
                "replace_interactions needs a file to replace them by.",
                hint="Name it: --interactions FILE, or interactions=... in Python.",
            )
        if self.k_core is not None and self.k_core < 1:
            raise UsageError(f"k_core is {self.k_core}.", hint="Give a number from 1 on, or none.")
        if self.seed < 0:
            raise UsageError(f"The seed is {self.seed}.", hint="Give a number from 0 on.")

    @classmethod
    def of(cls, format: str, out: str | Path, settings: Mapping[str, Any]) -> Request:
        """A request with ``settings``: names of the attributes above, and their values.

        Raises:
            UsageError: a setting that there is not (names the nearest ones), or a value of no use.
        """
        known = [f.name for f in fields(cls) if f.name not in ("format", "out")]
        for name in settings:
            if name not in known:
                raise UsageError(
                    f"An export has no setting {name!r}.",
                    hint=f"{near(name, known)}There are: {', '.join(known)}. A format's own go into options.",
                )
        return cls(format, out, **settings)

    @property
    def own_interactions(self) -> InteractionsConfig | None:
        """The file of interactions, checked; ConfigError where it is not named as it should be."""
        given = self.interactions
        if given is None or isinstance(given, InteractionsConfig):
            return given
        data = given if isinstance(given, Mapping) else {"file": str(given)}
        return validated(InteractionsConfig, data, "interactions")

    def reads_interactions(self, exporter: Exporter) -> bool:
        """Whether interactions make a difference: to the format, or to the choice of items."""
        chooses = self.items == "interacted" or self.k_core is not None
        return exporter.interactions != "unused" or chooses

    @property
    def folder(self) -> Path:
        """Where the files go: ``out`` as an absolute path without links."""
        return Path(os.path.realpath(Path(self.out).expanduser()))

    @property
    def name(self) -> str:
        """What the target calls the dataset: the name of ``out``, even where that is a link."""
        return Path(self.out).name or self.folder.name


@dataclass(frozen=True)
class Terms:
    """A request as one format follows it.

    Attributes:
        options: the format's own options, checked.
        split: how interactions are labelled; None leaves that to the target.
        shared: the id maps of another export that are taken; None for own ones.
    """

    options: BaseModel
    split: SplitRule | None
    shared: SharedIds | None


def settle(request: Request, exporter: Exporter) -> Terms:
    """What ``exporter`` makes of a request, as far as the data have no say in it.

    Raises:
        UsageError: something that the target can't take, or that there is not.
    """
    if request.fields and not exporter.further:
        raise UsageError(
            f"{exporter.name} has no place for further columns.",
            hint="Leave --fields out, or export to parquet, hf, hllm or recbole.",
        )
    missing.check(exporter, request.missing)
    options = _options(exporter, request.options or {})
    return Terms(
        options=options,
        split=_split(exporter, request.split),
        shared=None if request.ids_of is None else read_shared(request.ids_of, exporter, options),
    )


def refs_of(chosen: Chosen) -> list[str]:
    """The features that were chosen, without their roles."""
    return listed(chosen.values() if isinstance(chosen, Mapping) else chosen, "feature")


def name_of(ref: str) -> str:
    """``clip_image`` of ``clip_image@3fa9c1d2``."""
    return ref.partition("@")[0]


def _refuse_other(setting: str, value: str, known: Sequence[str], more: str = "") -> None:
    if value not in known:
        raise UsageError(f"{setting} cannot be {value!r}.", hint=f"It is {' or '.join(known)}{more}.")


def _options(exporter: Exporter, given: Mapping[str, Any]) -> BaseModel:
    try:
        return exporter.options.model_validate(dict(given))
    except ValidationError as error:
        problems = "; ".join(
            f"{p['loc'][0] if p['loc'] else 'options'}: {in_words(p)}" for p in error.errors()
        )
        takes = ", ".join(exporter.options.model_fields) or "no options"
        raise UsageError(
            f"{exporter.name} does not take these options: {problems}.", hint=f"It takes: {takes}."
        ) from None


def _split(exporter: Exporter, asked: str | None) -> SplitRule | None:
    if asked and not exporter.splits:
        raise UsageError(
            f"{exporter.name} takes no split: {exporter.title} splits by itself.", hint="Leave --split out."
        )
    rule = asked or exporter.default_split
    return SplitRule.parse(rule) if rule else None
