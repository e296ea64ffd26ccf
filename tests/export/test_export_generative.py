"""What the formats of projects with semantic ids refuse, and what they write beside vectors and codes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from echo import column, make_input, spec

from mmfeat.export import Request, export, listing, verify
from mmfeat.schemas.catalog import INTERACTIONS_SCHEMA
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet

IDS = ["a", "b", "c", "d"]


def interactions(*rows):
    """Rows of user, item, seconds."""
    columns = zip(*((u, i, s * 1000) for u, i, s in rows), strict=True)
    return pa.table(dict(zip(INTERACTIONS_SCHEMA.names, columns, strict=True)), schema=INTERACTIONS_SCHEMA)


LOG = interactions(*[("v", i, k) for k, i in enumerate("cabd")], *[("u", i, -k) for k, i in enumerate("abc")])


def with_codes(format, codes):
    """An export's input whose codes are these, a row per item."""
    data, codes = make_input(format, IDS, interactions=LOG), np.asarray(codes, np.int32)
    made = spec("codes", "codes").model_copy(update={"dims": codes.shape[1]})
    status, reason = np.full(len(IDS), "ok", object), np.full(len(IDS), "", object)
    own = FeatureColumn(made, codes, np.ones(len(IDS), bool), status, reason)
    return replace(data, features=FeatureSet(IDS, {**data.features.columns, "codes": own}))


# -- any of them


@pytest.mark.parametrize("format", ["grid", "rq-vae-recommender", "xiaolongtaoo-tiger"])
def test_users_of_whom_nothing_would_be_left_are_refused_by_name(tmp_path, format):
    short = pa.concat_tables([LOG, interactions(("short", "a", 1), ("short", "b", 2))])
    with pytest.raises(UsageError, match=r"fewer than 3 interactions.*'short'") as caught:
        export(make_input(format, IDS, interactions=short), Request(format, tmp_path / "out"))
    assert "--k-core 3" in caught.value.hint


@pytest.mark.parametrize("format", ["grid", "xiaolongtaoo-tiger"])
@pytest.mark.parametrize("role", ["embedding", "codes"])
def test_vectors_or_codes_alone_are_enough(tmp_path, format, role):
    data = replace(make_input(format, IDS), interactions=None)
    report = export(data, Request(format, tmp_path / "out", features={role: role}))
    companions = {"id_map.parquet", "rows.parquet"}
    assert len(set(report.files) - companions) == 1
    assert verify(tmp_path / "out").ok


def test_codes_that_some_items_lack_cannot_be_filled_in(tmp_path):
    data = make_input("grid", IDS, [True, False, True, True])
    with pytest.raises(UsageError, match="codes is a codes feature, which cannot be filled in by mean"):
        export(data, Request("grid", tmp_path / "out", missing="mean"))


@pytest.mark.parametrize("format", ["grid", "rq-vae-recommender"])
def test_without_torch_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch, format):
    monkeypatch.setattr("mmfeat.export.tensors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="torch"):
        export(make_input(format, IDS), Request(format, tmp_path / "out"))
    assert not list(tmp_path.iterdir())


# -- GRID


def test_grid_gets_each_users_items_in_time_order(tmp_path):
    export(make_input("grid", IDS, interactions=LOG), Request("grid", tmp_path / "out"))
    found = pq.read_table(tmp_path / "out" / "sequences.parquet").to_pydict()
    assert found == {"user_id": [0, 1], "sequence_data": [[2, 0, 1, 3], [2, 1, 0]]}


# -- TIGER by XiaoLongtaoo


def test_xiaolongtaoos_histories_hold_back_the_last_two(tmp_path):
    data = make_input("xiaolongtaoo-tiger", IDS, interactions=LOG)
    export(data, Request("xiaolongtaoo-tiger", tmp_path / "out"))
    found = {p: pd.read_parquet(tmp_path / "out" / f"{p}.parquet") for p in ("train", "valid", "test")}
    assert [list(h) for h in found["train"]["history"]] == [[3], []]
    assert found["train"]["target"].tolist() == [1, 3]
    assert [list(h) for h in found["valid"]["history"]] == [[3, 1], [3]]
    assert [list(h) for h in found["test"]["history"]] == [[3, 1, 2], [3, 2]]
    assert found["test"]["target"].tolist() == [4, 1]
    assert found["test"]["user"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("codes", "why", "hint"),
    [
        (np.zeros((4, 3)), "reads 4 codes per item, and .* has 3", "collision_level = true"),
        (np.full((4, 4), 256), "256 codes per level, and .* goes up to 256", "codebook_size = 256"),
    ],
)
def test_xiaolongtaoos_tiger_refuses_codes_that_it_has_no_tokens_for(tmp_path, codes, why, hint):
    with pytest.raises(UsageError, match=why) as caught:
        export(with_codes("xiaolongtaoo-tiger", codes), Request("xiaolongtaoo-tiger", tmp_path / "out"))
    assert hint in caught.value.hint


def test_the_two_tigers_are_told_apart_by_their_titles():
    titles = {one.name: one.title for one in listing() if "tiger" in one.name}
    assert titles == {"tiger": "TIGER", "xiaolongtaoo-tiger": "TIGER by XiaoLongtaoo"}


# -- RQ-VAE-Recommender


def test_rq_vae_recommender_refuses_vectors_that_it_would_cut_without_a_word(tmp_path):
    ids = ["a", "b", "c"]
    long = FeatureSet(ids, {"f": column(ids, "f", dims=800)})
    data = replace(make_input("rq-vae-recommender", ids), features=long)
    with pytest.raises(UsageError, match="first 768 numbers of a vector, and those of f have 800") as caught:
        export(data, Request("rq-vae-recommender", tmp_path / "out"))
    assert "--project f:768" in caught.value.hint


def test_rq_vae_recommender_validates_on_the_items_that_its_own_draw_takes(tmp_path):
    ids = [f"i{k}" for k in range(100)]
    export(make_input("rq-vae-recommender", ids), Request("rq-vae-recommender", tmp_path / "toys"))
    data, _ = torch.load(tmp_path / "toys" / "processed" / "data_toys.pt", weights_only=True)
    generator = torch.Generator()
    generator.manual_seed(42)
    assert torch.equal(data["item"]["is_train"], torch.rand(100, generator=generator) > 0.05)
