"""Both sides as commands, end to end: mmfeat's ``run`` beside the plain loop, and beside other tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bench import media
from bench.decoders import FRAMES
from bench.measure import Measured, measure
from bench.models import CLIP, ENCODERS
from bench.sizes import Size

HERE = Path(__file__).parent
PEERS_VENVS = HERE.parent / ".venv-bench"
WITHOUT_OPENVINO = {"PYTHONPATH": str(HERE / "without_openvino")}
PLAIN = "plain PyTorch loop"

RUN = "from mmfeat.cli import main; main()"
_CLIP = {"encoder": "open_clip", "model": CLIP, "weights": "random:0"}
_TITLES = {
    "source": "title", "encoder": "sentence_transformers", "model": "all-MiniLM-L6-v2", "weights": "package"
}  # fmt: skip
_THREE = {
    f"covers_{number}": {"source": "cover", "encoder": encoder, "model": model, "weights": "random:0"}
    for number, (encoder, model) in enumerate(ENCODERS.values())
}


@dataclass(frozen=True)
class Job:
    """One way of running mmfeat.

    Attributes:
        features: as in a job file.
        env: variables of the run.
        like: features to compare with the plain loop's matrix of the same name.
    """

    name: str
    features: dict[str, dict[str, Any]]
    env: dict[str, str] = field(default_factory=dict)
    like: tuple[str, ...] = ()


def _jobs(part: str) -> list[Job]:
    covers = {"covers": {"source": "cover", **_CLIP}}
    clips = {"clips": {"source": "video", "frames": FRAMES, **_CLIP}}
    titles = {"titles": _TITLES}
    features = {
        "covers": covers,
        "three encoders": _THREE,
        "clips": clips,
        "titles": titles,
        "all together": covers | clips | titles,
    }[part]
    bf16 = {name: {**config, "dtype": "bfloat16"} for name, config in features.items()}
    like = tuple(features)
    if part not in ("covers", "titles"):
        return [Job("mmfeat fp32", features, {}, like), Job("mmfeat bf16", bf16, {}, like)]
    return [
        Job(f"mmfeat {precision}, {runtime}", config, env, like)
        for precision, config in (("fp32", features), ("bf16", bf16))
        for runtime, env in (("torch", WITHOUT_OPENVINO), ("openvino", {}))
    ]


class Suite:
    """The folder of one run of the suite, and what is in it.

    Args:
        pool: the media, see ``bench.media.write_pool``; graphs: see ``bench.models``.
        out: for stores and matrices; emptied by the caller.
    """

    def __init__(self, pool: Path, graphs: Path, out: Path, size: Size) -> None:
        self.pool, self.graphs, self.out, self.size = pool, graphs, out, size
        # Converted networks are kept here, and not where the person's own runs find them.
        os.environ["XDG_CACHE_HOME"] = str(out / "cache")

    def part(self, part: str) -> list[dict[str, Any]]:
        """The plain loop and mmfeat's jobs, in turn, ``size.repeats`` times."""
        folder = self._media(part)
        jobs = [job for job in _jobs(part) if self.size.jobs is None or job.name in self.size.jobs]
        rows: dict[str, dict[str, Any]] = {
            name: {"part": part, "name": name, "of": self._counts(part), "rounds": []}
            for name in (PLAIN, *(job.name for job in jobs))
        }
        for job in jobs:
            if job.env is not WITHOUT_OPENVINO:
                rows[job.name]["first_load_seconds"] = self._load(part, folder, job)
        matrices = self.out / "plain" / part
        for _ in range(self.size.repeats):
            loop = measure([sys.executable, "-m", "bench.plain", part, str(folder), str(matrices)])
            rows[PLAIN]["rounds"].append(_round(loop, json.loads(loop.output)["rows_per_second"]))
            for job in jobs:
                store = self._store(part, job.name)
                shutil.rmtree(store, ignore_errors=True)
                run, report = self._run(self._job_file(part, job, folder, store), job.env)
                rows[job.name]["rounds"].append(
                    _round(run, report["rows_per_second"], report["start_seconds"])
                )
                rows[job.name]["runtimes"] = sorted({r for f in report["features"] for r in f["runtimes"]})
        for job in jobs:
            rows[job.name]["agreement"] = {
                name: agreement(self._store(part, job.name), name, np.load(matrices / f"{_matrix(name)}.npy"))
                for name in job.like
            }
        return list(rows.values())

    def again(self) -> list[dict[str, Any]]:
        """The same covers once more: with nothing new, and with one file in a hundred changed."""
        job = _jobs("covers")[-1]
        folder = media.gather(self.out / "media" / "again", covers=self._covers(self.size.pool[0]))
        file = self._job_file("again", job, folder, self._store("again", job.name))
        whole, report = self._run(file, job.env)
        rows = [_again("all new", whole, report)]
        for _ in range(self.size.repeats):
            rows.append(_again("nothing new", *self._run(file, job.env)))
        changed = self.size.pool[0] // 100
        spare = self._covers(self.size.pool[0] + changed)[-changed:]
        for path, other in zip(sorted((folder / "covers").iterdir())[:changed], spare, strict=True):
            path.unlink()
            os.link(other, path)
        rows.append(_again("1 % changed", *self._run(file, job.env)))
        return rows

    def peers(self) -> list[dict[str, Any]]:
        """Every tool on few and on more covers; the difference of the two is its steady rate."""
        few, more = self.size.peer_covers
        folders = {
            n: media.gather(self.out / "media" / f"peer-{n}", covers=self._covers(n)) for n in (few, more)
        }
        job = Job("mmfeat fp32", _jobs("covers")[0].features)
        self._load("peers", folders[more], job)
        matrices = self.out / "plain" / "peers"

        def plain(n: int) -> float:
            command = [sys.executable, "-m", "bench.plain", "covers", str(folders[n]), str(matrices)]
            return measure(command).seconds

        def mmfeat(n: int) -> float:
            store = self._store("peers", str(n))
            shutil.rmtree(store, ignore_errors=True)
            return self._run(self._job_file("peers", job, folders[n], store), job.env)[0].seconds

        rows = [_two_passes(PLAIN, plain, few, more), _two_passes("mmfeat fp32", mmfeat, few, more)]
        theirs = np.load(matrices / "covers.npy")
        for script in sorted((HERE / "peers").glob("[a-z]*.py")):
            rows.append(self._peer(script, folders, theirs))
        return rows

    def _peer(self, script: Path, folders: dict[int, Path], expected: np.ndarray) -> dict[str, Any]:
        name = script.stem
        own = PEERS_VENVS / name / "bin" / "python"
        if script.parent.joinpath("requirements", f"{name}.txt").exists() and not own.exists():
            return {"part": "peers", "name": name, "left_out": "not installed (make bench-peers)"}
        python = str(own if own.exists() else sys.executable)
        out = self.out / "peers" / name

        def run(n: int) -> float:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            arguments = (script, folders[n] / "covers", self.graphs / "clip.pt", out)
            # -P: scripts are named as the packages are that they import.
            command = [python, "-P", *map(str, arguments)]
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=out)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
            return time.perf_counter() - began

        try:
            row = _two_passes(name, run, *folders)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return {"part": "peers", "name": name, "left_out": str(error)[:300]}
        return row | {"agreement": {"covers": _cosines(np.load(out / "vectors.npy"), expected)}}

    def _counts(self, part: str) -> dict[str, int]:
        """What one pass of a part goes over."""
        size, counts = self.size, {}
        if part in ("covers", "three encoders", "all together"):
            counts["covers"] = size.three if part == "three encoders" else size.covers
        if part in ("clips", "all together"):
            counts |= zip(media.CODECS, size.clips, strict=True)
        if part in ("titles", "all together"):
            counts["titles"] = size.titles
        return counts

    def _media(self, part: str) -> Path:
        counts = self._counts(part)
        clips = [media.clips_of(self.pool, codec, counts.get(codec, 0)) for codec in media.CODECS]
        return media.gather(
            self.out / "media" / part.replace(" ", "-"),
            covers=self._covers(counts.get("covers", 0)),
            clips=chain.from_iterable(clips),
            titles=counts.get("titles", 0),
        )

    def _covers(self, number: int) -> list[Path]:
        return media.covers_of(self.pool, number)

    def _store(self, part: str, name: str) -> Path:
        return self.out / "stores" / f"{part} {name}".replace(" ", "-").replace(",", "")

    def _job_file(self, part: str, job: Job, folder: Path, store: Path) -> Path:
        lines = [f'[store]\nuri = "{store}"', f'[dataset]\nname = "folder"\nroot = "{folder}"']
        for name, config in job.features.items():
            lines.append(
                f"[features.{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in config.items())
            )
        path = store.with_suffix(".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
        return path

    def _run(self, job: Path, env: dict[str, str]) -> tuple[Measured, dict[str, Any]]:
        run = measure([sys.executable, "-c", RUN, "run", str(job), "--json"], env)
        return run, json.loads(run.output)

    def _load(self, part: str, folder: Path, job: Job) -> float:
        """Seconds to load the models as a long run does: networks are converted, and stay for the runs."""
        began = time.perf_counter()
        file = self._job_file(part, job, folder, self._store(part, job.name))
        measure([sys.executable, "-c", LOAD, str(file)], job.env)
        return round(time.perf_counter() - began, 1)


LOAD = """
import sys, tomllib
from mmfeat.extract.base import Placement
from mmfeat.extract.registry import load_method, resolve_all
from mmfeat.schemas.spec import FeatureConfig
features = tomllib.load(open(sys.argv[1], "rb"))["features"]
for spec in resolve_all({name: FeatureConfig.model_validate(config) for name, config in features.items()}):
    load_method(spec, Placement("cpu", threads=1, expected=10**6))
"""


def _round(run: Measured, steady: float | None, start: float | None = None) -> dict[str, Any]:
    """What is kept of one command."""
    return {
        "rows_per_second": steady,
        "start_seconds": start,
        "seconds": round(run.seconds, 2),
        "driver_mb": run.driver_mb,
        "worker_mb": run.worker_mb,
        "total_mb": run.total_mb,
    }


def _again(name: str, run: Measured, report: dict[str, Any]) -> dict[str, Any]:
    return {"part": "again", "name": name, "seconds": round(run.seconds, 2), "computed": report["computed"]}


def _two_passes(name: str, run: Callable[[int], float], few: int, more: int) -> dict[str, Any]:
    # The faster of two each: a slow short pass would make a tool look faster than it is.
    passes = [(run(few), run(more)) for _ in range(2)]
    short, long = map(min, zip(*passes, strict=True))
    return {
        "part": "peers",
        "name": name,
        "rows_per_second": round((more - few) / (long - short), 2),
        "seconds": round(long, 2),
        "few": few,
        "more": more,
    }


def _matrix(feature: str) -> str:
    return feature.replace("_", "-")


def agreement(store: Path, feature: str, expected: np.ndarray) -> dict[str, float]:
    """How alike mmfeat's vectors are to a matrix of the items in order, see ``_cosines``."""
    import mmfeat

    opened = mmfeat.open(store)
    got = opened.lookup(sorted(opened.ids), [feature])[feature]
    return _cosines(got.matrix[np.asarray(got.mask, dtype=bool)], expected)


def _cosines(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The least cosine between rows, before and after the mean of theirs was taken from both."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    ours /= np.linalg.norm(ours, axis=1, keepdims=True)
    mean = theirs.mean(0)
    return {
        "least_cosine": round(_least(ours, theirs), 7),
        "least_cosine_centred": round(_least(ours - mean, theirs - mean), 7),
    }


def _least(ours: np.ndarray, theirs: np.ndarray) -> float:
    dots = (ours * theirs).sum(1)
    return float((dots / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min())
