"""The graph of users that MMRec's DualGNN and DRAGON read: the rule of its dualgnn-gen-u-u-matrix.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.echo import make_input
from helpers.interaction_rows import interactions_of
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.export import Request, export, verify
from mmfeat.export.content import Interactions
from mmfeat.export.formats.mmrec import user_graph


def interactions(pairs, users):
    found = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Interactions([f"u{k}" for k in range(users)], found[:, 0], found[:, 1], None)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=40))
def test_neighbours_are_all_who_met_an_item_that_the_user_met_by_how_many(pairs):
    met = {user: {item for other, item in pairs if other == user} for user in range(7)}
    graph = user_graph(interactions(pairs, 7))
    assert list(graph) == list(range(7))
    for user, (neighbours, weights) in graph.items():
        common = {other: len(met[user] & met[other]) for other in met if other != user}
        wanted = {other: count for other, count in common.items() if count}
        assert dict(zip(neighbours.tolist(), weights.tolist(), strict=True)) == wanted
        assert sorted(weights, reverse=True) == weights.tolist()


def test_of_more_than_200_neighbours_the_nearest_200_stay():
    pairs = [(user, 0) for user in range(230)] + [(0, 1), (229, 1)]
    neighbours, weights = user_graph(interactions(pairs, 230))[0]
    assert neighbours.tolist() == [229, *range(1, 200)] and weights[:2].tolist() == [2.0, 1.0]


@pytest.fixture
def toys(tmp_path):
    """Of three users two share items for training; one item of the third is shared in test only."""
    rows = [(user, item, 1000 * k) for user in ("a", "b") for k, item in enumerate("pqrs")]
    rows += [("c", item, 1000 * k) for k, item in enumerate("tuvs")]
    data = replace(make_input("mmrec", list("pqrstuv")), interactions=interactions_of(rows))
    request = Request("mmrec", tmp_path / "toys", split="leave-one-out", options={"user_graph": "true"})
    export(data, request)
    return tmp_path / "toys"


def test_the_file_is_what_the_models_load(toys):
    graph = np.load(toys / "user_graph_dict.npy", allow_pickle=True).item()
    inter = pd.read_csv(toys / "toys.inter", sep="\t")
    assert len(graph) == inter["userID"].nunique() == 3
    # They take graph[user][0][:k], and append to both lists until they have k.
    assert graph == {0: [[1], [2.0]], 1: [[0], [2.0]], 2: [[], []]}
    assert all(type(part) is list and all(type(w) is float for w in graph[0][1]) for part in graph[0])
    assert verify(toys).ok


def test_without_the_option_there_is_no_graph(tmp_path):
    export(make_input("mmrec", list("pqr")), Request("mmrec", tmp_path / "toys"))
    assert not (tmp_path / "toys" / "user_graph_dict.npy").exists()
