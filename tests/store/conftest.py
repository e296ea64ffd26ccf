from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.flaky_s3 import FlakyS3

from mmfeat.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store, held for writing."""
    opened = Store.open(str(tmp_path / "store"), create=True)
    with opened.lease("test"):
        yield opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB; a test that needs more space mounts it anew."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: this needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """A folder that every user may enter."""
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        if folder.owner() == tmp_path.owner() and folder != Path("/tmp"):
            folder.chmod(0o755)
    return tmp_path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to harm of the store that a module's ``whole`` fills."""
    return shutil.copytree(whole, tmp_path / "store")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyS3]:
    """An object store that fails as it is told, found in the environment."""
    server = FlakyS3()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()
