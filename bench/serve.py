"""``python -m bench.serve [--items N] [--dims D] [--only STEP,...]``: the lookup service beside others.

Makes a store of float16 vectors in clusters once (bench/data) and serves it with ``mmfeat serve`` in a
process of its own. A load generator in another process asks for one id and for 100 ids. The same ids are
asked of LanceDB in a process of its own, and of Redis (Debian's ``redis-server``, where it is installed)
over its own protocol. Then the vector index: its recall against exact search, and both latencies. Each step
can be taken alone, and results go to bench/out/serve.json as they come.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CLI = "from mmfeat.cli import main; main()"
ARROW = "application/vnd.apache.arrow.stream"
OUT = HERE / "out" / "serve.json"
SIZES = (1, 100)
_COMMIT = 65_536
_PER_CLUSTER = 200
_SPREAD = 0.7
_CONNECTIONS = 8
_WARM_UP = 20


def main() -> None:
    """Measure all sides in one go and print the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50, help="of each kind of vector search")
    parser.add_argument("--only", default=",".join(STEPS), help="these steps, by comma: %(default)s")
    parser.add_argument("--side", choices=sorted(SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--at", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args)))
        return
    if unknown := set(args.only.split(",")) - {*STEPS}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    store = HERE / "data" / f"serve-{args.items}x{args.dims}"
    for step in args.only.split(","):
        before = os.getloadavg()
        measured = STEPS[step](store, args)
        keep(args, step, {"load": before, **measured})
    print_table(kept(args))


def step_store(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The store, made once."""
    began = time.perf_counter()
    if not store.exists():
        make_store(store, args.items, args.dims)
    return {"seconds": time.perf_counter() - began}


def step_lancedb(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """LanceDB's own calls."""
    return in_a_process("lancedb", str(store), args)


def step_service(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The service, in a process of its own."""
    with served(store) as url:
        return in_a_process("service", url, args)


def step_redis(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Redis with the same vectors."""
    if not shutil.which("redis-server"):
        raise SystemExit("redis-server is not installed: leave the step out with --only.")
    with redis(store) as port:
        return in_a_process("redis", str(port), args)


def step_index(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The vector index beside exact search."""
    return in_a_process("index", str(store), args)


STEPS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "store": step_store,
    "lancedb": step_lancedb,
    "service": step_service,
    "redis": step_redis,
    "index": step_index,
}


def kept(args: argparse.Namespace) -> dict[str, Any]:
    """Results so far of a store of this size."""
    found: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    same = {"items": args.items, "dims": args.dims}
    return found if same.items() <= found.items() else same


def keep(args: argparse.Namespace, step: str, measured: dict[str, Any]) -> None:
    """Note the results of a step, in place of earlier ones."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({**kept(args), step: measured}, indent=2))


def ask_service(args: argparse.Namespace) -> dict[str, Any]:
    """The load generator: one connection for latency, eight for requests per second."""
    host, _, port = args.at.removeprefix("http://").partition(":")
    measured = {}
    for form in ("arrow", "json"):
        for n in SIZES:

            def asker(n: int = n, form: str = form) -> Callable[[list[str]], None]:
                line = http.client.HTTPConnection(host, int(port))
                accept = ARROW if form == "arrow" else "application/json"
                headers = {"Accept": accept, "Content-Type": "application/json"}

                def ask(ids: list[str]) -> None:
                    line.request("POST", "/v1/lookup", json.dumps({"ids": ids}), headers)
                    answer = line.getresponse()
                    body = answer.read()
                    assert answer.status == 200, body

                return ask

            measured[f"{form} {n}"] = both(asker, n, args)
    return measured


def ask_lancedb(args: argparse.Namespace) -> dict[str, Any]:
    """LanceDB's own calls, as its documentation has them, in this process."""
    import lancedb

    database = lancedb.connect(args.at)
    name = next(n for n in database.list_tables().tables if n.startswith("vectors-"))

    def asker() -> Callable[[list[str]], None]:
        table = database.open_table(name)

        def ask(ids: list[str]) -> None:
            where = "item_id IN (" + ", ".join(f"'{i}'" for i in ids) + ")"
            found = table.search().where(where).select(["item_id", "vector"]).to_arrow()
            assert len(found) == len(set(ids))

        return ask

    return {f"calls {n}": both(asker, n, args) for n in SIZES}


def ask_redis(args: argparse.Namespace) -> dict[str, Any]:
    """``MGET`` over Redis' protocol; the values are the vectors' bytes."""

    def asker() -> Callable[[list[str]], None]:
        line = socket.create_connection(("127.0.0.1", int(args.at)))
        reader = line.makefile("rb")

        def ask(ids: list[str]) -> None:
            line.sendall(command("MGET", *ids))
            assert int(reader.readline()[1:]) == len(ids)
            for _ in ids:
                size = int(reader.readline()[1:])
                assert len(reader.read(size + 2)) == size + 2 > 2

        return ask

    return {f"mget {n}": both(asker, n, args) for n in SIZES}


def search_index(args: argparse.Namespace) -> dict[str, Any]:
    """Recall@10 of the index against exact search for vectors beside stored ones, and both latencies."""
    import lance

    import mmfeat

    table = lance.dataset(str(next(Path(args.at).glob("vectors-*.lance"))))
    for index in table.describe_indices():
        if index.name.startswith("vector"):  # of an earlier run: exact search would use it
            table.drop_index(index.name)
    store = mmfeat.open(args.at)
    rng = np.random.default_rng(2)
    ids = [f"item-{k}" for k in rng.integers(0, args.items, args.queries)]
    near = store.lookup(ids, ["vectors"])["vectors"].matrix.astype(np.float32)
    queries = near + _SPREAD * rng.standard_normal(near.shape, dtype=np.float32)

    def search() -> tuple[list[set[str]], dict[str, float]]:
        opened = mmfeat.open(args.at)
        opened.search("vectors", vector=queries[0])
        found, seconds = [], []
        for query in queries:
            began = time.perf_counter()
            found.append({hit.item_id for hit in opened.search("vectors", vector=query, k=10)})
            seconds.append(time.perf_counter() - began)
        return found, latency(seconds)

    exact, exact_ms = search()
    began = time.perf_counter()
    store.build_index("vectors")
    built = time.perf_counter() - began
    quick, quick_ms = search()
    recall = np.mean([len(a & b) / len(a) for a, b in zip(exact, quick, strict=True)])
    return {"recall_at_10": float(recall), "exact": exact_ms, "index": quick_ms, "build_seconds": built}


SIDES = {"service": ask_service, "lancedb": ask_lancedb, "redis": ask_redis, "index": search_index}


def both(
    asker: Callable[[], Callable[[list[str]], None]], n: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Latency on one connection, then requests per second on several."""
    return latency(timed(asker(), n, args, seed=n)) | {"per_second": rate(asker, n, args)}


def timed(ask: Callable[[list[str]], None], n: int, args: argparse.Namespace, seed: int) -> list[float]:
    """Seconds of each request for ``n`` random ids, after a few that do not count."""
    rng = np.random.default_rng(seed)
    seconds = []
    for k in range(_WARM_UP + max(100, args.requests // n)):
        ids = [f"item-{i}" for i in rng.integers(0, args.items, n)]
        began = time.perf_counter()
        ask(ids)
        if k >= _WARM_UP:
            seconds.append(time.perf_counter() - began)
    return seconds


def rate(asker: Callable[[], Callable[[list[str]], None]], n: int, args: argparse.Namespace) -> float:
    """Requests per second on eight connections."""
    done: list[int] = []
    askers = [asker() for _ in range(_CONNECTIONS)]
    workers = [
        threading.Thread(target=lambda a=a, s=s: done.append(len(timed(a, n, args, seed=s)) + _WARM_UP))
        for s, a in enumerate(askers)
    ]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done) / (time.perf_counter() - began)


def latency(seconds: list[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    return {f"p{q}_ms": float(np.percentile(seconds, q) * 1e3) for q in (50, 99)}


@contextmanager
def served(store: Path) -> Iterator[str]:
    """``mmfeat serve`` of a store, by its URL."""
    command_ = [sys.executable, "-c", CLI, "serve", str(store), "--port", "0", "--json"]
    process = subprocess.Popen(command_, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def redis(store: Path) -> Iterator[int]:
    """A Redis in memory alone that holds every vector of the store, by its port."""
    import lance

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    try:
        line = connected(port)
        reader = line.makefile("rb")
        table = lance.dataset(str(next(store.glob("vectors-*.lance"))))
        for batch in table.to_batches(columns=["item_id", "vector"], batch_size=1000):
            vectors = batch["vector"].flatten().to_numpy().reshape(len(batch), -1)
            pairs = [
                p
                for i, v in zip(batch["item_id"].to_pylist(), vectors, strict=True)
                for p in (i, v.tobytes())
            ]
            line.sendall(command("MSET", *pairs))
            assert reader.readline() == b"+OK\r\n"
        yield port
    finally:
        process.terminate()
        process.wait()


def connected(port: int) -> socket.socket:
    """A connection to a server that is starting."""
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.1)
    raise SystemExit("redis-server did not start")


def command(*words: str | bytes) -> bytes:
    """A command in Redis' protocol."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def make_store(path: Path, items: int, dims: int) -> None:
    """A store of float16 vectors around random centres, so that neighbours mean something."""
    import pyarrow as pa

    from mmfeat.schemas.catalog import CATALOG_SCHEMA
    from mmfeat.schemas.featureset.arrow import vector_array
    from mmfeat.schemas.spec import FeatureSpec, Weights
    from mmfeat.store import Store, rows_schema

    spec = FeatureSpec(
        name="vectors", source="cover", output="vector", method="bench", model="random",
        weights=Weights(origin="random", ref="seed=0"), dims=dims, store_dtype="float16",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    ids = [f"item-{k}" for k in range(items)]
    centres = rng.standard_normal((items // _PER_CLUSTER + 1, dims), dtype=np.float32)
    schema = rows_schema(spec)
    store = Store.open(str(path), create=True)
    with store.lease("bench"):
        rest = [pa.nulls(items, field.type) for field in list(CATALOG_SCHEMA)[1:]]
        store.put_catalog(pa.table([pa.array(ids), *rest], schema=CATALOG_SCHEMA), {"name": "bench"})
        version = store.add_version(spec)
        for start in range(0, items, _COMMIT):
            some = ids[start : start + _COMMIT]
            noise = rng.standard_normal((len(some), dims), dtype=np.float32)
            matrix = centres[rng.integers(0, len(centres), len(some))] + _SPREAD * noise
            known = {
                "item_id": pa.array(some),
                "status": pa.array(["ok"] * len(some)),
                "vector": vector_array(matrix.astype(np.float16), np.ones(len(some), bool)),
                "created": pa.array([datetime.now(UTC)] * len(some), schema.field("created").type),
            }
            columns = [known.get(field.name, pa.nulls(len(some), field.type)) for field in schema]
            rows = pa.table([c.cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            store.commit(version, rows, replace=False)
        store.finish(version)
        store.set_current("vectors", version.fingerprint)


def in_a_process(side: str, at: str, args: argparse.Namespace) -> dict[str, Any]:
    """One side in a new process."""
    words = [sys.executable, "-m", "bench.serve", "--side", side, "--at", at, "--items", str(args.items)]
    words += ["--requests", str(args.requests), "--queries", str(args.queries)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps({side: measured}), flush=True)
    return measured


def print_table(results: dict[str, Any]) -> None:
    """The results for people."""
    print(f"\n{'':18}  {'p50 ms':>8}  {'p99 ms':>8}  {'per second':>10}")
    for side in ("lancedb", "service", "redis"):
        for what, m in results.get(side, {}).items():
            if what == "load":
                continue
            print(f"{side + ' ' + what:18}  {m['p50_ms']:8.2f}  {m['p99_ms']:8.2f}  {m['per_second']:10.0f}")
    if index := results.get("index"):
        for kind in ("exact", "index"):
            print(f"{'search ' + kind:18}  {index[kind]['p50_ms']:8.2f}  {index[kind]['p99_ms']:8.2f}")
        print(f"recall@10 {index['recall_at_10']:.3f}; built in {index['build_seconds']:.0f} s")


if __name__ == "__main__":
    main()
