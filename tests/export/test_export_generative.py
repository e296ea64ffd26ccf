"""What the formats of projects with semantic ids refuse, and what they write beside vectors and codes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.echo import column, make_input, spec, value
from helpers.interaction_rows import interactions_of

from mmfeat.export import Request, export, listing, verify
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import FeatureColumn, FeatureSet

IDS = ["a", "b", "c", "d"]


def interactions(*rows):
    """Rows of user, item, seconds."""
    return interactions_of((u, i, s * 1000) for u, i, s in rows)


LOG = interactions(*[("v", i, k) for k, i in enumerate("cabd")], *[("u", i, -k) for k, i in enumerate("abc")])


def with_codes(format, codes, ids=IDS):
    """An export's input whose codes are these, a row per item."""
    data, codes = make_input(format, ids, interactions=LOG), np.asarray(codes, np.int32)
    status, reason = np.full(len(ids), "ok", object), np.full(len(ids), "", object)
    own = FeatureColumn(spec("codes", "codes"), codes, np.ones(len(ids), bool), status, reason)
    return replace(data, features=FeatureSet(ids, {**data.features.columns, "codes": own}))


# -- any of them


@pytest.mark.parametrize(
    "format", ["grid", "preference-discerning", "rq-vae-recommender", "xiaolongtaoo-tiger"]
)
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


# -- preference discerning


def test_preference_discerning_finds_vectors_by_the_name_that_its_setting_makes(tmp_path):
    options = {"model": "sentence-t5-xxl", "features": "title_genre"}
    data = make_input("preference-discerning", IDS, interactions=LOG)
    export(data, Request("preference-discerning", tmp_path / "Toys", options=options))
    assert (tmp_path / "Toys" / "Toys_sentence-t5-xxl_title_genre_embeddings.pkl").exists()
    assert (tmp_path / "Toys" / "Toys.txt").read_text() == "1 3 1 2 4\n2 3 2 1\n"
    assert verify(tmp_path / "Toys").ok


# -- PreferDiff and UniMP, which split by user


def ten_users(ids):
    return interactions(*[(f"u{u}", i, k) for u in range(10) for k, i in enumerate(ids)])


def test_a_split_by_user_needs_a_user_for_each_part(tmp_path):
    data = make_input("preferdiff", IDS, interactions=LOG)
    with pytest.raises(UsageError, match="2 users, and training, validation and testing need one each"):
        export(data, Request("preferdiff", tmp_path / "out"))


@pytest.mark.parametrize(("format", "least"), [("preferdiff", 2), ("unimp", 6)])
def test_users_without_a_history_are_refused_by_name(tmp_path, format, least):
    ids = list("abcdef")
    short = interactions(*[("short", i, k) for k, i in enumerate(ids[1:least])])
    log = pa.concat_tables([ten_users(ids), short])
    with pytest.raises(UsageError, match=rf"1 ids are of users with fewer than {least}.*'short'") as caught:
        export(make_input(format, ids, interactions=log), Request(format, tmp_path / "out"))
    assert f"--k-core {least}" in caught.value.hint


def test_preferdiff_keeps_the_last_eleven_items_and_counts_all_of_them(tmp_path):
    ids = [f"i{k}" for k in range(15)]
    export(
        make_input("preferdiff", ids, interactions=ten_users(ids)), Request("preferdiff", tmp_path / "out")
    )
    whole, kept = (" ".join(map(str, range(first, 16))) + "\n" for first in (1, 5))
    written = {p: (tmp_path / "out" / f"{p}data.txt").read_text() for p in ("", "train_", "valid_", "test_")}
    assert written == {"": whole * 10, "train_": kept * 8, "valid_": kept, "test_": kept}


def test_unimps_users_are_in_one_part_each_and_always_in_the_same(tmp_path):
    ids = list("abcdef")
    data = make_input("unimp", ids, interactions=ten_users(ids))
    parts = []
    for name in ("one", "two"):
        export(data, Request("unimp", tmp_path / name))
        found = [
            json.loads((tmp_path / name / f"{p}_users.json").read_text()) for p in ("train", "eval", "test")
        ]
        parts.append([list(part) for part in found])
    assert parts[0] == parts[1]
    assert [len(part) for part in parts[0]] == [8, 1, 1]
    assert sorted(user for part in parts[0] for user in part) == [f"u{u}" for u in range(10)]


@pytest.mark.parametrize(
    ("codes", "why", "hint"),
    [
        (np.zeros((6, 3)), "three codes per item and a last one.* has 3", "collision_level = true"),
        (np.full((6, 4), [0, 512, 0, 0]), "512 tokens for level 2.* goes up to 512", "codebook_size = 512"),
        (np.full((6, 4), [0, 0, 0, 32]), "32 tokens for level 4.* goes up to 32", "share three codes"),
    ],
)
def test_unimp_refuses_codes_that_it_has_no_tokens_for(tmp_path, codes, why, hint):
    data = with_codes("unimp", codes, list("abcdef"))
    with pytest.raises(UsageError, match=why) as caught:
        export(replace(data, interactions=ten_users("abcdef")), Request("unimp", tmp_path / "out"))
    assert hint in caught.value.hint


# -- MiniOneRec, which reads two formats


def test_minionerec_finds_the_codes_and_titles_of_every_item_of_a_history(tmp_path):
    """``load_dataset`` and ``convert_interactions_to_csv`` (convert_dataset.py:13-118)."""
    ids = list("cabd")
    log = interactions(*[(u, i, k) for u in "uv" for k, i in enumerate(sorted(ids))])
    data = make_input("lc-rec", ids, interactions=log)
    export(data, Request("lc-rec", tmp_path / "toys", features={"embedding": "embedding", "codes": "codes"}))
    vectors = make_input("unisrec", ids, interactions=log)
    export(vectors, Request("unisrec", tmp_path / "u" / "toys", ids_of=tmp_path / "toys"))
    items = json.loads((tmp_path / "toys" / "toys.item.json").read_text())
    index = json.loads((tmp_path / "toys" / "toys.index.json").read_text())
    histories = {}
    for split in ("train", "valid", "test"):
        lines = (tmp_path / "u" / "toys" / f"toys.{split}.inter").read_text().splitlines()[1:]
        for user, history, target in (line.strip().split("\t") for line in lines):
            histories[split, user] = [int(item) for item in [*history.split(), target]]
    for user in "01":
        titles = [items[str(item)]["title"] for item in histories["test", user]]
        assert titles == ["Title of a", "Title of b", "Title of c", "Title of d"]
        codes = ["".join(index[str(item)]) for item in histories["test", user]]
        own = [value(i, "codes", "codes") for i in "abcd"]
        assert codes == [f"<a_{a}><b_{b}><c_{c}><d_{d}>" for a, b, c, d in own]
