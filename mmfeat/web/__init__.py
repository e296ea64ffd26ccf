"""What every page of mmfeat shares: the stylesheet, and how a page names its own code to the browser."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def stylesheet() -> str:
    """Tokens and components of all pages, light and dark, for screen and print."""
    return files(__name__).joinpath("base.css").read_text("utf-8")


def csp_source(inline: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline style or script.

    Args:
        inline: the text between the tags, to the byte.

    Returns:
        ``'sha256-...'`` with its quotes (Content Security Policy Level 3, hash-source).
    """
    digest = hashlib.sha256(inline.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
