"""The package without its extras: what reads a store needs no torch, Ray or web framework."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, vector_spec, vectors

import mmfeat
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import UsageError
from mmfeat.store import Store

ROOT = Path(__file__).parents[1]
HEAVY = [
    "torch",
    "torchvision",
    "transformers",
    "open_clip",
    "timm",
    "sentence_transformers",
    "ray",
    "av",
    "PIL",
    "simplejpeg",
    "openvino",
    "pandas",
    "polars",
    "sklearn",
    "fastapi",
    "uvicorn",
    "starlette",
    "prometheus_client",
    "httpx",
    "jinja2",
    "matplotlib",
    "scipy",
    "faiss",
]
BLOCKED = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
READS = """
import json, sys
import numpy as np
import mmfeat
store = mmfeat.open(sys.argv[1])
found = store.lookup(["c", "a"])
table = found.to_arrow()
hits = store.search("clip_image", item="a", k=2)
near = store["clip_image"].nearest("a", k=2)
refused = []
for way in (found.to_pandas, found.to_polars, found.to_torch, found["clip_image"].to_embedding):
    try:
        way()
    except mmfeat.MmfeatError as error:
        refused.append([type(error).__name__, error.hint])
print(json.dumps({
    "ids": found.ids, "sum": float(found["clip_image"].matrix.astype(np.float64).sum()),
    "texts": found["caption"].texts, "rows": table.num_rows, "hits": [h.item_id for h in hits],
    "near": repr(near), "near_html": near._repr_html_(),
    "snapshot": mmfeat.open(sys.argv[1], snapshot="s").ids, "refused": refused,
}))
"""
IDS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def light_store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("light") / "store"
    store = Store.open(str(folder), create=True)
    with store.lease("test"):
        catalog = pa.Table.from_pylist([{"item_id": i} for i in IDS], schema=CATALOG_SCHEMA)
        store.put_catalog(catalog, {"name": "test"})
        for spec, values in (
            (vector_spec(), [*vectors(2), None]),
            (vector_spec("whole"), list(vectors(3, seed=1))),
            (text_spec(), ["a red circle", None, "a blue star"]),
        ):
            version = store.add_version(spec)
            store.commit(version, make_rows(spec, IDS, values), replace=False)
            store.set_current(version.name, version.fingerprint)
        store.create_snapshot("s")
    return folder


def _reads(python: str, program: str, store: Path) -> dict[str, object]:
    done = subprocess.run([python, "-c", program, str(store)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def _check(told: dict[str, object], store: Path) -> None:
    opened = mmfeat.open(store)
    expected = opened.lookup(["c", "a"])
    assert told["ids"] == ["c", "a"] and told["snapshot"] == IDS
    assert told["texts"] == ["a blue star", "a red circle"]
    np.testing.assert_equal(told["sum"], float(expected["clip_image"].matrix.astype(np.float64).sum()))
    assert told["hits"] == [hit.item_id for hit in opened.search("clip_image", item="a", k=2)]
    assert all(name in told["near"] and name in told["near_html"] for name in told["hits"])
    assert "mmfeat[extract]" in told["near_html"] and "<img" not in told["near_html"]
    extras = ["frames", "frames", "extract", "extract"]
    assert told["refused"] == [
        ["MissingExtra", f'Install it with: pip install "mmfeat[{e}]"'] for e in extras
    ]


def test_a_store_is_opened_looked_up_and_searched_without_any_extra(light_store):
    _check(_reads(sys.executable, BLOCKED + READS, light_store), light_store)


@pytest.mark.slow
def test_a_fresh_environment_with_mmfeat_alone_reads_a_store(light_store, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        str(ROOT / "constraints.txt"),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    listed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
    installed = {line.split("==")[0].lower() for line in listed.stdout.splitlines()}
    assert installed.isdisjoint(name.replace("_", "-") for name in HEAVY)
    _check(_reads(python, READS, light_store), light_store)


@pytest.mark.parametrize(
    "program",
    ["import mmfeat", "import mmfeat.cli", "import mmfeat; mmfeat.open(sys.argv[1]).lookup(['a'])"],
)
def test_nothing_heavy_is_imported_by_what_only_reads(light_store, program):
    # pyarrow imports pandas by itself if it is installed.
    heavy = [name for name in HEAVY if name != "pandas"]
    listing = f"import json, sys\n{program}\nprint(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", listing, str(light_store)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


def test_importing_the_package_alone_does_not_load_the_store_either():
    listing = (
        "import sys, mmfeat; print([m for m in ('lance', 'lancedb', 'pyarrow.dataset') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_frames_have_a_row_per_item_and_a_column_per_feature(light_store):
    found = mmfeat.open(light_store).lookup(["c", "a"], ["clip_image", "caption"])
    for frame in (found.to_pandas().reset_index(), found.to_polars().to_pandas()):
        assert frame["item_id"].tolist() == ["c", "a"]
        assert frame["clip_image.status"].tolist() == ["failed", "ok"]
        assert frame["clip_image"][0] is None
        np.testing.assert_array_equal(frame["clip_image"][1], found["clip_image"].matrix[1])
        assert frame["caption"].tolist() == ["a blue star", "a red circle"]


def test_a_torch_dataset_batches_values_masks_ids_and_texts(light_store):
    import torch

    found = mmfeat.open(light_store).lookup(["b", "c", "a"], ["clip_image", "caption"])
    [batch] = torch.utils.data.DataLoader(found.to_torch(), batch_size=3)

    assert batch["item_id"] == ["b", "c", "a"]
    assert batch["clip_image"].dtype == torch.float16
    assert batch["clip_image.mask"].tolist() == [True, False, True]
    np.testing.assert_array_equal(batch["clip_image"].numpy(), found["clip_image"].matrix)
    assert batch["caption"] == ["", "a blue star", "a red circle"]
    assert batch["caption.mask"].tolist() == [False, True, True]


def test_an_embedding_table_has_the_vectors_in_the_order_of_the_ids(light_store):
    found = mmfeat.open(light_store).lookup(["c", "a", "b"], ["whole"])["whole"]
    table, padded = found.to_embedding(), found.to_embedding(padding=True, freeze=False)

    np.testing.assert_array_equal(table.weight.numpy(), found.matrix.astype(np.float32))
    assert not table.weight.requires_grad and padded.weight.requires_grad
    assert padded.padding_idx == 0 and padded.weight[0].tolist() == [0.0] * 4
    np.testing.assert_array_equal(padded.weight[1:].detach().numpy(), found.matrix.astype(np.float32))


def test_an_item_without_a_vector_is_never_zero_unless_it_was_asked_for(light_store):
    column = mmfeat.open(light_store).lookup(IDS, ["clip_image"])["clip_image"]
    with pytest.raises(UsageError, match="1 of 3 items have no value"):
        column.to_embedding()
    assert column.to_embedding("zero").weight[2].tolist() == [0.0] * 4
    mean = column.matrix[:2].astype(np.float32).mean(axis=0)
    np.testing.assert_allclose(column.to_embedding("mean").weight[2].numpy(), mean)
