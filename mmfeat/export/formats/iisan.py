"""Cached hidden states for IISAN (https://github.com/GAIR-Lab/IISAN, ``Code_Cached``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, ItemMap
from mmfeat.export.ids import NUMBER_THEM, IdOptions, case_clashes, is_no_file_name, raw_id, refuse_ids
from mmfeat.export.tensors import need_torch, read_tensor, write_each_tensor

# Role to the prefix of its files and, with "_outputs", their folder.
_PREFIX = {"text": "bert", "image": "vit"}


class IISAN(Exporter):
    """``bert_outputs/bert_{id}.pt`` and ``vit_outputs/vit_{id}.pt``: float32 ``[layers + 1, hidden]`` each.

    A row per hidden state, the embeddings first. ``Code_Cached`` has 13 states of 768 numbers (BERT-base
    and ViT-base) written into its padding; ``Code_Cached_Asym`` (IISAN-Versa) takes any size and is told
    folders, prefixes and sizes. ``load_output`` finds a file by the item's own id and gives None if
    there is none, which fails later, in training.
    """

    name = "iisan"
    title = "IISAN"
    systems = ("IISAN", "IISAN-Versa")
    roles = (
        Role("text", kind="vectors", media=("text",), what="hidden states of a text encoder"),
        Role("image", kind="vectors", media=("image",), what="hidden states of an image encoder"),
    )
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "an item without a file stops it in training"}
    id_base = None
    options = IdOptions

    def check(self, content: Content) -> None:
        """Ids are part of file names."""
        need_torch(self.name)
        if content.options.ids == "raw":
            bad = "cannot be part of a file's name"
            refuse_ids(content.ids, lambda i: is_no_file_name(f"bert_{i}"), bad, NUMBER_THEM)
            clashes = case_clashes(content.ids)
            refuse_ids(clashes, lambda i: True, "differ from another only in case", NUMBER_THEM)

    def write(self, out: Path, content: Content) -> None:
        """A file per item and modality."""
        tokens = content.options.tokens(content.ids)
        for role, rows in content.features.items():
            prefix = _PREFIX[role]
            write_each_tensor(out / f"{prefix}_outputs", rows, [f"{prefix}_{token}" for token in tokens])

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """A file's name, after the prefix, is the item's."""
        for role in manifest["features"]:
            prefix = _PREFIX[role]
            for path in (out / f"{prefix}_outputs").iterdir():
                token = path.name.removeprefix(f"{prefix}_").removesuffix(".pt")
                yield Entry(role, raw_id(token, items, manifest["options"]["ids"]), read_tensor(path))
