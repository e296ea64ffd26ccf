"""Cornac itself on exports of the sample: it finds every vector, and trains an epoch of visual models."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cornac.data import ImageModality, Reader
from cornac.eval_methods import RatioSplit
from cornac.metrics import Recall
from cornac.models import AMR, VBPR
from helpers.echo import assert_echo, expected, export_with_moved_rows, shifted, swapped

from mmfeat.export import Request, export

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


def load(folder):
    """An export as Cornac's split of interactions with its pictures' features."""
    interactions = Reader().read(str(folder / "interactions.tsv"), "UIRT", sep="\t")
    images = ImageModality(
        features=np.load(folder / "features.npy"), ids=json.loads((folder / "ids.json").read_text())
    )
    return RatioSplit(interactions, test_size=0.2, item_image=images, seed=7)


def by_item(split):
    """Row of every raw item, found by Cornac's own map."""
    features = split.train_set.item_image.features
    return {"item": {raw: features[place] for raw, place in split.global_iid_map.items()}}


@pytest.mark.parametrize("method", [VBPR, AMR])
def test_every_item_has_its_own_vector_and_an_epoch_trains(tmp_path, sample_for, ids, method):
    data = sample_for("cornac")
    export(data, Request("cornac", tmp_path / "sample"))
    split = load(tmp_path / "sample")
    assert_echo(by_item(split), expected("cornac", ids))
    assert len(split.train_set.matrix.data) + len(split.test_set.matrix.data) == len(data.interactions)

    model = method(n_epochs=1, batch_size=64, seed=7, verbose=False)
    result, _ = split.evaluate(model, [Recall(k=10)], user_based=True)
    assert 0 < result.metric_avg_results["Recall@10"] <= 1
    # What the model made of an item comes from that item's vector, by the weights it has learned.
    for raw, place in split.global_iid_map.items():
        own = expected("cornac", [raw])["item"][raw] @ model.emb_matrix
        np.testing.assert_allclose(model.theta_item[place], own, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("move", [shifted, swapped])
def test_moved_rows_are_found_out(tmp_path, sample_for, ids, move):
    export_with_moved_rows(sample_for("cornac"), "cornac", tmp_path / "sample", move)
    with pytest.raises(AssertionError, match="item of"):
        assert_echo(by_item(load(tmp_path / "sample")), expected("cornac", ids))


def test_the_program_of_the_tutorial_trains_on_both_exports_and_finds_equal_ones_equal(
    tmp_path, sample_for, monkeypatch, capsys
):
    for name in ("titles", "shuffled"):
        export(sample_for("cornac"), Request("cornac", tmp_path / "exports" / name))
    monkeypatch.chdir(tmp_path)
    [program] = re.findall(r"^```py\n(.*?)^```$", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(program, "train.py", "exec"), {"__name__": "__main__"})
    *_, titles, shuffled, _, last = capsys.readouterr().out.strip().splitlines()
    assert titles.split()[1:] == shuffled.split()[1:]
    assert last == "titles better than shuffled in 0 of 5 splits"
