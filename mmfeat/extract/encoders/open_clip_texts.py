"""open_clip's text towers, without the padding that no token of a text sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# A text's vector is read at its end-of-text token: the greatest id, or one that the model names.
_READ_AT_THE_END = ("argmax", "eos")
# What a tower has for each of the positions that a text can have.
_BY_POSITION = ("positional_embedding", "attn_mask")


def encode_cut(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """``encode_text`` of an open_clip model.

    Where the attention is causal, tokens behind a text's end decide nothing of what is read at its end
    (arXiv 2103.00020, section 2.4). Of CLIP's 77 tokens a title has some 15: texts are cut behind the longest
    of the batch, and the model's own code runs with so many positions. Other towers see all of the padding,
    as they were trained to.

    Args:
        tokens: ``[n, context length]`` of the model's tokenizer.
    """
    import torch

    tower = getattr(model, "text", model)
    if not _reads_nothing_behind_the_end(tower):
        return model.encode_text(tokens)  # type: ignore[no-any-return]
    length = int(_ends(tower, tokens).max()) + 1
    place = "model." if tower is model else "model.text."
    mask, positions = tower.attn_mask[:length, :length], tower.positional_embedding[:length]
    shorter = {f"{place}attn_mask": mask, f"{place}positional_embedding": positions}
    return torch.func.functional_call(_texts_of(model), shorter, (tokens[:, :length],))  # type: ignore[no-any-return]


def _reads_nothing_behind_the_end(tower: Any) -> bool:
    causal = all(getattr(tower, name, None) is not None for name in _BY_POSITION)
    # Tokens of its own stand behind the text, or padding is masked out.
    plain = getattr(tower, "cls_emb", None) is None and not getattr(tower, "use_pad_mask", False)
    return causal and plain and _pooling(tower) in _READ_AT_THE_END


def _pooling(tower: Any) -> str | None:
    return getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", None)


def _ends(tower: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Where the end-of-text token of each text is, as open_clip finds it."""
    if _pooling(tower) == "argmax":
        return tokens.argmax(dim=-1)
    end: Any = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)
    return tokens.eq(end).int().argmax(dim=-1)


def _texts_of(model: Any) -> torch.nn.Module:
    import torch

    class Texts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: torch.Tensor) -> Any:
            return self.model.encode_text(tokens)

    return Texts()
