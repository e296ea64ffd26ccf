"""Work items, and features that read them, for tests of how much there is to do and who does it."""

from __future__ import annotations

import pyarrow as pa

from mmfeat.pipelines.planning.work import PAYLOAD, WORK_SCHEMA
from mmfeat.schemas.inputs import (
    AudioPrepare,
    FrameSampling,
    ImagePrepare,
    Input,
    PixelView,
    Prepare,
    VideoPrepare,
)
from mmfeat.schemas.outputs import TextOut, VectorOut
from mmfeat.schemas.spec import FeatureSpec, Weights


def read(column: str, side: int = 224) -> Input:
    """An input: pixels of ``side``, eight frames of a clip, seconds of a sound."""
    view = PixelView(mode="squash", height=side, width=side)
    prepare: dict[str, tuple[str, Prepare | None]] = {
        "title": ("text", None),
        "cover": ("image", ImagePrepare(view=view)),
        "video": ("video", VideoPrepare(view=view, sampling=FrameSampling(count=8))),
        "audio": ("audio", AudioPrepare(sample_rate=16_000, seconds=10.0)),
    }
    modality, prepared = prepare[column]
    return Input(source=column, modality=modality, prepare=prepared)


def spec(*columns: str, side: int = 224) -> FeatureSpec:
    return FeatureSpec(
        name="f_" + "_".join(columns),
        inputs=tuple(read(column, side) for column in columns),
        output=VectorOut(dims=2),
        method="open_clip",
        model="m",
        weights=Weights(origin="random", ref="seed=0"),
    )


def work(**counts: int) -> pa.Table:
    """Work items of groups of one column each, which feature 0 of :data:`SPECS` and so on reads."""
    groups = [group for group, count in counts.items() for _ in range(count)]
    rows = [
        {"work": n, "item_id": str(n), "group": group, "features": [COLUMNS.index(group)]}
        for n, group in enumerate(groups)
    ]
    table = pa.Table.from_pylist(rows, WORK_SCHEMA)
    for column in COLUMNS:
        payload = pa.array(["x" if group == column else None for group in groups], pa.string())
        table = table.append_column(PAYLOAD + column, payload)
    return table


COLUMNS = ("video", "cover", "title")
SPECS = [spec(column) for column in COLUMNS]


def written(column: str, method: str, **options: object) -> FeatureSpec:
    """A feature of text."""
    return spec(column).model_copy(
        update={"output": TextOut(role="caption"), "method": method, "options": options}
    )
