"""A matplotlib figure as inline SVG that takes its colours from the page's theme.

Matplotlib writes colours and fonts into ``style`` attributes, which a page with a strict
Content-Security-Policy ignores. So figures are drawn in stand-in colours, one per role, and each becomes a
class that the stylesheet fills in, light or dark.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROLES = ("ink", "muted", "line", "accent", "second", "good", "bad")
_STAND_IN = {f"#0000{number:02x}": role for number, role in enumerate(ROLES, start=1)}
_KEPT = ("opacity", "font-size", "text-anchor", "stroke-width", "stroke-dasharray")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def stand_in(role: str) -> str:
    """The colour to draw with where the page's colour of this role is meant."""
    return next(colour for colour, known in _STAND_IN.items() if known == role)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure whose units are the page's pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
    figure.patch.set_visible(False)
    return figure


def inline_svg(figure: Figure, label: str) -> Markup:
    """The figure as an ``<svg>`` element for HTML, texts as texts, without ids, styles or scripts.

    Args:
        figure: drawn in stand-in colours.
        label: what the picture says, for those who do not see it.
    """
    from matplotlib import rc_context

    written = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mmfeat"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    drawn = ET.fromstring(written.getvalue())
    root = ET.Element("svg", {"viewBox": drawn.attrib["viewBox"], "role": "img", "aria-label": label})
    _copy(drawn, root)
    return Markup(ET.tostring(root, encoding="unicode"))


def _copy(source: ET.Element, target: ET.Element) -> None:
    """What is seen below ``source``: shapes and texts, one level deep."""
    for element in source.iter():
        tag = element.tag.rpartition("}")[2]
        if tag in ("path", "text"):
            shape = ET.SubElement(target, tag, _attributes(element))
            shape.text = element.text


def _attributes(element: ET.Element) -> dict[str, str]:
    styles = {
        name.strip(): value.strip()
        for name, _, value in (part.partition(":") for part in element.attrib.get("style", "").split(";"))
    }
    found = {name: styles[name] for name in _KEPT if name in styles}
    classes = [
        f"{paint}-{_STAND_IN[styles[paint]]}"
        for paint in ("fill", "stroke")
        if styles.get(paint, "none") != "none"
    ]
    if classes:
        found["class"] = " ".join(classes)
    if styles.get("fill") == "none":
        found["fill"] = "none"
    for name in ("d", "x", "y"):
        if name in element.attrib:
            found[name] = _LONG_NUMBER.sub(lambda n: f"{float(n[0]):.2f}", element.attrib[name])
    return found
