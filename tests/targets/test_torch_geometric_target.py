"""PyTorch Geometric itself on exports for RQ-VAE-Recommender, whose dataset it loads."""

from __future__ import annotations

import torch
from helpers.echo import assert_echo, expected
from torch_geometric.data import HeteroData, InMemoryDataset

from mmfeat.export import Request, export


class Processed(InMemoryDataset):
    """What ``AmazonReviews`` (data/amazon.py:40-52) says of its files: a raw folder, and a processed file."""

    raw_file_names = ("sample",)
    processed_file_names = "data_sample.pt"

    def __init__(self, root):
        super().__init__(str(root))
        self.load(self.processed_paths[0], data_cls=HeteroData)

    def process(self):
        raise AssertionError("what is exported is there already")


def test_what_is_processed_already_is_loaded_and_not_made_again(tmp_path, sample_for, ids):
    export(sample_for("rq-vae-recommender"), Request("rq-vae-recommender", tmp_path / "sample"))
    data = Processed(tmp_path / "sample").data
    found = {own: data["item"].x[k].numpy() for k, own in enumerate(ids)}
    assert_echo({"item": found}, expected("rq-vae-recommender", ids))
    history = data["user", "rated", "item"].history
    assert history["test"]["itemId"].shape == (len(history["train"]["itemId"]), 20)
    # ItemData takes a part of the items by this mask (data/processed.py:59-69).
    taken = data["item"]["text"][data["item"]["is_train"]]
    assert isinstance(taken, torch.Tensor) and 0 < len(taken) <= len(ids)
