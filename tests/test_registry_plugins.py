"""Other packages' plug-ins are found as soon as they are installed, and looked for once."""

from __future__ import annotations

import os
import sys
from importlib.metadata import DistributionFinder

from helpers.plugins import on_path, write_plugin

from mmfeat.schemas.registry import Registry

GROUP = "mmfeat.tests"


def test_what_is_installed_or_put_on_the_path_while_a_process_runs_is_found(tmp_path):
    registry = Registry("thing", {"ours": "json:loads"}, (GROUP,))
    assert registry.names() == ["ours"]
    first = write_plugin(tmp_path / "first", {GROUP: {"theirs": "json:dumps"}})
    with on_path(first):
        assert registry.names() == ["ours", "theirs"]
        write_plugin(first / "later", {GROUP: {"later": "json:dump"}})
        (first / "later" / "plugin-1.0.dist-info").rename(first / "later-1.0.dist-info")
        (first / "later-1.0.dist-info" / "METADATA").write_text("Name: later\nVersion: 1.0\n")
        os.utime(first, (1, 1))  # the clock of files stands still for some milliseconds
        assert registry.names() == ["later", "ours", "theirs"]
    assert registry.names() == ["ours"]


def test_packages_are_looked_through_once_however_often_a_plug_in_is_asked_for(tmp_path, monkeypatch):
    looked = []

    class Watching(DistributionFinder):
        @classmethod
        def find_spec(cls, *arguments):
            return None

        @classmethod
        def find_distributions(cls, context=None):
            looked.append(context)
            return iter(())

    registry = Registry("thing", {}, (GROUP, "mmfeat.others"))
    with on_path(write_plugin(tmp_path / "site", {GROUP: {"theirs": "json:dumps"}})):
        monkeypatch.setattr(sys, "meta_path", [Watching, *sys.meta_path])
        for _ in range(5):
            assert registry.get("theirs").__name__ == "dumps"
    assert len(looked) == 2  # once for each group
