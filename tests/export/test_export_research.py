"""What the formats of research projects refuse, and what they write beside vectors."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers.echo import (
    OPTIONS,
    assert_echo,
    column,
    every_role,
    expected,
    export_with_moved_rows,
    make_input,
    make_interactions,
    shifted,
    swapped,
    value,
)
from helpers.export_readers import READERS
from helpers.interaction_rows import interactions_of

from mmfeat.export import ExportInput, Request, export, verify
from mmfeat.export.files import digest
from mmfeat.export.manifest import MANIFEST
from mmfeat.schemas.errors import UsageError
from mmfeat.schemas.featureset import FeatureSet

IDS = ["a", "b", "c", "d", "e", "f"]
WITHOUT_B = [True, False, True, True, True, True]
DAY = 86_400_000


def interactions(*rows):
    """Rows ``user, item, day``."""
    return interactions_of((user, item, None if day is None else day * DAY) for user, item, day in rows)


@pytest.mark.parametrize("format", ["hm4sr", "mmm4rec"])
def test_interactions_without_a_time_are_refused_with_what_to_do(tmp_path, format):
    data = make_input(format, IDS, interactions=interactions(*[("u", i, None) for i in IDS]))
    with pytest.raises(UsageError, match="needs the time of every interaction") as caught:
        export(data, Request(format, tmp_path / "out", options=OPTIONS.get(format)))
    assert "--interactions FILE" in caught.value.hint


@pytest.mark.parametrize("format", ["preferdiff", "unimp"])
def test_too_few_users_for_a_split_by_user_are_refused_with_what_to_do(tmp_path, format):
    data = make_input(format, IDS, interactions=interactions(*[("u", i, k) for k, i in enumerate(IDS)]))
    with pytest.raises(UsageError, match="There are 1 users") as caught:
        export(data, Request(format, tmp_path / "out"))
    assert caught.value.hint


# One user comes late: a split in time leaves them nothing to train on.
LATE = interactions(*[("early", i, k) for k, i in enumerate(IDS)], *[("late", i, 50) for i in IDS])


@pytest.mark.parametrize("format", ["rearm", "mmhcl", "mmssl", "rlmrec", "alpharec"])
def test_a_split_that_leaves_a_user_without_training_is_refused_by_name(tmp_path, format):
    data = make_input(format, IDS, interactions=LATE)
    with pytest.raises(UsageError, match="1 users have no interaction for training, among them 'late'"):
        export(data, Request(format, tmp_path / "out", split="time:1970-01-20,1970-01-25"))
    export(data, Request(format, tmp_path / "out", split="leave-one-out"))


@pytest.mark.parametrize("format", ["rearm", "mmhcl", "mmssl", "alpharec", "pixelrec", "hm4sr"])
def test_items_that_a_target_would_not_count_stay_out(tmp_path, format):
    met = make_interactions([i for i in IDS if i != "c"])
    report = export(
        make_input(format, IDS, interactions=met),
        Request(format, tmp_path / "out", features=every_role(format), options=OPTIONS.get(format)),
    )
    assert (report.items, report.left_out) == (5, 1)
    found = READERS[format](tmp_path / "out")
    assert all(set(values) == {"a", "b", "d", "e", "f"} for values in found.values())


@pytest.mark.parametrize("format", ["mmhcl", "dgvae"])
def test_a_target_that_divides_by_the_row_norm_gets_no_zero_row(tmp_path, format):
    data = make_input(format, IDS)
    with pytest.raises(UsageError, match=r"--missing zero: .*becomes NaN"):
        export(data, Request(format, tmp_path / "out", missing="zero"))
    data.features["image"].matrix[2] = 0
    with pytest.raises(UsageError, match=r"all zeros.*'c'"):
        export(data, Request(format, tmp_path / "out", options=OPTIONS.get(format)))


def test_a_folder_with_mmhcls_cached_graphs_below_it_is_refused_by_their_names(tmp_path):
    (tmp_path / "5-core").mkdir()
    (tmp_path / "5-core" / "UI_mat_sym.pth").touch()
    with pytest.raises(UsageError, match=r"5-core/UI_mat_sym\.pth.*hyper-parameters"):
        export(make_input("mmhcl", IDS), Request("mmhcl", tmp_path))


def test_mmhcls_core_names_the_folder_and_users_without_a_part_are_left_out_of_it(tmp_path):
    met = interactions(*[("u", i, k) for k, i in enumerate(IDS)], ("v", "a", 1))
    export(
        make_input("mmhcl", IDS, interactions=met), Request("mmhcl", tmp_path / "out", options={"core": 0})
    )
    parts = {
        p: json.loads((tmp_path / "out" / "0-core" / f"{p}.json").read_text())
        for p in ("train", "val", "test")
    }
    assert parts["train"].keys() == {"0", "1"}
    assert parts["val"].keys() == parts["test"].keys() == {"0"}
    assert verify(tmp_path / "out").ok


# -- RLMRec


def test_rlmrecs_user_vector_is_the_mean_of_what_they_were_trained_on(tmp_path):
    met = interactions(
        ("u", "a", 1), ("u", "b", 2), ("u", "a", 3), ("u", "c", 4), ("u", "d", 5), ("v", "e", 1)
    )
    export(
        make_input("rlmrec", IDS, interactions=met),
        Request("rlmrec", tmp_path / "out", split="leave-one-out"),
    )
    with (tmp_path / "out" / "usr_emb_np.pkl").open("rb") as file:
        users = pickle.load(file)
    own = {i: value(i, "vector", "item") for i in IDS}
    np.testing.assert_allclose(users[0], (2 * own["a"] + own["b"]) / 3, rtol=1e-6)
    np.testing.assert_array_equal(users[1], own["e"])


def test_rlmrecs_split_is_in_its_three_matrices(tmp_path):
    met = interactions(*[("u", i, k) for k, i in enumerate(IDS)])
    export(
        make_input("rlmrec", IDS, interactions=met),
        Request("rlmrec", tmp_path / "out", split="leave-one-out"),
    )
    parts = []
    for name in ("trn", "val", "tst"):
        with (tmp_path / "out" / f"{name}_mat.pkl").open("rb") as file:
            parts.append(pickle.load(file).toarray().tolist())
    assert parts == [[[1, 1, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 0]], [[0, 0, 0, 0, 0, 1]]]


# -- AlphaRec


def test_alpharec_refuses_a_name_that_asks_it_for_a_mixture(tmp_path):
    with pytest.raises(UsageError, match="'amixture'") as caught:
        export(make_input("alpharec", IDS), Request("alpharec", tmp_path / "amixture"))
    assert "--out" in caught.value.hint


# -- texts


def test_a_llmrec_gets_no_text_where_an_item_has_none(tmp_path):
    data = make_input("a-llmrec", IDS, WITHOUT_B)
    titles = [None if i == "c" else f"Title of {i}" for i in IDS]
    data = replace(data, items=pa.table({"item_id": IDS, "title": titles}))
    export(data, Request("a-llmrec", tmp_path / "toys", missing="mask"))
    with (tmp_path / "toys" / "toys_text_name_dict.json.gz").open("rb") as file:
        texts = pickle.load(file)
    assert sorted(texts["title"]) == [1, 2, 4, 5, 6]
    assert sorted(texts["description"]) == [1, 3, 4, 5, 6]
    assert texts["description"][3] == value("c", "text", "description")
    with pytest.raises(UsageError, match="mask for none"):
        export(data, Request("a-llmrec", tmp_path / "no", missing="zero"))


def test_a_llmrecs_interactions_count_from_one_in_time_order(tmp_path):
    met = interactions(("u", "c", 3), ("u", "a", 1), ("v", "b", 9))
    export(make_input("a-llmrec", IDS, interactions=met), Request("a-llmrec", tmp_path / "toys"))
    assert (tmp_path / "toys" / "toys.txt").read_text() == "1 1\n1 3\n2 2\n"


@pytest.mark.parametrize("bad", ["007", "1.0", "1e5", "nan", "NA", " 7", "TRUE", "+5", "9" * 30, "a\nb"])
def test_mllm_msr_refuses_ids_that_pandas_would_change(tmp_path, bad):
    with pytest.raises(UsageError, match="1 ids cannot be MLLM-MSR's ids"):
        export(make_input("mllm-msr", ["12", bad, "x"]), Request("mllm-msr", tmp_path / "out"))


def test_mllm_msr_keeps_texts_of_any_kind_and_refuses_those_that_read_as_missing(tmp_path):
    texts = ['say "hi",\nthen go', "ü視", " lead", "1.0", "x" * 5000, "None of it"]
    captions = replace(column(IDS, "summary", "text"), values=texts)
    data = ExportInput(FeatureSet(IDS, {"summary": captions}), pa.table({"item_id": IDS}))
    export(data, Request("mllm-msr", tmp_path / "out"))
    assert READERS["mllm-msr"](tmp_path / "out")["summary"] == dict(zip(IDS, texts, strict=True))
    captions.values[1] = "None"
    with pytest.raises(UsageError, match="item 'b' is 'None'"):
        export(data, Request("mllm-msr", tmp_path / "no"))


# -- MMGRec


def test_mmgrec_takes_128_dims_and_nothing_else(tmp_path):
    data = make_input("mmgrec", IDS)
    short = {**data.features.columns, "audio": column(IDS, "audio", source="audio")}
    with pytest.raises(UsageError, match="128 dims, and those of audio have 8") as caught:
        export(replace(data, features=FeatureSet(IDS, short)), Request("mmgrec", tmp_path / "out"))
    assert "128 dims or more" in caught.value.hint


def test_mmgrecs_items_follow_its_users_and_each_is_there_once(tmp_path):
    met = interactions(("u", "c", 3), ("u", "a", 1), ("v", "b", 9), ("u", "c", 5))
    export(make_input("mmgrec", IDS, interactions=met), Request("mmgrec", tmp_path / "out"))
    found = np.load(tmp_path / "out" / "user_item_dict_sample.npy", allow_pickle=True).item()
    assert found == {0: [2, 4], 1: [3]}


# -- DGVAE


def test_dgvaes_words_are_those_of_the_items_a_user_was_trained_on(tmp_path):
    met = interactions(*[("u", i, k) for k, i in enumerate("abcd")], ("v", "e", 1), ("v", "f", 2))
    data = make_input("dgvae", IDS, interactions=met)
    texts = ["red ball", "red cube", "green cone", "blue ring", "blue ball", "grey ball"]
    words = replace(data.features["words"], values=texts)
    data = replace(data, features=FeatureSet(IDS, {**data.features.columns, "words": words}))
    options = {"min_df": 1, "max_df": 1.0}
    export(data, Request("dgvae", tmp_path / "toys", split="leave-one-out", options=options))
    vocabulary = json.loads((tmp_path / "toys" / "toys.vocab").read_text())
    assert vocabulary == {w: k for k, w in enumerate(["ball", "blue", "cube", "grey", "red"])}
    with np.load(tmp_path / "toys" / "toys.user.words.tfidf.npz") as stored:
        assert stored["shape"].tolist() == [2, 5]
    assert pd.read_csv(tmp_path / "toys" / "toys.test.ratings").values.tolist() == [[0, 3, 1]]


def test_dgvae_without_a_vocabulary_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UsageError, match="no vocabulary") as caught:
        export(make_input("dgvae", IDS), Request("dgvae", tmp_path / "out"))
    assert "min_df=1" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_verify_finds_out_words_that_are_not_of_the_texts(tmp_path):
    for name, ids in (("one", IDS), ("two", [f"{i}{i}" for i in IDS])):
        export(make_input("dgvae", ids), Request("dgvae", tmp_path / name, options=OPTIONS["dgvae"]))
    other = tmp_path / "two" / "two.user.words.tfidf.npz"
    other.replace(tmp_path / "one" / "one.user.words.tfidf.npz")
    problems = {p.kind: p.message for p in verify(tmp_path / "one").problems}
    assert problems.keys() == {"file", "unreadable"}
    assert "do not follow from the items' texts" in problems["unreadable"]


# -- PixelRec


def test_pixelrec_numbers_items_as_the_file_first_names_them_whatever_the_times(tmp_path):
    met = interactions(("u", "c", 1), ("u", "a", 2), ("u", "b", 3), ("u", "a", 9))
    report = export(make_input("pixelrec", IDS, interactions=met), Request("pixelrec", tmp_path / "toys"))
    assert report.items == 3
    frame = pd.read_csv(tmp_path / "toys" / "toys.csv")
    assert frame["item_id"].tolist() == ["a", "a", "b", "c"]
    assert frame["timestamp"].tolist() == [2 * DAY, 9 * DAY, 3 * DAY, DAY]


def test_pixelrec_gets_the_datasets_order_where_times_are_not_known(tmp_path):
    met = interactions(("u", "c", None), ("u", "a", None), ("u", "b", None))
    export(make_input("pixelrec", IDS, interactions=met), Request("pixelrec", tmp_path / "toys"))
    frame = pd.read_csv(tmp_path / "toys" / "toys.csv").sort_values("timestamp")
    assert frame["item_id"].tolist() == ["c", "a", "b"]


def test_pixelrec_refuses_users_that_leave_nothing_to_train_on(tmp_path):
    met = interactions(*[("u", i, 1) for i in "abc"], ("short", "a", 1), ("short", "b", 2))
    with pytest.raises(UsageError, match=r"fewer than 3 interactions.*'short'") as caught:
        export(make_input("pixelrec", IDS, interactions=met), Request("pixelrec", tmp_path / "out"))
    assert "--k-core 3" in caught.value.hint


def test_a_pixelrec_file_that_was_sorted_by_time_fails_verify(tmp_path):
    met = interactions(("u", "c", 1), ("u", "a", 2), ("u", "b", 3))
    export(make_input("pixelrec", IDS, interactions=met), Request("pixelrec", tmp_path / "toys"))
    path = tmp_path / "toys" / "toys.csv"
    pd.read_csv(path).sort_values("timestamp").to_csv(path, index=False)
    assert {p.kind: p.count for p in verify(tmp_path / "toys").problems} == {"file": 1, "echo": 3}


def test_an_export_of_an_earlier_version_whose_table_counts_items_from_0_verifies(tmp_path):
    numbered = Request("pixelrec", tmp_path / "toys", options={"ids": "index"})
    export(make_input("pixelrec", IDS), numbered)
    table, path = tmp_path / "toys" / "toys.csv", tmp_path / "toys" / MANIFEST
    rows = pd.read_csv(table)
    rows.assign(item_id=rows["item_id"] - 1, user_id=rows["user_id"] - 1).to_csv(table, index=False)
    manifest = json.loads(path.read_text())
    del manifest["options"]["layout"]
    manifest["files"][table.name] = {"sha256": digest(table), "bytes": table.stat().st_size}
    path.write_text(json.dumps(manifest))
    assert verify(tmp_path / "toys").ok


# -- MicroLens's and NineRec's own code

MICROLENS = {"layout": "microlens"}


def microlens(out, ids=IDS, met=None):
    data = make_input("pixelrec", ids, interactions=make_interactions(ids) if met is None else met)
    export(data, Request("pixelrec", out, options=MICROLENS))
    return out


def trained_on(out):
    """Each user's items but the last two, as MicroLens's ``Data.build`` takes them after its sort by time."""
    frame = pd.read_csv(out / "toys.inter", dtype={"item_id": str, "user_id": str, "timestamp": int})
    assert list(frame.columns) == ["item_id", "user_id", "timestamp"]
    frame["item"] = pd.factorize(frame["item_id"])[0] + 1
    frame = frame.sort_values("timestamp", kind="stable")
    return frame[frame.groupby("user_id").cumcount(ascending=False) >= 2]["item"]


def test_the_microlens_layout_is_read_by_the_rule_of_its_code(tmp_path):
    assert_echo(READERS["pixelrec"](microlens(tmp_path / "toys")), expected("pixelrec", IDS))
    assert not (tmp_path / "toys" / "toys.csv").exists()
    assert verify(tmp_path / "toys").ok


@pytest.mark.parametrize("move", [shifted, swapped])
def test_moved_rows_of_the_microlens_layout_are_found_out(tmp_path, move):
    export_with_moved_rows(make_input("pixelrec", IDS), "pixelrec", tmp_path / "toys", move, MICROLENS)
    with pytest.raises(AssertionError):
        assert_echo(READERS["pixelrec"](tmp_path / "toys"), expected("pixelrec", IDS))
    assert "echo" in {problem.kind for problem in verify(tmp_path / "toys").problems}


def test_popularity_is_each_items_share_of_what_is_trained_on_behind_one_for_the_pad_row(tmp_path):
    met = interactions(
        *[("u", i, k) for k, i in enumerate("abcdef")],
        *[("v", i, k) for k, i in enumerate("badce")],
        *[("w", i, k) for k, i in enumerate("bfa")],
    )
    out = microlens(tmp_path / "toys", met=met)
    popularity = np.load(out / "pop.npy")
    counts = trained_on(out).value_counts().reindex(range(1, 7), fill_value=0)
    np.testing.assert_allclose(popularity, [1, *counts / counts.sum()])
    # What VBPR takes the logarithm of: every item that it is trained on.
    assert (popularity[trained_on(out)] > 0).all()


@pytest.mark.parametrize("start", [None, 11_570])
def test_times_sort_as_texts_as_they_do_as_numbers(tmp_path, start):
    """NineRec's ``data.py`` reads them as texts; 11,574 days after 1970 the milliseconds get a digit more."""
    days = [None if start is None else start + k for k in range(12)]
    rows = [(user, item, day) for user in "uv" for item, day in zip("abcdefghijkl", days, strict=True)]
    out = microlens(tmp_path / "toys", list("abcdefghijkl"), interactions(*rows))
    frame = pd.read_csv(out / "toys.inter", dtype=str)
    times = frame["timestamp"]
    assert times.sort_values().tolist() == sorted(times, key=int)
    assert len(set(times)) == (24 if start is None else 12)


# -- MMSSL


def test_a_training_matrix_of_other_interactions_is_found_out(tmp_path):
    for name, seed in (("toys", 0), ("other", 1)):
        export(make_input("mmssl", IDS), Request("mmssl", tmp_path / name, seed=seed))
    (tmp_path / "toys" / "train_mat").write_bytes((tmp_path / "other" / "train_mat").read_bytes())
    assert {problem.kind for problem in verify(tmp_path / "toys").problems} == {"file", "unreadable"}


# -- HLLM and Molar


def of_texts(texts, name="caption"):
    data = make_input("hllm", IDS)
    made = replace(column(IDS, name, "text"), values=list(texts))
    return replace(data, features=FeatureSet(IDS, {name: made}))


def test_a_text_that_an_item_lacks_is_none_to_hllm(tmp_path):
    export(make_input("hllm", IDS, WITHOUT_B), Request("hllm", tmp_path / "toys", missing="mask"))
    found = READERS["hllm"](tmp_path / "toys")["the_text"]
    assert set(found) == set(IDS) - {"b"}
    assert verify(tmp_path / "toys").ok


def test_hllm_keeps_long_texts_with_quotes_commas_and_lines(tmp_path):
    texts = ['a "cup", red', "two\nlines", "007", "x" * 9000, "ü 視頻", "- a dash"]
    export(of_texts(texts), Request("hllm", tmp_path / "toys"))
    assert READERS["hllm"](tmp_path / "toys") == {"caption": dict(zip(IDS, texts, strict=True))}
    assert verify(tmp_path / "toys").ok


@pytest.mark.parametrize("text", ["", "None", "nan", "a\0b"])
def test_hllm_refuses_a_text_that_pandas_would_lose_and_names_its_item(tmp_path, text):
    with pytest.raises(UsageError, match=r"of item 'b' is .*which pandas reads as missing or cuts"):
        export(of_texts(["a cup", text, "c", "d", "e", "f"]), Request("hllm", tmp_path / "toys"))


def test_hllm_refuses_texts_that_pandas_would_take_for_numbers(tmp_path):
    with pytest.raises(UsageError, match=r"All texts of caption are numbers.*'007'"):
        export(of_texts(["007", "1.0", "2", "3", "4", "True"]), Request("hllm", tmp_path / "toys"))


def test_hllm_refuses_a_feature_that_would_hide_the_datasets_titles(tmp_path):
    with pytest.raises(UsageError, match="column 'title' is the dataset's own"):
        export(of_texts("uvwxyz", "title"), Request("hllm", tmp_path / "toys"))


# -- Pigeon


def test_pigeons_scenario_names_its_texts_and_any_one_feature_is_enough(tmp_path):
    data = make_input("pigeon", IDS)
    request = Request(
        "pigeon", tmp_path / "out", features={"semantics": "semantics"}, options={"scenario": "movie"}
    )
    report = export(data, request)
    assert set(report.files) == {"movie_semantics.npy", "id_map.parquet", "rows.parquet"}
    assert np.load(tmp_path / "out" / "movie_semantics.npy", allow_pickle=True)[2] == "semantics of c"
    assert verify(tmp_path / "out").ok


def test_pigeon_gets_an_empty_text_where_that_is_asked_for(tmp_path):
    request = Request("pigeon", tmp_path / "out", features={"semantics": "semantics"}, missing="empty")
    export(make_input("pigeon", IDS, WITHOUT_B), request)
    found = np.load(tmp_path / "out" / "sticker_semantics.npy", allow_pickle=True)
    assert found[:3].tolist() == ["semantics of a", "", "semantics of c"]
    assert verify(tmp_path / "out").ok


# -- UniversalRAG


def test_universalrag_finds_vectors_by_the_path_that_is_asked_for(tmp_path):
    options = {"modality": "clip", "path": "dataset/toys/{item_id}.mp4"}
    request = Request("universalrag", tmp_path / "toys", features=every_role("universalrag"), options=options)
    export(make_input("universalrag", IDS), request)
    with (tmp_path / "toys" / "toys_clipscript.pkl").open("rb") as file:
        assert list(pickle.load(file)) == [f"dataset/toys/{i}.mp4" for i in IDS]
    assert verify(tmp_path / "toys").ok


@pytest.mark.parametrize("path", ["", "a.jpg", "{title}/{item_id}", "{item_id}{item_id}"])
def test_universalrag_refuses_a_path_that_tells_no_items_apart(tmp_path, path):
    with pytest.raises(UsageError, match="path"):
        export(
            make_input("universalrag", IDS), Request("universalrag", tmp_path / "out", options={"path": path})
        )


def test_universalrag_refuses_what_it_could_not_add_up(tmp_path):
    data = make_input("universalrag", IDS)
    both = FeatureSet(IDS, {**data.features.columns, "caption": column(IDS, "caption", dims=16)})
    with pytest.raises(UsageError, match="have 8 and 16 dims"):
        export(
            replace(data, features=both),
            Request("universalrag", tmp_path / "out", features=every_role("universalrag")),
        )


def test_universalrags_texts_have_no_captions(tmp_path):
    request = Request(
        "universalrag", tmp_path / "out", features=every_role("universalrag"), options={"modality": "text"}
    )
    with pytest.raises(UsageError, match="A text has no caption"):
        export(make_input("universalrag", IDS), request)


# -- CLaMR


def test_clamr_lists_frames_and_leaves_out_what_a_video_lacks(tmp_path):
    data = make_input("clamr", IDS, WITHOUT_B)
    options = {"split": "train", "frames": 2, "frame": "toys/{item_id}-{frame}.png"}
    export(data, Request("clamr", tmp_path / "toys", features={"asr": "asr"}, options=options))
    with pa.memory_map(str(next((tmp_path / "toys" / "train").glob("*.arrow")))) as file:
        rows = pa.ipc.open_stream(file).read_all().to_pylist()
    assert [row["asr"] for row in rows[:3]] == ["asr of a", None, "asr of c"]
    nothing = {"query": None, "query_type": None, "ocr": None, "description": None}
    assert rows[0].items() >= (nothing | {"video_id": "a", "title": "Title of a"}).items()
    assert rows[0]["images"] == ["toys/a-0.png", "toys/a-1.png"]
    assert verify(tmp_path / "toys").ok


@pytest.mark.parametrize("bad", [{"frames": -1}, {"frame": "{item_id}.jpg"}, {"frame": "{frame}.jpg"}])
def test_clamr_refuses_frames_that_tell_nothing_apart(tmp_path, bad):
    with pytest.raises(UsageError, match="frame"):
        export(
            make_input("clamr", IDS),
            Request("clamr", tmp_path / "out", features=every_role("clamr"), options=bad),
        )


# -- HM4SR

GENRES = pa.table(
    {
        "item_id": IDS,
        "categories": [["toys", "red"], ["red"], [], None, ["toys"], ["ü"]],
        "brand": ["A", "B", "A", None, "B", "A"],
        "price": [1.0] * 6,
    }
)


def hm4sr(out, met, **options):
    data = replace(make_input("hm4sr", IDS, interactions=met), items=GENRES)
    return export(data, Request("hm4sr", out, options=options))


def test_hm4sr_gets_ones_at_each_items_categories(tmp_path):
    hm4sr(tmp_path / "lists", make_interactions(IDS))
    marks = torch.load(tmp_path / "lists" / "cat.pt")
    # toys, red and ü; the pad row and items without any are zeros.
    assert marks.tolist() == [[0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    hm4sr(tmp_path / "texts", make_interactions(IDS), categories="brand")
    marks = torch.load(tmp_path / "texts" / "cat.pt")
    assert marks.tolist() == [[0, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("field", "why"), [("category", "the items have none"), ("price", "No item has a text")]
)
def test_hm4sr_refuses_categories_that_there_are_not_and_says_which_there_are(tmp_path, field, why):
    with pytest.raises(UsageError, match=why) as caught:
        hm4sr(tmp_path / "out", make_interactions(IDS), categories=field)
    assert "--option categories=FIELD" in caught.value.hint


def test_hm4sr_has_a_place_for_the_longest_time_between_two_interactions_of_a_user(tmp_path):
    met = interactions(
        *[("u", i, k) for k, i in enumerate("abcdef")], ("v", "a", 1), ("v", "b", 31), ("v", "c", 33)
    )
    hm4sr(tmp_path / "out", met)
    with (tmp_path / "out" / "interval_num").open("rb") as file:
        place = pickle.load(file)
    times = torch.tensor([DAY // 1000, 31 * DAY // 1000], dtype=torch.float)
    assert place >= torch.log2(times[1:] - times[:-1] + 1).item()
    assert place == pytest.approx(np.log2(30 * 86_400 + 1))


def test_hm4sr_is_told_to_leave_no_user_or_item_out(tmp_path):
    import yaml

    hm4sr(tmp_path / "out", make_interactions(IDS))
    found = yaml.safe_load((tmp_path / "out" / "out.yaml").read_text())
    assert found == {"user_inter_num_interval": "[1,inf)", "item_inter_num_interval": "[1,inf)"}


def test_an_hm4sr_file_that_was_sorted_by_time_fails_verify(tmp_path):
    met = interactions(("u", "c", 1), ("u", "a", 2), ("u", "b", 3))
    hm4sr(tmp_path / "toys", met)
    path = tmp_path / "toys" / "toys.inter"
    frame = pd.read_csv(path, sep="\t").sort_values("timestamp:float")
    frame.to_csv(path, sep="\t", index=False)
    assert {p.kind: p.count for p in verify(tmp_path / "toys").problems} == {"file": 1, "echo": 6}
