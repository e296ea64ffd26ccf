"""``python -m bench.table [RESULTS]``: the results as tables, and their plot.

All tables go into bench/RESULTS.md, and a few of them into docs/benchmarks.md, between the two ``results``
comments of each. The plot is docs/benchmarks.svg.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from bench.__main__ import RESULTS
from bench.ends import PLAIN
from bench.ratios import Row, best, figure, items_rate, of_ceiling, spread, steady
from bench.sizes import ENDS, LIMITS

ROOT = Path(__file__).parent.parent
RECORD, SUMMARY = ROOT / "bench" / "RESULTS.md", ROOT / "docs" / "benchmarks.md"
# The parts of ENDS that the summary shows, besides the peers.
IN_SUMMARY = ("covers", "clips", "titles")
BEGIN, END = "<!-- results: python -m bench.table -->", "<!-- end of results -->"
_UNITS = {
    "read": "files/s", "decode": "images/s", "clip decode": "clips/s", "matrix product": "GFLOP/s",
    "model": "images/s", "titles model": "titles/s", "store": "rows/s",
}  # fmt: skip

_COMMANDS = {
    "full": "python -m bench --full", "short": "python -m bench", "quick": "python -m bench --quick",
}  # fmt: skip
_WHAT = {
    "covers": "{covers} covers, CLIP ViT-B/32",
    "three encoders": "{three} covers, CLIP ViT-B/32, ResNet-50 and ViT-S/16",
    "clips": "{clips_in_all} clips, CLIP ViT-B/32 of 8 frames",
    "titles": "{titles} titles, MiniLM",
    "all together": "{covers} covers, {clips_in_all} clips, {titles} titles",
}


def main() -> None:
    """Write the tables into both pages, and draw the plot."""
    results = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else RESULTS).read_text())
    fill(RECORD, tables(results))
    fill(SUMMARY, summary(results))
    draw(results["rows"], SUMMARY.with_suffix(".svg"))


def fill(page: Path, text: str) -> None:
    """Put the text between the page's two comments, in place of what is there."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"{page} has no place for the results: {BEGIN} ... {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def summary(results: dict[str, Any]) -> str:
    """The few tables of docs/benchmarks.md, in Markdown."""
    rows = results["rows"]
    parts = [_end(part, results) for part in IN_SUMMARY if _of(rows, part)]
    parts += [_peers(results)] if _of(rows, "peers") else []
    return "\n\n".join(parts)


def tables(results: dict[str, Any]) -> str:
    """All tables of the results, in Markdown."""
    rows = results["rows"]
    parts = [_machine(results)]
    parts += [_limit(part, rows) for part in LIMITS if _of(rows, part)]
    parts += [_end(part, results) for part in ENDS if part != "again" and _of(rows, part)]
    parts += [_again(_of(rows, "again"))] if _of(rows, "again") else []
    parts += [_captions(results)] if _of(rows, "captions") else []
    parts += [_peers(results)] if _of(rows, "peers") else []
    return "\n\n".join(parts)


def _machine(results: dict[str, Any]) -> str:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    command = _COMMANDS[results["form"]]
    return (
        f"The {results['form']} form (`{command}`). {machine['cpu']}, {machine['cores']} cores, "
        f"Python {machine['python']}; {packages}. Medians, with the least and the most where there were "
        "several rounds."
    )


def _limit(part: str, rows: list[Row]) -> str:
    rows = _of(rows, part)
    cases = list(dict.fromkeys(row["case"] for row in rows if "case" in row))
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        line = lines.setdefault((row["name"], row["setting"]), ["-"] * len(cases))
        if "left_out" in row:
            line[0] = f"left out: {row['left_out']}"
        else:
            line[cases.index(row["case"])] = spread(row["per_second"])
    unit = _UNITS[part]
    header = [f"{part}, alone", "processes", *(f"{case}, {unit}" if case else unit for case in cases)]
    body = [[name, setting, *figures] for (name, setting), figures in lines.items()]
    if part == "decode":
        header.append("differs from Pillow's pixels, mean / most of 255")
        apart = {row["name"]: _apart(row) for row in rows}
        body = [[*line, apart[line[0]]] for line in body]
    return _table(header, body)


def _apart(row: Row) -> str:
    return f"{row['mean_difference']} / {row['most_difference']}" if "mean_difference" in row else "-"


def _end(part: str, results: dict[str, Any]) -> str:
    rows = results["rows"]
    size = results["parts"][part]["size"]
    sides = _of(rows, part)
    plain = next(row for row in sides if row["name"] == PLAIN)
    what = _WHAT[part].format(**size, clips_in_all=sum(size.get("clips", ())))
    header = [
        what, "rows/s, steady", "x plain", "of min(decode, model)", "of both together", "whole command, s",
        "to first results, s", "x plain", "most memory, MB", "least cosine, centred",
    ]  # fmt: skip
    return _table(header, [_side(rows, row, plain) for row in sides])


def _side(rows: list[Row], row: Row, plain: Row) -> list[str]:
    rates = [r["rows_per_second"] for r in row["rounds"] if r["rows_per_second"]]
    whole = [r["seconds"] for r in row["rounds"]]
    starts = [r["start_seconds"] for r in row["rounds"] if r["start_seconds"]]
    rate, of_plain = steady(row), steady(plain)
    ceiling = of_ceiling(rows, row) if rate else None
    items = items_rate(row, rate) if rate else 0.0
    cosines = row.get("agreement", {}).values()
    return [
        row["name"],
        spread(rates),
        f"{rate / of_plain:.2f}" if rate and of_plain else "-",
        f"{items / ceiling.least:.2f}" if ceiling else "-",
        f"{items / ceiling.together:.2f}" if ceiling else "-",
        spread(whole),
        spread(starts),
        f"{median(r['seconds'] for r in plain['rounds']) / median(whole):.2f}",
        f"{max(r['total_mb'] for r in row['rounds']):,}",
        _least(cosines),
    ]


def _least(cosines: Iterable[dict[str, float]]) -> str:
    cosines = list(cosines)
    if not cosines:
        return "-"
    plain, centred = (min(c[name] for c in cosines) for name in ("least_cosine", "least_cosine_centred"))
    # Rounded down: a cosine of 1.000000 is one that is 1.
    return ", ".join(f"{math.floor(cosine * 1e6) / 1e6:.6f}" for cosine in (plain, centred))


def _again(rows: list[Row]) -> str:
    names = list(dict.fromkeys(row["name"] for row in rows))
    body = []
    for name in names:
        same = [row for row in rows if row["name"] == name]
        body.append([name, str(same[0]["computed"]), spread([row["seconds"] for row in same])])
    return _table(["the same covers again, mmfeat bf16", "contents computed", "whole command, s"], body)


def _captions(results: dict[str, Any]) -> str:
    rows = _of(results["rows"], "captions")
    asked = results["parts"]["captions"]["size"]["captions"]
    header = [
        f"{asked['number']} pictures, {asked['new_tokens']} tokens each", "captions/s, steady",
        "x plain of that precision", "of the limit", "tokens/s", "whole command, s", "CPU s a caption",
        "to first results, s", "most memory, MB", "the plain loop's texts",
    ]  # fmt: skip
    return _table(header, [_captioned(rows, row, asked) for row in rows if "rounds" in row])


def _captioned(rows: list[Row], row: Row, asked: dict[str, Any]) -> list[str]:
    precision, rate = row["precision"], steady(row)
    alike = {"fp32": PLAIN, "bf16": f"{PLAIN}, bf16"}[precision]
    plain = next((steady(other) for other in rows if other["name"] == alike), None)
    limit = best(rows, "captions", f"limit {precision}")
    rounds = row["rounds"]
    return [
        row["name"],
        figure(rate) if rate else "-",
        f"{rate / plain:.2f}" if rate and plain else "-",
        f"{rate / limit:.2f}" if rate and limit else "-",
        figure(rate * asked["new_tokens"]) if rate else "-",
        spread([r["seconds"] for r in rounds]),
        spread([r["cpu_seconds"] / asked["number"] for r in rounds]),
        spread([r["start_seconds"] for r in rounds]),
        f"{max(r['total_mb'] for r in rounds):,}",
        f"{row['same_texts']:.0%}",
    ]


def _peers(results: dict[str, Any]) -> str:
    rows = _of(results["rows"], "peers")
    few, more = results["parts"]["peers"]["size"]["peer_covers"]
    header = [
        f"{few} and {more} covers, CLIP ViT-B/32 fp32", "images/s between the two", f"{more} covers, s",
        "least cosine, centred",
    ]  # fmt: skip
    body = [
        [row["name"], f"left out: {row['left_out']}", "-", "-"]
        if "left_out" in row
        else [
            row["name"], figure(row["rows_per_second"]), figure(row["seconds"]),
            _least(row.get("agreement", {}).values()),
        ]
        for row in rows
    ]  # fmt: skip
    return _table(header, body)


def _of(rows: list[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part]


def _table(header: list[str], body: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def draw(rows: list[Row], path: Path) -> None:
    """Steady rates as multiples of the plain loop's, a bar each, and where the limits are."""
    import matplotlib

    matplotlib.use("svg")
    # The same file from the same results.
    matplotlib.rcParams["svg.hashsalt"] = "mmfeat"
    from matplotlib import pyplot

    bars = list(_bars(rows))
    figure_, axes = pyplot.subplots(figsize=(8, 0.6 + 0.32 * len(bars)))
    for position, (name, ratio, ceiling) in enumerate(reversed(bars)):
        axes.barh(position, ratio, color="#4c72b0" if "mmfeat" in name else "#b0b0b0")
        if ceiling:
            axes.plot([ceiling] * 2, [position - 0.4, position + 0.4], color="black")
    axes.set_yticks(range(len(bars)), [name for name, *_ in reversed(bars)])
    axes.set_xlabel(
        "rows per second, steady, as a multiple of the plain loop's; line: decode and model together"
    )
    axes.axvline(1, color="grey", linewidth=0.5)
    figure_.tight_layout()
    figure_.savefig(path, metadata={"Date": None})


def _bars(rows: list[Row]) -> Iterable[tuple[str, float, float | None]]:
    for part in (*ENDS, "peers"):
        sides = [row for row in _of(rows, part) if steady(row)]
        plain = next((steady(row) for row in sides if row["name"] == PLAIN), None)
        for row in sides if plain else []:
            ceiling = of_ceiling(rows, row)
            together = ceiling.together * items_rate(row, 1) ** -1 / plain if ceiling else None
            yield f"{part}: {row['name']}", steady(row) / plain, together


if __name__ == "__main__":
    main()
