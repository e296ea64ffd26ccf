"""Feast itself on exports of the sample: applied, joined by time, materialized, served."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from helpers.echo import assert_echo, expected, export_with_moved_rows, make_input, shifted

from mmfeat.export import Request, export

NAMES = list(expected("feast", ["x"]))


def applied(folder: Path) -> FeatureStore:
    """After ``feast apply`` in the export's folder, as its docs say."""
    command = [sys.executable, "-c", "from feast.cli.cli import cli; cli()", "apply"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "FEAST_USAGE": "False"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return FeatureStore(str(folder))


def joined(store: FeatureStore, ids: list[str]) -> dict:
    """What a training set of 2020 finds, by feature and item."""
    rows = pd.DataFrame({"item_id": ids, "event_timestamp": [datetime(2020, 1, 1, tzinfo=UTC)] * len(ids)})
    features = [f"item_features:{name}" for name in NAMES]
    table = store.get_historical_features(rows, features).to_df().set_index("item_id")
    return {name: dict(table[name].dropna()) for name in NAMES}


def test_every_item_finds_its_own_values_offline_and_online(tmp_path, sample_for, ids):
    export(sample_for("feast"), Request("feast", tmp_path / "sample"))
    store = applied(tmp_path / "sample")
    assert_echo(joined(store, ids), expected("feast", ids))
    store.materialize(datetime(1969, 12, 31, tzinfo=UTC), datetime.now(UTC))
    features = [f"item_features:{name}" for name in NAMES]
    served = store.get_online_features(features, [{"item_id": i} for i in ids]).to_dict()
    online = {
        name: {i: v if isinstance(v, str) else np.array(v) for i, v in zip(ids, served[name], strict=True)}
        for name in NAMES
    }
    assert_echo(online, expected("feast", ids))


def test_a_missing_item_has_no_value(tmp_path, ids):
    mask = np.arange(len(ids)) % 3 > 0
    export(make_input("feast", ids, mask), Request("feast", tmp_path / "sample"))
    present = [i for i, ok in zip(ids, mask, strict=True) if ok]
    assert_echo(joined(applied(tmp_path / "sample"), ids), expected("feast", present))


def test_moved_rows_are_found_out(tmp_path, sample_for, ids):
    export_with_moved_rows(sample_for("feast"), "feast", tmp_path / "sample", shifted)
    with pytest.raises(AssertionError, match="of '"):
        assert_echo(joined(applied(tmp_path / "sample"), ids), expected("feast", ids))
