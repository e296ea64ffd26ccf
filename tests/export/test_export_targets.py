"""What the formats of sequential, click and generative recommenders promise beyond the echo check."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import readers_of_generators, readers_of_sequences
from helpers.echo import assert_echo, column, expected, make_input, value
from helpers.interaction_rows import interactions_of

from mmfeat.export import Request, export, verify
from mmfeat.schemas.errors import MissingExtra, UsageError
from mmfeat.schemas.featureset import FeatureSet

NUMBERS = ["3", "1", "4", "2"]


def interactions(*rows):
    """Rows of user, item, seconds."""
    return interactions_of((u, i, None if s is None else s * 1000) for u, i, s in rows)


def of_dims(dims, ids=NUMBERS):
    return replace(make_input("npy", ids), features=FeatureSet(ids, {"f": column(ids, "f", dims=dims)}))


# -- dims that a target fixes


@pytest.mark.parametrize(
    ("format", "dims", "hint"),
    [
        ("mmctr", 200, "--project f:128"),
        ("muse", 200, "--cut f:128"),
        ("muse", 64, "128 dims or more"),
        ("tencentgr", 2000, "--project f:1024"),
    ],
)
def test_vectors_of_another_size_are_refused_with_what_brings_them_to_it(tmp_path, format, dims, hint):
    with pytest.raises(UsageError, match=f"dims, and those of f have {dims}") as caught:
        export(of_dims(dims), Request(format, tmp_path / "out"))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("dims", "slot", "folder"),
    [(32, "auto", "emb_81_32"), (1024, "auto", "emb_82_1024"), (3584, "85", "emb_85_3584")],
)
def test_tencentgr_takes_the_slot_of_as_many_dims(tmp_path, dims, slot, folder):
    export(of_dims(dims), Request("tencentgr", tmp_path / "out", options={"slot": slot}))
    (path,) = (tmp_path / "out" / "mm_emb" / f"{folder}_parquet").glob("*.parquet")
    assert pq.read_table(path)["anonymous_cid"].to_pylist() == NUMBERS
    assert verify(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("dims", "slot", "why"),
    [(8, "auto", "32 or 1024 or 3584 or 4096"), (3584, "auto", "several"), (32, "82", "has 1024 dims")],
)
def test_tencentgr_never_guesses_a_slot(tmp_path, dims, slot, why):
    with pytest.raises(UsageError, match=why):
        export(of_dims(dims), Request("tencentgr", tmp_path / "out", options={"slot": slot}))


# -- ids that are integers


@pytest.mark.parametrize("format", ["dff", "mmctr", "muse", "tencentgr"])
@pytest.mark.parametrize("bad", ["0", "07", "-1", "1.0", "a", "٣", "9223372036854775808"])
def test_ids_that_are_no_positive_integers_are_refused_by_name(tmp_path, format, bad):
    with pytest.raises(UsageError, match=f"no integers from 1 on.*{bad!r}"):
        export(make_input(format, ["1", bad], interactions=None), Request(format, tmp_path / "out"))


@pytest.mark.parametrize("format", ["mmctr", "muse"])
def test_any_ids_can_be_numbered_from_1_instead(tmp_path, format):
    export(make_input(format, ["07", "a b"]), Request(format, tmp_path / "out", options={"ids": "index"}))
    assert_echo(readers_of_sequences.READERS[format](tmp_path / "out"), expected(format, ["07", "a b"]))
    assert verify(tmp_path / "out").ok


def test_mmctr_refuses_a_gap_because_positions_would_shift(tmp_path):
    with pytest.raises(UsageError, match=r"1 ids are beyond 3.*: '4'"):
        export(make_input("mmctr", ["1", "4", "2"]), Request("mmctr", tmp_path / "out"))
    data = make_input("mmctr", NUMBERS, mask=[True, False, True, True])
    with pytest.raises(UsageError, match="beyond 3"):
        export(data, Request("mmctr", tmp_path / "out", missing="drop"))
    export(data, Request("mmctr", tmp_path / "out", missing="zero"))
    assert not np.any(pq.read_table(tmp_path / "out" / "item_info.parquet")["item_emb_d128"][1].as_py())


@pytest.mark.parametrize("format", ["muse", "tencentgr"])
def test_an_item_without_a_vector_has_no_line_when_masked(tmp_path, format):
    data = make_input(format, NUMBERS, mask=[True, False, True, True])
    export(data, Request(format, tmp_path / "out", missing="mask"))
    assert_echo(readers_of_sequences.READERS[format](tmp_path / "out"), expected(format, ["3", "4", "2"]))
    assert verify(tmp_path / "out").ok


# -- MUSE


def test_muse_holds_truncated_int8_of_unit_vectors(tmp_path):
    data = of_dims(128)
    matrix = data.features["f"].matrix
    matrix[:] = 0
    matrix[0, :2] = [3, -4]  # item 3
    matrix[1, 5] = -7  # item 1
    export(data, Request("muse", tmp_path / "out"))
    assert np.load(tmp_path / "out" / "scl_emb_int8_p90_keys.npy").tolist() == [1, 2, 3, 4]
    values = np.load(tmp_path / "out" / "scl_emb_int8_p90_values.npy")
    assert values[2, :3].tolist() == [76, -101, 0]  # 127 * 0.6 = 76.2 and 127 * -0.8 = -101.6
    assert values[0, 5] == -127
    assert not values[1].any()


def test_muse_refuses_what_int8_would_hide(tmp_path):
    data = of_dims(128)
    data.features["f"].matrix[2, 7] = np.inf
    with pytest.raises(UsageError, match=r"infinity.*'4'"):
        export(data, Request("muse", tmp_path / "out"))


# -- UniSRec


def unisrec_lines(folder, part):
    lines = (folder / f"{folder.name}.{part}.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id_list:token_seq\titem_id:token"
    return lines[1:]


def test_unisrec_predicts_every_item_from_those_before_it(tmp_path):
    log = interactions(
        ("u", "a", 1), ("v", "c", 3), ("u", "c", 2), ("u", "b", 3), ("u", "d", 9), ("v", "b", 1)
    )
    data = replace(make_input("unisrec", list("abcd")), interactions=log)
    export(data, Request("unisrec", tmp_path / "toys"))
    assert unisrec_lines(tmp_path / "toys", "train") == ["0\t0\t2", "1\t1\t2"]
    assert unisrec_lines(tmp_path / "toys", "valid") == ["0\t0 2\t1"]
    assert unisrec_lines(tmp_path / "toys", "test") == ["0\t0 2 1\t3"]


def test_unisrec_keeps_fifty_items_of_a_history(tmp_path):
    ids = [f"i{k}" for k in range(60)]
    log = interactions(*(("u", i, k) for k, i in enumerate(ids)))
    export(replace(make_input("unisrec", ids), interactions=log), Request("unisrec", tmp_path / "toys"))
    (line,) = unisrec_lines(tmp_path / "toys", "test")
    assert line.split("\t")[1].split(" ") == [str(k) for k in range(9, 59)]


def test_unisrec_refuses_a_split_whose_histories_hold_the_answers(tmp_path):
    data = make_input("unisrec", [f"i{k}" for k in range(20)])
    with pytest.raises(UsageError, match="histories") as caught:
        export(data, Request("unisrec", tmp_path / "out", split="ratio:0.8,0.1,0.1"))
    assert "leave-one-out" in caught.value.hint
    export(data, Request("unisrec", tmp_path / "out", split="time:1700000050000,1700000100000"))


def test_the_amazon_2023_form_goes_by_the_datasets_ids_and_its_maps(tmp_path):
    ids, form = ["B1", "007", "ü"], {"form": "amazon2023"}
    export(make_input("unisrec", ids), Request("unisrec", tmp_path / "toys", options=form))
    assert_echo(readers_of_sequences.read_unisrec(tmp_path / "toys"), expected("unisrec", ids))
    assert verify(tmp_path / "toys").ok
    maps = json.loads((tmp_path / "toys" / "toys.data_maps").read_text())
    assert maps["item2id"] == {"[PAD]": 0, "B1": 1, "007": 2, "ü": 3}
    assert maps["id2user"][:2] == ["[PAD]", "user 0"]


@pytest.mark.parametrize("bad", ["a b", "NA", "[PAD]", 'say "hi"'])
def test_the_amazon_2023_form_refuses_tokens_that_recbole_would_cut_or_lose(tmp_path, bad):
    with pytest.raises(UsageError, match=re.escape(repr(bad))) as caught:
        export(
            make_input("unisrec", ["x", bad]),
            Request("unisrec", tmp_path / "no", options={"form": "amazon2023"}),
        )
    assert "form=unisrec" in caught.value.hint


def test_unisrec_is_told_the_size_of_its_vectors(tmp_path):
    import yaml

    export(make_input("unisrec", ["a", "b", "c"]), Request("unisrec", tmp_path / "toys"))
    found = yaml.safe_load((tmp_path / "toys" / "toys.yaml").read_text())
    assert found == {"plm_suffix": "feat1CLS", "plm_size": 8, "adaptor_layers": [8, 300]}


# -- fMRLRec and MMM4Rec

LOG = [
    ("u", "c", 5),
    ("v", "a", 1),
    ("u", "a", 7),
    ("u", "b", 6),
    ("v", "b", 2),
    ("v", "c", 3),
    ("u", "d", 9),
]


def test_fmrlrec_lists_sequences_from_1_in_time_order(tmp_path):
    data = replace(make_input("fmrlrec", list("dabcx")), interactions=interactions(*LOG))
    export(data, Request("fmrlrec", tmp_path / "toys"))
    assert (tmp_path / "toys" / "sequential_data.txt").read_text() == "1 4 3 2 1\n2 2 3 4\n"
    assert set(json.loads((tmp_path / "toys" / "datamaps.json").read_text())["item2id"]) == set("abcd")


def test_mmm4rec_trains_on_beginnings_and_holds_back_the_last_two(tmp_path):
    data = replace(make_input("mmm4rec", list("abcd")), interactions=interactions(*LOG))
    export(data, Request("mmm4rec", tmp_path / "toys"))

    def lines(part):
        return [json.loads(x) for x in (tmp_path / "toys" / f"{part}_seq.jsonl").read_text().splitlines()]

    u, v = [[3, 5], [2, 6], [1, 7], [4, 9]], [[1, 1], [2, 2], [3, 3]]
    assert lines("train") == [[0, u[:2]]]
    assert lines("eval") == [[0, u[:3]], [1, v[:2]]]
    assert lines("test") == [[0, u], [1, v]]


@pytest.mark.parametrize("format", ["fmrlrec", "mmm4rec"])
def test_users_of_whom_nothing_would_be_left_are_refused_by_name(tmp_path, format):
    log = interactions(*LOG, ("w", "a", 1), ("w", "b", 2))
    with pytest.raises(UsageError, match=r"1 ids are of users with fewer than 3.*'w'") as caught:
        export(replace(make_input(format, list("abcd")), interactions=log), Request(format, tmp_path / "out"))
    assert "--k-core 3" in caught.value.hint


def test_mmm4rec_refuses_interactions_without_a_time(tmp_path):
    log = interactions(*((u, i, None) for u, i, _ in LOG))
    with pytest.raises(UsageError, match="time of every interaction"):
        export(
            replace(make_input("mmm4rec", list("abcd")), interactions=log),
            Request("mmm4rec", tmp_path / "out"),
        )


# -- IISAN


def test_iisan_writes_each_item_by_itself(tmp_path):
    ids = [f"i{k}" for k in range(300)]
    export(make_input("iisan", ids), Request("iisan", tmp_path / "out"))
    path = tmp_path / "out" / "bert_outputs" / "bert_i7.pt"
    assert path.stat().st_size < 3000  # a view would bring the other items' 28 kB along
    found = torch.load(path, weights_only=True)
    assert (found.shape, found.dtype) == ((3, 8), torch.float32)


@pytest.mark.parametrize("ids", [["a/b"], ["x", "X"]])
def test_iisan_refuses_ids_that_cannot_name_files(tmp_path, ids):
    with pytest.raises(UsageError) as caught:
        export(make_input("iisan", ids), Request("iisan", tmp_path / "out"))
    assert "ids=index" in caught.value.hint


@pytest.mark.parametrize("format", ["dff", "iisan", "mmm4rec"])
def test_without_torch_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch, format):
    monkeypatch.setattr("mmfeat.export.tensors.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="torch"):
        export(make_input(format, ["a", "b", "c"]), Request(format, tmp_path / "out"))
    assert not list(tmp_path.iterdir())


# -- DFF


def test_dff_has_a_pad_row_and_every_layer_of_a_video(tmp_path):
    export(make_input("dff", NUMBERS, interactions=None), Request("dff", tmp_path / "toys"))
    found = torch.load(tmp_path / "toys" / "features" / "all_layers_tensor.pt", weights_only=True)
    assert (found.shape, found.dtype) == ((5, 3, 8), torch.float32)
    assert not found[0].any()
    np.testing.assert_array_equal(found[3], value("3", "vectors", "video"))


# Two of 20 videos are the first of a longer history: DFF does not read them.
HISTORIES = [*[("u", str(k), k) for k in range(1, 16)], *[("v", str(k), k) for k in range(14, 21)]]
LONG = interactions(*HISTORIES)


def test_dff_refuses_videos_that_would_shift_the_others_by_name(tmp_path):
    data = make_input("dff", [str(k) for k in range(1, 21)], interactions=LONG)
    with pytest.raises(UsageError, match=r"2 ids are in no user's last 13 videos.*'1', '2'") as caught:
        export(data, Request("dff", tmp_path / "out"))
    assert "numbers=new" in caught.value.hint


def test_dff_numbers_the_videos_that_it_reads_first(tmp_path):
    ids = [str(k) for k in range(1, 21)]
    data = make_input("dff", ids, interactions=LONG)
    export(data, Request("dff", tmp_path / "toys", options={"numbers": "new"}))
    assert_echo(readers_of_generators.read_dff(tmp_path / "toys"), expected("dff", ids[2:]))
    assert json.loads((tmp_path / "toys" / "item2id.json").read_text())["1"] == 19
    assert verify(tmp_path / "toys").ok


def test_dff_refuses_users_whom_it_would_leave_out(tmp_path):
    log = interactions(*HISTORIES, *[("short", str(k), k) for k in range(1, 5)])
    with pytest.raises(UsageError, match=r"fewer than 5 interactions.*'short'"):
        export(
            make_input("dff", [str(k) for k in range(1, 21)], interactions=log),
            Request("dff", tmp_path / "out"),
        )


# -- Cornac


def test_cornac_refuses_users_that_its_reader_would_strip(tmp_path):
    log = interactions((" u", "a", 1), ("v", "b", 2))
    data = replace(make_input("cornac", ["a", "b"]), interactions=log)
    with pytest.raises(UsageError, match="' u'") as caught:
        export(data, Request("cornac", tmp_path / "out"))
    assert "ids=index" in caught.value.hint
    export(data, Request("cornac", tmp_path / "out", options={"ids": "index"}))
    assert (tmp_path / "out" / "interactions.tsv").read_text() == "0\t0\t1.0\t1000\n1\t1\t1.0\t2000\n"


def test_cornac_writes_no_time_where_none_is_known(tmp_path):
    data = replace(
        make_input("cornac", ["a", "b"]), interactions=interactions(("u", "a", None), ("v", "b", 1))
    )
    export(data, Request("cornac", tmp_path / "out"))
    assert (tmp_path / "out" / "interactions.tsv").read_text() == "u\ta\t1.0\nv\tb\t1.0\n"


@pytest.mark.parametrize(
    ("format", "files"),
    [("cornac", {"features.npy", "ids.json"}), ("unisrec", {"toys.feat1CLS", "toys.yaml"})],
)
def test_an_export_without_interactions_has_features_only(tmp_path, format, files):
    data = replace(make_input(format, ["a", "b"]), interactions=None)
    export(data, Request(format, tmp_path / "toys"))
    companions = {"manifest.json", "id_map.parquet", "rows.parquet"}
    assert {p.name for p in (tmp_path / "toys").iterdir()} == files | companions


def test_fmrlrec_gets_vectors_of_length_one_where_that_is_asked_for(tmp_path):
    data = make_input("fmrlrec", ["a", "b", "c"], [True, False, True])
    request = Request("fmrlrec", tmp_path / "toys", missing="zero", options={"normalize": "true"})
    export(data, request)
    for name, role in (("model-b_embeddings.npy", "text"), ("model-b_img_embeddings.npy", "image")):
        found = np.load(tmp_path / "toys" / name)
        for row, item in ((0, "a"), (2, "c")):
            own = value(item, "vector", role)
            np.testing.assert_allclose(found[row], own / np.linalg.norm(own), rtol=1e-6)
        assert not found[1].any()
    assert verify(tmp_path / "toys").ok
