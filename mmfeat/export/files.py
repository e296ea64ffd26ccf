"""Writing files: streamed, exact, durable, and a folder that appears whole or not at all."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as arrow_csv

from mmfeat.export.content import Rows
from mmfeat.schemas.errors import OutputError, UsageError

# What MMRec's models and MMHCL keep beside their data, named by hyper-parameters and not by content:
# they would be loaded in place of what new features say.
CACHED_GRAPHS = ("mm_adj_*.pt", "image_adj_*.pt", "text_adj_*.pt", "*_mat_*.pth")

# From here on one sync of the whole system is quicker than one for each file.
MANY_FILES = 1000


# What a spreadsheet runs when it opens a table (OWASP, CSV injection): "=..." and "@..." always. Ids and
# captions may well start with a sign ("-kJQP7kiw5Fk", "- a red cup"); these run only what calls a function
# or another program.
_FORMULA = r"^\s*(?:[=@].|[+\-].*(?:\w\(|\|.*!))"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name when the block ends well, and vanishes otherwise.

    Raises:
        UsageError: ``out`` is there and not empty.
        OutputError: it cannot be made or written: no space, no right to, a file in its path.
    """
    with _errors(out):
        refuse_used(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            partial.chmod(0o755)  # mkdtemp makes it private; an export is for others to read
            yield partial
            _sync_all(partial)
            try:
                partial.rename(out)
            except OSError:
                refuse_used(out)
                raise
            _sync(out.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def check_place(out: Path) -> None:
    """Whether :func:`whole_folder` could begin with ``out``; makes nothing.

    Raises:
        UsageError, OutputError: as there.
    """
    with _errors(out):
        refuse_used(out)
        above = next(folder for folder in out.absolute().parents if folder.exists())
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{above} is a file")
        if not os.access(above, os.W_OK | os.X_OK):
            # What the system says is known by trying; a file system that is read-only says another thing.
            tempfile.TemporaryFile(dir=above).close()


@contextmanager
def _errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Cannot write {out}: {error.strerror or error}.",
            hint="Give --out a new folder on a disk with free space, where you may write.",
        ) from error


def refuse_used(out: Path) -> None:
    """UsageError where ``out`` is a file or holds anything; says more where it holds cached graphs."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is not a folder.", hint="Give --out a new folder.")
    names = sorted(entry.relative_to(out).as_posix() for entry in out.rglob("*"))
    graphs = [n for n in names if any(fnmatch.fnmatch(Path(n).name, pattern) for pattern in CACHED_GRAPHS)]
    if graphs:
        raise UsageError(
            f"{out} holds graphs that a recommender cached: {', '.join(graphs[:5])}. They are named by"
            " hyper-parameters, not by content, so they would be used in place of the new features.",
            hint="Export to a new folder, or remove them together with the old features.",
        )
    if names:
        raise UsageError(f"The folder {out} is not empty.", hint="Give --out a new or empty folder.")


def write_npy(path: Path, rows: Rows) -> None:
    """A feature as ``.npy``, block by block: the same file that ``np.save`` writes."""
    write_blocks(path, rows.shape, rows.dtype, rows.blocks())


def write_tokens(path: Path, offsets: np.ndarray, rows: Rows) -> None:
    """The token vectors of all items as one ``.npy`` array, item after item."""
    write_blocks(path, (int(offsets[-1]), *rows.shape[1:]), rows.dtype, rows.token_blocks())


def write_blocks(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[np.ndarray]
) -> None:
    """Blocks of rows as one ``.npy`` array of ``shape``."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            block.tofile(file)


def read_npy(path: Path, rows: int) -> np.ndarray:
    """A matrix, mapped and not read; ValueError where it has not exactly ``rows`` rows."""
    matrix: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(matrix) != rows:
        raise ValueError(f"{path.name} has {len(matrix):,} rows, and there should be {rows:,}")
    return matrix


def write_each(folder: Path, rows: Rows, names: Sequence[str]) -> None:
    """One ``.npy`` per item that has a value, ``names[k].npy`` for the item at position ``k``."""
    folder.mkdir(parents=True, exist_ok=True)
    for position, value in rows.values():
        np.save(folder / f"{names[position]}.npy", value)


def write_table(path: Path, columns: Mapping[str, Any], separator: str = "\t", header: bool = True) -> None:
    """A delimited table with LF line ends and an unquoted header.

    Args:
        columns: header to values; texts are always quoted, so that any id survives a CSV reader,
            numbers never.

    Raises:
        UsageError: a text that a spreadsheet would run as a formula.
    """
    table = pa.table({str(k): _column(name, v) for k, (name, v) in enumerate(columns.items())})
    options = arrow_csv.WriteOptions(include_header=False, delimiter=separator, quoting_style="needed")
    with path.open("wb") as file:
        if header:
            file.write((separator.join(columns) + "\n").encode())
        arrow_csv.write_csv(table, file, options)


def write_plain_table(path: Path, columns: Mapping[str, Any], header: bool = True) -> None:
    """A tab-separated table without any quoting, for readers that split lines themselves.

    The caller has refused values with tabs, line breaks and quotes: see ``ids.refuse_ids``.

    Raises:
        UsageError: a text that a spreadsheet would run as a formula.
    """
    texts = [_column(name, values).cast(pa.string()) for name, values in columns.items()]
    with path.open("wb") as file:
        if header:
            file.write(("\t".join(columns) + "\n").encode())
        for start in range(0, len(texts[0]), 1 << 16):
            lines = zip(*(t.slice(start, 1 << 16).to_pylist() for t in texts), strict=True)
            file.write("".join("\t".join(line) + "\n" for line in lines).encode())


def _column(name: str, values: Any) -> pa.Array:
    """Values of a table's column. A recommender goes by their exact texts, so that one which is
    dangerous to open can only be refused."""
    column = pa.array(values)
    if not pa.types.is_string(column.type):
        return column
    found = column.filter(pc.match_substring_regex(column, _FORMULA))
    if len(found):
        raise UsageError(
            f"{len(found):,} values of {name!r} would run as formulas in a spreadsheet, such as"
            f" {found[0].as_py()[:60]!r}.",
            hint="Leave these items out, or give them another id or text.",
        )
    return column


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """UTF-8 JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")


def write_yaml(path: Path, values: Mapping[str, Any], comment: str) -> None:
    """A flat YAML file; every value in JSON notation, which YAML includes."""
    lines = [f"# {comment}", *(f"{key}: {json.dumps(value)}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """SHA-256 hex of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_all(folder: Path) -> None:
    paths = [folder, *folder.rglob("*")]
    if len(paths) > MANY_FILES:
        os.sync()
        return
    for path in paths:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
