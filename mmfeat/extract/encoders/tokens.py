"""Texts through a converted network: tokenised, sorted by length, batched by tokens. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmfeat.extract.runtimes.openvino.network import OpenVino

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Of a call, padding included. On a CPU more of them are no faster, and texts of one call are less alike.
_TOKENS = 512

#: What a network of texts can read, by the names that transformers has for them.
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class ConvertedTexts:
    """A converted network of texts.

    Args:
        network: its ``reading`` is what :func:`reading_of` gave.
    """

    def __init__(self, network: OpenVino) -> None:
        from tokenizers import Tokenizer

        self._network = network
        self._inputs: list[str] = network.reading["inputs"]
        self._tokenizer: Tokenizer = Tokenizer.from_str(network.reading["tokenizer"])
        self._pads_left = (self._tokenizer.padding or {}).get("direction") == "left"

    def __call__(self, prefix: str, texts: Sequence[str]) -> np.ndarray:
        """The network's first output, a row for each text behind the prefix, in the given order."""
        tokens = tokenized(self._tokenizer, self._inputs, [prefix + text for text in texts])
        lengths = tokens[self._inputs.index("attention_mask")].sum(axis=1)
        order = np.argsort(-lengths, kind="stable")
        parts: list[np.ndarray] = []
        done = 0
        while done < len(order):
            # A text of no tokens is one of padding, as it is in any batch of others.
            longest = max(1, lengths[order[done]])
            rows = order[done:][: max(1, _TOKENS // longest)]
            parts.append(self._network(*(self._cut(array[rows], longest) for array in tokens))[0])
            done += len(rows)
        outputs = np.concatenate(parts)
        outputs[order] = outputs.copy()
        return outputs

    def _cut(self, array: np.ndarray, length: int) -> np.ndarray:
        """Tokens without the padding that all rows have."""
        return array[:, -length:] if self._pads_left else array[:, :length]


def reading_of(tokenizer: Tokenizer, inputs: Sequence[str]) -> dict[str, object]:
    """What is kept beside a converted network, to make its inputs again.

    Args:
        tokenizer: as it is set to pad and to cut texts.
        inputs: of :data:`INPUTS`, in the order of the network's parameters.
    """
    return {"tokenizer": tokenizer.to_str(), "inputs": list(inputs)}


def tokenized(tokenizer: Tokenizer, inputs: Sequence[str], texts: Sequence[str]) -> tuple[np.ndarray, ...]:
    """int64 ``[n, tokens]`` for each of the inputs, padded as the tokenizer does."""
    encodings = tokenizer.encode_batch(list(texts))
    rows = {
        "input_ids": [e.ids for e in encodings],
        "attention_mask": [e.attention_mask for e in encodings],
        "token_type_ids": [e.type_ids for e in encodings],
    }
    return tuple(np.asarray(rows[name], dtype=np.int64) for name in inputs)
