"""Real interactions: MovieLens 100K as RecBole's package has it, with what its titles, years and genres say.

Nothing of it is kept or shipped. The test is skipped where RecBole, and so the data, is not installed.
"""

from __future__ import annotations

import csv
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.interaction_rows import interactions_of

from mmfeat.evaluate.base import Task
from mmfeat.evaluate.features import Feature, unit
from mmfeat.evaluate.log import log_of
from mmfeat.evaluate.run import Judging, judge
from mmfeat.evaluate.splits import split
from mmfeat.evaluate.verdict import comparisons_of
from mmfeat.schemas.evaluation import CHEAP

_GRAM, _BUCKETS = 3, 256


def _folder() -> Path | None:
    spec = find_spec("recbole")
    places = spec.submodule_search_locations if spec else None
    return Path(places[0], "dataset_example", "ml-100k") if places else None


FOLDER = _folder()
pytestmark = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(),
    reason="RecBole, whose package has MovieLens 100K, is not installed",
)


def rows_of(name: str) -> list[dict[str, str]]:
    with Path(FOLDER, name).open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [{key.partition(":")[0]: value for key, value in row.items()} for row in rows]


def titles_as_vectors(items: list[dict[str, str]]) -> np.ndarray:
    """How often each run of three letters comes, in buckets."""
    vectors = np.zeros((len(items), _BUCKETS), np.float32)
    for row, item in enumerate(items):
        title = f" {item['movie_title'].lower()} "
        for at in range(len(title) - _GRAM + 1):
            vectors[row, zlib.crc32(title[at : at + _GRAM].encode()) % _BUCKETS] += 1
    return vectors


def genres_as_vectors(items: list[dict[str, str]]) -> np.ndarray:
    names = sorted({name for item in items for name in item["class"].split()})
    return np.array([[name in item["class"].split() for name in names] for item in items], np.float32)


def years_as_vectors(items: list[dict[str, str]]) -> np.ndarray:
    """Near years lie near each other; some films have none."""
    said = [item["release_year"] for item in items]
    years = np.array([float(year) if year.isdigit() else 1995 for year in said])
    return np.exp(-(((years[:, None] - np.arange(1930, 2000, 5)) / 5) ** 2)).astype(np.float32)


@pytest.fixture(scope="module")
def asked() -> Judging:
    items = rows_of("ml-100k.item")
    ids = [item["item_id"] for item in items]
    taken = [
        (row["user_id"], row["item_id"], int(float(row["timestamp"])) * 1000)
        for row in rows_of("ml-100k.inter")
    ]
    log = log_of(interactions_of(taken), ids)
    assert len(log) == 100_000
    made = {
        "genres": genres_as_vectors(items),
        "years": years_as_vectors(items),
        "both": np.hstack([unit(genres_as_vectors(items)), unit(years_as_vectors(items))]),
        "titles": titles_as_vectors(items),
    }
    features = [Feature(f"{name}@0", unit(vectors)) for name, vectors in made.items()]
    return judge(Task(log, split(log, "last", 0), {}), features, CHEAP)


def test_genres_and_years_of_real_films_tell_taste_and_a_titles_letters_hardly_do(asked):
    verdicts = {one.version.partition("@")[0]: one for one in asked.verdicts()}
    for verdict in verdicts.values():
        print(verdict.version, verdict.verdict)
    for name in ("genres", "both"):
        probe = verdicts[name].findings["probe"]
        assert probe.holds and probe.metrics["auc"].low > probe.shuffled["auc"].high
    best = max(verdicts, key=lambda name: verdicts[name].findings["probe"].metrics["auc"].mean)
    assert best in ("both", "years")


def test_a_part_is_not_better_than_the_whole_by_the_probe(asked):
    made = comparisons_of(asked.measured, asked.protocols, 0)
    (found,) = [c for c in made if (c.first, c.second, c.protocol) == ("genres@0", "both@0", "probe")]
    assert found.better != "genres@0"


def test_content_of_real_films_is_not_taken_for_a_leak(asked):
    assert [one.leak for one in asked.verdicts()] == [""] * 4
