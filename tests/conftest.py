"""A store that every test of reading can share (it is extracted once, and never written again), and the
command line run inside the test's process."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import synthetic, worlds

import mmfeat
from mmfeat import cli

# Files of minutes go first, so that no test process is left with one of them at the end.
_LONG = (
    "faults/test_killed_ray.py", "test_docs.py", "poison/test_poison_run.py", "pipelines/test_runs.py",
    "engines/test_served_runs.py", "faults/test_killed_runs.py", "cluster/test_cluster_runs.py",
    "work/test_work_counts.py", "pipelines/test_caption_recipe.py", "pipelines/test_local_executor.py",
    "faults/test_changing_datasets.py", "encoders/test_text_runtime.py", "test_own_data.py",
)  # fmt: skip


#: C's ``stack_t``: no place, SS_DISABLE, no size.
_NO_STACK = (ctypes.c_ulong * 3)(0, 2, 0)
#: The descriptor of standard error that no test captures.
_STDERR = pytest.StashKey[int]()
#: In pytest's cache: what was done when a test process died, after a run in which no test failed.
_DONE = "mmfeat/done_before_a_process_died"


class _Ends:
    """How tests and test processes end, of the run that hands tests out."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.done: list[str] = []
        self.failed: list[str] = []
        self.died = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # What xdist reports of a test whose process died has this place in place of setup, call and teardown.
        if report.failed and report.when != "???":
            self.failed.append(report.nodeid)
        elif report.when == "teardown":
            self.done.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error) -> None:
        """Say how a test process ended that died: nobody else knows whether it crashed or was killed."""
        if error:
            self.died += 1
            code = node.gateway._io.popen.wait(timeout=30)
            said = f"\n{node.gateway.id} ended with exit code {code}"
            self.config.get_terminal_writer().line(said, red=True)

    def pytest_sessionfinish(self) -> None:
        if self.config.pluginmanager.hasplugin("cacheprovider"):
            self.config.cache.set(_DONE, self.done if self.died and not self.failed else [])


def pytest_addoption(parser: pytest.Parser) -> None:
    left = "run what the last run left, in which a test process died and no test failed"
    parser.addoption("--after-death", action="store_true", help=left)


def pytest_configure(config: pytest.Config) -> None:
    """Keep standard error before tests capture it."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[_STDERR] = os.dup(2)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Ends(config))
        if config.getoption("--after-death") and not config.cache.get(_DONE, []):
            pytest.exit("No test process died in the last run, or a test failed in it.", returncode=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files; tests of a file stay as they are."""
    items.sort(key=lambda item: not item.nodeid.partition("::")[0].endswith(_LONG))
    if config.getoption("--after-death"):
        done = {*config.cache.get(_DONE, [])}
        items[:] = [item for item in items if item.nodeid not in done]


@pytest.fixture(autouse=True)
def fault_handler(pytestconfig) -> None:
    """A crash says where it happened: Ray's native code takes Python's fault handler away as it ends.

    Handlers of signals run on the test's own stack: on one that a library had left behind, the kernel killed
    test processes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(_NO_STACK, None)
    if (shown := pytestconfig.stash.get(_STDERR, None)) is not None:
        faulthandler.disable()
        faulthandler.enable(shown)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[None]:
    """Nothing that a user's cache holds decides a test, and no test leaves anything there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def scenes() -> list[synthetic.Scene]:
    """What the covers of ``world`` show, in the order of ``item-000``, ``item-001``, ..."""
    return synthetic.held_out(worlds.N_ITEMS)


@pytest.fixture(scope="session")
def world(tmp_path_factory, scenes) -> Path:
    """A folder with ``media`` (covers) and ``store``: every feature of ``worlds.FEATURES`` of them.

    Ray makes it: what tests compare with the models themselves, or with what another executor makes, is
    the outcome of a whole run with Ray.
    """
    folder = tmp_path_factory.mktemp("world")
    worlds.cover_folder(folder / "media", scenes)
    resources = {"executor": "ray"}
    mmfeat.extract(**worlds.job(folder / "media", folder / "store", worlds.FEATURES, resources=resources))
    return folder


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: ``(exit code, standard output, standard error)``."""
    monkeypatch.chdir(tmp_path)
    # A terminal narrower than a table would wrap what a test looks for.
    monkeypatch.setenv("COLUMNS", "200")

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmfeat", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return command
