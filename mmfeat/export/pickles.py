"""Pickles, for targets that read nothing else: written opcode by opcode, and never loaded.

Loading a pickle runs what is in it, so mmfeat loads none. Those that it writes have a fixed shape: an
array is a head, the array's bytes and a tail, and is read by comparing head and tail with those that
such an array must have and taking the bytes between; plain data (dicts, lists, integers, texts) is
read by a machine that knows no opcode that could call anything.

``pickle.dumps`` would not do, even for writing: with NumPy 2 it names ``numpy._core``, and with a new
SciPy attributes that the old versions, which most targets pin, do not know. The names written here
(``numpy.core.multiarray._reconstruct``, ``scipy.sparse.coo_matrix``) load in all of them.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

_START = pickle.PROTO + b"\x04"
_MARK = object()


def write_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[np.ndarray]
) -> None:
    """Blocks of rows as the pickle of one array of ``shape``."""
    head, tail = _array_ends(shape, dtype)
    with path.open("wb") as file:
        file.write(_START + head)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)
        file.write(tail + pickle.STOP)


def read_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """The array of a file by :func:`write_array`, mapped and not read.

    Raises:
        ValueError: the file is not the pickle of an array of this shape and dtype.
    """
    head, tail = _array_ends(shape, dtype)
    head, tail = _START + head, tail + pickle.STOP
    size = len(head) + int(np.prod(shape)) * dtype.itemsize + len(tail)
    with path.open("rb") as file:
        same = path.stat().st_size == size and file.read(len(head)) == head
        file.seek(-min(len(tail), path.stat().st_size), 2)
        if not same or file.read() != tail:
            raise ValueError(f"{path.name} is not the pickle of a {dtype} array of shape {shape}")
    return np.memmap(path, dtype, "r", len(head), shape)


def write_arrays(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """A dict of text to array."""
    with path.open("wb") as file:
        file.write(_START + pickle.EMPTY_DICT + pickle.MARK)
        for key, array in arrays:
            file.write(_plain(key) + _array(array))
        file.write(pickle.SETITEMS + pickle.STOP)


def read_arrays(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """What a file by :func:`write_arrays` holds, where all arrays have one shape and dtype.

    Raises:
        ValueError: the file is not the pickle of such a dict.
    """
    head, tail = _array_ends(shape, dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    with path.open("rb") as file:
        whole = file.read(len(_START) + 2) == _START + pickle.EMPTY_DICT + pickle.MARK
        while whole and (opcode := file.read(1)) == pickle.BINUNICODE:
            (length,) = struct.unpack("<I", file.read(4))
            key = file.read(length).decode("utf-8", "surrogatepass")
            whole = file.read(len(head)) == head
            data = file.read(size)
            whole = whole and len(data) == size and file.read(len(tail)) == tail
            if whole:
                yield key, np.frombuffer(data, dtype).reshape(shape)
        if not whole or opcode + file.read() != pickle.SETITEMS + pickle.STOP:
            raise ValueError(f"{path.name} is not the pickle of a dict of {dtype} arrays of shape {shape}")


def write_coo(path: Path, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
    """A sparse matrix of float32 ones at ``(rows, columns)``, as the call that makes it."""
    ones = _array(np.ones(len(rows), np.float32))
    places = _tuple(_array(rows.astype(np.int32)), _array(columns.astype(np.int32)))
    call = _global("scipy.sparse", "coo_matrix")
    path.write_bytes(
        _START + call + _tuple(_tuple(ones, places), _plain(shape)) + pickle.REDUCE + pickle.STOP
    )


def write_csr(path: Path, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
    """A sparse matrix by rows: a float32 one at each ``(row, column)`` that is given, however often."""
    path.write_bytes(csr(rows, columns, shape))


def csr(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> bytes:
    """What :func:`write_csr` writes."""
    rows, columns = np.unique(np.stack([rows, columns]), axis=1)
    ends = np.searchsorted(rows, np.arange(shape[0] + 1)).astype(np.int32)
    parts = map(_array, (np.ones(len(rows), np.float32), columns.astype(np.int32), ends))
    call = _global("scipy.sparse", "csr_matrix")
    return _START + call + _tuple(_tuple(*parts), _plain(shape)) + pickle.REDUCE + pickle.STOP


def write_plain(path: Path, value: Any) -> None:
    """Dicts, lists, tuples, numbers and texts; NumPy's vectors of numbers as lists."""
    path.write_bytes(_START + _plain(value) + pickle.STOP)


def write_object_npy(path: Path, value: Any) -> None:
    """Plain data as what ``np.save`` makes of an object: an array without axes that holds it."""
    _write_object_npy(path, (), pickle.EMPTY_LIST + _plain(value) + pickle.APPEND)


def write_texts_npy(path: Path, texts: Sequence[str]) -> None:
    """Texts as what ``np.save`` makes of an object array ``[n]`` of them."""
    _write_object_npy(path, (len(texts),), _plain(texts))


def read_texts_npy(path: Path) -> list[str]:
    """The texts of a file by :func:`write_texts_npy`.

    Raises:
        ValueError: the file is none, is damaged, or holds something else.
    """
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        data = file.read()
    head, tail = _START + _array_start(shape, np.dtype(object)), _ARRAY_END + pickle.STOP
    if not data.startswith(head) or not data.endswith(tail):
        raise ValueError(f"{path.name} is not an object array of texts")
    texts = _read_plain(BytesIO(data[len(head) : len(data) - len(tail)] + pickle.STOP), path.name)
    if not isinstance(texts, list) or len(texts) != shape[0]:
        raise ValueError(f"{path.name} is not an object array of texts")
    return texts


def read_plain(path: Path) -> Any:
    """The value of a file by :func:`write_plain`.

    Raises:
        ValueError: the file is damaged, or holds an opcode that :func:`write_plain` does not write.
    """
    with path.open("rb") as file:
        return _read_plain(file, path.name)


def _read_plain(file: IO[bytes], name: str) -> Any:
    stack: list[Any] = []

    def since_mark() -> list[Any]:
        start = len(stack) - 1 - stack[::-1].index(_MARK)
        found = stack[start + 1 :]
        del stack[start:]
        return found

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO":
                pass
            case "MARK":
                stack.append(_MARK)
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "BININT" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "SETITEMS":
                pairs = since_mark()
                stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))
            case "APPENDS":
                found = since_mark()
                stack[-1].extend(found)
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"{name} holds the pickle opcode {other}, which mmfeat never writes")
    raise ValueError(f"{name} is cut short")


def _write_object_npy(path: Path, shape: tuple[int, ...], values: bytes) -> None:
    """An object array of which ``values`` are the pickled list of what it holds."""
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(_START + _array_start(shape, np.dtype(object)) + values + _ARRAY_END + pickle.STOP)


def _plain(value: Any) -> bytes:
    match value:
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
        case int():
            return pickle.BININT + struct.pack("<i", value)
        case float():
            return pickle.BINFLOAT + struct.pack(">d", value)
        case np.ndarray():
            return pickle.EMPTY_LIST + pickle.MARK + _numbers(value) + pickle.APPENDS
        case Mapping():
            pairs = b"".join(_plain(key) + _plain(item) for key, item in value.items())
            return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS
        case tuple():
            return _tuple(*map(_plain, value))
        case Sequence():
            return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(_plain, value)) + pickle.APPENDS
    raise TypeError(f"{type(value).__name__} is no plain data")


def _numbers(values: np.ndarray) -> bytes:
    """Integers or floating-point numbers ``[n]``, each behind the opcode that loads one."""
    opcode, kind = (pickle.BININT, "<i4") if values.dtype.kind == "i" else (pickle.BINFLOAT, ">f8")
    coded = np.empty(len(values), [("opcode", "S1"), ("value", kind)])
    coded["opcode"], coded["value"] = opcode, values
    return coded.tobytes()


def _array(array: np.ndarray) -> bytes:
    head, tail = _array_ends(array.shape, array.dtype)
    return head + np.ascontiguousarray(array).tobytes() + tail


def _array_ends(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[bytes, bytes]:
    """What stands before an array's bytes, and after them."""
    return _array_start(shape, dtype) + _bytes_start(int(np.prod(shape)) * dtype.itemsize), _ARRAY_END


def _array_start(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """An empty array is made, and its state begun: version, shape, dtype, C order."""
    empty = _global("numpy.core.multiarray", "_reconstruct")
    empty += _tuple(_global("numpy", "ndarray"), _plain((0,)), _bytes_start(1) + b"b") + pickle.REDUCE
    return empty + pickle.MARK + _plain(1) + _plain(shape) + _dtype(dtype) + pickle.NEWFALSE


_ARRAY_END = pickle.TUPLE + pickle.BUILD


def _dtype(dtype: np.dtype[Any]) -> bytes:
    # The last number of the state holds NumPy's flags: objects are counted, listed and initialised.
    order, name, flags = dtype.str[0], dtype.str[1:], 63 if dtype.hasobject else 0
    sizes = (-1, -1, flags)
    made = _global("numpy", "dtype") + _tuple(_plain(name), pickle.NEWFALSE, pickle.NEWTRUE) + pickle.REDUCE
    state = _tuple(_plain(3), _plain(order), *[pickle.NONE] * 3, *map(_plain, sizes))
    return made + state + pickle.BUILD


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*parts: bytes) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _bytes_start(size: int) -> bytes:
    return pickle.BINBYTES8 + struct.pack("<Q", size)
