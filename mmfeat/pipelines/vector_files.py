"""Vectors that others made: files with one vector per item, and which item each is of.

No row is given to an item by its place in a file unless a person says by which rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmfeat.export import registry
from mmfeat.export.files import digest
from mmfeat.export.manifest import MANIFEST, read_manifest, read_map
from mmfeat.export.verify import verify
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset.arrow import array_matrix
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import listed, near

#: A rule's name to the item of row ``r``; None of a row that is no item's.
ROW_RULES: dict[str, Callable[[int], str | None]] = {
    "zero-based": lambda row: str(row),
    "one-based": lambda row: str(row + 1),
    # Row 0 pads, and is of no item.
    "padded": lambda row: str(row) if row else None,
    # The released features of MicroLens: row r is of the video r + 1.
    "microlens": lambda row: str(row + 1),
}
_ID_COLUMN = "item_id"
# What NumPy and JSON's reader say of files that are damaged, empty, or nested without end.
_DAMAGE = (OSError, ValueError, EOFError, OverflowError, RecursionError)


@dataclass(frozen=True)
class VectorFile:
    """What a file holds.

    Attributes:
        named: what errors call it.
        matrix: float32 or float16 ``[n, dims]``.
        ids: ``[n]``, the item of each row; as they are in the file, unchecked.
        digest: ``sha256:...`` of the file.
        chosen: which part of the file it is; None if it has one.
        filled: how many items of an export are left out, since it filled their rows in.
        quantized: whether it holds whole numbers of an export, which ``matrix`` has in their scales.
    """

    named: str
    matrix: np.ndarray
    ids: list[str]
    digest: str
    chosen: str | None = None
    filled: int = 0
    quantized: bool = False


def read_vectors(
    vectors: str | Path | np.ndarray,
    ids: str | Path | Sequence[str] | None = None,
    rows: str | None = None,
    feature: str | None = None,
) -> VectorFile:
    """Vectors and the item of each.

    Args:
        vectors: ``.npy``, ``.safetensors``, ``.parquet`` (with a column ``item_id``), ``.json`` (item id to
            list), the folder of an export, or an array ``[n, dims]``.
        ids: the item of each row: a list, or a ``.json``, ``.npy`` or ``.txt`` file of one.
        rows: the rule by which a row's place says whose it is, in the place of ``ids``.
        feature: which column, tensor or role, where the file has several.

    Raises:
        UsageError: it cannot be read, it does not say whose a row is, or says it twice; or there are not as
            many ids as rows.
    """
    if ids is not None and rows is not None:
        raise UsageError("Both ids and a rule for rows say whose a row is.", hint="Give one of them.")
    if rows is not None and rows not in ROW_RULES:
        raise UsageError(
            f"There is no rule {rows!r} for rows.",
            hint=f"{near(rows, ROW_RULES)}There are: {', '.join(ROW_RULES)}.",
        )
    if not isinstance(vectors, np.ndarray | str | Path):
        raise UsageError(
            f"Vectors are a file or a NumPy array, and a {type(vectors).__name__} is neither.",
            hint="np.asarray(...) makes an array of most things.",
        )
    named = "the array" if isinstance(vectors, np.ndarray) else str(vectors)
    part = _array(vectors) if isinstance(vectors, np.ndarray) else _file(Path(vectors), feature)
    matrix = _checked(part.matrix, named)
    own = _ids(part, ids, rows, named)
    if len(own) != len(matrix):
        raise UsageError(
            f"{named} has {len(matrix):,} rows, and there are {len(own):,} ids.",
            hint="Every row needs the id of its item: give the ids that the file was made with.",
        )
    kept = [k for k, item_id in enumerate(own) if item_id is not None]
    if len(kept) < len(own):
        matrix = matrix[kept]
    owners = [item_id for item_id in own if item_id is not None]
    return VectorFile(named, matrix, owners, part.digest, part.chosen, part.filled, part.quantized)


@dataclass(frozen=True)
class _Part:
    matrix: np.ndarray
    digest: str
    ids: list[str] | None = None
    chosen: str | None = None
    filled: int = 0
    quantized: bool = False


def _array(matrix: np.ndarray) -> _Part:
    if isinstance(matrix, np.ma.MaskedArray):
        raise UsageError(
            "The array is masked, and what its mask hides is no vector.",
            hint="array.filled(np.nan) says so in the array itself; then give empty='missing'.",
        )
    found = hashlib.sha256(f"{matrix.dtype.str}{matrix.shape}".encode())
    found.update(np.ascontiguousarray(matrix).data)
    return _Part(matrix, f"sha256:{found.hexdigest()}")


def _file(path: Path, feature: str | None) -> _Part:
    readers = {".npy": _npy, ".safetensors": _safetensors, ".parquet": _parquet, ".json": _json}
    if not path.exists():
        raise UsageError(f"There is no file {path}.", hint="Check the path.")
    if path.is_dir():
        return _export(path, feature)
    read = readers.get(path.suffix)
    if read is None:
        raise UsageError(
            f"{path} is of no kind that vectors are imported from.",
            hint=f"Give a file of {', '.join(readers)}, or the folder of an export.",
        )
    try:
        matrix, ids, chosen = read(path, feature)
        return _Part(matrix, f"sha256:{digest(path)}", ids, chosen)
    # Each library says in its own way that a file is damaged.
    except (*_DAMAGE, pa.ArrowException) as error:
        raise UsageError(f"Cannot read {path}: {str(error).rstrip('.')}.") from None


_Read = tuple[Any, list[str] | None, str | None]


def _npy(path: Path, feature: str | None) -> _Read:
    return _read_npy(path, mmap_mode="r"), None, None


def _read_npy(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """One array; ValueError for anything else, such as objects: no pickle is ever read."""
    try:
        found = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except ValueError as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise ValueError("it holds Python objects, and no pickle is read") from None
        raise
    if not isinstance(found, np.ndarray):
        raise ValueError("it holds an archive, and no array")
    return found


def _safetensors(path: Path, feature: str | None) -> _Read:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise MissingExtra("Reading safetensors", "quantize", "safetensors") from None
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
            name = _chosen([n for n, shape in tensors.items() if len(shape) == 2], feature, path, "tensor")
            if file.get_slice(name).get_dtype() == "BF16":
                return _bfloat16(path, name), None, name
            return file.get_tensor(name), None, name
    except SafetensorError as error:
        raise ValueError(error) from None
    # NumPy has no such numbers.
    except (TypeError, AttributeError):
        raise UsageError(
            f"{path} holds {name} as numbers that NumPy does not know.", hint="Save it as float32 or float16."
        ) from None


def _bfloat16(path: Path, name: str) -> np.ndarray:
    """A tensor of bfloat16 as float32, whose upper half of bits it is."""
    from safetensors import deserialize

    tensors = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    stored = next(tensor for key, tensor in tensors if key == name)
    upper = np.frombuffer(stored["data"], "<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).reshape(stored["shape"])


def _parquet(path: Path, feature: str | None) -> _Read:
    schema = pq.read_schema(path)
    if _ID_COLUMN not in schema.names:
        raise UsageError(
            f"{path} has no column {_ID_COLUMN}; it has: {', '.join(schema.names)}.",
            hint="Rename the column of ids, so that every row says whose it is.",
        )
    lists = [field.name for field in schema if _is_list(field.type)]
    name = _chosen(lists, feature, path, "column of vectors")
    table = pq.read_table(path, columns=[_ID_COLUMN, name])
    if unnamed := table[_ID_COLUMN].null_count:
        raise UsageError(f"{path} has {unnamed:,} rows without {_ID_COLUMN}.", hint="Say whose each row is.")
    table = table.filter(table[name].is_valid())
    column = table[name].combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = _of_one_length(column, path, name)
    return array_matrix(column)[0], list(map(str, table[_ID_COLUMN].to_pylist())), name


def _json(path: Path, feature: str | None) -> _Read:
    # Pairs, since a dictionary would keep the last of an id's vectors.
    found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=tuple)
    if not isinstance(found, tuple) or not found:
        raise UsageError(f"{path} does not give item ids their vectors.")
    ids, vectors = zip(*found, strict=True)
    lengths = {len(one) if isinstance(one, list) else -1 for one in vectors}
    if len(lengths) > 1 or -1 in lengths:
        raise UsageError(f"{path} holds something else than one vector of the same length per item.")
    return np.array(vectors, np.float32), list(ids), None


def _export(folder: Path, feature: str | None) -> _Part:
    """A folder that mmfeat exported, in whatever format, by its own loading rule.

    Rows that the export filled in (``--missing mean`` or ``zero``) are nobody's vectors and are left out.
    """
    document = read_manifest(folder)
    if problems := verify(folder).problems:
        raise UsageError(
            f"{folder} is not as it was exported: {problems[0].message}.", hint="Export it again."
        )
    name = _chosen(_vectors_in(document), feature, folder, "feature of one vector per item")
    filled = _filled_in(document, name, folder)
    entries = registry.get(document["format"]).read_back(folder, read_map(folder), document)
    found = {entry.item_id: np.array(entry.value) for entry in entries if entry.role == name}
    own = {item_id: vector for item_id, vector in found.items() if item_id not in filled}
    if not own:
        raise UsageError(f"{folder} holds no vector of {name}.")
    entry, matrix = document["features"][name], np.stack(list(own.values()))
    quantized = bool(entry["steps"]) and entry["steps"][-1]["op"] == "quantize"
    if quantized:
        matrix = _scaled(matrix, list(own), folder, entry)
    return _Part(
        matrix,
        f"sha256:{digest(folder / MANIFEST)}",
        list(own),
        name,
        filled=len(found) - len(own),
        quantized=quantized,
    )


def _scaled(matrix: np.ndarray, ids: list[str], folder: Path, entry: dict[str, Any]) -> np.ndarray:
    """Whole numbers of an export times the scales that stand beside them."""
    with np.load(folder / entry["fitted"][-1], allow_pickle=False) as fitted:
        scales = fitted["scale"]
    if len(scales) > 1:
        row_of = {item_id: row for row, item_id in enumerate(read_map(folder).ids)}
        scales = scales[[row_of[item_id] for item_id in ids]]
    exact: np.ndarray = matrix.astype(np.float32) * scales[:, None]
    return exact


def _vectors_in(document: dict[str, Any]) -> list[str]:
    """The roles of an export that hold one vector per item; codes are numbers in a row too, and are none."""
    return [
        role
        for role, entry in document["features"].items()
        if len(entry["exported"]["shape"]) == 1 and FeatureSpec.model_validate(entry["spec"]).form != "codes"
    ]


def _filled_in(document: dict[str, Any], role: str, folder: Path) -> set[str]:
    """The items that an export filled in a vector for; UsageError where its manifest does not say."""
    try:
        return set(document["missing"]["items"].get(role, ()))
    except (KeyError, TypeError, AttributeError):
        raise UsageError(
            f"{folder / MANIFEST} does not say which vectors the export filled in.",
            hint="Export it again, or import the file of vectors itself with its ids.",
        ) from None


def _chosen(names: Sequence[str], feature: str | None, path: Path, what: str) -> str:
    if feature is None and len(names) == 1:
        return names[0]
    if feature is not None and feature in names:
        return feature
    there = ", ".join(names) or "none"
    if feature is None:
        raise UsageError(f"{path} has no single {what}; it has: {there}.", hint="Name it: --feature NAME.")
    raise UsageError(f"{path} has no {what} {feature!r}.", hint=f"{near(feature, names)}There are: {there}.")


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _of_one_length(column: pa.Array, path: Path, name: str) -> pa.Array:
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if not len(lengths):
        raise UsageError(f"{path} has no vector in {name}.")
    if len(lengths) != 1:
        raise UsageError(f"{path}: the vectors of {name} have different lengths: {lengths[:5].tolist()}.")
    return pa.FixedSizeListArray.from_arrays(column.flatten(), int(lengths[0]))


def _checked(matrix: np.ndarray, named: str) -> np.ndarray:
    if matrix.ndim != 2 or not matrix.size:
        shape = "x".join(map(str, matrix.shape))
        raise UsageError(f"{named} has the shape {shape}, and not one vector per row.")
    if not np.issubdtype(matrix.dtype, np.number) or np.iscomplexobj(matrix):
        raise UsageError(f"{named} holds {matrix.dtype}, and no numbers.")
    if matrix.dtype == np.float16:
        return matrix
    # What float32 cannot hold is infinite, and such rows are found later.
    with np.errstate(over="ignore"):
        return matrix.astype(np.float32, copy=False)


def _ids(
    part: _Part, ids: str | Path | Sequence[str] | None, rows: str | None, named: str
) -> list[str | None]:
    """The item of each row, None of a row that is none's."""
    if part.ids is not None:
        if ids is not None or rows is not None:
            raise UsageError(f"{named} says itself whose a row is.", hint="Leave --ids and --rows out.")
        return list(part.ids)
    if rows is not None:
        return [ROW_RULES[rows](row) for row in range(len(part.matrix))]
    if ids is None:
        raise UsageError(
            f"{named} does not say whose a row is.",
            hint=f"Give the ids (--ids ids.json), or the rule of its rows (--rows {' | '.join(ROW_RULES)}).",
        )
    return [*(_read_ids(Path(ids)) if isinstance(ids, str | Path) else listed(ids, "item id"))]


def _read_ids(path: Path) -> Iterator[str]:
    try:
        if path.suffix == ".npy":
            found = _read_npy(path).reshape(-1).tolist()
        elif path.suffix == ".txt":
            # Not splitlines, which also ends a line at signs that an id may hold.
            found = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        else:
            found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", hint="Check the path.") from None
    except _DAMAGE as error:
        raise UsageError(f"Cannot read {path}: {str(error).rstrip('.')}.") from None
    if not isinstance(found, list) or not all(type(one) in (str, int) for one in found):
        raise UsageError(
            f"{path} is no list of item ids.", hint='Write ["4", "11", ...] in the order of the rows.'
        )
    return map(str, found)
