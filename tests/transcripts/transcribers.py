"""Specs of transcribers, as a job's table resolves to them."""

from __future__ import annotations

from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec


def transcript_spec(transcriber: str = "whisper", **options: object) -> FeatureSpec:
    table = {"source": "audio", "transcriber": transcriber, **options}
    return resolve_all({"said": FeatureConfig(**table)})[0]
