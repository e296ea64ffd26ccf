"""DFF: frozen video models for micro-video recommendation (arXiv 2512.21863).

The code is https://github.com/Tuannnxlf/Frozen-LVLMs-for-Micro-Video-Recommendation-A-Systematic-Study-of-Feature-Extraction-and-Fusion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmfeat.export.base import Exporter, Policy, Role
from mmfeat.export.content import Content, Entry, Interactions, ItemMap
from mmfeat.export.files import read_npy, write_json, write_npy
from mmfeat.export.ids import breaks_lines, is_number, refuse_gaps, refuse_ids
from mmfeat.export.interactions import refuse_fewer
from mmfeat.export.tensors import need_torch, read_tensor, write_tensor

_FOLDER, NUMBERS = "features", "item2id.json"
_FILES = {"video": "all_layers_tensor.pt", "audio": "laionclap_fusion_audio_feature.npy"}
# `min_seq_len`, and `max_seq_len` + 3, of utils/parameters.py: of a user it reads so many of the last items.
_LEAST, _READ = 5, 13
_NUMBER_THEM = f"Number them instead: --option numbers=new; {NUMBERS} says which is which."


class Options(BaseModel):
    """DFF's options.

    Attributes:
        numbers: ``own``: the dataset's ids, which must be 1 to N. ``new``: items are numbered from 1, those
            that DFF reads first, as ``item2id.json`` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: Literal["own", "new"] = "own"


class DFF(Exporter):
    """``features/all_layers_tensor.pt`` and ``NAME_pairs.tsv``, for ``root_data_dir`` = the parent folder.

    ``all_layers_tensor.pt`` is a float32 tensor ``[items + 1, layers, dims]``: a row per hidden state of a
    video's model. ``features/laionclap_fusion_audio_feature.npy`` is float32 ``[items + 1, dims]``. Row =
    video number, from 1; row 0 is a pad row of zeros (``model/model_dff.py``:
    ``pretrained_embs[sample_items_id]``, ``audio_embs[sample_items_id]``). A line of ``NAME_pairs.tsv`` is a
    user, a tab, and their videos in time order.

    ``read_behaviors`` (``utils/load_data.py``) leaves out users with fewer than 5 videos, reads the last 13
    of each, and numbers the videos that it met anew, in the order of their numbers: where one was not met,
    all behind it get other rows than their own. So with ``numbers=new`` the videos that it reads have the
    lowest numbers, and with ``numbers=own`` videos that it does not read are refused.
    ``item2id.json`` has the number of every item.
    """

    name = "dff"
    title = "DFF"
    systems = ("DFF (frozen LVLMs for micro-video recommendation)",)
    roles = (
        Role("video", kind="vectors", what="all_layers_tensor.pt: hidden states of each video"),
        Role("audio", media=("audio",), required=False, what="laionclap_fusion_audio_feature.npy"),
    )
    interactions = "optional"
    missing: ClassVar[tuple[Policy, ...]] = ("error", "mean", "zero", "drop")
    refusals: ClassVar[Mapping[Policy, str]] = {"mask": "it has a row for every item and no mask"}
    id_base = None
    user_base = None
    pad_row = True
    options = Options

    def check(self, content: Content) -> None:
        """Numbers are rows, and stay what they are when it numbers videos anew."""
        need_torch(self.name)
        inter = content.interactions
        if inter is not None:
            refuse_fewer(inter, _LEAST, f"{self.title} leaves them out")
            bad = "hold control characters, which end a line or a field"
            refuse_ids(inter.user_ids, breaks_lines, bad, "Rename them.")
        refuse_gaps(content.ids, _numbers(content), self.title, _NUMBER_THEM)
        if inter is not None and content.options.numbers == "own":
            unread = set(np.array(content.ids)[~_read(inter, len(content.ids))])
            why = f"are in no user's last {_READ} videos: {self.title} would number the others anew"
            refuse_ids(content.ids, unread.__contains__, why, _NUMBER_THEM)

    def write(self, out: Path, content: Content) -> None:
        """Features, numbers and histories."""
        numbers = _numbers(content)
        order = np.argsort(numbers)
        (out / _FOLDER).mkdir()
        write_tensor(out / _FOLDER / _FILES["video"], content.features["video"].take(order))
        if "audio" in content.features:
            write_npy(out / _FOLDER / _FILES["audio"], content.features["audio"].take(order))
        write_json(out / NUMBERS, dict(zip(content.ids, numbers.tolist(), strict=True)))
        if content.interactions is not None:
            _write_pairs(out / f"{content.name}_pairs.tsv", content.interactions, numbers)

    def read_back(self, out: Path, items: ItemMap, manifest: Mapping[str, Any]) -> Iterator[Entry]:
        """Row = the number in ``item2id.json``."""
        numbers = json.loads((out / NUMBERS).read_text(encoding="utf-8"))
        for role in manifest["features"]:
            path = out / _FOLDER / _FILES[role]
            matrix = read_tensor(path) if role == "video" else read_npy(path, len(numbers) + 1)
            for item_id, number in numbers.items():
                yield Entry(role, item_id, matrix[number])


def _numbers(content: Content) -> np.ndarray:
    """The number of every item, int64 ``[n]``."""
    inter, items = content.interactions, len(content.ids)
    if content.options.numbers == "own":
        refuse_ids(content.ids, lambda i: not is_number(i), "are no integers from 1 on", _NUMBER_THEM)
        return np.array([int(i) for i in content.ids])
    order = np.arange(items) if inter is None else np.argsort(~_read(inter, items), kind="stable")
    numbers = np.empty(items, np.int64)
    numbers[order] = np.arange(1, items + 1)
    return numbers


def _read(inter: Interactions, items: int) -> np.ndarray:
    """``[items]`` bool: whether the target meets the item in what it reads of the histories."""
    read = np.zeros(items, bool)
    for _, met in inter.sequences():
        if len(met) >= _LEAST:
            read[met[-_READ:]] = True
    return read


def _write_pairs(path: Path, inter: Interactions, numbers: np.ndarray) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for user, met in inter.sequences():
            file.write(f"{inter.user_ids[user]}\t{' '.join(map(str, numbers[met]))}\n")
