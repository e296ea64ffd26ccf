"""RecBole itself on exports of the sample: it finds every vector, and trains an epoch from them.

RecBole 1.2.1 still names three types that numpy 2 has renamed; they are given their old names here.
Nothing else of RecBole is touched.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers.echo import assert_echo, expected, export_with_moved_rows, make_input, shifted, swapped

from mmfeat.datasets.base import build_items
from mmfeat.export import Request, export
from mmfeat.schemas.catalog import Column

np.float_, np.complex_, np.unicode_ = np.float64, np.complex128, np.str_

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of pandas and torch, on RecBole's code


@pytest.fixture
def load(tmp_path, monkeypatch):
    """RecBole's dataset of an export, by its folder, the model's name and further settings."""
    monkeypatch.setattr(sys, "argv", ["recbole"])  # it would read pytest's options as its own
    monkeypatch.chdir(tmp_path)  # it writes logs where it runs

    def of(folder, model, **settings):
        config = Config(
            model=model,
            dataset=folder.name,
            config_file_list=[str(folder / f"{folder.name}.yaml")],
            config_dict={
                "data_path": str(folder.parent),
                "embedding_size": 8,
                "hidden_size": 8,
                "epochs": 1,
                "train_neg_sample_args": None if model == "SASRec" else {"distribution": "uniform"},
                "use_gpu": False,
                "show_progress": False,
                **settings,
            },
        )
        init_seed(config["seed"], reproducibility=True)
        return create_dataset(config)

    return of


def by_item(dataset, weights):
    """Row of every raw item that RecBole knows, found by its own map; 0 is its pad token."""
    tokens = dataset.field2id_token["item_id"][1:]
    return {"item": {token: weights[dataset.token2id("item_id", token)] for token in tokens}}


def build(dataset):
    """The model of a dataset's configuration, its items preloaded, and the data it is trained on."""
    train, valid, test = data_preparation(dataset.config, dataset)
    model = get_model(dataset.config["model"])(dataset.config, train.dataset)
    vectors = torch.from_numpy(dataset.get_preload_weight("iid"))
    model.item_embedding.weight.data.copy_(vectors)
    return model, train, valid, test


def in_time(data):
    """Every user's items in the order of time."""
    found = defaultdict(list)
    for row in sorted(data.interactions.to_pylist(), key=lambda row: row["timestamp"]):
        found[row["user_id"]].append(row["item_id"])
    return found


def histories(dataset, part):
    """Every user's item tokens in a part of a sequential dataset that has a row per user."""
    found = {}
    for k in range(len(part)):
        row = part.inter_feat[k]
        items = [*row["item_id_list"][: row["item_length"]].tolist(), row["item_id"].item()]
        found[dataset.id2token("user_id", row["user_id"].item())] = list(dataset.id2token("item_id", items))
    return found


@pytest.mark.parametrize("model_name", ["BPR", "SASRec"])
def test_every_item_starts_from_its_own_vector_and_an_epoch_trains(
    tmp_path, load, sample_for, ids, model_name
):
    export(sample_for("recbole"), Request("recbole", tmp_path / "sample"))
    dataset = load(tmp_path / "sample", model_name)
    model, train, valid, test = build(dataset)
    before = model.item_embedding.weight.detach().clone()
    assert_echo(by_item(dataset, before.numpy()), expected("recbole", ids))

    trainer = get_trainer(dataset.config["MODEL_TYPE"], model_name)(dataset.config, model)
    trainer.fit(train, valid, saved=False, show_progress=False)
    after = model.item_embedding.weight.detach()
    assert np.isfinite(trainer.train_loss_dict[0])
    assert (after[1:] != before[1:]).any(dim=1).all(), "an item was not trained"
    assert 0 < trainer.evaluate(test, load_best_model=False)["recall@10"] <= 1


@pytest.mark.parametrize("move", [shifted, swapped])
def test_moved_rows_are_found_out(tmp_path, load, sample_for, ids, move):
    export_with_moved_rows(sample_for("recbole"), "recbole", tmp_path / "sample", move)
    dataset = load(tmp_path / "sample", "BPR")
    with pytest.raises(AssertionError, match="item of"):
        assert_echo(by_item(dataset, dataset.get_preload_weight("iid")), expected("recbole", ids))


def test_the_exports_split_is_the_one_that_is_trained_on(tmp_path, load, sample_for):
    data = sample_for("recbole")
    report = export(data, Request("recbole", tmp_path / "sample", split="leave-one-out"))
    dataset = load(tmp_path / "sample", "BPR")
    parts = dataset.build()
    split = report.interactions["split"]
    assert [len(part) for part in parts] == [split["train"], split["valid"], split["test"]]

    last = {user: items[-1] for user, items in in_time(data).items()}
    test = parts[2].inter_feat
    users = dataset.id2token("user_id", test["user_id"].numpy())
    assert dict(zip(users, dataset.id2token("item_id", test["item_id"].numpy()), strict=True)) == last


def test_histories_are_in_the_order_of_time_though_recbole_rounds_times_to_minutes(tmp_path, load, ids):
    # Ten seconds lie between a user's interactions; as float32 most of these times are the same.
    data = make_input("recbole", ids)
    export(data, Request("recbole", tmp_path / "sample"))
    dataset = load(tmp_path / "sample", "SASRec")
    train, _, test = dataset.build()
    times = train.inter_feat["timestamp"]
    assert len(times.unique()) < len(times) / 4
    assert histories(dataset, test) == in_time(data)


def test_a_sequential_model_trains_on_the_histories_of_a_unisrec_export(tmp_path, load, sample_for, ids):
    # UniSRec's dataset is RecBole's SequentialDataset with vectors taken from the row of the token.
    data = sample_for("unisrec")
    export(data, Request("unisrec", tmp_path / "sample"))
    dataset = load(
        tmp_path / "sample",
        "SASRec",
        benchmark_filename=["train", "valid", "test"],
        load_col={"inter": ["user_id", "item_id_list", "item_id"]},
        alias_of_item_id=["item_id_list"],
    )
    train, valid, test = data_preparation(dataset.config, dataset)
    users = pq.read_table(tmp_path / "sample" / "user_map.parquet")["user_id"].to_pylist()
    found = {
        users[int(user)]: [ids[int(item)] for item in history]
        for user, history in histories(dataset, test.dataset).items()
    }
    assert found == in_time(data)

    model = get_model("SASRec")(dataset.config, train.dataset)
    trainer = get_trainer(dataset.config["MODEL_TYPE"], "SASRec")(dataset.config, model)
    trainer.fit(train, valid, saved=False, show_progress=False)
    assert np.isfinite(trainer.train_loss_dict[0])


def test_fields_are_recboles_tokens_sequences_and_numbers(tmp_path, load, sample_for, ids):
    values = {
        "brand": {i: f'Brand "{k % 3}"' for k, i in enumerate(ids[1:])},
        "price": {i: k + 0.5 for k, i in enumerate(ids)},
        "tags": {i: ["all of them", f"tag {k}"] for k, i in enumerate(ids[:-1])},
    }
    columns = [Column("brand", "text"), Column("price", "number"), Column("tags", "text", several=True)]
    data = replace(sample_for("recbole"), items=build_items(ids, values, columns))
    export(data, Request("recbole", tmp_path / "sample", fields=["brand", "price", "tags"]))
    dataset = load(tmp_path / "sample", "BPR")
    numbers = [dataset.token2id("item_id", i) for i in ids]
    rows = dataset.get_item_feature().set_index("item_id").loc[numbers]
    assert rows["price"].tolist() == [values["price"][i] for i in ids]
    brands = dataset.id2token("brand", rows["brand"].to_numpy().astype(int))
    assert list(brands) == ["[PAD]", *values["brand"].values()]
    tags = [list(dataset.id2token("tags", row)) if len(row) else [] for row in rows["tags"]]
    assert tags == [["all_of_them", f"tag_{k}"] for k in range(len(ids) - 1)] + [[]]
