"""The site's hooks: README.md is its home page, and links out of docs/ lead to the repository.

MkDocs calls the functions of this module by name (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import join, normpath
from typing import Any

HOME = "index.md"
# A link to a file of the project: its text, its path, and an anchor.
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> None:
    """Add README.md as the home page."""
    # MkDocs is installed where the site is built; the tests read the rest without it.
    from mkdocs.structure.files import File

    readme = Path(config.config_file_path).parent / "README.md"
    files.append(File.generated(config, HOME, content=readme.read_text(encoding="utf-8")))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return a page whose links work on the site.

    A link to a file outside the site leads to the repository, or is plain text if none is configured.
    """
    docs = Path(config.docs_dir).name
    folder = "" if page.file.src_uri == HOME else join(docs, *Path(page.file.src_uri).parts[:-1])

    def rewritten(link: re.Match[str]) -> str:
        text, path, anchor = link[1], normpath(join(folder, link[2])), link[3] or ""
        if path.startswith(f"{docs}/"):
            # MkDocs checks these; those of README.md start from the project's folder.
            return f"[{text}]({path.removeprefix(f'{docs}/')}{anchor})" if not folder else link[0]
        return f"[{text}]({_address(config.repo_url, path)}{anchor})" if config.repo_url else text

    return _LINK.sub(rewritten, markdown)


def _address(repository: str, path: str) -> str:
    return f"{repository.rstrip('/')}/blob/HEAD/{path}"
