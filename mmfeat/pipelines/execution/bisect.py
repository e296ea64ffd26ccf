"""A batch that a method fails on, bisected until the inputs at fault stand alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mmfeat.extract.failures import ran_out_of_memory

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


class Bisection(Generic[_Input, _Output]):
    """Calls a model with a batch, and where that fails with its halves, down to the inputs at fault.

    Attributes:
        largest: inputs of the largest part that worked.
        batch_too_large: whether memory sufficed for inputs alone and not for them together. An input
            that does not fit alone says nothing of batches without it.
    """

    def __init__(self, call: Callable[[list[_Input]], Sequence[_Output]]) -> None:
        self.call = call
        self.largest = 0
        self.batch_too_large = False

    def __call__(self, inputs: list[_Input]) -> list[_Output | Exception]:
        """An output, or the exception that stands for it, per input, in order."""
        outputs = self._attempt(inputs)
        if not isinstance(outputs, Exception):
            self.largest = max(self.largest, len(inputs))
            return list(outputs)
        if len(inputs) == 1:
            return [outputs]
        half = len(inputs) // 2
        parts = self(inputs[:half]) + self(inputs[half:])
        if ran_out_of_memory(outputs) and not any(map(_too_large_alone, parts)):
            self.batch_too_large = True
        return parts

    def _attempt(self, inputs: list[_Input]) -> Sequence[_Output] | Exception:
        try:
            return self.call(inputs)
        except Exception as error:
            # Frames hold the tensors of the failed call, and the halves need their memory.
            error.__context__ = error.__cause__ = None
            return error.with_traceback(None)


def _too_large_alone(output: object) -> bool:
    return isinstance(output, Exception) and ran_out_of_memory(output)
