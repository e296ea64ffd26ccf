"""The examples in README and docs run: `sh` blocks as commands, `python` blocks as one program a page,
`toml` blocks as jobs. Blocks of other kinds are for reading.

Commands and programs run in this process, as a process of its own imports torch and Ray again each time. What
the README begins with runs in one of its own, as a user's does.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "bench" / "RESULTS.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), RESULTS]
NOTEBOOK = DOCS / "quickstart.ipynb"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
# Its formats choose among the two features that it extracts.
FROM_NOTHING = {"exports.md"}
# What the README begins with.
EXTRACT = "mmfeat extract --dataset sample --store features"
CLI = "from mmfeat.cli import main; main()"


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def runnable(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in blocks(page) if kind in ("sh", "python")]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory) -> Path:
    """The store that most pages begin with."""
    folder = tmp_path_factory.mktemp("extracted")
    _run_process([sys.executable, "-c", CLI, *shlex.split(EXTRACT)[1:]], folder)
    return folder / "features"


@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda p: p.name)
def test_the_examples_of_a_page_run_one_after_the_other(page, run, tmp_path, extracted):
    # What these pages extract is then up to date: the commands still run, and the models need not do the
    # same work once a page.
    if page.name not in FROM_NOTHING:
        shutil.copytree(extracted, tmp_path / "features")
    program: dict[str, Any] = {"__name__": "__main__"}
    for kind, text in runnable(page):
        if kind == "python":
            exec(compile(text, f"a block of {page.name}", "exec"), program)
        else:
            for line in text.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    _run_line(words, run, tmp_path)


def test_the_cells_of_the_notebook_run_one_after_the_other(monkeypatch, tmp_path, extracted):
    shutil.copytree(extracted, tmp_path / "features")
    monkeypatch.chdir(tmp_path)
    program: dict[str, Any] = {"__name__": "__main__"}
    shown = ""
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            shown += _run_cell("".join(cell["source"]), f"cell {number} of {NOTEBOOK.name}", program)
    assert "RunReport" in shown and "title_text@" in shown and "Evaluation of" in shown


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_toml_block_is_toml(page):
    for kind, text in blocks(page):
        if kind == "toml":
            tomllib.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_inside_the_project_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_link_to_the_results_leads_to_a_heading():
    # The site checks the anchors of its own pages, and these results are outside of it.
    headings = re.findall(r"^#+ (.*)$", RESULTS.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = [link for page in PAGES for link in re.findall(r"RESULTS\.md#([\w-]+)\)", page.read_text())]
    links += re.findall(r"\]\(#([\w-]+)\)", RESULTS.read_text())
    assert links and set(links) <= anchors


def _run_cell(source: str, name: str, program: dict[str, Any]) -> str:
    """Run a cell as a notebook does; the HTML of what its last line gives, if that has any."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), name, "exec"), program)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), name, "exec"), program)
        return ""
    given = eval(compile(ast.Expression(last.value), name, "eval"), program)
    return str(given._repr_html_()) if hasattr(given, "_repr_html_") else ""


def _run_line(words: list[str], run: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    if words[0] == "mmfeat":
        code, out, err = run(*words[1:])
        assert code == 0, f"{words}\n{out}\n{err}"
    else:
        _run_process(words, folder)


def _run_process(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
