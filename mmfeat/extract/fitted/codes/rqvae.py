"""RQ-VAE: an autoencoder whose latent vector is residually quantized, trained as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mmfeat.extract.fitted.codes.base import Residual
from mmfeat.extract.fitted.codes.residual_kmeans import residual_codes
from mmfeat.extract.fitted.vectors import projected
from mmfeat.schemas.errors import MissingExtra
from mmfeat.schemas.inputs import VECTOR
from mmfeat.schemas.spec import ModelCard

if TYPE_CHECKING:
    import torch

# TIGER's sizes (arXiv 2305.05065, section 4).
_HIDDEN = (512, 256, 128)
_LATENT = 32
_COMMITMENT = 0.25

_LEARNING_RATE = 1e-3
_BATCH = 256
# Bounded below so that small sets are learnt at all, above so that large ones end within minutes.
_EPOCHS = 40
_STEPS = (500, 5000)
# Before the codebooks start, the autoencoder alone is trained for this share of the steps: k-means
# on the latents of a trained encoder starts from clusters that mean something.
_WARM_UP = 1 / 3
# Vectors per code that k-means starts from.
_START_VECTORS = 16
# Codes follow the mean of their vectors over some 20 batches. One that is taken a tenth as often as
# the average is put on a vector of the batch.
_DECAY = 0.95
_DEAD_SHARE = 0.1


class RqVae(Residual):
    """The RQ-VAE of TIGER (arXiv 2305.05065): an MLP encoder to 32 dims, residual codebooks that start
    from k-means and follow by moving averages, an MLP decoder; squared error plus 0.25 x commitment.

    Vectors are centred and scaled to unit variance first, so that one learning rate suits any feature.
    Trained on the CPU, in 40 passes over the data and in 500 to 5000 steps of 256 vectors.
    """

    method = "rqvae"
    example = ModelCard(
        method="rqvae",
        model="3x256",
        reads=(VECTOR,),
        licence="Apache-2.0",
        weights_from="fitted to the vectors that are read",
        notes="RQ-VAE (TIGER).",
    )

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        _need_extra()
        import torch

        self._state = state
        codebooks = [array for name, array in state.items() if name.endswith("._codebook.embed")]
        super().__init__(len(state["mean"]), len(codebooks), codebooks[0].shape[1])
        # Its random start is replaced at once; the caller's random numbers are its own.
        with torch.random.fork_rng(devices=[]):
            self._net = _network(self.dims, self.levels, self.codebook_size)
        self._net.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
        self._net.eval()

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Self:
        """The quantizer with these parameters."""
        return cls(state)

    def state(self) -> dict[str, np.ndarray]:
        """``mean`` and ``scale`` of the vectors, and the parameters of ``encoder``, ``quantizer`` (with
        its codebooks, ``quantizer.layers.LEVEL._codebook.embed``) and ``decoder``."""
        return self._state

    def reordered(self, rows: np.ndarray) -> Self:
        """See :meth:`Quantizer.reordered`."""
        state = dict(self._state)
        for level, at in enumerate(rows):
            for array in ("embed", "embed_avg", "cluster_size"):
                name = f"quantizer.layers.{level}._codebook.{array}"
                state[name] = np.ascontiguousarray(state[name][:, at])
        return type(self)(state)

    def last_level(self, vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Quantizer.last_level`; both are of the latent space."""
        books = self._books()
        earlier = [book[codes[:, level]] for level, book in enumerate(books[:-1])]
        return self._latents(vectors) - np.sum(earlier, axis=0, initial=0), books[-1]

    def _books(self) -> list[np.ndarray]:
        """float32 ``[codebook_size, latent]`` of each level."""
        return [self._state[f"quantizer.layers.{k}._codebook.embed"][0] for k in range(self.levels)]

    def _latents(self, vectors: np.ndarray) -> np.ndarray:
        """float32 ``[n, latent]`` that the encoder gives; each row's depends on its own vector alone, unlike
        those of a product of matrices in floating-point numbers."""
        found = (vectors.astype(np.float64) - self._state["mean"]) / self._state["scale"]
        for layer in range(len(_HIDDEN) + 1):
            # Linear layers and those that cut off what is negative follow each other.
            if layer:
                found = np.maximum(found, 0)
            weight, bias = (self._state[f"encoder.{2 * layer}.{part}"] for part in ("weight", "bias"))
            found = projected(found, np.zeros(weight.shape[1]), weight) + bias
        return np.asarray(found, np.float32)

    @classmethod
    def _fit(cls, vectors: np.ndarray, levels: int, codebook_size: int, seed: int) -> Self:
        _need_extra()
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            batch = min(_BATCH, len(vectors))
            net = _network(vectors.shape[1], levels, codebook_size, batch / codebook_size)
            net.mean.copy_(torch.from_numpy(vectors.mean(axis=0)))
            net.scale.fill_(float(vectors.std(axis=0).mean()) or 1.0)
            _train(net, torch.from_numpy(vectors), batch, _START_VECTORS * codebook_size)
        return cls({name: value.numpy().copy() for name, value in net.state_dict().items()})

    def _encode(self, vectors: np.ndarray) -> np.ndarray:
        return residual_codes(self._latents(vectors), self._books())

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            vectors: np.ndarray = self._net.vectors(torch.from_numpy(codes.astype(np.int64))).numpy()
        return vectors


def _need_extra() -> None:
    for package, module in (("torch", "torch"), ("vector-quantize-pytorch", "vector_quantize_pytorch")):
        if find_spec(module) is None:
            raise MissingExtra("Quantizing by RQ-VAE", "quantize", package)


def _train(net: Any, vectors: torch.Tensor, batch: int, start_vectors: int) -> None:
    import torch

    steps = int(np.clip(_EPOCHS * len(vectors) // batch, *_STEPS))
    warm_up = int(_WARM_UP * steps)
    optimizer = torch.optim.AdamW(net.parameters(), _LEARNING_RATE)
    net.train()
    for step, rows in enumerate(_batches(len(vectors), batch, steps)):
        if step == warm_up:
            net.start_codebooks(vectors[torch.randperm(len(vectors))[:start_vectors]])
        loss = net.plain_loss(vectors[rows]) if step < warm_up else net.loss(vectors[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _batches(n: int, size: int, steps: int) -> Iterator[torch.Tensor]:
    """Row numbers of each step: every row once before any comes again."""
    import torch

    order = torch.randperm(n)
    for _ in range(steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(n)])
        batch, order = order[:size], order[size:]
        yield batch


def _network(dims: int, levels: int, codebook_size: int, vectors_per_code: float = 1.0) -> Any:
    """The module; in a function, so that importing this file loads no torch.

    Args:
        vectors_per_code: in a batch, on average; matters in training alone.
    """
    import torch
    from torch import nn
    from vector_quantize_pytorch import ResidualVQ

    def mlp(*sizes: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    class Network(nn.Module):
        mean: torch.Tensor
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(dims))
            self.register_buffer("scale", torch.ones(()))
            self.encoder = mlp(dims, *_HIDDEN, _LATENT)
            self.quantizer = ResidualVQ(
                dim=_LATENT,
                num_quantizers=levels,
                codebook_size=codebook_size,
                kmeans_init=True,
                commitment_weight=_COMMITMENT,
                decay=_DECAY,
                threshold_ema_dead_code=_DEAD_SHARE * vectors_per_code,
            )
            self.decoder = mlp(_LATENT, *reversed(_HIDDEN), dims)

        def scaled(self, vectors: torch.Tensor) -> torch.Tensor:
            return (vectors - self.mean) / self.scale

        def start_codebooks(self, vectors: torch.Tensor) -> None:
            # In training mode its first call runs k-means on what it is given.
            with torch.no_grad():
                self.quantizer(self.encoder(self.scaled(vectors)))

        def plain_loss(self, vectors: torch.Tensor) -> torch.Tensor:
            scaled = self.scaled(vectors)
            return nn.functional.mse_loss(self.decoder(self.encoder(scaled)), scaled)

        def loss(self, vectors: torch.Tensor) -> torch.Tensor:
            scaled = self.scaled(vectors)
            quantized, _, commitment = self.quantizer(self.encoder(scaled))
            return nn.functional.mse_loss(self.decoder(quantized), scaled) + torch.sum(commitment)

        def vectors(self, codes: torch.Tensor) -> torch.Tensor:
            scaled: torch.Tensor = self.decoder(self.quantizer.get_output_from_indices(codes))
            return scaled * self.scale + self.mean

    return Network()
