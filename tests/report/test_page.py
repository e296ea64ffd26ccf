"""The report's page, read as a browser's parser reads it but without one."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from helpers import report_pages

from mmfeat.report.model import Absent
from mmfeat.report.page import render
from mmfeat.schemas.errors import MissingExtra
from mmfeat.web import csp_source


class Parsed(HTMLParser):
    """Elements with their attributes, the text of each script and style, and all text outside of them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in self.inside:
            self.inside[self.cdata_elem].append(data)
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def report():
    return report_pages.report()


@pytest.fixture(scope="module")
def page(report) -> Parsed:
    return Parsed(render(report))


def read(text: str) -> str:
    return " ".join(text.split())


def test_the_page_names_nothing_outside_itself(page):
    named = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(named) > 20
    assert [url for url in named if not url.startswith(("#", "data:image/jpeg;base64,", "data:,"))] == []
    assert "url(" not in "".join(page.inside["style"]) and "@import" not in "".join(page.inside["style"])


def test_the_policy_allows_the_pages_own_style_and_script_and_nothing_else(page):
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    data, script = page.inside["script"]
    (style,) = page.inside["style"]
    assert json.loads(data)["rows"]
    assert policy == (
        f"default-src 'none'; style-src {csp_source(style)}; script-src {csp_source(script)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    # What such a policy would ignore is not there in the first place.
    assert not [a for _, a in page.elements if "style" in a or any(name.startswith("on") for name in a)]


def test_a_hash_source_is_the_one_that_browsers_compute():
    assert csp_source("") == "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


def test_texts_of_strangers_are_shown_and_make_no_elements(page):
    for text in (report_pages.SCRIPT, report_pages.CLOSER, report_pages.ARABIC, "a/b?c=<i>&\"'"):
        assert read(text) in read(page.text)
    assert len(page.all("script")) == 2
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert not page.all("i")


def test_controls_that_reorder_text_are_written_out(report):
    html = render(report)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", html)
    assert r'dir="auto">safe \u202eetirw\u202c \x1b[31m' in html
    assert r'"safe \\u202eetirw\\u202c \\x1b[31m"' in html


def test_a_failed_verdict_names_each_gate_that_fell_short(page):
    text = read(page.text)
    assert "Failed: 2 of 4 gates" in text
    assert "refusals is 0.032, asked for at most 0.01; supported_claims could not be measured." in text
    assert text.index("supported_claims failed not measured") < text.index("coverage passed 0.883")


def test_a_passed_verdict_and_none_at_all_say_so():
    assert "Passed: 4 gates kept" in Parsed(render(report_pages.report(passed=True))).text
    no_gates = report_pages.report().model_copy(update={"gates": ()})
    assert "No gates were set" in Parsed(render(no_gates)).text


def test_every_suspect_shows_its_count_examples_and_ids(report, page):
    text = read(page.text)
    for kind in report.suspects:
        assert kind.title in text
        for example in kind.examples:
            assert f"{example.item_id} {example.detail}" in text
        if kind.item_ids:
            assert f"Item ids: {', '.join(kind.item_ids)}" in text
    assert "not checked" in text and "the prompt of this version is not recorded" in text


def test_what_could_not_be_made_says_why(report):
    why = Absent(absent="There is a reason for this.")
    usefulness = report.usefulness.model_copy(
        update=dict.fromkeys(("clip_retrieval", "text_retrieval", "neighbours", "near_duplicates"), why)
    )
    sections = dict.fromkeys(
        ("variety", "grounding", "references", "claims", "comparison", "evidence", "judged"), why
    )
    bare = report.model_copy(update={**sections, "usefulness": usefulness})
    # The comparison is told twice: in the verdict and in its own section.
    assert Parsed(render(bare)).text.count(why.absent) == len(sections) + 4 + 1


def test_a_report_on_nothing_is_a_page_too(report):
    lengths = report.lengths.model_copy(
        update={"words": None, "tokens": None, "seconds": None, "cut": 0, "finish_known": 0}
    )
    coverage = report.coverage.model_copy(update=dict.fromkeys(("items", "ok", "missing", "failed"), 0))
    suspects = tuple(
        s.model_copy(update={"count": 0, "share": 0.0, "examples": (), "item_ids": ()})
        for s in report.suspects
    )
    empty = report.model_copy(
        update={
            "items": (),
            "gallery": (),
            "lengths": lengths,
            "suspects": suspects,
            "coverage": coverage.model_copy(update={"failures": ()}),
        }
    )
    assert "All 0 items" in Parsed(render(empty)).text


def test_headings_do_not_skip_a_level_and_every_anchor_has_its_target(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)


def test_each_column_of_a_table_is_named_by_a_head_with_a_scope(page):
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert all(image.get("alt") for image in page.all("img"))
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(pictures) == 4 and all(svg["aria-label"] for svg in pictures)


def test_without_the_extra_the_error_says_what_to_install(report, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match="jinja2") as error:
        render(report)
    assert "mmfeat[report]" in (error.value.hint or "")
