"""``demo``: the sample that ships with mmfeat, from media to vectors, texts and the pages about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmfeat import api, console
from mmfeat.commands.jobs import print_report
from mmfeat.schemas.errors import ConfigError, MissingExtra
from mmfeat.schemas.spec import FeatureConfig

if TYPE_CHECKING:
    from mmfeat.feature_store import FeatureStore

_NEIGHBOURS = 5
_LONGEST_TEXT = 80
# Texts of the presets, as a table's head says them.
_SHOWN = {"cover_tags": "seen on covers", "speech": "said", "screen": "written", "sound_tags": "heard"}


def demo(
    out: Annotated[Path, typer.Option(help="Where the demo's store and pages go.")] = Path("demo"),
    json: console.Json = False,
) -> None:
    """Extract the sample that ships with mmfeat, offline, and show what was made."""
    from mmfeat.pipelines.progress import Silent, for_stream

    uri = str(out / "features")
    reporter = Silent() if json else for_stream()
    if not json:
        console.say("Extracting the sample dataset (weights from packages, no network).")
    features = _features(quiet=json)
    report = api.extract("sample", store=uri, features=features, reporter=reporter)
    if json:
        console.print_json(report.to_dict())
        return
    print_report(report)
    store = api.open(uri)
    titles = _titles(store)
    texts = _texts(store)
    _print_texts(texts, titles)
    query = next(item_id for item_id, text in texts["cover_tags"].items() if text)
    _print_neighbours(store, query, titles)
    pages = _write_pages(store, out)
    _print_next(uri, query, pages)


def _features(quiet: bool) -> dict[str, FeatureConfig]:
    """Of the presets that need no network; without those whose weights are not installed, and says so."""
    from mmfeat import presets
    from mmfeat.extract.registry import resolve_all

    found = presets.load("offline")
    sounds = presets.load("sounds")
    try:
        resolve_all(sounds)
    except ConfigError as lack:
        if not quiet:
            console.note(f"The preset 'sounds' is left out: {lack.message} {lack.hint or ''}".rstrip())
        return found
    return {**found, **sounds}


def _texts(store: FeatureStore) -> dict[str, dict[str, str | None]]:
    """Of each feature of texts that was made, the text by item."""
    made = {status.version.partition("@")[0] for status in store.status()}
    names = [name for name in _SHOWN if name in made]
    found = store.lookup(features=names)
    return {name: dict(zip(found.ids, found[name].texts, strict=True)) for name in names}


def _print_texts(texts: Mapping[str, Mapping[str, str | None]], titles: Mapping[str, str]) -> None:
    """A few items that say the most, with all that was read of them."""
    told = Counter(item_id for of_each in texts.values() for item_id, text in of_each.items() if text)
    console.heading("What three items show and say (no multimodal LLM comes with a package)")
    rows = [
        (item_id, titles[item_id], *(_shortened(of_each[item_id]) for of_each in texts.values()))
        for item_id, _ in told.most_common(3)
    ]
    console.table(("item", "title", *(_SHOWN[name] for name in texts)), rows)


def _print_neighbours(store: FeatureStore, query: str, titles: Mapping[str, str]) -> None:
    """The covers that are most like an item's."""
    console.heading(f"Nearest covers to item {query} ({titles[query]})")
    hits = store.search("cover_cnn", item=query, k=_NEIGHBOURS)
    console.table(
        ("item", "title", "cosine"), [(h.item_id, titles[h.item_id], f"{h.score:.3f}") for h in hits]
    )


def _write_pages(store: FeatureStore, out: Path) -> list[Path]:
    """The report on each kind of text as a page; says what is lacking if none can be written."""
    from mmfeat.report.build import ReportOptions

    pages = []
    try:
        from mmfeat.report.page import render

        for feature in ("cover_tags", "speech", "screen"):
            page = out / f"{feature}.html"
            page.write_text(render(store.report_captions(ReportOptions(feature=feature))), encoding="utf-8")
            pages.append(page)
    except MissingExtra as lack:
        console.note(f"No pages about the texts: {lack.message} {lack.hint or ''}".rstrip())
    return pages


def _print_next(uri: str, query: str, pages: list[Path]) -> None:
    if pages:
        console.heading("Pages to look at")
        for page in pages:
            console.say(f"  {page}")
    console.heading("Next")
    console.say(f"The store is in {uri}. Run the demo again: nothing is computed twice.")
    console.say(f"  mmfeat status --store {uri}")
    console.say(f"  mmfeat search --store {uri} --feature item_text --text 'a cup of coffee'")
    console.say(f"  mmfeat lookup {query} --store {uri} --features title_text")
    console.say("  mmfeat extract --dataset folder --root YOUR_MEDIA --store my_features")


def _titles(store: FeatureStore) -> dict[str, str]:
    items = store.items
    return {
        item_id: title or ""
        for item_id, title in zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True)
    }


def _shortened(text: str | None) -> str:
    said = " ".join((text or "").split())
    return said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]} ..."
