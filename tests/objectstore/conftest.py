"""An S3 server of its own process, empty for each test, and what finds it in the environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from mmfeat.extract.fence.process import stop_fence

BUCKET = "lake"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"))
            break
        except OSError:
            assert time.monotonic() < until and process.poll() is None, "the server did not start"
            time.sleep(0.05)
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def lake(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty place on the server, for this process and those it starts."""
    for name, value in environment(s3_server).items():
        monkeypatch.setenv(name, value)
    # A decoder process of an earlier test knows nothing of the server.
    stop_fence()
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def environment(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def in_lake(lake: str) -> dict[str, str]:
    """What a process started beside this one needs to find the server."""
    return {name: os.environ[name] for name in environment("")}
