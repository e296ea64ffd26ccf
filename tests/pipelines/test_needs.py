"""What a run would take, told before it starts: time, money and bytes of every feature."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import synthetic, worlds

import mmfeat
from mmfeat.extract import downloads
from mmfeat.pipelines.execution import needs as needing
from mmfeat.pipelines.execution.batch import RESULTS_SCHEMA
from mmfeat.pipelines.execution.cost import TRIAL
from mmfeat.pipelines.execution.needs import Needs, Trial, in_bytes, too_large
from mmfeat.schemas.inputs import Input, TextPrepare
from mmfeat.schemas.outputs import TokensOut, VectorOut
from mmfeat.schemas.server import SpendingConfig
from mmfeat.schemas.spec import FeatureSpec, Weights

N_ITEMS, N_DIFFERENT = 24, 20
FEATURES = {
    "clip": {**worlds.CLIP, "store_dtype": "float16"},
    "tokens": {**worlds.CLIP, "source": "photos", "pictures": "each"},
    "again": {**worlds.CLIP, "source": "title"},
    "codes": {"source": "clip", "quantizer": "residual_kmeans", "levels": 2, "codebook_size": 4},
}
TOKENS = FeatureSpec(
    name="tokens", inputs=[Input(source="title", modality="text", prepare=TextPrepare(max_tokens=8))],
    output=TokensOut(dims=128), method="sentence_transformers", model="m",
    weights=Weights(origin="random", ref="seed=0"),
)  # fmt: skip
MILLION = {"items": 1_000_000, "contents": 1_000_000, "download_bytes": 0, "cost": None}
Disk = namedtuple("Disk", "total used free")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A table of items with a cover, one to three photos and, but for one, a title."""
    folder = tmp_path_factory.mktemp("needs")
    for number, scene in enumerate(synthetic.held_out(N_DIFFERENT)):
        worlds.write_cover(folder, f"{number}", scene)
    rows = []
    for number in range(N_ITEMS):
        covers = [f"covers/{(number + k) % N_DIFFERENT}.png" for k in range(3)]
        photos = covers[: number % 3 + 1]
        title = None if number == 23 else f"a red circle {number}"
        rows.append({"item_id": f"{number}", "cover": covers[0], "photos": photos, "title": title})
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def estimate(folder) -> mmfeat.pipelines.run_report.RunReport:
    return extract(folder, folder / "store", estimate=True)


def extract(folder: Path, store: Path, **run: object) -> mmfeat.pipelines.run_report.RunReport:
    job = worlds.job(folder / "items.jsonl", store, FEATURES, run=run)
    return mmfeat.extract(**{**job, "dataset": "table"}, dataset_columns={"photos": "image"})


def needs_of(report) -> dict[str, Needs]:
    return {feature.version.partition("@")[0]: feature.needs for feature in report.features}


def test_an_estimate_says_of_every_feature_what_it_would_compute_and_store(folder, estimate):
    needs, dims = needs_of(estimate), 64
    # The covers of the last four items are those of the first.
    assert (needs["clip"].items, needs["clip"].contents) == (N_ITEMS, N_DIFFERENT)
    assert needs["clip"].stored_bytes == N_ITEMS * dims * 2
    assert (needs["again"].items, needs["again"].stored_bytes) == (N_ITEMS - 1, (N_ITEMS - 1) * dims * 4)
    assert needs["codes"].stored_bytes == N_ITEMS * 2 * 4
    assert needs["codes"].seconds is None
    for name in ("clip", "tokens", "again"):
        assert needs[name].seconds > 0
        assert (needs[name].download_bytes, needs[name].money) == (0, None)


def test_an_estimate_computes_a_few_contents_alone_and_keeps_them(folder, estimate):
    measured = {name: one.measured for name, one in needs_of(estimate).items()}
    assert measured["again"] == TRIAL
    assert all(TRIAL <= measured[name] < N_DIFFERENT for name in ("clip", "tokens"))
    found = mmfeat.open(folder / "store").lookup(features=["clip"])["clip"].mask.sum()
    assert measured["clip"] <= found < N_ITEMS
    assert estimate.promoted == []


def test_bytes_of_many_vectors_are_those_of_the_items_that_were_measured(folder, estimate):
    needs = needs_of(estimate)["tokens"]
    store = mmfeat.open(folder / "store")
    own = [len(v) for v in store.lookup(features=["tokens"])["tokens"].tokens if v is not None]
    # Items with one photo have copies: what was measured is of contents.
    per_item = needs.stored_bytes / needs.items
    assert min(own) * 64 * 4 < per_item < max(own) * 64 * 4


def test_the_run_that_follows_needs_what_was_said_and_the_next_nothing(folder, estimate, tmp_path):
    before, store = needs_of(estimate)["clip"], tmp_path / "store"
    shutil.copytree(folder / "store", store)
    first = extract(folder, store)
    clip = first.features[0]
    assert clip.needs is None
    assert before.items == clip.ok + clip.up_to_date
    after = needs_of(extract(folder, store, estimate=True))["clip"]
    assert (after.items, after.contents, after.seconds, after.stored_bytes) == (0, 0, None, 0)


def measured(spec: FeatureSpec = TOKENS, rows: int = TRIAL, **made: object) -> Trial:
    row = {"feature": 0, "status": "ok", "seconds": 0.25, "decode_seconds": 0.5, "value": b"\0" * 51_200}
    trial = Trial([spec])
    trial.add(pa.Table.from_pylist([{**row, **made}] * rows, schema=RESULTS_SCHEMA))
    return trial


def test_a_million_items_of_200_token_vectors_are_51_gb_and_that_is_said():
    needs = measured().needs(0, **MILLION, spending=SpendingConfig())
    assert needs.stored_bytes == 51_200_000_000 == 1_000_000 * 200 * 128 * 2
    assert needs.seconds == 750_000
    assert "51.2 GB of values" in str(needs)
    assert "750,000.0 s of decoding and the model (measured on 8)" in str(needs)


def test_failed_items_have_no_bytes_and_vectors_are_known_without_a_measurement():
    failed = measured(status="failed", value=None).needs(0, **MILLION, spending=SpendingConfig())
    assert (failed.stored_bytes, failed.seconds) == (None, 750_000)
    vector = TOKENS.model_copy(update={"output": VectorOut(dims=1000)})
    needs = Trial([vector]).needs(0, **MILLION, spending=SpendingConfig())
    assert (needs.stored_bytes, needs.seconds) == (4_000_000_000, None)


def test_what_a_server_counts_has_a_price_whatever_it_makes():
    trial = measured(rows=4, requests=1, prompt_tokens=10, new_tokens=0)
    prices = SpendingConfig(prompt_price=2.0)
    assert trial.needs(0, **MILLION, spending=prices).money == pytest.approx(20.0)
    assert trial.needs(0, **MILLION, spending=SpendingConfig()).money is None


@pytest.mark.parametrize(("free", "warned"), [(60e9, True), (20e9, True), (200e9, False)])
def test_values_that_are_large_against_the_free_disk_are_warned_of(monkeypatch, tmp_path, free, warned):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(1e12, 0, int(free)))
    monkeypatch.setattr(needing, "disk_usage", shutil.disk_usage)
    needs = {"tokens@1": measured().needs(0, **MILLION, spending=SpendingConfig())}
    said = list(too_large(needs, tmp_path))
    assert bool(said) == warned
    for line in said:
        assert all(part in line for part in ("51.2 GB", "tokens@1", f"{free / 1e9:.1f} GB free"))
    assert list(too_large(needs, None)) == []


def test_sizes_are_said_in_units_of_a_thousand():
    said = ["0 bytes", "999 bytes", "1.0 kB", "51.2 GB"]
    assert [in_bytes(n) for n in (0, 999, 1000, 51_200_000_000)] == said


def test_weights_of_a_hub_count_where_the_cache_lacks_them(monkeypatch, tmp_path):
    import huggingface_hub

    File, Info = namedtuple("File", "rfilename size"), namedtuple("Info", "siblings")
    files = [File("config.json", 5), File("model.safetensors", 2_000), File("pytorch_model.bin", 9_000)]

    class Api:
        def model_info(self, name, revision, files_metadata):
            return Info(files)

    spec = TOKENS.model_copy(update={"weights": Weights(origin="hub", ref="a/b", revision="c" * 40)})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert downloads.download_bytes(spec) is None
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert downloads.download_bytes(spec) == 2_005
    place = tmp_path / "models--a--b" / "snapshots" / ("c" * 40)
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    there = lambda *a, **k: huggingface_hub.file_download.try_to_load_from_cache(*a, cache_dir=tmp_path, **k)  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", there)
    assert downloads.download_bytes(spec) == 2_000
    assert downloads.download_bytes(TOKENS) == 0


def test_the_command_says_it_in_words_and_in_json(folder, tmp_path, run):
    config = tmp_path / "title.toml"
    config.write_text("[features.again]\n" + "\n".join(f'{k} = "{v}"' for k, v in FEATURES["again"].items()))
    words = ["extract", "--dataset", "table", "--root", folder / "items.jsonl", "--config", config]
    words += ["--executor", "local", "--estimate"]
    code, out, err = run(*words, "--store", tmp_path / "one")
    assert code == 0, err
    assert "would take 23 items, 23 contents" in out
    assert "s of decoding and the model (measured on 8), 5.9 kB of values" in out
    code, out, err = run(*words, "--store", tmp_path / "two", "--json")
    assert code == 0, err
    (feature,) = json.loads(out)["features"]
    assert feature["needs"] == {
        "items": 23, "contents": 23, "measured": TRIAL, "seconds": feature["needs"]["seconds"],
        "stored_bytes": 23 * 64 * 4, "download_bytes": 0, "money": None,
    }  # fmt: skip
