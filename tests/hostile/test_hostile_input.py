"""Ids, texts, files and settings from people who mean harm: each is refused or does nothing."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.echo import make_input
from helpers.storing import make_rows, text_spec, vector_spec, vectors

import mmfeat
from mmfeat import datasets
from mmfeat.export import Request, export
from mmfeat.export.files import write_plain_table, write_table
from mmfeat.extract.describers.prompts import load_prompt
from mmfeat.extract.media.read import read_media
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import ConfigError, ItemError, MmfeatError, UsageError
from mmfeat.schemas.featureset import FeatureSet
from mmfeat.schemas.job import load_job
from mmfeat.schemas.spec import FeatureConfig
from mmfeat.store import Store

MODELS = Path(__file__).parents[1] / "models"

IDS = [
    "'; DROP TABLE items; --",
    "x' OR '1'='1",
    "x' OR 1=1 --",
    "%",
    "_",
    'a"b',
    "back\\",
    "\\' OR true",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\system32",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "[red]rich[/red]",
    "{title}",
    "ordinary",
]
CAPTION = "A red\x1b[31m cup \x9b2J and \u202ebackwards"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Every id of ``IDS``, with a vector and a caption."""
    store = Store.open(str(tmp_path_factory.mktemp("hostile") / "store"), create=True)
    with store.lease(owner="test"):
        rows = [{"item_id": i, "title": "<img src=x onerror=alert(1)>"} for i in IDS]
        store.put_catalog(pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA), {"name": "t", "root": None})
        for spec, values in (
            (vector_spec(), list(vectors(len(IDS)))),
            (text_spec(), [CAPTION] * len(IDS)),
        ):
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, values), replace=False)
            store.finish(version)
    return store


# -- ids


@pytest.mark.parametrize("item_id", IDS)
def test_an_id_in_a_filter_means_itself_and_nothing_else(store, item_id):
    found = mmfeat.open(store.uri).lookup([item_id], ["clip_image"])
    assert found.ids == [item_id]
    assert found["clip_image"].matrix[0].tolist() == vectors(len(IDS))[IDS.index(item_id)].tolist()


def test_a_hostile_id_replaces_its_own_row_alone(tmp_path, store):
    copied = Store.open(str(shutil.copytree(store.uri, tmp_path / "store")))
    spec = vector_spec()
    with copied.lease(owner="test"):
        version = copied.resolve("clip_image")
        copied.commit(version, make_rows(spec, IDS[:3], [[7.0] * 4] * 3), replace=True)
    after = copied.lookup(None, ["clip_image"])["clip_image"].matrix
    assert (after[:3] == 7).all()
    assert after[3:].tolist() == vectors(len(IDS))[3:].tolist()


def test_a_feature_name_or_store_that_is_code_is_unknown(run, store):
    code, _, err = run("lookup", "ordinary", "--feature", "x' OR '1'='1", "--store", store.uri)
    assert (code, "Traceback" in err) == (2, False)
    assert "x' OR '1'='1" in err


def test_nothing_that_steers_a_terminal_is_printed(run, store):
    words = ("lookup", *IDS, "--feature", "caption", "--store", store.uri)
    code, out, _ = run(*words)
    unknown_code, _, err = run("lookup", "\x1b[2J\u202e", "--store", store.uri)
    assert (code, unknown_code) == (0, 2)
    for printed in (out, err):
        assert not set(printed) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "\\x1b[2J\\x1b]0;owned" in out
    assert "[red]rich[/red]" in out
    _, out, _ = run(*words, "--json")
    assert json.loads(out)["ids"] == IDS, "machines get ids as they are"


# -- paths


def test_media_outside_the_dataset_are_refused_and_the_item_is_kept(tmp_path, run):
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    paths = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "file:///etc/passwd",
        "a/../../secret.png",
    ]
    lines = [json.dumps({"item_id": f"i{n}", "title": "t", "cover": path}) for n, path in enumerate(paths)]
    (root / "items.jsonl").write_text("\n".join(lines))
    dataset = datasets.load("table", str(root / "items.jsonl"))
    assert dataset.items["item_id"].to_pylist() == ["i0", "i1", "i2", "i3", "i4"]
    assert dataset.items["cover"].null_count == 5
    code, out, _ = run("datasets", "check", "table", "--root", root / "items.jsonl", "--json")
    assert "secret.png" in out and code in (0, 1)


def test_members_of_an_archive_that_lead_out_of_it_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "covers.zip", "w") as archive:
        for name in ("../up.png", "/abs.png", "a/../../b.png", "covers/good.png", "..\\win.png"):
            archive.writestr(name, b"x")
    dataset = datasets.load("folder", str(tmp_path))
    assert dataset.items["item_id"].to_pylist() == ["good"]
    refused = next(note for note in dataset.notes if note.code == "outside_root")
    assert refused.count == 4


@pytest.mark.parametrize(
    ("kind", "says"), [("pipe", "a named pipe"), ("device", "a device"), ("folder", "a folder")]
)
def test_what_is_no_file_is_never_opened(tmp_path, kind, says):
    path = {"pipe": tmp_path / "a.png", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ItemError, match=says):
        read_media(str(path), 1000)


# -- settings


@pytest.mark.parametrize("read", [load_job, lambda path: load_prompt(str(path))], ids=["job", "prompt"])
def test_a_settings_file_of_100_megabytes_is_refused_unread(tmp_path, read):
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        read(path)


HEAD = '[store]\nuri = "s"\n[dataset]\nname = "sample"\n[features.x]\nsource = "cover"\n'
ENCODER, CAPTIONER = 'encoder = "open_clip"\n', 'captioner = "transformers"\n'


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f'{ENCODER}frames = "eight"', "feature 'x': frames: "),
        (f"{ENCODER}frames = 1e9", "feature 'x': frames: "),
        (f"{ENCODER}frames = -1", "feature 'x': frames: "),
        (f"{ENCODER}model = 3", "feature 'x': model: "),
        (f"{ENCODER}normalize = [true]", "feature 'x': normalize: "),
        (f"{CAPTIONER}temperature = nan", "features.x.temperature: "),
        (f"{CAPTIONER}temperature = inf", "features.x.temperature: "),
        (f"{CAPTIONER}temperature = 1e300", "features.x.temperature: "),
        (f"{CAPTIONER}max_new_tokens = {10**30}", "features.x.max_new_tokens: "),
        (f"{ENCODER}[run]\nmax_failed = 2", "run.max_failed"),
        (f'{ENCODER}[limits]\nimage_bytes = "all"', "limits.image_bytes"),
        (f'{ENCODER}[resources]\ncpus = "many"', "resources.cpus"),
        (f"{ENCODER}[unheard]\nof = 1", "unheard"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_key(run, tmp_path, line, key):
    (tmp_path / "job.toml").write_text(f"{HEAD}{line}\n")
    code, _, err = run("run", "job.toml")
    assert code == 2
    assert key in err and "Traceback" not in err


SECONDS = ["limits.item_seconds", "limits.clip_seconds", "limits.sound_seconds", "limits.fetch.seconds"]
SECONDS += ["run.wait_seconds", "server.timeout", "notify.timeout_seconds", "keep.older_than_days"]
COUNTS = ["limits.image_bytes", "limits.image_pixels", "limits.clip_bytes", "limits.item_memory"]
COUNTS += ["limits.sound_bytes", "limits.clip_pixels", "limits.fetch.per_host", "limits.fetch.cache_bytes"]
COUNTS += ["resources.cpus", "resources.gpus", "resources.workers", "resources.threads"]
COUNTS += ["resources.batch_size", "run.limit", "spending.max_requests", "spending.max_tokens"]
COUNTS += ["vllm.replicas", "vllm.batch_size", "server.concurrency", "keep.versions", "keep.snapshots"]
PRICES = ["spending.prompt_price", "spending.new_price"]


@pytest.mark.parametrize("number", ["1e308", "-1e308", "inf", "-inf", "nan", "1e400", f"1{'0' * 400}"])
@pytest.mark.parametrize("key", [*SECONDS, *COUNTS, *PRICES, "run.max_failed", "gates.min_coverage"])
def test_a_number_out_of_all_measure_is_refused_with_its_key(tmp_path, key, number):
    table, _, name = key.rpartition(".")
    path = tmp_path / "job.toml"
    needed = "versions = 2\n" if table == "keep" and name != "versions" else ""
    path.write_text(f"{HEAD}{ENCODER}[{table}]\n{needed}{name} = {number}\n")
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}|\[{table}\]: {name}"):
        load_job(path)


@pytest.mark.parametrize("key", [*SECONDS, *COUNTS[:13]])
def test_a_number_that_no_machine_can_keep_is_refused_with_its_name(tmp_path, key):
    table, _, name = key.rpartition(".")
    path = tmp_path / "job.toml"
    path.write_text(f"{HEAD}{ENCODER}[{table}]\n{name} = {10**16}\n")
    with pytest.raises(ConfigError, match=name):
        load_job(path)


@pytest.mark.parametrize("levels", [40, 200, 400, 100_000])
@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ("{a = ", "}")], ids=["lists", "tables"])
@pytest.mark.parametrize("read", [load_job, lambda path: load_prompt(str(path))], ids=["job", "prompt"])
def test_settings_nested_deeply_are_refused(tmp_path, levels, opens, closes, read):
    path = tmp_path / "deep.toml"
    path.write_text(f"{HEAD}{ENCODER}[dataset.options]\nx = {opens * levels}1{closes * levels}\n")
    with pytest.raises(ConfigError):
        read(path)


# -- weights


class _Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


METHODS = {
    "open_clip": ({"source": "cover", "encoder": "open_clip"}, "tiny-clip", "open_clip_pytorch_model.bin"),
    "transformers": ({"source": "cover", "encoder": "transformers"}, "tiny-dino", "pytorch_model.bin"),
    "captioner": ({"source": "cover", "captioner": "transformers"}, "tiny-vlm", "pytorch_model.bin"),
}


def _load(folder: Path, options: dict[str, str]) -> None:
    (spec,) = resolve_all({"feature": FeatureConfig(model=str(folder), **options)})
    load_method(spec)


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "code-was-run"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beside", [True, False], ids=["beside safetensors", "alone"])
def test_pickled_weights_are_never_unpickled(tmp_path, marker, method, beside):
    options, model, name = METHODS[method]
    folder = shutil.copytree(MODELS / model, tmp_path / model)
    (folder / name).write_bytes(pickle.dumps(_Bomb(marker)))
    if beside:
        _load(folder, options)
    else:
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
        with pytest.raises(ConfigError, match="safetensors"):
            _load(folder, options)
    assert not marker.exists()


@pytest.mark.parametrize("method", ["transformers", "captioner"])
def test_code_in_a_models_folder_is_never_run(tmp_path, marker, method):
    options, model, _ = METHODS[method]
    folder = shutil.copytree(MODELS / model, tmp_path / model)
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json", "preprocessor_config.json"):
        if (folder / name).exists():
            body = json.loads((folder / name).read_text())
            keys = (
                "AutoConfig",
                "AutoModel",
                "AutoModelForImageTextToText",
                "AutoProcessor",
                "AutoTokenizer",
            )
            body["auto_map"] = dict.fromkeys(keys, "evil.Evil")
            (folder / name).write_text(json.dumps(body))
    try:
        _load(folder, options)
    except MmfeatError as refused:
        assert "feature" in refused.message
    assert not marker.exists()


# -- tables that a spreadsheet opens


FORMULAS = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", '-2+HYPERLINK("http://x")', " =1+1", "=x"]


@pytest.mark.parametrize("write", [write_table, write_plain_table])
@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_refused_wherever_a_table_is_written(tmp_path, write, text):
    with pytest.raises(UsageError, match="would run as formulas in a spreadsheet") as refused:
        write(tmp_path / "t.csv", {"item_id": ["fine", text], "n": [1, 2]})
    assert repr(text) in refused.value.message
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    "text", ["-kJQP7kiw5Fk", "- a red cup (empty)", "+1", "-0.5", "a=b", "1 = 1", "", "="]
)
def test_ids_and_texts_with_a_sign_are_no_formulas(tmp_path, text):
    write_table(tmp_path / "t.csv", {"item_id": [text]})
    assert text in (tmp_path / "t.csv").read_text()


def test_an_export_with_a_formula_leaves_nothing_behind(tmp_path):
    data = make_input("mllm-msr", ["a", "b"])
    name = next(iter(data.features))
    planted = replace(data.features[name], values=['=HYPERLINK("http://x","y")', "fine"])
    data = replace(data, features=FeatureSet(["a", "b"], {name: planted}))
    with pytest.raises(UsageError, match="'summary' would run as formulas"):
        export(data, Request("mllm-msr", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


# -- pictures


def test_a_picture_under_another_name_is_read_as_what_it_is(tmp_path):
    """An extension decides nothing: what the bytes are is looked at, and HTML is no picture."""
    from mmfeat.extract.modalities.decoders.image import render_image
    from mmfeat.schemas.media import MediaLimits

    (spec,) = resolve_all(
        {"f": FeatureConfig(source="cover", encoder="open_clip", model=str(MODELS / "tiny-clip"))}
    )
    with pytest.raises(ItemError) as refused:
        render_image(b"<html><script>alert(1)</script></html>", [spec.pixels.view], MediaLimits())
    assert refused.value.stage == "decode"
