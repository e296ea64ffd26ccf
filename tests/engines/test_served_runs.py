"""Whole runs whose captions come from a server: killed, capped, estimated, and the key is nowhere."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chat_server
import pyarrow as pa
import pytest
from chat_server import error
from helpers import synthetic, worlds

import mmfeat
from mmfeat.extract.registry import resolve_all
from mmfeat.pipelines.execution.batch import NOT_ASKED
from mmfeat.pipelines.execution.servers import reached
from mmfeat.pipelines.execution.stages import Decode, Encode
from mmfeat.pipelines.planning.work import PAYLOAD, STAMP, WORK_SCHEMA
from mmfeat.schemas.errors import ConfigError, ServerRefused
from mmfeat.schemas.media import MediaLimits
from mmfeat.schemas.server import Sending, ServerConfig
from mmfeat.schemas.spec import FeatureConfig

N_ITEMS = 24
CONCURRENCY = 2
KEY = "sk-never-to-be-seen-0815"
CAPTION = {"source": "cover", "captioner": "openai", "model": chat_server.MODEL}
FEATURES = {"clip": worlds.CLIP, "caption": CAPTION, "caption_clip": worlds.CAPTION_CLIP}


@pytest.fixture
def media(tmp_path) -> Path:
    return worlds.cover_folder(tmp_path / "media", synthetic.held_out(N_ITEMS))


@pytest.fixture(params=["local", "ray"])
def executor(request) -> str:
    return request.param


@pytest.fixture
def job_file(tmp_path, media, server, executor) -> Path:
    path = tmp_path / "job.toml"
    tables = [f'[store]\nuri = "{tmp_path / "store"}"', f'[dataset]\nname = "folder"\nroot = "{media}"']
    tables.append(f'[resources]\nexecutor = "{executor}"\nworkers = 1\nthreads = 1')
    tables.append(f'[server]\nbase_url = "{server.url}"\nconcurrency = {CONCURRENCY}')
    for name, config in FEATURES.items():
        tables.append(f"[features.{name}]\n" + "\n".join(f'{k} = "{v}"' for k, v in config.items()))
    path.write_text("\n".join(tables))
    return path


def start(job_file: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "from mmfeat.cli import main; main()", "run", str(job_file), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OPENAI_API_KEY": KEY},
    )  # fmt: skip


def kill_everything(process: subprocess.Popen) -> None:
    """The driver and all that it started, Ray's processes too."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = int(fields[1])
    found = [process.pid]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_killed_in_the_middle_and_started_again_no_answer_is_paid_twice(
    job_file, server, executor, tmp_path, world
):
    server.key, server.pause = KEY, 0.2
    killed = start(job_file)
    until = time.monotonic() + 240
    while time.monotonic() < until and killed.poll() is None and len(server.finished) < N_ITEMS // 2:
        time.sleep(0.01)
    kill_everything(killed)
    time.sleep(0.5)  # until the server has given up the requests that were under way
    paid = len(list((tmp_path / "store" / "_requests").rglob("*.json")))
    before = len(server.requests)
    assert N_ITEMS // 2 - CONCURRENCY <= paid < N_ITEMS

    again = start(job_file)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, out + err
    assert len(server.requests) - before == N_ITEMS - paid
    assert len(server.requests) <= N_ITEMS + CONCURRENCY

    report = json.loads(out)["features"]
    assert [(f["up_to_date"] + f["ok"], f["failed"]) for f in report] == [(N_ITEMS, 0)] * 3
    assert report[1]["cost"]["requests"] == N_ITEMS - paid
    assert not list((tmp_path / "store").rglob("_requests/*"))

    served = mmfeat.open(tmp_path / "store").lookup(features=["caption"])
    here = mmfeat.open(world / "store").lookup(served.ids, ["caption"])
    assert served["caption"].texts == here["caption"].texts

    logs = [p for pid in (killed.pid, again.pid) for p in Path("/tmp/ray").glob(f"session_*_{pid}")]
    assert logs or executor == "local", "Ray's logs of these runs are not where they were looked for"
    written = [p for folder in (tmp_path, *logs) for p in folder.rglob("*") if p.is_file()]
    assert KEY not in out + err
    assert [str(p) for p in written if KEY.encode() in p.read_bytes()] == []


def test_an_estimate_stops_after_a_few_and_a_cap_keeps_what_was_answered(
    media, server, executor, tmp_path, run
):
    words = ["extract", "--dataset", "folder", "--root", media, "--store", tmp_path / "store"]
    config = tmp_path / "caption.toml"
    config.write_text("[features.caption]\n" + "\n".join(f'{k} = "{v}"' for k, v in CAPTION.items()))
    words += ["--config", config, "--base-url", server.url, "--workers", 1, "--executor", executor, "--json"]
    code, out, err = run(*words, "--estimate")
    assert code == 0, err
    (caption,) = json.loads(out)["features"]
    assert (caption["ok"], len(server.requests)) == (8, 8)
    assert (caption["estimate"]["captions"], caption["estimate"]["requests"]) == (N_ITEMS, N_ITEMS)
    assert caption["estimate"]["prompt_tokens"] == caption["cost"]["prompt_tokens"] * N_ITEMS / 8

    code, out, err = run(*words, "--max-requests", 10)
    assert code == 3
    assert "the spending cap of 10 requests is reached; rows left: 6 of caption@" in err
    (caption,) = json.loads(out)["report"]["features"]
    assert (caption["up_to_date"], caption["ok"], caption["cost"]["requests"]) == (8, 10, 10)
    assert len(server.requests) == 18
    assert sum(mmfeat.open(tmp_path / "store").lookup(features=["caption"])["caption"].mask) == 18


def test_what_stops_the_server_stops_what_reads_its_captions_and_nothing_else(media, server):
    """The stages of a run whose third request is refused, on one block."""
    specs = resolve_all({name: FeatureConfig(**config) for name, config in FEATURES.items()})
    server.tricks = lambda number: error(403, "account closed") if number >= 2 else None
    same = {"group": "cover", "features": [0, 1, 2]}
    covers = sorted((media / "covers").iterdir())[:5]
    rows = [{"work": n, "item_id": p.stem, **same} for n, p in enumerate(covers)]
    work = pa.Table.from_pylist(rows, schema=WORK_SCHEMA)
    work = work.append_column(PAYLOAD + "cover", pa.array([str(p) for p in covers]))
    work = work.append_column(STAMP + "cover", pa.array([""] * len(covers)))
    sending = Sending(run_id="r", server=ServerConfig(base_url=server.url, concurrency=1))
    decoded = Decode(specs, MediaLimits())(work)
    asked = Encode(specs, [1], last=False, sending=sending)(decoded)
    results = Encode(specs, [0, 2], last=True)(asked)
    by_feature = {n: [r["status"] for r in results.to_pylist() if r["feature"] == n] for n in range(3)}
    stopped = ["ok", "ok", NOT_ASKED, NOT_ASKED, NOT_ASKED]
    assert by_feature == {0: ["ok"] * 5, 1: stopped, 2: stopped}
    assert sum(r["requests"] for r in results.to_pylist() if r["feature"] == 1) == 2
    rows, why = reached(results)
    assert (len(rows), type(why)) == (9, ServerRefused)
    assert "account closed" in why.message
    assert "api_key_env" in why.hint


def test_a_job_without_a_server_is_refused_before_anything_starts(media, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="no server to ask"):
        mmfeat.extract(**worlds.job(media, tmp_path / "store", {"caption": CAPTION}))
