"""From a network in torch to OpenVINO's graph of it, which is taken only if it gives what torch gives.

A network is converted in float32, and OpenVINO computes it in the spec's dtype. In float32 its outputs are
torch's (:data:`LEAST_COSINE`). In bfloat16 the two round in different places, and OpenVINO is taken where it
stays as near to float32 as torch does. A CPU without bfloat16 arithmetic computes such a network in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.runtimes.openvino.network import OpenVino, openvino
from mmfeat.schemas.spec import ComputeDtype

if TYPE_CHECKING:
    import torch

#: Of a converted network's float32 outputs to torch's, or it is not used.
LEAST_COSINE = 0.99999

#: Inputs of one call: an array for each parameter of the module.
Arrays = tuple[np.ndarray, ...]


class NotConverted(Exception):
    """A network that OpenVINO does not run as torch does; the message says why."""


@dataclass(frozen=True)
class Original:
    """A network in torch, on the CPU, and what is needed to convert it.

    Attributes:
        tower: the module in a compute dtype, from arrays to a tuple of float32 outputs, a row for each row of
            inputs. Asked more than once for a dtype it gives the same module.
        probes: makes calls of several sizes. The graph is traced with the first, which has two rows.
        varying: how many axes of an input, from the first, may have any length: rows, or rows and tokens.
        reading: makes what has to be known to make inputs, of JSON's types, which is kept with the graph. It
            may raise NotConverted.
    """

    tower: Callable[[ComputeDtype], torch.nn.Module]
    probes: Callable[[], Sequence[Arrays]]
    varying: int
    reading: Callable[[], dict[str, Any]] = dict


def convert(original: Original, threads: int | None) -> tuple[Any, dict[str, Any]]:
    """OpenVINO's graph of a network, whose float32 outputs are torch's, and the original's ``reading``.

    Raises:
        NotConverted: there is none, or its outputs are others.
        MemoryError: memory ran out.
    """
    # Before torch.export, which imports it as well.
    openvino()
    try:
        reading, probes = original.reading(), original.probes()
        graph = _traced(original.tower("float32"), probes[0], original.varying)
        network = OpenVino(graph, "float32", threads, {})
        least = min(_cosines(network(*p), _outputs(original.tower("float32"), p)).min() for p in probes)
    except NotConverted:
        raise
    except Exception as error:
        if ran_out_of_memory(error):
            raise MemoryError from error
        raise NotConverted(f"its network cannot be converted: {reason_of(error)}") from error
    if not least >= LEAST_COSINE:
        raise NotConverted(f"its converted network gives other values (cosine {least:.6f})")
    return graph, reading


def refusal(original: Original, graph: Any, dtype: ComputeDtype, threads: int | None) -> str | None:
    """Why a graph is not to be computed in a dtype other than float32; None if it may be.

    Raises:
        MemoryError: memory ran out.
    """
    try:
        network = OpenVino(graph, dtype, threads, {})
        probes = original.probes()
        exact = [_outputs(original.tower("float32"), p) for p in probes]
        ours = _mean_cosine([network(*p) for p in probes], exact)
        theirs = _mean_cosine([_outputs(original.tower(dtype), p) for p in probes], exact)
    except Exception as error:
        if ran_out_of_memory(error):
            raise MemoryError from error
        return f"its converted network cannot be computed in {dtype}: {reason_of(error)}"
    if not ours >= theirs:
        than = f"(mean cosine {ours:.6f}) than torch's ({theirs:.6f})"
        return f"its converted network is farther from float32 {than}"
    return None


def reason_of(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _traced(tower: torch.nn.Module, example: Arrays, varying: int) -> Any:
    import torch

    axes = dict.fromkeys(range(varying), torch.export.Dim.AUTO)
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    # Its fused operator is unknown to OpenVINO.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(tower, _tensors(example), dynamic_shapes=(axes,) * len(example))
            graph = openvino().convert_model(program)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    graph.reshape({n: [-1] * varying + list(array.shape[varying:]) for n, array in enumerate(example)})
    return graph


def _outputs(tower: torch.nn.Module, inputs: Arrays) -> Arrays:
    import torch

    with torch.inference_mode():
        return tuple(output.numpy() for output in tower(*_tensors(inputs)))


def _tensors(arrays: Arrays) -> tuple[torch.Tensor, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in arrays)


def _mean_cosine(found: Sequence[Arrays], exact: Sequence[Arrays]) -> float:
    """Over all rows of all outputs of all calls."""
    return float(np.concatenate([_cosines(*pair) for pair in zip(found, exact, strict=True)]).mean())


def _cosines(ours: Arrays, theirs: Arrays) -> np.ndarray:
    """Of all rows of all outputs; rows of zeros are equal to each other."""
    return np.concatenate([_rows_cosines(*pair).ravel() for pair in zip(ours, theirs, strict=True)])


def _rows_cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    products = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosines = (ours * theirs).sum(-1) / np.where(products == 0, 1, products)
    return np.where((ours == theirs).all(-1), 1.0, cosines)
