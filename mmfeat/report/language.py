"""Is a text in the language that was stated?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mmfeat.schemas.errors import ConfigError

if TYPE_CHECKING:
    from lingua import Language, LanguageDetector


class LanguageCheck:
    """Texts against one language, by lingua; a text that was checked before is not checked again.

    Args:
        stated: ISO 639-1 code.
        ratio: another language must be so many times as likely.

    Raises:
        ConfigError: no such language.
    """

    def __init__(self, stated: str, ratio: float) -> None:
        from lingua import Language

        codes = {one.iso_code_639_1.name.lower(): one for one in Language.all()}
        if (found := codes.get(stated.lower())) is None:
            raise ConfigError(
                f"there is no language {stated!r}", hint=f"Languages are: {', '.join(sorted(codes))}."
            )
        self._stated: Language = found
        self._ratio = ratio
        self._known: dict[str, str] = {}

    def others(self, texts: Sequence[str]) -> list[str]:
        """Per text the other language it seems to be in, empty for the stated one."""
        unknown = sorted(set(texts) - self._known.keys())
        rated = self._detector.compute_language_confidence_values_in_parallel(unknown)
        for text, values in zip(unknown, rated, strict=True):
            best = values[0]
            likely = next(one.value for one in values if one.language == self._stated)
            other = best.language != self._stated and best.value >= self._ratio * likely
            self._known[text] = best.language.name.capitalize() if other else ""
        return [self._known[text] for text in texts]

    @cached_property
    def _detector(self) -> LanguageDetector:
        from lingua import LanguageDetectorBuilder

        return LanguageDetectorBuilder.from_all_languages().build()
