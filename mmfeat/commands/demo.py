"""``demo``: the sample that ships with mmfeat, from media to vectors, texts and the pages about them."""

from __future__ import annotations

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
# Texts of the presets, as headings say them.
_SHOWN = {"cover_tags": "Seen on covers", "speech": "Said", "screen": "Written", "sound_tags": "Heard"}


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
    _print_texts(store)
    query = _print_neighbours(store)
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


def _print_texts(store: FeatureStore) -> None:
    """A few items that say the most, with all that was read of them."""
    there = {status.version.partition("@")[0] for status in store.status()}
    names = [name for name in _SHOWN if name in there]
    found, titles = store.lookup(features=names), _titles(store)
    texts = {name: dict(zip(found.ids, found[name].texts, strict=True)) for name in names}
    told = {item_id: sum(bool(texts[name].get(item_id)) for name in names) for item_id in found.ids}
    most = sorted(found.ids, key=lambda item_id: -told[item_id])[:3]
    console.heading("What three items show and say (no multimodal LLM comes with a package)")
    rows = [
        (item_id, titles[item_id], *(_shortened(texts[name].get(item_id)) for name in names))
        for item_id in most
    ]
    console.table(("item", "title", *(_SHOWN[name].lower() for name in names)), rows)


def _print_neighbours(store: FeatureStore) -> str:
    """The covers that are most like one of them; its item."""
    titles = _titles(store)
    query = next(item_id for item_id, text in _texts(store, "cover_tags").items() if text)
    console.heading(f"Nearest covers to item {query} ({titles[query]})")
    hits = store.search("cover_cnn", item=query, k=_NEIGHBOURS)
    console.table(
        ("item", "title", "cosine"), [(h.item_id, titles[h.item_id], f"{h.score:.3f}") for h in hits]
    )
    return query


def _write_pages(store: FeatureStore, out: Path) -> list[Path]:
    """The report on each kind of text as a page; says what is lacking where none can be written."""
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


def _texts(store: FeatureStore, feature: str) -> dict[str, str | None]:
    found = store.lookup(features=[feature])
    return dict(zip(found.ids, found[feature].texts, strict=True))


def _shortened(text: str | None) -> str:
    said = " ".join((text or "").split())
    return said if len(said) <= _LONGEST_TEXT else f"{said[:_LONGEST_TEXT]} ..."
