"""``python -m bench.report_page [--items N] [--words N]``: size of the report's page, and seconds to make and
to open it in headless chromium.

Needs the extras ``report`` and ``browser``, and chromium. The report is made by hand
(tests/helpers/report_pages.py): neither models nor a store take part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers import report_pages
from playwright.sync_api import Browser, sync_playwright

from mmfeat.report.page import render


def main() -> None:
    """Print one JSON object: bytes, seconds to make, seconds to open (median of the runs)."""
    parser = argparse.ArgumentParser(prog="python -m bench.report_page", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=80, help="of a caption")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    report = report_pages.report(args.items, args.words)
    began = time.perf_counter()
    html = render(report)
    made = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "report.html"
        path.write_text(html, "utf-8")
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = [seconds_to_open(browser, path) for _ in range(args.runs)]
        version = browser.version
        browser.close()
    found = {
        "items": args.items,
        "words": args.words,
        "bytes": len(html.encode()),
        "seconds_to_make": round(made, 2),
        "seconds_to_open": round(statistics.median(opened), 2),
        "chromium": version,
    }
    print(json.dumps(found, indent=2))


def seconds_to_open(browser: Browser, path: Path) -> float:
    """From the address to the first row of the table, in a fresh profile."""
    page = browser.new_context().new_page()
    began = time.perf_counter()
    page.goto(path.as_uri())
    page.locator("#item-rows tr").first.wait_for()
    seconds = time.perf_counter() - began
    page.context.close()
    return seconds


if __name__ == "__main__":
    main()
