"""The report as one page: everything it needs is in it, and nothing it says can run."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmfeat.report.page.gallery import item_rows
from mmfeat.report.page.items import embed
from mmfeat.report.page.sections import sections
from mmfeat.report.page.verdict import head
from mmfeat.report.page.wording import number, percent
from mmfeat.schemas.visible import visible
from mmfeat.web import csp_source, stylesheet

if TYPE_CHECKING:
    from mmfeat.report.model import CaptionReport


def document(report: CaptionReport) -> str:
    """The whole report as one HTML page that opens offline, on a laptop, a phone and paper.

    Style, script, data and pictures are in the page; its Content-Security-Policy lets nothing else run or
    load.
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
            head=head(report),
            sections=sections(report),
            items=embed(item_rows(report), [kind.title for kind in report.suspects]),
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
