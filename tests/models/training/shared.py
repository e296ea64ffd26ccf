"""What the training of every tiny model shares: batches, the optimizer, losses and files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


def batches(number: int, size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """``steps`` batches of indices, drawn without repeats within an epoch."""
    generator = torch.Generator().manual_seed(seed)
    queue = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(queue) < size:
            queue = torch.randperm(number, generator=generator)
        yield queue[:size]
        queue = queue[size:]


class Schedule:
    """Muon for the hidden matrices and AdamW for the rest; linear warm-up, then linear decay.

    On this world many small batches with Muon learn shapes sooner than fewer large ones with AdamW.
    """

    def __init__(self, model: nn.Module, steps: int, matrix_rate: float = 6e-3) -> None:
        named = list(model.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "head" not in n]
        ids = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in ids]
        self.optimizers = (
            torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0, betas=(0.9, 0.98)),
        )
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.parameters = matrices + rest
        self.steps, self.done = steps, 0

    def step(self, loss: torch.Tensor) -> None:
        share = min(1.0, (self.done + 1) / 40) * max(0.01, 1 - self.done / self.steps)
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.done += 1


def save_half(model: nn.Module, path: Path) -> None:
    """Weights as float16 safetensors, contiguous, shared tensors written once."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        kept[name] = tensor.detach().to(torch.float16).contiguous() if tensor.is_floating_point() else tensor
    save_file(kept, path, metadata={"format": "pt"})


def write_json(path: Path, body: object) -> None:
    path.write_text(json.dumps(body, indent=2) + "\n")


def contrast(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Each item picks its caption; each caption present picks its items, as a distribution."""
    to_text = F.cross_entropy(logits, target)
    present = target.unique()
    positive = (target[None, :] == present[:, None]).float()
    to_image = F.cross_entropy(logits.T[present], positive / positive.sum(1, keepdim=True))
    return (to_text + to_image) / 2


def log(name: str, step: int, started: float, loss: torch.Tensor) -> None:
    if step % 100 == 0:
        print(f"{name} step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f}s", flush=True)


def save_folder(model: nn.Module, out: Path) -> None:
    """A model of transformers, its weights as float16 and its configuration saying float32 to compute in."""
    half = {n: t.to(torch.float16) if t.is_floating_point() else t for n, t in model.state_dict().items()}
    model.save_pretrained(out, state_dict=half)
