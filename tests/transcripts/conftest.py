"""The packaged Whisper, loaded once, and a server of transcriptions."""

from __future__ import annotations

import pytest
import speech_server

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.whisper import Whisper
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.spec import FeatureConfig, FeatureSpec


def transcript_spec(transcriber: str = "whisper", **options: object) -> FeatureSpec:
    table = {"source": "audio", "transcriber": transcriber, **options}
    return resolve_all({"said": FeatureConfig(**table)})[0]


@pytest.fixture(scope="session")
def resolved():
    return transcript_spec


@pytest.fixture(scope="session")
def whisper() -> Whisper:
    """tiny.en, on one thread."""
    return Whisper(transcript_spec(weights="package"), Placement(threads=1))


@pytest.fixture
def speech():
    with speech_server.running() as server:
        yield server
