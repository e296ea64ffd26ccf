"""Writes small dataset folders and reads back what an adapter made of them."""

from pathlib import Path

from mmfeat.datasets import Dataset, Note


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    """Files by their path under ``root``, which is returned."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def column(dataset: Dataset, source: str) -> dict[str, str | None]:
    """Item id to text or location, in the catalog's order."""
    return dict(zip(dataset.items["item_id"].to_pylist(), dataset.items[source].to_pylist(), strict=True))


def media(dataset: Dataset, source: str) -> dict[str, str]:
    """Item id to location, of the items that have one."""
    return {i: place for i, place in column(dataset, source).items() if place is not None}


def notes(dataset: Dataset) -> dict[str, Note]:
    """Notes by their code."""
    return {note.code: note for note in dataset.notes}
