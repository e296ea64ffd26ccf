"""What a person should look at, by thresholds that ``docs/reports.md`` lists."""

from __future__ import annotations

from mmfeat.report.page.wording import counted
from mmfeat.report.vectors.model import (
    Dimensions,
    Duplicates,
    Hubness,
    Spread,
    VectorCounts,
    VectorsSubject,
)

_LARGEST_SHARE = 0.5
_MEAN_COSINE = 0.5
_SKEWNESS = 3.0
_NEVER = 0.3
_NEAR = 0.1
# Of wide vectors, the share of the dimensions that the variance should fill.
_FILLED, _WIDE = 0.05, 32


def findings_of(
    subject: VectorsSubject,
    counts: VectorCounts,
    dimensions: Dimensions,
    spread: Spread,
    hubness: Hubness,
    duplicates: Duplicates,
) -> tuple[str, ...]:
    """Sentences, those that matter most first; none if nothing is unusual."""
    pointless = counts.sampled - counts.directed
    lost = counted(pointless, "vector has", "vectors have")
    near = duplicates.near / counts.directed
    told = {
        f"These vectors are stale: {subject.stale}.": bool(subject.stale),
        f"{lost} no direction: all zeros, or not finite.": pointless > 0,
        f"{len(dimensions.dead):,} of {subject.dims:,} dimensions are 0 in every vector.": dimensions.dead,
        f"{len(dimensions.constant):,} of {subject.dims:,} dimensions never change.": dimensions.constant,
        f"Dimension {dimensions.largest} alone holds {dimensions.largest_share:.0%} of the variance.": (
            dimensions.largest_share > _LARGEST_SHARE and subject.dims > 2
        ),
        f"Two different items have a cosine of {spread.mean_cosine:.2f} on average: all directions lie in a "
        "narrow cone.": spread.mean_cosine > _MEAN_COSINE,
        f"The variance fills {spread.effective_rank:.1f} of {subject.dims:,} dimensions.": (
            subject.dims >= _WIDE and spread.effective_rank < _FILLED * subject.dims
        ),
        f"A few items are near to many: one is among the {hubness.k} nearest of {hubness.largest:,}.": (
            hubness.skewness > _SKEWNESS
        ),
        f"{hubness.never:.0%} of the items are among the nearest of none.": hubness.never > _NEVER,
        f"{duplicates.near:,} items ({near:.0%}) have a vector that is nearly another's.": near > _NEAR,
    }
    return tuple(sentence for sentence, true in told.items() if true)
