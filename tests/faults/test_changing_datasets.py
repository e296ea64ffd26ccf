"""Datasets that change in any order: no ok row of an unchanged item ever changes, and whatever changes is
announced.

Beside each store a model of it is kept, in plain Python: what the dataset last said of every item, and which
rows must therefore be there. Sequences are drawn by a seed; the seed of one that fails is in the message.
"""

from __future__ import annotations

import contextlib
import gc
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from helpers.changing import exported, rows, run, titled, write_table

import mmfeat
from mmfeat.pipelines.run_report import RunReport
from mmfeat.schemas.errors import ConfigError, GateFailed, UsageError

Rows = dict[tuple[str, str], dict[str, Any]]

SEQUENCES, STEPS, TESTS = 500, (2, 4), 10
# Of the tests that share the sequences; the others run with the long forms (`make test-all`).
_QUICK = 3
_STEPS = (
    "extract", "limit", "shrink", "grow", "change", "rename", "break a column", "mend", "another root",
    "another dataset", "another dataset", "forget", "prune", "rollback", "edition", "export",
)  # fmt: skip


@dataclass
class Table:
    """A dataset as it is now.

    Attributes:
        items: item id to its texts.
        accepted: what the store's catalog has of it: what the last run that wrote said.
        edition: of the method; another one makes other versions.
    """

    path: Path
    items: dict[str, dict[str, str]]
    accepted: dict[str, dict[str, str]] = field(default_factory=dict)


class Story:
    """A store, its datasets, and what must hold of it after each step."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder, self.store = folder / str(seed), folder / str(seed) / "store"
        first = Table(self.folder / "a" / "items.jsonl", titled(range(self.random.choice([3, 5, 12]))))
        second = Table(self.folder / "b" / "items.jsonl", titled((f"b{n}" for n in range(6)), of="b "))
        self.tables = [first, second]
        self.table = first
        self.forgotten: set[str] = set()
        self.edition = 1
        self.new = 100
        self.rows: Rows = {}
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.done: list[str] = []
        self.begin(first, folder / f"first-{len(first.items)}")

    def begin(self, table: Table, made: Path) -> None:
        """The store after a first run, which is made once for each number of items."""
        if made.exists():
            shutil.copytree(made, self.store)
            table.accepted = {item_id: dict(values) for item_id, values in table.items.items()}
            self.read()
            return
        self.run_over(table)
        shutil.copytree(self.store, made)

    def take(self, step: str) -> None:
        self.done.append(step)
        getattr(self, "step_" + step.replace(" ", "_"))()

    # What happens to a dataset; a run over it follows.

    def step_extract(self) -> None:
        self.run_over(self.table)

    def step_limit(self) -> None:
        self.run_over(self.table, limit=self.random.randint(1, 5))

    def step_shrink(self) -> None:
        for item_id in self.some():
            del self.table.items[item_id]
        self.run_over(self.table)

    def step_grow(self) -> None:
        more = titled(range(self.new, self.new + self.random.randint(1, 4)))
        self.new += 10
        self.table.items.update(more)
        self.run_over(self.table)

    def step_change(self) -> None:
        for item_id in self.some():
            self.new += 1
            self.table.items[item_id] = dict(titled([item_id], of=f"{self.new} ")[item_id])
        self.run_over(self.table)

    def step_rename(self) -> None:
        for item_id in self.some():
            self.new += 1
            self.table.items[f"r{self.new}"] = self.table.items.pop(item_id)
        self.run_over(self.table)

    def step_break_a_column(self) -> None:
        for item_id in self.some() or list(self.table.items):
            self.table.items[item_id].pop("title", None)
        self.run_over(self.table)

    def step_mend(self) -> None:
        for item_id, values in self.table.items.items():
            values.setdefault("title", f"mended {item_id}")
        self.run_over(self.table)

    def step_another_root(self) -> None:
        self.new += 1
        self.table.path = self.folder / str(self.new) / "items.jsonl"
        self.run_over(self.table)

    def step_another_dataset(self) -> None:
        self.table = self.tables[1 - self.tables.index(self.table)]
        self.run_over(self.table)

    # What happens to the store.

    def step_forget(self) -> None:
        there = mmfeat.open(self.store)
        every = sorted(self.there | self.gone)
        if ids := self.random.sample(every, k=min(1, len(every))):
            before = self.rows
            there.forget(ids, "asked", cache=self.folder / "cache")
            self.forgotten.update(ids)
            for table in self.tables:
                table.accepted.pop(ids[0], None)
            self.read()
            assert self.rows == {key: row for key, row in before.items() if key[1] not in ids}

    def step_prune(self) -> None:
        before, gone = self.rows, self.gone
        assert set(mmfeat.open(self.store).prune().items) == gone
        self.read()
        assert self.rows == {key: row for key, row in before.items() if key[1] not in gone}
        assert self.gone == set()

    def step_rollback(self) -> None:
        before = self.rows
        with contextlib.suppress(UsageError):  # it had no version before
            mmfeat.open(self.store).lifecycle.rollback(["title_vector"])
        self.read()
        assert self.rows == before

    def step_edition(self) -> None:
        self.edition += 1
        self.run_over(self.table)

    def step_export(self) -> None:
        self.new += 1
        there = mmfeat.open(self.store)
        settings: dict[str, Any] = {"missing": "mask"}
        if there.ids:
            assert exported(self.store, self.folder / f"out{self.new}", **settings) == there.ids
        every = exported(self.store, self.folder / f"all{self.new}", items="all", **settings)
        assert sorted(every) == sorted([*there.ids, *there.gone])

    def some(self) -> list[str]:
        """A few items; more than a run takes away without being told to, now and then."""
        ids = list(self.table.items)
        return self.random.sample(ids, k=min(len(ids) - 1, self.random.choice([1, 1, 2, len(ids) // 2])))

    # A run, and what must hold of it.

    def run_over(self, table: Table, **options: Any) -> None:
        write_table(table.path, table.items)
        before, was = self.rows, (self.there, self.gone)
        report, flags = self.willing(table, options)
        self.read()
        if report is None:
            assert (self.rows, (self.there, self.gone)) == (before, was), "a run that was refused wrote"
            return
        covered = list(table.items)[: options.get("limit")]
        self.check_rows(table, before, self.rows, report)
        self.check_items(was, report, set(covered), replaced=bool(flags.get("replace")))
        table.accepted.update({i: dict(table.items[i]) for i in covered if i not in self.forgotten})

    def willing(self, table: Table, options: dict[str, Any]) -> tuple[RunReport | None, dict[str, Any]]:
        """The run with the flags that it asks for, or, now and then, none where it asks for one."""
        flags: dict[str, Any] = {}
        for _ in range(4):
            try:
                return self.attempt(table, {**options, **flags}), flags
            except ConfigError as error:
                if "add" in flags:
                    # Renamed for the most part, it is another dataset with a few of the same ids.
                    assert "are taken by" in error.message, error
                    flags = {"replace": True}
                    continue
                assert "is another one" in error.message, error
                known = set(table.items) & set(table.accepted) - self.forgotten
                shared = sum(not rewritten(table.items[i], table.accepted[i]) for i in known)
                assert shared < 0.5 * min(len(table.items), len(table.accepted)) or self.replaced(table)
                if self.random.random() < 0.3:
                    return None, {}
                flags[self.random.choice(["add", "add", "replace"])] = True
            except GateFailed as error:
                assert "Nothing was written" in error.message, error
                if self.random.random() < 0.3:
                    return None, {}
                flags["max_lost"] = 1.0
        raise AssertionError("a run asked for more flags than there are")

    def read(self) -> None:
        """What the store holds now."""
        self.rows, opened = rows(self.store), mmfeat.open(self.store)
        self.there, self.gone = set(opened.ids), set(opened.gone)

    def replaced(self, table: Table) -> bool:
        """Whether the store gave up this dataset for the other one."""
        return str(table.path) not in [one["root"] for one in mmfeat.open(self.store).datasets]

    def attempt(self, table: Table, options: dict[str, Any]) -> RunReport:
        features = {"title_vector": {"source": "title", "encoder": "digest", "edition": self.edition}}
        return run(self.store, table.path, features=features, **options)

    def check_rows(self, table: Table, before: Rows, after: Rows, report: RunReport) -> None:
        """No row goes, an ok row that changes is of an item that changed, and every change is counted."""
        assert before.keys() <= after.keys(), "a run removed rows"
        changed = Counter(
            version for version, item_id in after if before.get((version, item_id)) != after[version, item_id]
        )
        told = {f.version: f.ok + f.missing + f.failed for f in report.features}
        assert changed == Counter({version: n for version, n in told.items() if n})
        lost = [key for key, row in before.items() if row["status"] == "ok" != after[key]["status"]]
        said = " ".join(report.notices)
        assert ("lose their value" in said) == bool(lost)
        there = [key for key, row in before.items() if row["status"] == after[key]["status"] == "ok"]
        if any(before[key] != after[key] for key in there):
            assert "known items have other texts than before" in said
        for (version, item_id), row in before.items():
            if after[version, item_id] == row or row["status"] != "ok":
                continue
            assert item_id in table.items, f"a row of {item_id}, which the dataset has not, changed"
            was = table.accepted.get(item_id, {}).get("title")
            assert was != table.items[item_id].get("title"), f"{version}: {item_id} changed unasked"
            assert after[version, item_id]["status"] in ("ok", "missing")

    def check_items(
        self, was: tuple[set[str], set[str]], report: RunReport, covered: set[str], replaced: bool
    ) -> None:
        """What the dataset has is present, what left or is back was announced, and only a dataset's own
        items leave."""
        (there_before, gone_before), there, gone = was, self.there, self.gone
        said, left = " ".join(report.notices), there_before - there
        assert there >= covered - self.forgotten
        assert not self.forgotten & (there | gone)
        assert (report.left, report.gone) == (len(left), len(gone))
        assert ("have left the dataset" in said) == bool(left)
        assert ("are back" in said) == bool(gone_before & there)
        assert replaced or left <= set(self.table.accepted)


def rewritten(now: dict[str, str], was: dict[str, str]) -> bool:
    """Whether an item has texts that it had before, and all of them are others now."""
    both = now.keys() & was.keys()
    return bool(both) and all(now[name] != was[name] for name in both)


@pytest.mark.parametrize(
    "part", [pytest.param(n, marks=[pytest.mark.slow] if n >= _QUICK else []) for n in range(TESTS)]
)
def test_no_ok_row_of_an_unchanged_item_changes_and_all_else_is_announced(tmp_path, part):
    each = SEQUENCES // TESTS
    # Every run collects garbage: what is there already is not looked through each time.
    gc.freeze()
    for seed in range(part * each, (part + 1) * each):
        story = None
        try:
            story = Story(tmp_path, seed)
            for _ in range(story.random.randint(*STEPS)):
                story.take(story.random.choice(_STEPS))
        except Exception as error:
            steps = story.done if story else []
            raise AssertionError(f"sequence {seed}: {steps}: {type(error).__name__}: {error}") from error
