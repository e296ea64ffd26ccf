"""Whatever is asked of whatever items, plans lead to the values that the items have, and then to rest.

Random catalogs of texts, pictures, clips and sounds, random features that read columns, tracks and each
other, and rows that were committed for an earlier edition of the items, some of them gone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import plans
import pytest
import simulated
from helpers import media_samples
from helpers.plugins import on_path, write_plugin
from helpers.sound_samples import Track, talkie, tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.extract import modalities
from mmfeat.extract.fence.decode import MediaRequest, Wanted, decode_media
from mmfeat.pipelines.planning.plan import Plan
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.featureset import FAILED, MISSING, OK
from mmfeat.schemas.inputs import Input
from mmfeat.schemas.spec import FeatureSpec

PICTURES = [media_samples.encoded(media_samples.picture(6, 8, seed), "PNG") for seed in range(3)]
CLIPS = [
    media_samples.clip(3, "mpeg4", size=(32, 48)),
    talkie(Track(tone(440, 0.2, 16000)[None], 16000, "aac"), frames=3),
]
FILES = {
    "cover": [*PICTURES, b"no picture", b""],
    "photos": PICTURES[:2],
    "video": [*CLIPS, b"no clip"],
}
TEXTS = ["one", "two", " "]
SOURCES = ["title", "brand", "cover", "photos", "video", "video.sound"]


@dataclass(frozen=True)
class Item:
    """What an item has in each column: a text, or the number of one of ``FILES``; None for nothing."""

    title: str | None
    brand: str | None
    cover: int | None
    photos: int | None
    video: int | None


@dataclass(frozen=True)
class Story:
    """An edition of items, what of it was committed and is left, and a later edition.

    Attributes:
        first, second: items by id.
        early: how many of the features were there for the first edition.
        lost: rows that are gone: which feature, which item.
        touched: items whose files have another time.
    """

    first: dict[str, Item]
    second: dict[str, Item]
    specs: list[FeatureSpec]
    early: int
    lost: set[tuple[int, str]]
    touched: set[str]
    retry_failed: bool


def mostly(*values: Any) -> st.SearchStrategy[Any]:
    """One of the values, or now and then nothing."""
    return st.sampled_from([*values, *values, None])


ITEMS = st.builds(
    Item,
    title=mostly(*TEXTS),
    brand=mostly(*TEXTS),
    **{column: mostly(*range(len(data))) for column, data in FILES.items()},
)
# Contents are few, so that items share them.
CATALOGS = st.integers(2, 5).flatmap(lambda n: st.fixed_dictionaries(dict.fromkeys("abcde"[:n], ITEMS)))


@st.composite
def graphs(draw: st.DrawFn) -> list[FeatureSpec]:
    """Two to five features, each after those that it reads, over a few of the columns."""
    found: list[FeatureSpec] = []
    columns = draw(st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3, unique=True))
    texts: list[str] = []
    for number in range(draw(st.integers(2, 5))):
        gives = draw(st.sampled_from(["text", "text", "vector"]))
        sources = draw(
            st.lists(st.sampled_from([*columns, *texts, *texts]), min_size=1, max_size=3, unique=True)
        )
        prompt = draw(st.lists(st.sampled_from(["title", *texts]), max_size=1))
        read = [*sources, *(one for one in prompt if one not in sources)]
        # The first is always needed: a feature that may lack everything is none.
        optional = [False, *(draw(st.booleans()) for _ in read[1:])]
        marked = [one + "?" if may_lack else one for one, may_lack in zip(read, optional, strict=True)]
        n = len(sources)
        found.append(plans.feature(f"f{number}", *marked[:n], gives=gives, prompt=marked[n:]))
        if gives == "text":
            texts.append(f"f{number}")
    return found


@st.composite
def stories(draw: st.DrawFn) -> Story:
    first, specs = draw(CATALOGS), draw(graphs())
    second = {item_id: draw(st.sampled_from([item, None])) or draw(ITEMS) for item_id, item in first.items()}
    rows = st.tuples(st.integers(0, len(specs) - 1), st.sampled_from(sorted(first)))
    return Story(
        first,
        {**second, **({"new": draw(st.sampled_from(list(first.values())))} if draw(st.booleans()) else {})},
        specs,
        draw(st.integers(0, len(specs))),
        draw(st.sets(rows, max_size=4)),
        draw(st.sets(st.sampled_from(sorted(first)), max_size=2)),
        draw(st.booleans()),
    )


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory) -> Iterator[None]:
    with on_path(write_plugin(tmp_path_factory.mktemp("plugin"), simulated.PLUGIN)):
        yield


class World:
    """The items' files in a folder, each change of which has a time of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = 1_700_000_000

    def write(self, items: dict[str, Item], touched: set[str] = frozenset()) -> Any:
        """The catalog of ``items``, whose files are as they say; of what is the same nothing is written."""
        rows = []
        for item_id, item in sorted(items.items()):
            places = {name: self._file(name, item_id, getattr(item, name), touched) for name in FILES}
            photos = places.pop("photos")
            rows.append(
                {
                    "item_id": item_id,
                    "title": item.title,
                    "brand": item.brand,
                    **places,
                    "photos": photos if photos is None else [photos, "/no/such/file"],
                }
            )
        return plans.catalog(rows)

    def _file(self, column: str, item_id: str, number: int | None, touched: set[str]) -> str | None:
        if number is None:
            return None
        path, data = self.folder / f"{column}-{item_id}", FILES[column][number]
        if not path.exists() or path.read_bytes() != data or item_id in touched:
            path.write_bytes(data)
            self.clock += 1
            os.utime(path, (self.clock, self.clock))
        return str(path)


class Expected:
    """What each feature of each item must be, from the item alone."""

    def __init__(self, items: dict[str, Item], specs: Sequence[FeatureSpec]) -> None:
        self.items = items
        self.specs = {spec.name: spec for spec in specs}

    def of(self, name: str, item_id: str) -> tuple[str, str | None]:
        """Its status and its text; the text of a vector is what it was made of."""
        spec = self.specs[name]
        values = [self._value(one, item_id) for one in spec.inputs]
        lacking = [
            one
            for one, value in zip(spec.inputs, values, strict=True)
            if value is None and not one.optional and self._is_known(one, item_id)
        ]
        if lacking:
            return MISSING, None
        if any(isinstance(value, ItemError) for value in values):
            return FAILED, None
        if any(v is None and not one.optional for one, v in zip(spec.inputs, values, strict=True)):
            return MISSING, None
        given = simulated.outcome(spec, values)
        return (FAILED, None) if isinstance(given, ItemError) else (OK, given)

    def _is_known(self, read: Input, item_id: str) -> bool:
        """Whether it is clear without decoding that an item lacks an input."""
        is_media = read.upstream is None and modalities.is_media(read.modality)
        return not is_media or getattr(self.items[item_id], read.column) is None

    def _value(self, read: Input, item_id: str) -> Any:
        if read.upstream is not None:
            status, text = self.of(read.source, item_id)
            if status == FAILED:
                return None if read.optional else ItemError("upstream", "it failed")
        else:
            text = getattr(self.items[item_id], read.column)
            if text is not None and modalities.is_media(read.modality):
                return decoded(read, FILES[read.column][text])
        return None if text is None or ((read.named or read.upstream) and not text.strip()) else text


def decoded(read: Input, data: bytes) -> Any:
    """What a feature sees of a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        found = decode_media(MediaRequest(str(path), (Wanted.of(read),)), plans.LIMITS)
    return found.failure or found.values[0]


def check_conserved(made: Plan, ids: list[str]) -> None:
    """Every item is exactly one of settled, known, copied, computed, a duplicate's, or deferred."""
    duplicates = plans.duplicates_of(made)
    for n in range(len(made.specs)):
        handled = [
            *made.work["item_id"].filter(made.own[n]).to_pylist(),
            *(item_id for item_id, features in duplicates if n in features),
            *(row["item_id"] for row in made.known.to_pylist() if row["feature"] == n),
            *(row["item_id"] for row in made.copies.to_pylist() if row["feature"] == n),
        ]
        assert len(handled) == len(set(handled)) == made.planned(n)
        waiting = {ids[position] for position in made.deferred[n]}
        assert not waiting & set(handled)
        assert made.planned(n) + made.up_to_date(n) + len(waiting) == made.n_items == len(ids)


def run(ledgers: simulated.Ledgers, items: Any, specs: Sequence[FeatureSpec], **options: Any) -> Counter:
    """Plan and compute until nothing waits; how often each content was computed, by feature."""
    computed: Counter = Counter()
    plan = None
    for _ in specs:
        plan = ledgers.plan(items, specs, after=plan, **options)
        check_conserved(plan, items["item_id"].to_pylist())
        ledgers.carry_out(plan, lambda spec, content: computed.update([(spec.name, content)]))
        if not any(map(len, plan.deferred)):
            return computed
    raise AssertionError(f"after {len(specs)} plans rows still wait")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stories())
def test_plans_lead_to_the_values_that_the_items_have_and_then_to_rest(story):
    with TemporaryDirectory() as folder:
        world, ledgers = World(Path(folder)), simulated.Ledgers()
        if story.early:
            run(ledgers, world.write(story.first), story.specs[: story.early])
        for number, item_id in story.lost:
            ledgers.rows.get(story.specs[number].name, {}).pop(item_id, None)
        items = world.write(story.second, story.touched)
        committed = {
            (spec.name, row["content_hash"])
            for spec in story.specs
            for row in ledgers.rows.get(spec.name, {}).values()
            if row["status"] == OK
        }
        computed = run(ledgers, items, story.specs, retry_failed=story.retry_failed)

        expected = Expected(story.second, story.specs)
        for spec in story.specs:
            for item_id in story.second:
                row = ledgers.rows[spec.name][item_id]
                status, text = expected.of(spec.name, item_id)
                assert (row["status"], row["text"]) == (status, text if spec.form == "text" else None), (
                    f"{spec.name} of {item_id}"
                )
        for spec in story.specs:
            if not spec.upstreams:
                # Equal files are of equal size here, so that each is known by its content.
                times = [n for (name, content), n in computed.items() if name == spec.name and content]
                assert max(times, default=1) == 1
                assert not [key for key in computed if key[0] == spec.name and key in committed]
        again = ledgers.plan(items, story.specs)
        assert [again.planned(n) for n in range(len(story.specs))] == [0] * len(story.specs)
        assert not any(map(len, again.deferred)) and not len(again.touched)
