"""How much is measured: the suite's three forms."""

from __future__ import annotations

from dataclasses import dataclass

LIMITS = ("read", "decode", "clip decode", "matrix product", "model", "titles model", "store")
ENDS = ("covers", "three encoders", "clips", "titles", "all together", "again")
CAPTIONS = ("captions",)
PEERS = ("peers",)


@dataclass(frozen=True)
class Captions:
    """How much is captioned.

    Attributes:
        number: pictures.
        new_tokens: of each caption.
        cut: the model has one layer of so many, of both of its towers.
        sides: those alone; None for all.
    """

    number: int
    new_tokens: int = 48
    cut: int = 1
    sides: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Size:
    """One form of the suite.

    Attributes:
        pool: JPEGs, H.264 clips and HEVC clips that are generated. All JPEGs are in the part ``again``.
        covers, three, clips, titles: of one pass of either side; ``three`` are what three encoders see,
            ``clips`` the H.264 and the HEVC ones.
        repeats: rounds; in a round each thing is measured once, in turn.
        seconds: of one measurement of a limit.
        batches: of a model alone.
        single: also take limits with one process: of one thread for decoders, of all for models.
        peer_covers: of the two passes of every peer.
        captions: what the part of that name goes over.
        parts: what is measured unless the caller says.
        decoders, modes, jobs: those alone; None for all.
    """

    pool: tuple[int, int, int]
    covers: int
    three: int
    clips: tuple[int, int]
    titles: int
    repeats: int
    seconds: float
    batches: tuple[int, ...]
    single: bool
    peer_covers: tuple[int, int]
    captions: Captions
    parts: tuple[str, ...]
    decoders: tuple[str, ...] | None = None
    modes: tuple[str, ...] | None = None
    jobs: tuple[str, ...] | None = None


FULL = Size(
    pool=(2000, 60, 20), covers=500, three=500, clips=(30, 10), titles=5000, repeats=3, seconds=2,
    batches=(1, 8, 32, 64), single=True, peer_covers=(128, 512),
    captions=Captions(72), parts=LIMITS + ENDS + CAPTIONS,
)  # fmt: skip
SHORT = Size(
    pool=(300, 4, 2), covers=192, three=64, clips=(4, 2), titles=2000, repeats=1, seconds=1.5,
    batches=(32,), single=False, peer_covers=(32, 96),
    captions=Captions(
        40, sides=("plain PyTorch loop", "plain PyTorch loop, bf16", "mmfeat fp32", "mmfeat bf16")
    ),
    parts=(*LIMITS, "covers", "three encoders", "clips", "titles", "again", *CAPTIONS),
    jobs=("mmfeat fp32", "mmfeat fp32, openvino", "mmfeat bf16, openvino"),
)  # fmt: skip
QUICK = Size(
    pool=(128, 0, 0), covers=128, three=0, clips=(0, 0), titles=0, repeats=1, seconds=1,
    batches=(32,), single=False, peer_covers=(0, 0),
    captions=Captions(16, new_tokens=8, cut=6, sides=("plain PyTorch loop", "mmfeat fp32")),
    parts=("decode", "model", "store", "covers", *CAPTIONS),
    decoders=("torchvision", "mmfeat exact"), modes=("torch bf16",), jobs=("mmfeat bf16, torch",),
)  # fmt: skip
FORMS = {"full": FULL, "short": SHORT, "quick": QUICK}
