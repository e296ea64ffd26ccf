"""What the tests of a server ask it: captions of synthetic covers."""

from __future__ import annotations

import chat_server
import numpy as np
import synthetic

from mmfeat.extract.base import CaptionInput
from mmfeat.extract.describers.captions.openai import OpenAICaptioner
from mmfeat.schemas.media import Frames
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec


def spec(**options: object) -> FeatureSpec:
    asked = {"source": "cover", "captioner": "openai", "model": chat_server.MODEL, **options}
    return OpenAICaptioner.resolve("caption", FeatureConfig(**asked), None)


def items(n: int) -> list[CaptionInput]:
    scenes = synthetic.held_out(n)
    return [CaptionInput(Frames(np.asarray(synthetic.render(s))[None], (0.0,))) for s in scenes]
