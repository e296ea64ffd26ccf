"""Networks converted to OpenVINO, kept on disk: each is converted once on a node.

They lie in ``$XDG_CACHE_HOME/mmfeat/models`` (:mod:`mmfeat.extract.localcache`), and processes map the
same file.

A network is converted in float32, and OpenVINO computes it in the spec's dtype. In float32 its outputs are
torch's (:data:`LEAST_COSINE`). In bfloat16 the two round in different places, and OpenVINO is taken where it
stays as near to float32 as torch does. A CPU without bfloat16 arithmetic computes such a network in float32.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmfeat.extract.failures import ran_out_of_memory
from mmfeat.extract.localcache import is_ours, place_of
from mmfeat.extract.weights import file_digest, identity
from mmfeat.schemas.spec import ComputeDtype, FeatureSpec

if TYPE_CHECKING:
    import torch

#: Of a converted network's float32 outputs to torch's, or it is not used.
LEAST_COSINE = 0.99999

# What an entry's files look like; raised when they change.
_FORMAT = 1
_RECORD, _GRAPH, _VALUES = "entry.json", "model.xml", "model.bin"
_PRECISIONS: dict[ComputeDtype, str] = {"float32": "f32", "bfloat16": "bf16"}
_Tower = Callable[[ComputeDtype], "torch.nn.Module"]
# What of a spec decides its network. Vectors get their length and their mean over time behind it.
_DECIDING = {"method", "model", "pooling", "layer", "vectors", "dims", "compute_dtype", "method_version"}


class NotExported(Exception):
    """A network that OpenVINO does not run as torch does; the message says why."""


class OpenVino:
    """A converted network on the CPU; see :class:`~mmfeat.extract.runtime.Network`.

    Args:
        graph: the path of its graph, or the graph itself.
        dtype: ``float32`` or ``bfloat16``, of the arithmetic.
        threads: compute threads; None for one per core.
    """

    def __init__(
        self, graph: Any, dtype: ComputeDtype, threads: int | None, notes: tuple[str, ...] = ()
    ) -> None:
        self.runtime = f"openvino {version('openvino')}"
        self.notes = notes
        self._graph = graph
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "NUM_STREAMS": 1,
            # Pinned, the one thread of every process would sit on the same core.
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: Any = self._compile()

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """See :class:`~mmfeat.extract.runtime.Network`.

        Raises:
            RuntimeError: the network failed, for example because memory ran out.
        """
        openvino = _openvino()
        # Where memory runs out, OpenVINO's blocking call gives the outputs of the batch before, without a
        # word. One that is waited for raises; and a request of its own has no outputs of a batch before.
        compiled = self._compiled = self._compiled or self._compile()
        request = compiled.create_infer_request()
        # A tensor that shares memory is made of an array that could be written to.
        shared = np.require(pixels, requirements=["C", "W"])
        request.set_input_tensor(openvino.Tensor(shared, shared_memory=True))
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
        if any(len(output) != len(pixels) for output in outputs):
            raise RuntimeError(f"{self.runtime} gave no outputs for {len(pixels)} pictures")
        return outputs

    def _compile(self) -> Any:
        return _openvino().Core().compile_model(self._graph, "CPU", self._settings)


def find(spec: FeatureSpec, tower: _Tower | None, threads: int | None) -> OpenVino | None:
    """The converted network of a spec's pictures: the one that is kept, or else a new one.

    Processes that want the same one at the same time wait for the first to have converted it. Where the
    cache cannot be used each converts its own, and a note says so.

    Args:
        tower: makes the torch module in a compute dtype, to convert it; None to convert nothing.

    Returns:
        None where none is kept and none was to be made.

    Raises:
        NotExported: it cannot be converted, or gives other values than torch does.
    """
    place = _place(spec)
    entry = _read(place)
    if entry is None and tower is not None:
        with _turn(place):
            entry = _read(place) or _made(place, spec, tower, threads)
    if entry is None:
        return None
    if entry.refused is not None:
        raise NotExported(entry.refused)
    try:
        return OpenVino(entry.graph, spec.compute_dtype, threads, entry.notes)
    except RuntimeError as error:
        raise NotExported(f"its converted network cannot be loaded: {_reason(error)}") from error


@dataclass(frozen=True)
class _Entry:
    """A network of the cache: its graph (a path, or what could not be kept), or why there is none."""

    graph: Any = None
    refused: str | None = None
    notes: tuple[str, ...] = ()


def _place(spec: FeatureSpec) -> Path:
    """The folder of the networks that are this spec's."""
    image = spec.image
    assert image is not None, f"{spec.name} reads no pictures"
    facts = {
        "format": _FORMAT,
        "network": spec.model_dump(mode="json", include=_DECIDING),
        "weights": identity(spec.weights),
        "pixels": (image.view.height, image.view.width, image.mean, image.std),
    }
    return place_of("models", facts)


def _read(place: Path) -> _Entry | None:
    """What is kept; None where nothing is, or it is damaged or could have been written by somebody else.

    The digests are there to tell a damaged file; against people there is the folder's owner.
    """
    try:
        if not is_ours(place):
            return None
        record = json.loads((place / _RECORD).read_text(encoding="utf-8"))
        refused, digests = record["refused"], record["digests"]
        if refused is None and digests != {name: file_digest(place / name) for name in (_GRAPH, _VALUES)}:
            return None
    except (OSError, ValueError, KeyError):
        return None
    return _Entry(str(place / _GRAPH), refused)


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    """One process at a time; where no lock can be had, nobody waits."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = held.enter_context(place.with_suffix(".lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(place: Path, spec: FeatureSpec, tower: _Tower, threads: int | None) -> _Entry:
    """A new network, kept if that can be."""
    # Weights that cannot be loaded are an error, and no refusal that would stay when they can be.
    plain = tower("float32")
    torchs = plain if spec.compute_dtype == "float32" else tower(spec.compute_dtype)
    try:
        made = _Entry(_converted(spec, plain, torchs, threads))
    except NotExported as reason:
        made = _Entry(refused=str(reason))
    except MemoryError:
        # Next time there may be more of it.
        return _Entry(refused="memory ran out while its network was converted")
    try:
        _keep(place, made)
    except (OSError, RuntimeError) as error:
        note = f"The converted network of {spec.name} could not be kept in {place.parent}: {_reason(error)}"
        return replace(made, notes=(note,))
    return replace(made, graph=str(place / _GRAPH))


def _keep(place: Path, made: _Entry) -> None:
    """Write an entry, whole or not at all."""
    partial = place.with_name(f".{place.name}")
    # Of a process that was killed.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        if made.refused is None:
            _openvino().save_model(made.graph, str(partial / _GRAPH), compress_to_fp16=False)
        digests = {path.name: file_digest(path) for path in partial.iterdir()}
        record = {"refused": made.refused, "digests": digests}
        (partial / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _converted(
    spec: FeatureSpec, plain: torch.nn.Module, torchs: torch.nn.Module, threads: int | None
) -> Any:
    """The graph of a tower, after it gave what the tower gives.

    Args:
        plain: the tower in float32.
        torchs: the tower in the spec's compute dtype.

    Raises:
        NotExported: it did not, or there is none.
        MemoryError: memory ran out.
    """
    # Before torch.export, which imports it as well.
    _openvino()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _graph(plain, _probes(spec, 2))
        difference = _difference(spec, partial(OpenVino, graph, threads=threads), plain, torchs)
    except Exception as error:
        if ran_out_of_memory(error):
            raise MemoryError from error
        raise NotExported(f"its network cannot be converted: {_reason(error)}") from error
    if difference is not None:
        raise NotExported(f"its converted network {difference}")
    return graph


def _graph(tower: torch.nn.Module, example: np.ndarray) -> Any:
    """OpenVINO's graph of a tower, for batches of any size."""
    import torch

    fast_attention = torch.backends.mha.get_fastpath_enabled()
    # Its fused operator is unknown to OpenVINO.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            program = torch.export.export(
                tower, (torch.from_numpy(example),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
    graph = _openvino().convert_model(program)
    graph.reshape([-1, *example.shape[1:]])
    return graph


def _difference(
    spec: FeatureSpec,
    network: Callable[[ComputeDtype], OpenVino],
    plain: torch.nn.Module,
    torchs: torch.nn.Module,
) -> str | None:
    """What makes a converted network another feature than the spec's; None if it is the same."""
    probes = _probes(spec, 3)
    exact = _outputs(plain, probes)
    ours = _in_any_batch(network("float32"), probes)
    if not (least := min(_cosines(found, exact).min() for found in ours)) >= LEAST_COSINE:
        return f"gives other values (cosine {least:.6f})"
    if spec.compute_dtype == "float32":
        return None
    theirs = _cosines(_outputs(torchs, probes), exact).mean()
    ours = _in_any_batch(network(spec.compute_dtype), probes)
    if not (mean := min(_cosines(found, exact).mean() for found in ours)) >= theirs:
        return f"is farther from float32 (mean cosine {mean:.6f}) than torch's ({theirs:.6f})"
    return None


def _outputs(tower: torch.nn.Module, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    import torch

    with torch.inference_mode():
        return tuple(output.numpy() for output in tower(torch.from_numpy(pixels)))


def _in_any_batch(network: OpenVino, pixels: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """A network's outputs for pictures together, and one by one."""
    alone = zip(*map(network, np.split(pixels, len(pixels))), strict=True)
    return [network(pixels), tuple(np.concatenate(rows) for rows in alone)]


def _cosines(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Of all rows of all outputs; rows of zeros are equal to each other."""
    return np.concatenate([_rows_cosines(*pair).ravel() for pair in zip(ours, theirs, strict=True)])


def _rows_cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    products = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosines = (ours * theirs).sum(-1) / np.where(products == 0, 1, products)
    return np.where((ours == theirs).all(-1), 1.0, cosines)


def _probes(spec: FeatureSpec, number: int) -> np.ndarray:
    """Coloured blocks, other ones in every picture: uint8 ``[number, height, width, 3]``."""
    assert spec.image is not None
    height, width = spec.image.view.height, spec.image.view.width
    blocks = np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    rows, columns = np.arange(height) * 8 // height, np.arange(width) * 8 // width
    return np.ascontiguousarray(blocks[:, rows][:, :, columns])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _openvino() -> Any:
    """The package, without the one beside it that reports its use over the network unasked."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
