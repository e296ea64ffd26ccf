"""What protocols that train a small model share: one fixed recipe on frozen features, and its controls.

The recipe is small on purpose: it says whether a feature helps a model that is trained, and not what the best
model makes of it. Published models gain much of what they gain from any vector that tells items apart (arXiv
2508.04571). So what counts is what a feature gives beyond its own rows at other items.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmfeat.evaluate.base import Measured, Task, Values
from mmfeat.evaluate.cases import Places
from mmfeat.evaluate.features import Feature
from mmfeat.evaluate.log import Log
from mmfeat.evaluate.protocols.profile import Profile
from mmfeat.evaluate.protocols.ranking import RANDOM, SHUFFLED
from mmfeat.evaluate.shuffles import Chance
from mmfeat.evaluate.spaces import Dense, places_of

if TYPE_CHECKING:
    import torch

DIMS, HISTORY = 64, 20
_BATCH, _RATE, _DECAY, _TEMPERATURE = 512, 2e-3, 1e-4, 0.1
# Every interaction is learned some times, within these bounds.
_EPOCHS, _LEAST_STEPS, _MOST_STEPS = 10, 200, 400
_PART = 4096
_SEED = 40


class Trained(Profile):
    """Asks what :class:`Profile` asks, of a model that learns from histories what is taken next.

    A score is the cosine of a user's vector and an item's, of 64 dimensions both. The other items of a batch
    are the wrong answers, corrected for how often each comes (Yi et al., "Sampling-bias-corrected neural
    modeling", 2019). One shuffle and one draw are trained: they show what the feature gives, and no spread
    for a test.
    """

    takes_codes: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.sample = np.arange(len(self.asked))

    @abstractmethod
    def user_model(self) -> torch.nn.Module:
        """What makes ``[batch, DIMS]`` of a history's items ``[batch, HISTORY, DIMS]``, the last of them
        last, and a mask ``[batch, HISTORY]`` that is true if there is one."""

    def judge(self, feature: Feature) -> Measured:
        """See :meth:`Protocol.judge`."""
        control, sought = self.task.rng(SHUFFLED), self.asked.sought
        own = self._places(feature.vectors, self.task.ids)
        shuffled = self._places(feature.shuffled(control).vectors, self.task.ids)
        random = self._places(feature.random(self.task.rng(RANDOM)).vectors, self.task.ids)
        return Measured(
            self.measure(own, sought),
            self.sample,
            [self.measure(shuffled, sought)],
            self.measure(random, sought),
            self.sliced(own),
            Chance(None, 0, "one shuffle shows no spread"),
        )

    def baselines(self) -> dict[str, Values]:
        """See :meth:`Protocol.baselines`; ``item ids`` is the same model with a vector of its own for every
        item and no feature."""
        return {**super().baselines(), "item ids": self.measure(self._places(None, True), self.asked.sought)}

    def _places(self, vectors: np.ndarray | None, ids: bool) -> Places:
        """Of what is sought, by a model that is trained on these vectors."""
        import torch

        from mmfeat.evaluate.protocols.items import Items

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.task.rng(_SEED).integers(1 << 31)))
            items = Items(self.task.log.n_items, vectors, DIMS, ids)
            users = self.user_model()
            _train(items, users, self.task.split.train, self.task.rng(_SEED))
            items.eval()
            users.eval()
            with torch.inference_mode():
                places = np.concatenate([_places(items, part) for part in _parts(self.task.log.n_items)])
                rows = np.concatenate([self._asked(items, users, part) for part in _parts(len(self.asked))])
        return places_of(Dense(places), rows, self.asked.sought, self.asked.excluded)

    def _asked(self, items: Any, users: Any, cases: np.ndarray) -> np.ndarray:
        past = self.asked.excluded
        found: np.ndarray = _rows(
            items, users, past.values, past.starts[cases], past.starts[cases + 1]
        ).numpy()
        return found


def _train(items: Any, users: Any, log: Log, rng: np.random.Generator) -> None:
    """Learn, at positions drawn among all that have something before them, what comes next."""
    import torch
    from torch.nn.functional import cross_entropy

    positions = np.flatnonzero(np.arange(len(log)) > log.starts[log.users])
    if not len(positions):
        return
    often = torch.log(torch.tensor(log.popularity, dtype=torch.float32).clamp(min=1) / len(log))
    learned = [*items.parameters(), *users.parameters()]
    optimizer = torch.optim.AdamW(learned, lr=_RATE, weight_decay=_DECAY)
    for _ in range(int(np.clip(_EPOCHS * len(positions) / _BATCH, _LEAST_STEPS, _MOST_STEPS))):
        drawn = rng.choice(positions, min(_BATCH, len(positions)), replace=False)
        wanted = torch.from_numpy(log.items[drawn])
        asked = _rows(items, users, log.items, log.starts[log.users[drawn]], drawn)
        scores = asked @ items(wanted).T / _TEMPERATURE - often[wanted]
        # Who took the same item is no wrong answer.
        same = wanted[:, None] == wanted[None, :]
        same.fill_diagonal_(False)
        loss = cross_entropy(scores.masked_fill(same, -1e9), torch.arange(len(drawn)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _rows(items: Any, users: Any, values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> torch.Tensor:
    """``[batch, DIMS]`` of length 1 for histories: the last values of each from its start to before its
    end.
    """
    import torch
    from torch.nn.functional import normalize

    places = ends[:, None] - np.arange(HISTORY, 0, -1)
    there = places >= starts[:, None]
    taken = torch.from_numpy(values[np.where(there, places, 0)])
    rows: torch.Tensor = normalize(users(items(taken), torch.from_numpy(there)), dim=-1)
    return rows


def _places(items: Any, numbers: np.ndarray) -> np.ndarray:
    import torch

    found: np.ndarray = items(torch.from_numpy(numbers)).numpy()
    return found


def _parts(count: int) -> list[np.ndarray]:
    return [np.arange(at, min(at + _PART, count)) for at in range(0, count, _PART)]
