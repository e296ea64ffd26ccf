"""What a modality is: how its files are decoded, how decoded values travel, and what they cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmfeat.schemas.inputs import Prepare
from mmfeat.schemas.media import MediaLimits


@dataclass(frozen=True)
class Cost:
    """What one value of an input takes, at most.

    Attributes:
        bytes: of the decoded value.
        pictures: how many pictures a network sees of it.
        covers: the work of reading and encoding it, in covers' worth.
    """

    bytes: int = 0
    pictures: int = 1
    covers: int = 1


@dataclass(frozen=True)
class Packed:
    """A decoded value as it travels between processes: one array, and what else there is to know of it.

    Attributes:
        facts: plain JSON types.
    """

    facts: dict[str, Any]
    data: np.ndarray


class Modality(ABC):
    """One modality.

    Attributes:
        name: what columns and inputs call it.
        rule: raised whenever files are decoded or prepared to other values than before; it is stored with
            each row, and rows that a change touches become out of date.
    """

    name: ClassVar[str]
    rule: ClassVar[int] = 1

    def changed(self, data: bytes, since: int) -> bool:
        """Whether a file, or a text's bytes, may have other values now than by the earlier rule ``since``.

        A modality whose rule is raised says here which files the fix touches; all others keep their rows.
        """
        return True

    @abstractmethod
    def cost(self, prepare: Prepare | None) -> Cost:
        """What one value takes."""


class MediaModality(Modality):
    """A modality whose values are read from files."""

    @abstractmethod
    def max_bytes(self, limits: MediaLimits) -> int:
        """The largest file that is read."""

    @abstractmethod
    def decoding(self, prepare: Any) -> Hashable:
        """What of a preparation decides the decoded value; equal ones share it."""

    @abstractmethod
    def decode(self, data: bytes, wanted: Sequence[Any], limits: MediaLimits) -> list[Any]:
        """The values of one file, decoded once.

        Args:
            data: the file.
            wanted: different decodings, as :meth:`decoding` gives them.

        Returns:
            One value per decoding, None if the file has no such thing (a clip without sound), an ItemError
            where that decoding alone failed.

        Raises:
            ItemError: the file cannot be decoded, or exceeds a limit.
        """

    @abstractmethod
    def pack(self, value: Any) -> Packed:
        """A decoded value as an array and facts."""

    @abstractmethod
    def unpack(self, packed: Packed) -> Any:
        """The value that :meth:`pack` was given; the array is not copied."""
