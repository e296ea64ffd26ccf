"""How an export is wanted: what a request refuses, and that its shaping holds for any input."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.echo import column, make_input

from mmfeat.export import ExportInput, Request, Shaping, export
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet

IDS = ["a", "b", "c"]


@pytest.fixture
def data() -> ExportInput:
    features = FeatureSet(IDS, {name: column(IDS, name) for name in ("f", "g", "h")})
    return replace(make_input("npy", IDS), features=features)


def test_a_setting_that_there_is_not_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="no setting 'mising'") as caught:
        Request.of("npy", "out", {"mising": "drop"})
    assert caught.value.hint.startswith("Did you mean 'missing'")


def test_settings_that_are_not_given_have_the_requests_defaults():
    assert Request.of("npy", "out", {"seed": 3}) == Request("npy", "out", seed=3)


@pytest.mark.parametrize(
    "settings", [{"items": "some"}, {"items": "item-3"}, {"unmatched": "ignore"}, {"k_core": 0}, {"seed": -1}]
)
def test_a_value_that_no_export_can_follow_is_refused_by_its_name(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Request("npy", "out", **settings)


def test_a_joined_feature_stands_for_its_parts_where_none_is_named(data, tmp_path):
    shaping = Shaping(join={"both": ["f", "g"]}, cut={"f": 3})
    report = export(data, Request("npy", tmp_path / "out", shaping=shaping))
    assert list(report.features) == ["h", "both"]
    assert np.load(tmp_path / "out" / "both.npy").shape == (3, 3 + 8)


def test_nothing_can_be_done_to_a_feature_that_is_not_exported(data, tmp_path):
    with pytest.raises(UsageError, match="--cut is about 'g', which is not exported"):
        export(data, Request("npy", tmp_path / "out", features=["f"], shaping=Shaping(cut={"g": 3})))
    assert not list(tmp_path.iterdir())
