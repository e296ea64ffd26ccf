"""The report as one page: everything it needs is in it, and nothing it says can run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmfeat.report.page.gallery import item_rows
from mmfeat.report.page.items import Embedded, embed
from mmfeat.report.page.sections import sections
from mmfeat.report.page.verdict import Head, head
from mmfeat.report.page.wording import number, percent
from mmfeat.schemas.visible import visible
from mmfeat.web import csp_source, stylesheet

if TYPE_CHECKING:
    from mmfeat.report.model import CaptionReport
    from mmfeat.report.page.parts import Section


def document(report: CaptionReport) -> str:
    """The whole caption report as one HTML page; see :func:`drawn`."""
    listed = embed(item_rows(report), [kind.title for kind in report.suspects])
    command = "mmfeat report captions --json"
    return drawn("Caption report", command, head(report), sections(report), listed)


def drawn(
    kind: str, command: str, head: Head, sections: Sequence[Section], items: Embedded | None = None
) -> str:
    """One HTML page that opens offline, on a laptop, a phone and paper.

    Style, script, data and pictures are in the page; its Content-Security-Policy lets nothing else run or
    load.

    Args:
        kind: what the page is.
        command: gives the same facts as JSON.
        items: of the table of all items, on a page that has one.
    """
    style = stylesheet() + _own("report.css")
    script = _own("report.js")
    policy = (
        f"default-src 'none'; style-src {csp_source(style)}; script-src {csp_source(script)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            kind=kind,
            command=command,
            head=head,
            sections=sections,
            items=items,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            version=version("mmfeat"),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        finalize=_readable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number)
    return environment


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _readable(value: object) -> object:
    """Every text that the template prints, but for what it marked as safe itself."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
