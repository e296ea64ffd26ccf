"""Single items: the gallery, and the rows of the table of all items."""

from __future__ import annotations

from mmfeat.report.model import CaptionReport, Item, Shelf, Shown
from mmfeat.report.page import items
from mmfeat.report.page.parts import Card, Cards, Chip, Gallery, Picture, Section
from mmfeat.report.page.wording import decimals, number

_TITLES = {"worst": "Worst", "best": "Best", "random": "Random", "failures": "Failures"}


def gallery(report: CaptionReport) -> Section:
    """Items with their pictures or sounds: worst, best, random and failed."""
    by_id = {item.item_id: item for item in report.items}
    titles = {kind.kind: kind.title for kind in report.suspects}
    groups = tuple(_group(shelf, by_id, titles) for shelf in report.gallery if shelf.shown)
    lead = "What a number cannot show: pictures or sounds beside what was said of them."
    return Section("gallery", "Gallery", lead, (Gallery(groups),))


def item_rows(report: CaptionReport) -> list[items.Item]:
    """All items as the table lists them."""
    numbers = {kind.kind: index for index, kind in enumerate(report.suspects)}
    return [
        items.Item(
            id=item.item_id,
            title=item.title,
            caption=item.caption,
            status=item.status,
            reason=item.reason,
            suspects=tuple(numbers[kind] for kind in item.suspects),
            words=item.words,
            grounding=item.grounding,
        )
        for item in report.items
    ]


def card_of(item_id: str, title: str, text: str, shown: Shown, chips: tuple[Chip, ...] = ()) -> Card:
    """An item with its picture or the frames of its clip, and a text about it."""
    mp3 = shown.sound.mp3 if shown.sound else ""
    return Card(item_id, title, text, chips, _pictures(item_id, shown), mp3, shown.absent, said=True)


def _group(shelf: Shelf, by_id: dict[str, Item], titles: dict[str, str]) -> Cards:
    cards = tuple(_card(shown, by_id[shown.item_id], titles) for shown in shelf.shown)
    return Cards(shelf.kind, _TITLES[shelf.kind], shelf.about, cards)


def _card(shown: Shown, item: Item, titles: dict[str, str]) -> Card:
    pictures = _pictures(item.item_id, shown)
    chips = [Chip(item.status, "bad" if item.status == "failed" else "")] if item.status != "ok" else []
    chips += [Chip(titles[kind], "warn") for kind in item.suspects]
    if item.grounding is not None:
        chips.append(Chip(f"grounding {decimals(item.grounding)}"))
    if item.rank is not None:
        chips.append(Chip(f"rank {item.rank:,}"))
    ok = item.status == "ok"
    text = item.caption if ok else item.reason
    mp3 = shown.sound.mp3 if shown.sound else ""
    return Card(item.item_id, item.title, text, tuple(chips), pictures, mp3, shown.absent, said=ok)


def _pictures(item_id: str, shown: Shown) -> tuple[Picture, ...]:
    clip = len(shown.pictures) > 1
    return tuple(
        Picture(p.jpeg, f"{item_id}, frame at {number(p.time)} s" if clip else item_id)
        for p in shown.pictures
    )
