"""Installs mmfeat's wheel into an environment of its own, with the light core only, and uses it there.

    python -m build
    python scripts/check_wheel.py dist

`make wheel` does both. pip finds the pinned versions in constraints.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
MAX_BYTES = 10_000_000
# Runs in the new environment: the vector of one item of a golden store, as JSON.
LOOKUP = """
import json, sys
import mmfeat
column = mmfeat.open(sys.argv[1]).lookup([sys.argv[2]], ["title_text"])["title_text"]
found = {"file": mmfeat.__file__, "fingerprint": column.spec.fingerprint, "row": column.matrix[0].tolist()}
print(json.dumps(found))
"""
ITEM, ITEM_ROW = "101", 0


def main() -> None:
    """Checks the only wheel of a folder; ends with what is wrong, if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with the wheel")
    wheel = only_wheel(parser.parse_args().folder)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB of at most {MAX_BYTES / 1e6:.0f} MB")
    refuse(content_problems(wheel))
    with tempfile.TemporaryDirectory() as scratch:
        python = installed(wheel, Path(scratch) / "environment")
        check_commands(python, Path(scratch))
        check_lookup(python, Path(scratch))
    print("Installed with the light core: commands answer, and a store of format 1 opens.")


def only_wheel(folder: Path) -> Path:
    """The wheel in ``folder``; exits if there is none or more than one."""
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{folder} holds {len(wheels)} wheels. Empty it and build one: make wheel.")
    return wheels[0]


def content_problems(wheel: Path) -> list[str]:
    """What is wrong with the wheel's size and files, in words; empty if nothing is.

    The wheel holds every file of the folder mmfeat (code, types, presets, templates, sample data), no other.
    """
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mmfeat").rglob("*") if is_source(path)}
    problems = [f"{name} is not inside." for name in sorted(wanted - inside)]
    problems += [f"{name} does not belong inside." for name in sorted(inside - wanted)]
    if wheel.stat().st_size > MAX_BYTES:
        problems.append(f"It has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}.")
    return problems


def is_source(path: Path) -> bool:
    """Whether a path of the source tree is a file that belongs to the package."""
    return path.is_file() and "__pycache__" not in path.parts


def refuse(problems: Sequence[str]) -> None:
    """Exit with the problems, if there are any."""
    if problems:
        sys.exit("The wheel is not right:\n" + "\n".join(problems))


def installed(wheel: Path, environment: Path) -> Path:
    """The interpreter of a new environment that holds ``wheel`` and what it requires, and nothing else."""
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, wheel], check=True)
    return python


def check_commands(python: Path, folder: Path) -> None:
    """Ask the installed command for its version and its help."""
    mmfeat = str(python.with_name("mmfeat"))
    version = answer([mmfeat, "--version"], folder).split()[-1]
    built = answer([str(python), "-c", "import importlib.metadata as m; print(m.version('mmfeat'))"], folder)
    if version != built.strip():
        sys.exit(f"mmfeat --version says {version}, the wheel says {built.strip()}.")
    if "extract" not in answer([mmfeat, "--help"], folder):
        sys.exit("mmfeat --help does not name the command extract.")


def check_lookup(python: Path, folder: Path) -> None:
    """Look one item up in a store of format 1, and hold the vector against what was stored."""
    with zipfile.ZipFile(GOLDEN / "stores-v1.zip") as archive:
        archive.extractall(folder)
    found = json.loads(answer([str(python), "-c", LOOKUP, str(folder / "shop"), ITEM], folder))
    if not Path(found["file"]).is_relative_to(folder):
        sys.exit(f"It was not the wheel that answered but {found['file']}.")
    with np.load(GOLDEN / "answers.npz") as answers:
        stored = answers[f"shop/title_text@{found['fingerprint']}"][ITEM_ROW]
    if not np.array_equal(np.asarray(found["row"], stored.dtype), stored):
        sys.exit(f"The vector of item {ITEM} is not the one that was stored.")


def answer(command: Sequence[str], folder: Path) -> str:
    """What ``command`` prints, run in ``folder``: away from the source tree, and without its PYTHONPATH."""
    done = subprocess.run(command, cwd=folder, env={}, check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
