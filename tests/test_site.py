"""The documentation as a site. Its links and anchors are checked where it is built: make docs."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import site_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def test_every_page_is_in_the_navigation_of_the_site():
    listed = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(
        ["index.md", *(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))]
    )


@pytest.mark.parametrize(
    ("page", "link", "repository", "expected"),
    [
        ("index.md", "[a](docs/python.md#errors)", "", "[a](python.md#errors)"),
        ("index.md", "[a](LICENSE)", "https://host/mmfeat", "[a](https://host/mmfeat/blob/HEAD/LICENSE)"),
        ("python.md", "[a](cli.md)", "", "[a](cli.md)"),
        ("python.md", "[a](../tests/a.py)", "", "a"),
        (
            "python.md",
            "[a](../tests/a.py)",
            "https://host/mmfeat",
            "[a](https://host/mmfeat/blob/HEAD/tests/a.py)",
        ),
        ("reference/cli.md", "[a](../python.md)", "", "[a](../python.md)"),
        ("reference/cli.md", "[a](../../tests/a.py)", "", "a"),
        ("python.md", "[a](https://a.org) [b](#errors)", "", "[a](https://a.org) [b](#errors)"),
    ],
)
def test_a_link_out_of_the_docs_leads_to_the_repository_on_the_site(page, link, repository, expected):
    on_the_site = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    config = SimpleNamespace(docs_dir=str(DOCS), repo_url=repository)
    assert site_pages.on_page_markdown(link, on_the_site, config, files=None) == expected
