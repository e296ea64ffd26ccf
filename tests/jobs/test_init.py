"""``mmfeat init``: a job file that fits a dataset, and that runs."""

from __future__ import annotations

import json
import tomllib

import mmfeat
from mmfeat import presets
from mmfeat.schemas.job import load_job
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.starter import toml_value, write_job


def test_the_written_job_fits_the_dataset_and_runs(run, tmp_path):
    folder = tmp_path / 'a "quoted" folder'
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title\na,a red cup\nb,a blue cup\nc,\n")
    code, out, err = run("init", "--dataset", "table", "--root", folder / "items.csv", "--out", "job.toml")
    assert code == 0, err
    assert "2 with a title" in out
    job = load_job(tmp_path / "job.toml")
    # The preset's pictures and clips are left out: this dataset has none.
    assert list(job.features) == ["title_text", "item_text"]
    assert job.store.uri == str(tmp_path / "features")
    assert "# 2 of 3 items have a title." in (tmp_path / "job.toml").read_text()
    code, out, err = run("run", "job.toml", "--json")
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert [(f["ok"], f["missing"]) for f in report["features"]] == [(2, 1), (2, 1)]
    assert report["promoted"] == [f["version"] for f in report["features"]]
    assert mmfeat.open(tmp_path / "features").lookup(["a"])["title_text"].matrix.shape == (1, 384)


def test_a_feature_is_written_without_what_it_may_lack_and_the_dataset_has_not(tmp_path, monkeypatch):
    (tmp_path / "items.csv").write_text("item_id,title\na,a red cup\n")
    digest = {"encoder": "efficientnet_lite"}
    preset = {
        "screen": {"source": "video", "ocr": "rapidocr"},
        "speech": {"source": "video.sound", "transcriber": "any"},
        "words": {"text": "{title}; {screen?:On screen: {}}{speech?}", **digest},
        "both": {"inputs": ["title", "screen?"], **digest},
        "heard": {"text": "{speech?}{screen?}", **digest},
    }
    configs = {name: FeatureConfig(**table) for name, table in preset.items()}
    monkeypatch.setattr(presets, "load", lambda name: configs)
    write_job("table", str(tmp_path / "items.csv"), {}, {}, "store", "any", tmp_path / "job.toml")
    written = tomllib.loads((tmp_path / "job.toml").read_text())["features"]
    assert written == {"words": {"text": "{title}; ", **digest}, "both": {"source": "title", **digest}}


def test_columns_that_were_named_are_in_the_job(run, tmp_path):
    (tmp_path / "items.csv").write_text('item_id,title,brand,photos\na,cup,Acme,"[""1.jpg""]"\n')
    words = ("--root", "items.csv", "--column", "brand=text", "--column", "photos=image")
    code, out, err = run("init", "--dataset", "table", *words)
    assert code == 0, err
    assert "1 items: 1 with a title, 1 with a brand." in out
    columns = load_job(tmp_path / "job.toml").dataset.columns
    assert {name: column.modality for name, column in columns.items()} == {"brand": "text", "photos": "image"}
    code, out, err = run("datasets", "check", "table", *words)
    assert [line.split() for line in out.splitlines() if line.startswith("photos")] == [
        ["photos", "image", "0", "0", "1", "0", "1"]
    ]
    for wrong, said in (("brand", "takes NAME=MODALITY"), ("photo=image", "no column 'photo'")):
        code, _, err = run("datasets", "check", "table", "--root", "items.csv", "--column", wrong)
        assert (code, said in err) == (2, True), err
    code, _, err = run("datasets", "check", "table", "--root", "items.csv", "-o", "columns=x")
    assert (code, "Name further columns one by one" in err) == (2, True), err


def test_what_the_job_file_offers_in_comments_is_valid_too(run, tmp_path):
    run("init", "--dataset", "sample")
    text = (tmp_path / "job.toml").read_text()
    offered = [line.removeprefix("# ") if line.startswith(("# [", "# ")) and ("=" in line or "# [" in line)
               else line for line in text.splitlines()]  # fmt: skip
    (tmp_path / "all.toml").write_text("\n".join(offered))
    job = load_job(tmp_path / "all.toml")
    assert job.steps["gates"].min_coverage == 0.95
    assert job.steps["notify"].webhook_env == "MMFEAT_WEBHOOK"
    assert job.steps["keep"].versions == 3
    assert job.run.wait_seconds == 600


def test_a_file_that_is_there_is_not_overwritten_and_wrong_use_is_said(run, tmp_path):
    (tmp_path / "job.toml").write_text("mine")
    for words, said in [
        (("--dataset", "sample"), "is there already"),
        (("--dataset", "no-such", "--out", "a.toml"), "no-such"),
        (("--dataset", "folder", "--root", "nowhere", "--out", "a.toml"), "nowhere"),
        (("--dataset", "sample", "--preset", "none", "--out", "a.toml"), "no preset"),
        (("--dataset", "sample", "--out", "no/folder/a.toml"), "Cannot write"),
    ]:
        code, _, err = run("init", *words)
        assert (code, said in err, "Traceback" in err) == (2, True, False), err
    assert (tmp_path / "job.toml").read_text() == "mine"
    assert not (tmp_path / "a.toml").exists()


def test_every_kind_of_value_survives_the_way_to_toml_and_back():
    values = ['a "b" \\ c\n\t\x7f é', 1, 0.5, True, ["x", "y"], {"a key": {"b": [1, 2]}}]
    for value in values:
        assert tomllib.loads(f"v = {toml_value(value)}")["v"] == value
