"""Texts of strangers, made safe to read."""

from __future__ import annotations

import re

# C0 but tab and line end, DEL, C1, and what reorders or hides the text around it.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """A text with its control characters written out, ``\\x1b`` and so on, but for line ends and tabs.

    Ids, titles and captions come from strangers. Shown as they are, such characters could clear a
    terminal, set its title or reverse what is read (Unicode TR 36, bidirectional overrides).
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
