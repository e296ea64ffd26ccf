"""What the tests of a server ask it: captions of synthetic covers."""

from __future__ import annotations

import chat_server
import numpy as np
from helpers import synthetic

from mmfeat.extract.base import Row
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec


def spec(**options: object) -> FeatureSpec:
    asked = {"source": "cover", "captioner": "openai", "model": chat_server.MODEL, **options}
    return resolve_all({"caption": FeatureConfig(**asked)})[0]


def items(n: int) -> list[Row]:
    scenes = synthetic.held_out(n)
    return [(Frames(np.asarray(synthetic.render(s))[None], (0.0,)),) for s in scenes]
