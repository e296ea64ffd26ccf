"""What a feature gives an item: a vector, several, any number of them, a text, or codes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mmfeat.schemas.frozen import Frozen

StoreDtype = Literal["float32", "float16"]
#: Of any number of vectors per item: ``int8`` has a scale per vector (:mod:`mmfeat.schemas.int8`).
TokenDtype = Literal["float32", "float16", "int8"]
#: What a text is: ``caption`` (by a multimodal LLM), ``tags`` (by a classifier), ``json`` (by a multimodal
#: LLM, to a schema), ``transcript`` (of speech), ``ocr`` (on-screen text), or a plug-in's own word.
TextRole = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class VectorOut(Frozen):
    """One vector: ``[dims]``."""

    kind: Literal["vector"] = "vector"
    dims: int = Field(gt=0)
    dtype: StoreDtype = "float32"


class VectorsOut(Frozen):
    """A fixed number of vectors: ``[count, dims]``."""

    kind: Literal["vectors"] = "vectors"
    count: int = Field(gt=0)
    dims: int = Field(gt=0)
    dtype: StoreDtype = "float32"


class TokensOut(Frozen):
    """Any number of vectors, one per token, frame or picture (late interaction): ``[n, dims]``."""

    kind: Literal["tokens"] = "tokens"
    dims: int = Field(gt=0)
    dtype: TokenDtype = "float16"


class TextOut(Frozen):
    """A text.

    Attributes:
        role: what the text is.
        segments: whether its facts hold the time of each part.
    """

    kind: Literal["text"] = "text"
    role: TextRole
    segments: bool = False


class CodesOut(Frozen):
    """Integers ``[levels]``, coarse to fine: semantic ids.

    Attributes:
        levels: codes per item, the collision level included.
        codebook_size: a code is at least 0 and below this; the collision level knows no bound.
    """

    kind: Literal["codes"] = "codes"
    levels: int = Field(gt=0)
    codebook_size: int = Field(gt=0)


Output = Annotated[VectorOut | VectorsOut | TokensOut | TextOut | CodesOut, Field(discriminator="kind")]
