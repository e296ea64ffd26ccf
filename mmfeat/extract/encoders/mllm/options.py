"""What a feature of ``encoder = "mllm"`` can be asked, and what its spec says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mmfeat.extract.encoders.mllm.recipes import TokenPooling
from mmfeat.extract.options import FrameOptions, SoundOptions, VectorOptions, WeightsOptions
from mmfeat.schemas.frozen import Frozen
from mmfeat.schemas.inputs import MOST_PICTURES
from mmfeat.schemas.spec import ComputeDtype


class MllmOptions(WeightsOptions, FrameOptions, SoundOptions, VectorOptions):
    """How an item is shown to the model, and where its vector is read.

    Attributes:
        recipe: a published way to ask and to read; the other options win over it.
        instruction, query_instruction: what the model is told of items, and of what they are searched by.
        layer: counted as transformers' ``hidden_states``; negative ones from the end.
        final_norm: whether the last layer is read behind the norm that follows it.
        shown_as: whether frames of a clip are shown as so many pictures or as one video.
        pooling: ``last``: the last token's state. ``mean``: the mean of all tokens' states. ``eos``: the end
            token is put behind the message and its state is read. ``last`` when None.
        truncate_dim: keep so many of a vector's first numbers (Matryoshka models), and normalise those.
        max_tokens: where each text is cut.
        jpeg: ``exact``, or ``scaled``: libjpeg decodes large JPEGs at a reduced scale, never below twice the
            size needed; ``exact`` when None.
        max_side: most pixels of the longer side that go to the model's own processor; 2048 when None, and 768
            of clips.
        pictures: ``first`` picture of a list, or all of them ``together`` in one message; ``together`` when
            None.
        max_pictures: most pictures of a list that are read; 8 when None.
    """

    recipe: str | None = None
    instruction: str | None = None
    query_instruction: str | None = None
    pooling: TokenPooling | None = None
    layer: int | None = None
    final_norm: bool | None = None
    truncate_dim: int | None = Field(default=None, gt=0)
    max_tokens: int | None = Field(default=None, gt=0)
    shown_as: Literal["frames", "video"] | None = Field(default=None, alias="as")
    jpeg: Literal["exact", "scaled"] | None = None
    max_side: int | None = Field(default=None, gt=0)
    pictures: Literal["first", "together"] | None = None
    max_pictures: int | None = Field(default=None, gt=0, le=MOST_PICTURES)


class MllmSettings(Frozen):
    """What decides a vector beside the inputs: the options of a resolved spec.

    Attributes:
        recipe: None if the folder's own chat template is followed.
        layer: counted from the front.
        truncate_dim: how many of a vector's first numbers are kept; None for all of them.
        videos: whether a clip is one video; else its frames are so many pictures.
        takes: the modalities that the model has parts for.
    """

    takes: tuple[str, ...]
    recipe: str | None = None
    instruction: str | None = None
    query_instruction: str | None = None
    pooling: TokenPooling
    layer: int
    final_norm: bool = True
    truncate_dim: int | None = None
    videos: bool = False
    normalize: bool = True
    compute_dtype: ComputeDtype = "float32"
