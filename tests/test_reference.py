"""docs/reference/ is what scripts/reference.py makes of the code."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from scripts import reference

COMMITTED = Path(__file__).parents[1] / "docs" / "reference"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return reference.pages()


def test_the_reference_has_no_page_that_nothing_writes(pages):
    assert sorted(pages) == sorted(page.name for page in COMMITTED.iterdir())


@pytest.mark.parametrize("name", ["cli.md", "job.md", "exports.md", "encoders.md", "errors.md"])
def test_a_page_of_the_reference_says_what_the_code_does(name, pages):
    assert (COMMITTED / name).read_text(encoding="utf-8") == pages[name], "make docs writes it anew"


def test_a_setting_without_a_description_is_refused():
    class Undescribed(BaseModel):
        """Nothing is said of its field."""

        field: int = 0

    with pytest.raises(SystemExit, match="Undescribed does not describe 'field'"):
        reference._settings(Undescribed, ["field"])
