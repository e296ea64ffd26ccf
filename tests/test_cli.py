"""The command line: readable for people, JSON for machines, exit codes that mean something."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import unrayed
from helpers.plugins import on_path

import mmfeat


@pytest.fixture
def store(world) -> Path:
    return world / "store"


def test_status_shows_every_version_and_its_counts(run, store):
    code, out, _ = run("status", "--store", store)
    assert code == 0
    for line in ("clip@", "dino@", "caption@", "caption_clip@"):
        assert line in out
    assert "56 items" in out
    _, out, _ = run("status", "--store", store, "--json")
    body = json.loads(out)
    assert body["items"] == 56
    assert {f["version"].partition("@")[0]: f["ok"] for f in body["features"]} == {
        "clip": 56, "dino": 56, "caption": 56, "caption_clip": 56,
    }  # fmt: skip


def test_lookup_gives_machines_the_whole_vectors_in_the_order_asked(run, store):
    code, out, _ = run("lookup", "item-005", "item-001", "--feature", "clip", "--store", store, "--json")
    body = json.loads(out)
    assert (code, body["ids"]) == (0, ["item-005", "item-001"])
    expected = mmfeat.open(store).lookup(["item-005", "item-001"], ["clip"])["clip"].matrix
    np.testing.assert_allclose(body["features"]["clip"]["values"], expected, rtol=1e-6)


def test_lookup_shows_people_the_caption(run, store, scenes):
    code, out, _ = run("lookup", "item-000", "--feature", "caption", "--store", store)
    assert code == 0
    assert scenes[0].colour in out and scenes[0].shape in out


def test_search_by_text_item_and_picture(run, store, world, scenes):
    _, out, _ = run(
        "search", "--feature", "clip", "--text", scenes[9].caption, "-k", 3, "--store", store, "--json"
    )
    assert "item-009" in [hit["item_id"] for hit in json.loads(out)]
    code, out, _ = run("search", "--feature", "clip", "--item", "item-009", "-k", 2, "--store", store)
    assert code == 0 and len(out.strip().splitlines()) == 3
    picture = world / "media" / "covers" / "item-009.png"
    _, out, _ = run("search", "--feature", "clip", "--image", picture, "-k", 1, "--store", store, "--json")
    assert json.loads(out)[0]["item_id"] == "item-009"


def test_a_search_through_an_index_finds_the_same_picture(run, store, scenes, tmp_path):
    indexed = shutil.copytree(store, tmp_path / "indexed")
    code, out, _ = run("index", "clip", "--store", indexed)
    assert code == 0 and "clip@" in out and "of the true ten nearest found" in out
    search = ("search", "--feature", "clip", "--text", scenes[9].caption, "-k", 5, "--json", "--store")
    exact, approximate = (json.loads(run(*search, place)[1]) for place in (store, indexed))
    assert approximate[0]["item_id"] == exact[0]["item_id"]
    _, _, err = run(*search, indexed)
    assert "approximate, with 100 % of the true ten nearest found" in err
    code, out, err = run(*search, indexed, "--exact")
    assert json.loads(out) == exact and "approximate" not in err
    _, out, _ = run("index", "clip", "--target-recall", 0.9, "--store", indexed, "--json")
    assert json.loads(out)["target_recall"] == 0.9
    code, _, err = run("index", "clip", "--target-recall", 98, "--store", indexed)
    assert code == 2 and "--target-recall" in err and "less than or equal to 1" in err
    code, _, err = run("index", "caption", "--store", indexed)
    assert code == 2 and "no vector feature" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["status", "--store", "nowhere"], 1, "nowhere"),
        (["lookup", "nope", "--store", "STORE"], 2, "'nope'"),
        (["lookup", "item-001", "--feature", "clap", "--store", "STORE"], 2, "clap"),
        (["search", "--feature", "clip", "--store", "STORE"], 2, "exactly one of"),
        (["search", "--feature", "clip", "--image", "no.jpg", "--store", "STORE"], 2, "no.jpg"),
        (
            ["search", "--feature", "dino", "--text", "x", "--store", "STORE"],
            2,
            "cannot be searched by a text",
        ),
        (["extract", "--dataset", "microlense"], 2, "microlens"),
        (["extract", "--dataset", "folder"], 2, "--root"),
        (["extract", "--dataset", "folder", "--root", "nowhere"], 2, "nowhere"),
        (["extract", "--dataset", "sample", "--preset", "ofline"], 2, "offline"),
        (["extract", "--dataset", "sample", "--features", "clap"], 2, "clap"),
        (["extract", "--dataset", "sample", "--max-failed", "7"], 2, "--max-failed"),
        (["extract", "--dataset", "sample", "-o", "x"], 2, "KEY=VALUE"),
        (["run", "job.toml"], 2, "job.toml"),
        (["datasets", "check", "folder", "--root", "nowhere"], 2, "nowhere"),
        (["presets", "show", "big"], 2, "There are: offline, paper, small"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do_and_no_traceback(run, store, words, code, says):
    got, _, err = run(*[store if word == "STORE" else word for word in words])
    assert got == code
    assert says in err
    assert "Traceback" not in err


def test_machines_get_errors_as_json_too(run, store):
    code, out, _ = run("lookup", "nope", "--store", store, "--json")
    assert code == 2
    assert json.loads(out)["error"]["type"] == "UnknownItems"


HEAD = '[store]\nuri = "s"\n[dataset]\nname = "sample"\n'
TITLE = 'source = "title"\nencoder = '


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[store]\nuri = 3\n", "store.uri"),
        ("not toml", "not valid TOML"),
        (f'{HEAD}[features.X]\n{TITLE}"open_clip"', "features"),
        (f'{HEAD}[features.x]\n{TITLE}"opn_clip"', "open_clip"),
        (f'{HEAD}[features.x]\n{TITLE}"open_clip"\ncolour = 3', "colour"),
    ],
)
def test_a_wrong_job_file_is_answered_with_the_key_at_fault(run, tmp_path, text, says):
    (tmp_path / "job.toml").write_text(text)
    code, _, err = run("run", "job.toml")
    assert code == 2
    assert says in err


def test_an_executor_is_taken_by_name_and_the_small_one_for_little_work(run, tmp_path):
    unrayed.write_dataset(tmp_path / "items.csv", 0)
    (tmp_path / "digest.toml").write_text('[features.digest]\nsource = "title"\nencoder = "digest"\n')
    extract = ("extract", "--dataset", "table", "--root", "items.csv", "--config", "digest.toml")
    with on_path(unrayed.PLUGIN):
        for store, words in (("named", ("--executor", "local")), ("auto", ())):
            code, _, err = run(*extract, "--store", store, *words)
            assert code == 0, err
            (record,) = mmfeat.open(store).runs()
            log = mmfeat.open(store).run_log(record["run_id"])
            assert "computed by the executor local" in [line for _, line in log]
        code, _, err = run(*extract, "--store", "two", "--executor", "local", "--workers", "2")
        assert (code, "cannot run this job: it wants 2 workers" in err) == (2, True)
        code, _, err = run(*extract, "--store", "none", "--executor", "spark")
        assert (code, "'auto', 'local', 'ray'" in err) == (2, True)


JOB = """
[dataset]
name = "table"
root = "items.csv"
[dataset.options]
title = "title"
[store]
uri = "of_the_file"
[resources]
executor = "local"
[run]
limit = 5
[gates]
min_coverage = 1.0
[features.digest]
source = "title"
encoder = "digest"
"""


def test_extract_takes_what_its_file_says_and_flags_go_before_it(run, tmp_path):
    (tmp_path / "jobs").mkdir()
    unrayed.write_dataset(tmp_path / "jobs" / "items.csv", 0)
    (tmp_path / "jobs" / "job.toml").write_text(JOB)
    extract = ("extract", "--config", "jobs/job.toml")
    with on_path(unrayed.PLUGIN):
        code, out, err = run(*extract)
        assert code == 0, err
        assert "5 items of 'table'" in out
        assert "[dataset], [store], [resources], [run]" in err and "[gates] only for `mmfeat run" in err
        assert len(mmfeat.open(tmp_path / "jobs" / "of_the_file").ids) == 5
        unrayed.write_dataset(tmp_path / "other.csv", 0)
        given = ("--dataset", "table", "--root", "other.csv", "--store", "given", "--limit", "7")
        code, out, err = run(*extract, *given)
        assert (code, "7 items of 'table'" in out) == (0, True), err
        assert "[store] is not used" in err and len(mmfeat.open(tmp_path / "given").ids) == 7
        code, _, err = run(*extract, "--dataset", "sample", "--store", "third")
        assert "[dataset] is of 'table' and not used" in err


def test_a_table_of_extracts_file_that_there_is_not_is_refused(run, tmp_path):
    (tmp_path / "job.toml").write_text(JOB.replace("[resources]", "[resuorces]"))
    code, _, err = run("extract", "--config", "job.toml", "--dataset", "sample")
    assert code == 2 and "job.toml: there is no table [resuorces]. Did you mean 'resources'" in err
    (tmp_path / "job.toml").write_text(JOB.replace("uri =", "url ="))
    code, _, err = run("extract", "--config", "job.toml", "--store", "s")
    assert code == 2 and "url: there is no such key. Did you mean 'uri'" in err


def test_extract_without_a_dataset_asks_for_one(run):
    code, _, err = run("extract")
    assert code == 2 and "--dataset" in err


def test_failures_names_item_stage_and_reason(run, tmp_path):
    code, out, _ = run("failures", "--store", _store_with_a_failure(tmp_path))
    assert code == 0
    assert "bad" in out and "file is empty" in out


def _store_with_a_failure(tmp_path: Path) -> Path:
    import pyarrow as pa

    from mmfeat.pipelines.execution.commit import known_rows
    from mmfeat.schemas.spec import FeatureSpec, Weights
    from mmfeat.store import Store

    spec = FeatureSpec(
        name="x", source="cover", output="vector", method="m", model="m", dims=2, store_dtype="float32",
        weights=Weights(origin="random", ref="seed=0"),
    )  # fmt: skip
    store = Store.open(str(tmp_path / "failing"), create=True)
    with store.lease(owner="test"):
        version = store.add_version(spec)
        row = {"item_id": "bad", "status": "failed", "stage": "read", "reason": "file is empty", "stamp": ""}
        store.commit(version, known_rows(spec, pa.Table.from_pylist([row])), replace=False)
        store.set_current("x", version.fingerprint)
    return tmp_path / "failing"


@pytest.mark.parametrize(
    "words", [["--help"], ["presets", "list"], ["datasets", "list"], ["status", "--help"]]
)
def test_light_commands_load_no_heavy_library(words):
    heavy = "{'torch', 'transformers', 'ray', 'open_clip'}"
    program = (
        f"import sys; sys.argv = ['mmfeat', *{words!r}]\n"
        "from mmfeat.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = {heavy} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_opening_and_looking_up_loads_no_heavy_library(store):
    program = (
        "import sys, mmfeat\n"
        f"mmfeat.open({str(store)!r}).lookup(['item-001'], ['clip'])\n"
        "loaded = {'torch', 'transformers', 'ray', 'open_clip'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_encoders_list_is_a_model_card_of_each(run):
    _, out, _ = run("encoders", "list", "--json")
    methods = {(m["name"], m["kind"]): m["example"] for m in json.loads(out)}
    assert {
        ("open_clip", "encoder"), ("transformers", "encoder"), ("timm", "encoder"),
        ("transformers_video", "encoder"), ("sentence_transformers", "encoder"),
        ("efficientnet_lite", "encoder"), ("clap", "encoder"), ("yamnet", "encoder"),
        ("transformers", "captioner"), ("imagenet_tags", "captioner"), ("rapidocr", "ocr"),
        ("whisper", "transcriber"),
        ("residual_kmeans", "quantizer"), ("rqvae", "quantizer"),
    } <= set(methods)  # fmt: skip
    assert all(card["licence"] and card["weights_from"] and card["reads"] for card in methods.values())
    _, out, _ = run("encoders", "list")
    assert "open_clip" in out and "imagenet_tags" in out


def test_encoders_list_says_of_each_family_how_it_was_tested_and_with_what_result(run):
    _, out, _ = run("encoders", "list", "--json")
    told = {one["family"]: one for method in json.loads(out) for one in method["tested"]}
    naflex = told["SigLIP 2 NaFlex"]
    assert naflex["against"] == "transformers Siglip2Model"
    assert "by the model's own processor" in naflex["how"] and naflex["least_cosine"] >= 0.99999
    _, out, _ = run("encoders", "list")
    assert all(family in out for family in told)
    assert f"{naflex['least_cosine']:.6f}" in out


def test_checking_the_sample_says_what_is_there(run):
    code, out, _ = run("datasets", "check", "sample")
    assert code == 0
    for word in ("cover", "video", "title", "interactions"):
        assert word in out
