"""Things by name: those of mmfeat and those that other packages add by entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.validation import near

T = TypeVar("T")


@dataclass(frozen=True)
class Listing(Generic[T]):
    """One line of a listing.

    Attributes:
        target: where it is: ``module:attribute``.
        thing: what is registered; None if it cannot be loaded.
        problem: why it cannot be loaded; empty if it can.
    """

    name: str
    target: str
    thing: T | None
    problem: str = ""


class Registry(Generic[T]):
    """Things of one kind by name, each imported when it is first wanted.

    Names of mmfeat win over those of other packages.

    Args:
        what: the kind, for errors: ``encoder``.
        own: name to ``module:attribute`` of those that come with mmfeat, also an attribute.
        groups: entry point groups in which other packages register theirs.
        fits: whether what was imported is of the kind; anything is where None.
        error: what is raised for an unknown name or one that cannot be loaded.
    """

    def __init__(
        self,
        what: str,
        own: Mapping[str, str],
        groups: Sequence[str] = (),
        *,
        fits: Callable[[Any], bool] | None = None,
        error: type[UsageError] = UsageError,
    ) -> None:
        self.what = what
        self.own = own
        self._groups = groups
        self._fits = fits
        self._error = error

    def get(self, name: str) -> T:
        """The thing of a name.

        Raises:
            UsageError: there is none, with near names; or it cannot be imported, or is of another kind.
        """
        # Installed packages are looked through only for a name that is not ours: it takes a while.
        targets = self.own if name in self.own else self._targets()
        if name not in targets:
            known = self.names()
            raise self._error(
                f"there is no {self.what} {name!r}",
                hint=f"{near(name, known)}There are: {', '.join(known) or 'none'}.",
            )
        loaded = self._loaded(name, targets[name])
        if not self._is_one(loaded):
            raise self._error(f"{name!r} ({targets[name]}) is no {self.what}")
        thing: T = loaded
        return thing

    def names(self) -> list[str]:
        """Every name by alphabet, those that cannot be loaded included. Imports none of mmfeat's own."""
        others = {one.name for one in self._listed(self._others())}
        return sorted(others | set(self.own))

    def listing(self) -> list[Listing[T]]:
        """Everything by name. What cannot be imported is listed with its error and hides no other."""
        return list(self._listed(self._targets()))

    def _listed(self, targets: Mapping[str, str]) -> Iterator[Listing[T]]:
        for name, target in sorted(targets.items()):
            try:
                loaded = self._loaded(name, target)
            except UsageError as error:
                yield Listing(name, target, None, error.message)
                continue
            if self._is_one(loaded):
                yield Listing(name, target, loaded)

    def _targets(self) -> dict[str, str]:
        return {**self._others(), **self.own}

    def _others(self) -> dict[str, str]:
        path = tuple((folder, _changed(folder)) for folder in sys.path)
        return {point.name: point.value for group in self._groups for point in _installed(group, path)}

    def _loaded(self, name: str, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except Exception as error:  # another package's module may raise anything
            raise self._error(f"the {self.what} {name!r} ({target}) cannot be imported: {error}") from error

    def _is_one(self, loaded: Any) -> bool:
        return self._fits is None or self._fits(loaded)


@lru_cache(maxsize=32)
def _installed(group: str, path: tuple[tuple[str, float], ...]) -> EntryPoints:
    """What installed packages register in a group.

    Args:
        path: where packages are looked for, and when that changed last.
    """
    return entry_points(group=group)


def _changed(folder: str) -> float:
    """When something was installed in a folder last; 0 if there is none."""
    try:
        return Path(folder).stat().st_mtime
    except OSError:
        return 0
