"""What went wrong with one item, in words for the person who owns it."""

from __future__ import annotations

from mmfeat.schemas.errors import ItemError

# Of torch's allocator, C++, Pillow, FFmpeg, OpenVINO and operating systems, in lower case.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "out of memory",
    "bad_alloc",
)


def as_item_error(error: Exception, stage: str) -> ItemError:
    """An exception that one item led to; one without a stage of its own gets ``stage``."""
    if isinstance(error, ItemError):
        return error
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    return ItemError(stage, f"{kind}: {lines[0]}" if lines else kind)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on the machine or on its GPU. Not every library has a type for it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return any(sign in text for sign in _OUT_OF_MEMORY)
