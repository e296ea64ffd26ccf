"""A network that OpenVINO computes on the CPU."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import numpy as np

from mmfeat.schemas.spec import ComputeDtype

#: The dtypes of its arithmetic, by OpenVINO's names.
PRECISIONS: dict[ComputeDtype, str] = {"float32": "f32", "bfloat16": "bf16"}


class OpenVino:
    """A converted network; see :class:`~mmfeat.extract.runtimes.choice.Network`.

    Args:
        graph: the path of its graph, or the graph itself.
        dtype: ``float32`` or ``bfloat16``, of the arithmetic.
        threads: compute threads; None for one per core.
        reading: what has to be known to make its inputs
            (:class:`~mmfeat.extract.runtimes.openvino.conversion.Original`).
    """

    def __init__(
        self,
        graph: Any,
        dtype: ComputeDtype,
        threads: int | None,
        reading: dict[str, Any],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.runtime = f"openvino {version('openvino')}"
        self.reading = reading
        self.notes = notes
        self._graph = graph
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "NUM_STREAMS": 1,
            # Pinned, the one thread of every process would sit on the same core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: Any = self._compile()

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """See :class:`~mmfeat.extract.runtimes.choice.Network`.

        Raises:
            RuntimeError: the network failed, for example because memory ran out.
        """
        # Where memory runs out, OpenVINO's blocking call gives the outputs of the batch before, without a
        # word. One that is waited for raises; and a request of its own has no outputs of a batch before.
        compiled = self._compiled = self._compiled or self._compile()
        request = compiled.create_infer_request()
        # A tensor that shares memory is made of an array that could be written to.
        shared = [np.require(array, requirements=["C", "W"]) for array in inputs]
        for number, array in enumerate(shared):
            request.set_input_tensor(number, openvino().Tensor(array, shared_memory=True))
        request.start_async()
        try:
            request.wait()
        except RuntimeError:
            # What it had begun to allocate stays in its way: batches that fitted would fail as well. The next
            # batch compiles it again, when all of that is gone; the error would keep this call's variables.
            self._compiled = None
            del compiled, request
            raise
        outputs = tuple(request.get_output_tensor(n).data.copy() for n in range(len(compiled.outputs)))
        if any(len(output) != len(inputs[0]) for output in outputs):
            raise RuntimeError(f"{self.runtime} gave no outputs for {len(inputs[0])} inputs")
        return outputs

    def _compile(self) -> Any:
        return openvino().Core().compile_model(self._graph, "CPU", self._settings)


def openvino() -> Any:
    """The package, without the one beside it that reports its use over the network unasked."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
