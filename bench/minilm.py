"""all-MiniLM-L6-v2 alone: by sentence-transformers, and converted to OpenVINO.

The weights are those of the package that mmfeat reads them from.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import infer_request
from bench.rates import Step

MODES = ("torch fp32", "torch bf16", "OpenVINO f32", "OpenVINO bf16")

# Titles of a step, which are sorted by length, and of a forward pass.
_AT_A_TIME, _BATCH = 512, 32
_LONGEST = 256
_GRAPH = "minilm.xml"


def titles(mode: str, texts: list[str], threads: int, graphs: Path) -> dict[str, Step]:
    """512 titles per step: tokenised and sorted by length in the step."""
    encode = _by_openvino(graphs, mode, threads) if "OpenVINO" in mode else _by_torch(mode, threads)
    parts = cycle([texts[start : start + _AT_A_TIME] for start in range(0, len(texts), _AT_A_TIME)])

    def step() -> int:
        part = next(parts)
        encode(part)
        return len(part)

    return {"": step}


def model() -> Any:
    """The model in torch."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder()), device="cpu")


def convert(graphs: Path) -> None:
    """Write OpenVINO's graph of the transformer and the mean of its tokens, once."""
    import openvino
    import torch

    path = graphs / _GRAPH
    if path.exists():
        return
    minilm = model()
    tokens = minilm.tokenizer(["a title", "a title of more words"], padding=True, return_tensors="pt")

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = minilm[0].auto_model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1)

    axes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    example = (tokens["input_ids"], tokens["attention_mask"])
    with torch.no_grad():
        program = torch.export.export(Mean().eval(), example, dynamic_shapes=(axes, axes))
    openvino.save_model(openvino.convert_model(program), path, compress_to_fp16=False)


def _by_torch(mode: str, threads: int) -> Callable[[list[str]], object]:
    import torch

    torch.set_num_threads(threads)
    minilm = model().to(torch.bfloat16 if "bf16" in mode else torch.float32)
    return lambda part: minilm.encode(
        part, batch_size=_BATCH, show_progress_bar=False, convert_to_tensor=True
    )


def _by_openvino(graphs: Path, mode: str, threads: int) -> Callable[[list[str]], object]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.enable_truncation(_LONGEST)
    tokenizer.no_padding()
    request = infer_request(graphs / _GRAPH, mode, threads)

    def encode(part: list[str]) -> object:
        encodings = sorted((e.ids for e in tokenizer.encode_batch(part)), key=len)
        return [_forward(request, encodings[n : n + _BATCH]) for n in range(0, len(encodings), _BATCH)]

    return encode


def _forward(request: Any, rows: list[list[int]]) -> np.ndarray:
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for n, row in enumerate(rows):
        ids[n, : len(row)], mask[n, : len(row)] = row, 1
    outputs: np.ndarray = request.infer([ids, mask], share_inputs=True)[0]
    return outputs


def folder() -> Path:
    """Where the weights lie."""
    from mmfeat.extract.encoders.sentence_transformers.loading import PACKAGES

    return PACKAGES["all-MiniLM-L6-v2"].path("title_text").parent
