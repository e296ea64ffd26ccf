"""What an export refuses and records: missing items, roles, ids, folders, manifest."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.echo import OPTIONS, column, every_role, expected, make_input, make_interactions, spec, value
from helpers.export_readers import READERS

from mmfeat.export import ExportInput, Request, export, get, listing, names, verify
from mmfeat.export.files import digest
from mmfeat.export.missing import answers_of
from mmfeat.export.roles import medium_of
from mmfeat.export.select import quantize
from mmfeat.schemas.errors import OutputError, UnknownItems, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.inputs import Input

IDS = ["a", "b", "c", "d"]
WITHOUT_B = [True, False, True, True]


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


# -- missing items


@pytest.mark.parametrize("format", ["npy", "mmrec", "recbole", "lc-rec", "parquet", "safetensors"])
def test_mean_gives_an_item_the_mean_of_those_that_have_the_feature(tmp_path, format):
    data = make_input(format, IDS, WITHOUT_B)
    vectors = {n: c for n, c in data.features.items() if getattr(c.values, "dtype", None) == np.float32}
    data = replace(data, features=FeatureSet(IDS, vectors))
    export(data, Request(format, tmp_path / "out", missing="mean"))
    role, (name, _) = next(iter(manifest_of(tmp_path / "out")["features"])), next(iter(vectors.items()))
    read = np.load(tmp_path / "out" / f"{role}.npy") if format == "npy" else None
    mean = np.mean([value(i, "vector", name) for i in "acd"], axis=0).astype(np.float32)
    if read is not None:
        np.testing.assert_array_equal(read[1], mean)
        np.testing.assert_array_equal(read[2], value("c", "vector", name))
    roles = list(manifest_of(tmp_path / "out")["features"])
    assert manifest_of(tmp_path / "out")["missing"] == {
        "policy": dict.fromkeys(roles, "mean"),
        "items": {role: ["b"] for role in roles},
    }
    assert verify(tmp_path / "out").ok


def test_mmrec_lists_the_items_whose_image_was_filled_in(tmp_path):
    export(make_input("mmrec", IDS, WITHOUT_B), Request("mmrec", tmp_path / "out"))
    assert (tmp_path / "out" / "missed_img_itemIDs.csv").read_text() == "1\n"


def test_zero_mask_and_drop_do_what_they_say(tmp_path):
    data = ExportInput(FeatureSet(IDS, {"f": column(IDS, "f", mask=WITHOUT_B)}), make_input("npy", IDS).items)
    for policy in ("zero", "mask", "drop"):
        export(data, Request("npy", tmp_path / policy, missing=policy))
    assert not np.load(tmp_path / "zero" / "f.npy")[1].any()
    assert np.isnan(np.load(tmp_path / "mask" / "f.npy")[1]).all()
    assert np.load(tmp_path / "mask" / "f.mask.npy").tolist() == WITHOUT_B
    assert json.loads((tmp_path / "drop" / "ids.json").read_text()) == ["a", "c", "d"]
    assert manifest_of(tmp_path / "drop")["missing"] == {"policy": {"f": "drop"}, "items": {"f": ["b"]}}


def test_error_names_the_items_and_what_to_do(tmp_path):
    data = make_input("npy", IDS, WITHOUT_B)
    with pytest.raises(UsageError, match=r"1 of 4 items lack .*'b' \(missing\)") as caught:
        export(data, Request("npy", tmp_path / "out"))
    assert "--missing" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", names())
def test_a_hint_offers_only_what_the_format_takes_for_these_features(tmp_path, format):
    data, settings = make_input(format, IDS, WITHOUT_B), {"features": every_role(format)}
    for policy in [one for one in ("error", "mean", "zero") if one in get(format).missing]:
        refused = refusal(data, Request(format, tmp_path / policy, missing=policy, **settings))
        _, _, choice = ((refused and refused.hint) or "").partition("--missing ")
        for word in set(re.findall(r"\w+(?:=\w+(?:,\w+=\w+)*)?", choice)) - {"or"}:
            asked = dict(pair.split("=") for pair in word.split(",")) if "=" in word else word
            role, _, other = word.split(",")[-1].rpartition("=")
            assert other in get(format).missing and asked != policy
            again = refusal(data, Request(format, tmp_path / f"{policy}-{word}", missing=asked, **settings))
            # What these ids cannot be is another matter, and so is what another role lacks.
            alone = re.escape(role) if role else ""
            assert again is None or not re.search(
                f"cannot take|({alone}.*)(filled in|no mean|lack)", again.message
            )


def refusal(data, request):
    try:
        export(data, request)
    except UsageError as error:
        return error
    return None


def test_a_choice_is_offered_with_every_role_so_that_none_is_lost(tmp_path):
    data = make_input("mmrec", IDS)
    covers = {name: column(IDS, name) for name in ("cover_a", "cover_b")}
    data = replace(data, features=FeatureSet(IDS, {**covers, "words": column(IDS, "words", source="title")}))
    with pytest.raises(UsageError, match="Several features fit mmrec's image") as caught:
        export(data, Request("mmrec", tmp_path / "out"))
    assert caught.value.hint == "Choose one: --features image=cover_a,text=words."
    chosen = dict(pair.split("=") for pair in caught.value.hint.rstrip(".").split()[-1].split(","))
    made = export(data, Request("mmrec", tmp_path / "out", features=chosen))
    assert sorted(made.features) == ["image", "text"]


@pytest.mark.parametrize(
    ("format", "policy", "why"), [("mmrec", "zero", "NaN"), ("recbole", "mask", "zeros")]
)
def test_a_policy_that_the_target_cannot_take_is_refused_with_the_reason(tmp_path, format, policy, why):
    with pytest.raises(UsageError, match=f"--missing {policy}: .*{why}"):
        export(make_input(format, IDS), Request(format, tmp_path / "out", missing=policy))


def words_and_pictures(image_mask, words_mask):
    """dgvae's three features, of which some items lack the picture, others the words."""
    data = make_input("dgvae", IDS)
    lacking = {"image": column(IDS, "image", mask=image_mask)}
    lacking["words"] = column(IDS, "words", "text", "title", mask=words_mask)
    return replace(data, features=FeatureSet(IDS, {**data.features, **lacking}))


def by_role(out, missing):
    return Request("dgvae", out, missing=missing, options=OPTIONS["dgvae"])


def test_each_role_follows_its_own_policy_and_the_manifest_says_what_was_done_with_which_ids(tmp_path):
    data = words_and_pictures([False, True, True, True], WITHOUT_B)
    report = export(data, by_role(tmp_path / "out", {"image": "mean", "words": "drop"}))
    assert report.items == 3
    assert report.policies == {"image": "mean", "text": "error", "words": "drop"}
    assert manifest_of(tmp_path / "out")["missing"] == {
        "policy": report.policies,
        "items": {"image": ["a"], "words": ["b"]},
    }
    mean = np.mean([value(i, "vector", "image") for i in "cd"], axis=0).astype(np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "image_feat.npy")[0], mean)
    assert verify(tmp_path / "out").ok


def test_an_empty_text_stands_for_a_missing_one_where_that_is_asked_for(tmp_path):
    data = words_and_pictures([True] * 4, WITHOUT_B)
    export(data, by_role(tmp_path / "out", {"words": "empty"}))
    texts = json.loads((tmp_path / "out" / "item_texts.json").read_text())
    assert texts == ["words of a", "", "words of c", "words of d"]
    assert manifest_of(tmp_path / "out")["missing"]["items"] == {"words": ["b"]}
    assert verify(tmp_path / "out").ok


@pytest.mark.parametrize("format", ["npy", "parquet", "hf", "feast"])
def test_the_generic_formats_hold_empty_texts_and_null_codes_beside_mean_vectors(tmp_path, format):
    data = make_input(format, IDS, WITHOUT_B)
    asked = {"the_vector": "mean", "the_text": "empty", "the_codes": "mask"}
    chosen = [name for name in data.features if name in asked]
    data = replace(data, features=FeatureSet(IDS, {name: data.features[name] for name in chosen}))
    export(data, Request(format, tmp_path / "out", missing=asked))
    found = READERS[format](tmp_path / "out")
    assert found["the_text"]["b"] == "" and set(found["the_codes"]) == {"a", "c", "d"}
    mean = np.mean([value(i, "vector", "the_vector") for i in "acd"], axis=0)
    np.testing.assert_allclose(found["the_vector"]["b"], mean, rtol=1e-6)
    assert verify(tmp_path / "out").ok


def test_an_error_names_the_role_its_items_and_the_choices_for_it(tmp_path):
    data = words_and_pictures([False, True, True, True], WITHOUT_B)
    with pytest.raises(UsageError, match=r"1 of 3 items lack image@\w+: 'a' \(missing\)") as caught:
        export(data, by_role(tmp_path / "out", {"words": "drop"}))
    assert caught.value.hint.endswith("or choose --missing image=drop or image=mean.")
    with pytest.raises(UsageError, match=r"1 of 4 items lack words@\w+: 'b'") as caught:
        export(data, by_role(tmp_path / "out", {"image": "mean"}))
    assert caught.value.hint.endswith("or choose --missing words=drop or words=empty.")


def test_a_policy_that_suits_all_but_one_role_is_offered_with_another_for_that_one(tmp_path):
    data = words_and_pictures([False, True, True, True], WITHOUT_B)
    why = r"words is a text feature, which cannot be filled in by mean: 1 items lack it, 'b' \(missing\)"
    with pytest.raises(UsageError, match=why) as caught:
        export(data, by_role(tmp_path / "out", "mean"))
    offer = "image=mean,text=mean,words=empty"
    assert caught.value.hint.endswith(f"choose --missing drop or {offer}.")
    export(data, by_role(tmp_path / "out", dict(pair.split("=") for pair in offer.split(","))))


@pytest.mark.parametrize(
    ("asked", "why", "hint"),
    [
        (
            {"words": "mean"},
            "--missing words=mean: texts have no mean",
            "For words it takes: error, drop, empty",
        ),
        ({"image": "empty"}, "--missing image=empty: only a text can be empty", "error, drop, mean"),
        ({"image": "zero"}, "--missing image=zero: .*NaN", "error, drop, mean"),
        ({"image": "mene"}, "no missing policy 'mene'", "There are: mask"),
        (
            {"pictures": "mean"},
            "about 'pictures', and dgvae reads no such thing",
            "It reads: image, text, words",
        ),
    ],
)
def test_a_policy_that_does_not_fit_a_role_is_refused_with_the_reason_and_the_choices(
    tmp_path, asked, why, hint
):
    with pytest.raises(UsageError, match=why) as caught:
        export(words_and_pictures([True] * 4, WITHOUT_B), by_role(tmp_path / "out", asked))
    assert hint in caught.value.hint


def test_a_policy_for_a_role_that_is_not_exported_is_refused(tmp_path):
    data = make_input("mmhcl", IDS)
    request = Request("mmhcl", tmp_path / "out", ["image", "text"], missing={"audio": "mean"})
    with pytest.raises(UsageError, match="about 'audio', which is not exported"):
        export(data, request)


@pytest.mark.parametrize("policy", ["mean", "zero"])
@pytest.mark.parametrize("kind", ["codes", "text"])
def test_codes_and_texts_are_never_made_up(tmp_path, kind, policy):
    data = ExportInput(
        FeatureSet(IDS, {"f": column(IDS, "f", kind, mask=WITHOUT_B)}), make_input("npy", IDS).items
    )
    with pytest.raises(UsageError, match=f"{kind} feature, which cannot be filled in by {policy}"):
        export(data, Request("npy", tmp_path / "out", missing=policy))


def test_mmrec_gets_no_zero_row_even_where_the_store_holds_one(tmp_path):
    data = make_input("mmrec", IDS)
    data.features["image"].matrix[2] = 0
    with pytest.raises(UsageError, match=r"all zeros.*'c'"):
        export(data, Request("mmrec", tmp_path / "out"))


def test_a_row_that_is_not_finite_is_refused_by_name(tmp_path):
    data = make_input("npy", IDS)
    data.features["the_vector"].matrix[3, 1] = np.inf
    with pytest.raises(UsageError, match=r"NaN or infinity.*'d'"):
        export(data, Request("npy", tmp_path / "out"))


# -- features and roles


def features(**columns):
    return FeatureSet(
        IDS, {name: column(IDS, name, kind, source) for name, (kind, source) in columns.items()}
    )


def mmrec_input(set_of):
    return ExportInput(set_of, make_input("npy", IDS).items, make_interactions(IDS))


def test_a_role_is_guessed_from_what_the_feature_reads(tmp_path):
    found = features(
        caption=("text", "cover"),
        caption_text=("vector", "caption"),
        clip=("vector", "video"),
        tone=("vector", "audio"),
    )
    report = export(mmrec_input(found), Request("mmrec", tmp_path / "out"))
    assert report.features == {
        "image": found["clip"].spec.version,
        "text": found["caption_text"].spec.version,
    }


@pytest.mark.parametrize("format", ["dff", "ducho", "elliot", "mmgrec", "mmhcl"])
def test_pictures_are_never_exported_as_sounds_without_being_told_to(tmp_path, format):
    ids = [str(number) for number in range(1, 7)]
    data = make_input(format, ids)
    roles = {role.name: role.name for role in get(format).roles}
    picture = replace(data.features["audio"], spec=spec("audio", "vector", "video"))
    swapped = replace(data, features=FeatureSet(ids, {**data.features.columns, "audio": picture}))
    with pytest.raises(UsageError, match="audio is read from sound, and audio was read from pictures") as no:
        export(swapped, Request(format, tmp_path / "out", features=roles))
    assert "--force-role" in no.value.hint
    export(swapped, Request(format, tmp_path / "forced", features=roles, force_role=True))
    text = replace(picture, spec=spec("audio", "vector", "description"))
    told = replace(data, features=FeatureSet(ids, {**data.features.columns, "audio": text}))
    export(told, Request(format, tmp_path / "told", features=roles))


def test_two_features_for_one_role_are_never_chosen_between(tmp_path):
    found = mmrec_input(features(clip=("vector", "cover"), dino=("vector", "cover")))
    with pytest.raises(UsageError, match="clip, dino") as caught:
        export(found, Request("mmrec", tmp_path / "out"))
    assert "image=clip" in caught.value.hint
    report = export(found, Request("mmrec", tmp_path / "out", features={"image": "dino"}))
    assert list(report.features) == ["image"]
    export(found, Request("mmrec", tmp_path / "again", features=["clip"]))


@pytest.mark.parametrize(
    ("format", "chosen", "why"),
    [
        ("mmrec", {"image": "nothing"}, "no feature 'nothing'"),
        ("mmrec", {"audio": "the_vector"}, "reads no 'audio'"),
        ("mmrec", {"image": "the_text"}, "is a vector feature, and the_text is of the kind text"),
        ("npy", {"image": "the_vector"}, "under their own names"),
        ("safetensors", ["the_text"], "the_text is of the kind text"),
        ("recbole", ["the_text"], "needs a vector feature for item"),
    ],
)
def test_a_feature_that_does_not_fit_is_refused_with_the_reason_and_what_to_do(tmp_path, format, chosen, why):
    data = replace(make_input("npy", IDS), interactions=make_interactions(IDS))
    with pytest.raises(UsageError, match=why) as refusal:
        export(data, Request(format, tmp_path / "out", features=chosen))
    assert refusal.value.hint


def test_quantised_vectors_go_out_as_int8_with_their_scale_or_not_at_all(tmp_path):
    small = quantize(features(f=("vector", "cover")), "f")
    data = mmrec_input(small)
    export(data, Request("npy", tmp_path / "out", items=["d", "a"]))
    scale = np.load(tmp_path / "out" / "f.0.quantize.npz")["scale"]
    found = np.load(tmp_path / "out" / "f.npy")
    assert found.dtype == np.int8
    np.testing.assert_allclose(found[0] * scale[0], value("d", "vector", "f"), atol=scale[0] / 2)
    with pytest.raises(UsageError, match="without a scale"):
        export(data, Request("mmrec", tmp_path / "no"))


# -- ids, items, options


def test_recbole_refuses_tokens_that_its_reader_would_mangle(tmp_path):
    with pytest.raises(UsageError, match="'NA'") as caught:
        export(make_input("recbole", ["1", "NA"]), Request("recbole", tmp_path / "out"))
    assert "ids=index" in caught.value.hint
    export(make_input("recbole", ["1", "NA"]), Request("recbole", tmp_path / "out", options={"ids": "index"}))
    assert set(READERS["recbole"](tmp_path / "out")["item"]) == {"1", "NA"}


def _lines(path, column=0):
    return {line.split("\t")[column] for line in path.read_text().splitlines()[1:]}


# Where each format's files name items, and users, by what they are called.
NAMED = {
    "cornac": (
        lambda out: json.loads((out / "ids.json").read_text()),
        lambda out: {line.split("\t")[0] for line in (out / "interactions.tsv").read_text().splitlines()},
    ),
    "ducho": (lambda out: [p.stem for p in (out / "visual_embeddings").rglob("*.npy")], None),
    "hllm": (
        lambda out: pd.read_csv(out / "information" / "out.csv")["item_id"],
        lambda out: set(pd.read_csv(out / "dataset" / "out.csv")["user_id"]),
    ),
    "iisan": (lambda out: [p.stem[4:] for p in (out / "vit_outputs").iterdir()], None),
    "mllm-msr": (lambda out: pd.read_csv(out / "image_summary.csv")["item_id"], None),
    "mmctr": (lambda out: pq.read_table(out / "item_info.parquet")["item_id"].to_pylist()[1:], None),
    "muse": (lambda out: np.load(out / "scl_emb_int8_p90_keys.npy").tolist(), None),
    "pixelrec": (
        lambda out: {
            line.split(",")[0].strip('"') for line in (out / "out.csv").read_text().splitlines()[1:]
        },
        lambda out: {
            line.split(",")[1].strip('"') for line in (out / "out.csv").read_text().splitlines()[1:]
        },
    ),
    "recbole": (lambda out: _lines(out / "out.itememb"), lambda out: _lines(out / "out.inter")),
}


def test_every_format_with_numbered_ids_is_tried():
    assert set(NAMED) == {name for name in names() if "ids" in get(name).options.model_fields}


@pytest.mark.parametrize("format", NAMED)
def test_numbered_ids_are_those_of_the_map_and_the_manifest_says_where_they_begin(tmp_path, format):
    data = make_input(format, IDS)
    export(data, Request(format, tmp_path / "out", features=every_role(format), options={"ids": "index"}))
    items, users = NAMED[format]
    made = manifest_of(tmp_path / "out")
    wanted = pq.read_table(tmp_path / "out" / "id_map.parquet")
    assert wanted["item_id"].to_pylist() == IDS
    assert wanted["internal_id"].to_pylist() == list(range(made["id_base"], made["id_base"] + 4))
    assert sorted(map(int, items(tmp_path / "out"))) == wanted["internal_id"].to_pylist()
    if users:
        numbers = pq.read_table(tmp_path / "out" / "user_map.parquet")["internal_id"].to_pylist()
        assert sorted(map(int, users(tmp_path / "out"))) == numbers and numbers[0] == made["user_base"]
    assert verify(tmp_path / "out").ok


def test_an_export_of_an_earlier_version_whose_map_has_no_numbers_still_echoes(tmp_path):
    export(make_input("cornac", IDS), Request("cornac", tmp_path / "out", options={"ids": "index"}))
    table = pq.read_table(tmp_path / "out" / "id_map.parquet").drop_columns(["internal_id"])
    pq.write_table(table, tmp_path / "out" / "id_map.parquet")
    assert {problem.kind for problem in verify(tmp_path / "out").problems} == {"file"}


def test_items_are_exported_in_the_order_asked_and_unknown_ones_named(tmp_path):
    export(make_input("npy", IDS), Request("npy", tmp_path / "out", items=["c", "a"]))
    assert json.loads((tmp_path / "out" / "ids.json").read_text()) == ["c", "a"]
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "the_vector.npy")[0], value("c", "vector", "the_vector")
    )
    with pytest.raises(UnknownItems, match="'z'"):
        export(make_input("npy", IDS), Request("npy", tmp_path / "no", items=["a", "z"]))


def test_an_option_that_a_format_lacks_is_refused_with_those_it_has(tmp_path):
    with pytest.raises(UsageError, match="plm: ") as caught:
        export(make_input("recbole", IDS), Request("recbole", tmp_path / "out", options={"plm": "x"}))
    assert caught.value.hint == "It takes: ids."


def test_an_unknown_format_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="'mmrek'") as caught:
        export(make_input("npy", IDS), Request("mmrek", tmp_path / "out"))
    assert "Did you mean 'mmrec' " in caught.value.hint


def test_the_listing_says_what_each_format_needs():
    rows = {row.name: row for row in listing()}
    assert list(rows) == names()
    mmrec = rows["mmrec"]
    assert (mmrec.features, mmrec.interactions, mmrec.missing[0]) == ("image?, text?", "required", "mean")
    assert "FREEDOM" in mmrec.systems
    assert rows["recbole"].options == ("ids=raw",)


def test_every_policy_is_taken_or_refused_for_a_stated_reason():
    for name in names():
        exporter = get(name)
        assert exporter.missing, name
        assert not set(exporter.missing) & set(exporter.refusals), name
        for kind in {role.kind for role in exporter.roles} or exporter.kinds:
            assert answers_of(exporter, kind), (name, kind)


# -- the folder


def test_a_folder_with_cached_graphs_is_refused_by_their_names(tmp_path):
    (tmp_path / "mm_adj_freedomdsp_10_1.pt").touch()
    with pytest.raises(UsageError, match=r"mm_adj_freedomdsp_10_1\.pt.*hyper-parameters"):
        export(make_input("mmrec", IDS), Request("mmrec", tmp_path))


def test_a_used_folder_is_refused_and_an_empty_one_filled(tmp_path):
    export(make_input("npy", IDS), Request("npy", tmp_path))
    with pytest.raises(UsageError, match="not empty"):
        export(make_input("npy", IDS), Request("npy", tmp_path))


def test_a_failed_export_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="disk full"):
        export(make_input("npy", IDS), Request("npy", tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_link_to_an_empty_folder_is_filled_under_the_links_name(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "toys").symlink_to(tmp_path / "real")
    export(make_input("mmrec", IDS), Request("mmrec", tmp_path / "toys"))
    assert (tmp_path / "toys" / "toys.inter").exists()
    assert verify(tmp_path / "toys").ok


def test_the_manifest_says_what_made_every_feature_and_digests_every_file(tmp_path):
    data = replace(make_input("mmrec", IDS), snapshot="june")
    export(data, Request("mmrec", tmp_path / "toys", split="leave-one-out", seed=7))
    found = manifest_of(tmp_path / "toys")
    image = found["features"]["image"]
    assert image["fingerprint"] == data.features["image"].spec.fingerprint
    assert image["spec"]["model"] == "Some/Model-B"
    assert image["exported"] == {"dtype": "float32", "shape": [8], "rows": 4}
    assert (found["format"], found["dataset"], found["snapshot"], found["seed"]) == (
        "mmrec",
        "sample",
        "june",
        7,
    )
    assert (found["id_base"], found["pad_row"], found["items"]) == (0, False, 4)
    assert found["interactions"]["split"] == {
        "rule": "leave-one-out",
        "seed": 7,
        "train": 8,
        "valid": 4,
        "test": 4,
    }
    on_disk = {
        p.relative_to(tmp_path / "toys").as_posix() for p in (tmp_path / "toys").rglob("*") if p.is_file()
    }
    assert set(found["files"]) == on_disk - {"manifest.json"}
    for name, entry in found["files"].items():
        assert entry == {
            "sha256": digest(tmp_path / "toys" / name),
            "bytes": (tmp_path / "toys" / name).stat().st_size,
        }
    assert pq.read_table(tmp_path / "toys" / "id_map.parquet").to_pylist()[1] == {
        "item_id": "b",
        "internal_id": 1,
    }
    assert pq.read_table(tmp_path / "toys" / "user_map.parquet")["user_id"].to_pylist()[0] == "user 0"


def test_verify_tells_files_that_came_later(tmp_path):
    export(make_input("mmrec", IDS), Request("mmrec", tmp_path / "toys"))
    (tmp_path / "toys" / "mm_adj_freedomdsp_10_1.pt").touch()
    report = verify(tmp_path / "toys")
    assert (report.ok, report.unlisted) == (True, ("mm_adj_freedomdsp_10_1.pt",))


def test_verify_refuses_what_is_no_export(tmp_path):
    with pytest.raises(UsageError, match="no export"):
        verify(tmp_path)


def test_mmrecs_configuration_is_what_its_loader_asks_for(tmp_path):
    import yaml

    export(make_input("mmrec", IDS), Request("mmrec", tmp_path / "toys"))
    config = yaml.safe_load((tmp_path / "toys" / "configs" / "dataset" / "toys.yaml").read_text())
    assert config["inter_file_name"] == "toys.inter"
    assert config["field_separator"] == "\t"
    assert (tmp_path / "toys" / config["vision_feature_file"]).exists()
    assert (tmp_path / "toys" / "toys.inter").read_text().splitlines()[
        0
    ] == "userID\titemID\trating\ttimestamp\tx_label"


def test_float16_features_reach_mmrec_as_float32(tmp_path):
    data = make_input("mmrec", IDS)
    half = replace(data.features["image"], values=data.features["image"].matrix.astype(np.float16))
    data = replace(data, features=FeatureSet(IDS, {"image": half}))
    export(data, Request("mmrec", tmp_path / "out"))
    assert np.load(tmp_path / "out" / "image_feat.npy").dtype == np.float32
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "image_feat.npy")[0], expected("mmrec", IDS)["image"]["a"]
    )


def test_a_column_with_too_few_rows_is_refused_before_anything_is_written(tmp_path):
    short = replace(column(IDS, "f"), values=np.ones((3, 8), np.float32))
    data = ExportInput(FeatureSet(IDS, {"f": short}), make_input("npy", IDS).items)
    with pytest.raises(UsageError, match="not one for each item"):
        export(data, Request("npy", tmp_path / "out"))
    assert spec("f").version in str(short.spec.version)


@pytest.mark.parametrize(
    ("inputs", "medium"),
    [
        ([("photos", "image")], "image"),
        ([("reel", "video")], "image"),
        ([("reel.sound", "audio")], "audio"),
        ([("brand", "text"), ("title", "text")], "text"),
        ([("brand", "text"), ("photos", "image")], "mixed"),
    ],
)
def test_a_features_medium_is_the_modality_of_what_it_reads_whatever_that_is_called(inputs, medium):
    reads = tuple(Input(source=source, modality=modality) for source, modality in inputs)
    made = column(["a"], "f")
    assert medium_of(replace(made, spec=made.spec.model_copy(update={"inputs": reads}))) == medium
