"""The packaged Whisper, loaded once, and a server of transcriptions."""

from __future__ import annotations

import pytest
import speech_server
from transcribers import transcript_spec

from mmfeat.extract.base import Placement
from mmfeat.extract.describers.transcripts.whisper import Whisper


@pytest.fixture(scope="session")
def whisper() -> Whisper:
    """tiny.en, on one thread."""
    return Whisper(transcript_spec(weights="package"), Placement(threads=1))


@pytest.fixture
def speech():
    with speech_server.running() as server:
        yield server
