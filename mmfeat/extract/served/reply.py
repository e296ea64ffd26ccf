"""What a model answered, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Reply:
    """What the model answered.

    Attributes:
        text: stripped, without special tokens but for those that mark reasoning.
        finish_reason: ``stop`` (the model ended it) or ``length`` (cut at the token cap).
        prompt_tokens, new_tokens: without padding; ``new_tokens`` counts the token that ends the reply.
        seconds: that the model worked for it: of a batch, its share.
        reasoning: characters of reasoning that came apart from the text.
        beside: see :attr:`~mmfeat.extract.base.Caption.beside`.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = field(default=0.0, compare=False)
    reasoning: int = 0
    beside: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)

    def kept(self) -> dict[str, Any]:
        """What a journal keeps of it. Nothing comes beside the reply of a server."""
        kept = asdict(self)
        del kept["beside"]
        return kept
