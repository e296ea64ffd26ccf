"""Codes stay: whatever comes, changes or goes, an item whose vector is the same keeps them."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coded import OPTIONS, Coded
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mmfeat
from mmfeat.extract.fitted.codes.matching import kept, places
from mmfeat.schemas.errors import UsageError
from mmfeat.store import Store
from mmfeat.store.codes import ids_of_code

# More items than codes, so that most of them collide.
START = {f"item-{n}": n for n in range(8)}

NAMES = st.sampled_from([f"item-{n}" for n in range(12)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["set"]), NAMES, st.integers(0, 20)),
        st.tuples(st.sampled_from(["save again", "leave", "restore", "forget"]), NAMES),
        st.tuples(st.sampled_from(["prune", "refit"])),
    ),
    min_size=1,
    max_size=5,
)


# How items whose codes are the same are told apart.
APART = {
    "by number": {"codebook_size": 2, "collision_level": True},
    "by last code": {"codebook_size": 4, "sinkhorn_epsilon": 0.003, "collision_level": False},
    "by both": {"codebook_size": 2, "sinkhorn_epsilon": 0.003, "collision_level": True},
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory) -> dict[str, Path]:
    """Stores with codes, to be copied."""
    folders = {name: tmp_path_factory.mktemp("started") / "store" for name in APART}
    for name, folder in folders.items():
        Coded(folder, START, **APART[name]).code()
    return folders


@pytest.fixture(scope="module")
def started(starts) -> Path:
    return starts["by number"]


@pytest.fixture
def coded(started, tmp_path) -> Coded:
    return copy_of(started, tmp_path)


def copy_of(started: Path, folder: Path, apart: str = "by number") -> Coded:
    shutil.copytree(started, folder / "store")
    coded = Coded.__new__(Coded)
    coded.store, coded.contents = Store.open(str(folder / "store")), dict(START)
    coded.options = OPTIONS | APART[apart]
    return coded


def check_steps(starts, apart: str, steps) -> None:
    with tempfile.TemporaryDirectory() as folder:
        coded = copy_of(starts[apart], Path(folder), apart)
        left, forgotten = {}, set()
        # Of every version: what an item with this content has, and whose each code was first.
        had, owner = {}, {}
        check_codes(coded, had, owner)
        for step, *said in steps:
            if step in ("set", "restore") and said[0] not in forgotten:
                content = left.pop(said[0], None) if step == "restore" else said[1]
                if content is not None:
                    coded.set({said[0]: content})
            elif step == "save again" and said[0] in coded.contents:
                coded.save_again(said[0])
            elif step == "leave" and len(coded.contents) > 4 and said[0] in coded.contents:
                left[said[0]] = coded.contents[said[0]]
                coded.leave(said[0])
            elif step == "forget" and len(coded.contents) > 4 and said[0] in coded.contents:
                coded.forget(said[0])
                forgotten.add(said[0])
                forget_of(had, said[0])
            elif step == "prune":
                coded.prune()
                for item_id in left:
                    forget_of(had, item_id)
            coded.code(refit=step == "refit")
            check_codes(coded, had, owner)


def forget_of(had, item_id: str) -> None:
    """Its row is gone: if it comes back, it is a new item."""
    for of_version in had.values():
        of_version.pop(item_id, None)


def check_codes(coded: Coded, had, owner) -> None:
    current = Store.open(coded.uri).resolve("codes").version
    for version in coded.versions():
        of_version = had.setdefault(version, {})
        for item_id, code in coded.codes(version).items():
            if version == current or item_id in of_version:
                content = coded.contents.get(item_id) if version == current else None
                before = of_version.get(item_id)
                if before is not None and content in (None, before[0]):
                    assert code == before[1], (version, item_id)
                of_version[item_id] = (content if content is not None else before and before[0], code)
            # Without numbers, who comes once an item is gone for good may have its codes.
            if coded.options["collision_level"]:
                first = owner.setdefault((version, code), item_id)
                assert first == item_id, f"{code} of {version} was {first}'s and is {item_id}'s"


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(APART)), STEPS)
@example("by last code", [("save again", f"item-{n}") for n in range(8)])
def test_no_sequence_of_changes_changes_codes_of_an_unchanged_vector_within_a_version(starts, apart, steps):
    check_steps(starts, apart, steps)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(APART)), STEPS)
def test_no_sequence_of_300_changes_codes_of_an_unchanged_vector_within_a_version(starts, apart, steps):
    check_steps(starts, apart, steps)


def test_a_number_of_a_forgotten_or_changed_item_is_given_to_nobody_else(coded):
    coded.set({"new-1": 3, "new-2": 3, "new-3": 3})
    coded.code()
    before = coded.codes()
    numbers = [before[f"new-{n}"][-1] for n in (1, 2, 3)]
    assert numbers == [numbers[0] + n for n in range(3)]
    coded.forget("new-3")
    coded.set({"new-2": 17, "newer": 3})
    report = coded.code()
    after = coded.codes()
    assert not report.fitted
    assert after["newer"] == (*before["new-1"][:-1], numbers[2] + 1)
    unchanged = set(before) - {"new-2", "new-3"}
    assert {i: after[i] for i in unchanged} == {i: before[i] for i in unchanged}


def test_a_number_of_an_item_that_was_forgotten_goes_to_nobody_after_a_refit_either(coded):
    coded.set({"new-1": 3, "new-2": 3})
    coded.code()
    before = coded.codes()
    coded.forget("new-2")
    coded.code(refit=True)
    coded.set({"new-3": 3})
    coded.code()
    after = coded.codes()
    assert (after["item-3"], after["new-1"]) == (before["item-3"], before["new-1"])
    assert after["new-3"] == (*before["new-2"][:-1], before["new-2"][-1] + 1)


def test_an_item_that_changes_and_has_the_same_codes_keeps_its_number(coded):
    before = coded.codes()
    coded.save_again("item-3")
    assert coded.code().committed == 1
    assert coded.codes() == before


@pytest.mark.parametrize("apart", ["by last code", "by both"])
def test_items_that_are_saved_again_keep_their_last_codes(starts, tmp_path, apart):
    coded = copy_of(starts[apart], tmp_path, apart)
    before = coded.codes()
    for item_id in START:
        coded.save_again(item_id)
        if item_id == "item-4":
            assert coded.code().committed == 5
    assert coded.code().committed == 3
    assert coded.codes() == before


def test_an_item_with_another_vector_gets_the_last_code_that_is_nearest_to_it(tmp_path):
    options = {"levels": 1, "codebook_size": 4, "sinkhorn_epsilon": 0.003, "collision_level": False}
    coded = Coded(tmp_path / "store", {"a": 0, "b": 1, "c": 2, "d": 3}, **options)
    coded.code()
    before = coded.codes()
    coded.leave("a")
    coded.prune()
    coded.set({"b": 0})
    coded.code()
    assert coded.codes() == {"b": before["a"], "c": before["c"], "d": before["d"]}


def test_what_is_kept_to_number_items_names_none_and_outlives_them(coded):
    coded.set({"new": 3})
    coded.code()
    code = coded.codes()["new"]
    coded.forget("new")
    assert mmfeat.open(coded.uri).verify_forgotten().ok
    for path in Path(coded.uri, "_collisions.lance").rglob("*"):
        assert path.is_dir() or b"item-" not in path.read_bytes()
    last = Store.open(coded.uri).collision_numbers(Store.open(coded.uri).resolve("codes"))
    assert code in set(map(tuple, last.tolist()))


def test_codebooks_that_never_saw_a_forgotten_item_stay(coded):
    coded.set({"new": 30})
    before = coded.code().version
    coded.forget("new")
    assert (coded.code().fitted, coded.code().version) == (False, before)
    coded.forget("item-3")
    assert coded.code().fitted


def test_codebooks_go_with_a_forgotten_item_that_was_pruned_and_came_back(coded):
    coded.leave("item-3")
    coded.prune()
    coded.set({"item-3": 3})
    coded.code()
    coded.forget("item-3")
    assert coded.code().fitted


def test_codes_whose_codebooks_went_with_an_item_are_fitted_anew_though_older_ones_are_there(coded):
    """Not those of the version that a refit replaced, which never saw the item."""
    first = coded.code().version
    coded.set({"new": 30})
    coded.code()
    second = coded.code(refit=True)
    assert second.version != first
    coded.forget("new")
    report = coded.code()
    assert report.fitted
    assert f"what {second.version} was made with went with forgotten items" in report.notices[0]
    assert report.kept.version == second.version


def test_codes_that_were_rolled_back_are_not_gone_on_with_where_the_current_ones_lost_their_codebooks(coded):
    coded.set({"new": 30})
    first = coded.code().version
    coded.leave("item-3")
    second = coded.code(refit=True).version
    with coded.store.lease("test"):
        assert [one.version for one in coded.store.promotion.rollback(["codes"])] == [first]
    coded.forget("item-3")
    coded.set({"newer": 31})
    report = coded.code()
    assert report.fitted and report.version not in (first, second)
    assert f"what {first} was made with" in report.notices[0]
    assert Store.open(coded.uri).resolve("codes").version == report.version
    assert "newer" in coded.codes()


def test_a_commit_that_never_came_gave_out_no_number(coded, monkeypatch):
    twin = coded.codes()["item-3"]
    coded.set({"new": 3})

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "commit", killed)
        coded.code()
    coded.code()
    new = coded.codes()["new"]
    largest = max(code[-1] for i, code in coded.codes().items() if code[:-1] == twin[:-1] and i != "new")
    assert new == (*twin[:-1], largest + 1)


# The writes of a fit, in their order.
WRITES = ("put_codebooks", "add_version", "put_collision_numbers", "commit", "finish")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", WRITES)
def test_killed_at_any_write_it_goes_on_to_the_same_codes(tmp_path, started, monkeypatch, write, after):
    coded = Coded(tmp_path / "store", START)
    real = getattr(Store, write)

    def killed(self, *args, **kwargs):
        if after:
            real(self, *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, write, killed)
        coded.code()
    coded.code()
    whole = Coded.__new__(Coded)
    whole.store = Store.open(str(started))
    assert coded.codes() == whole.codes()
    assert coded.versions() == whole.versions()


REFITTED = {f"item-{n:02}": n % 40 for n in range(60)}


def added_to(coded: Coded) -> None:
    """Codes of another fit than the one before, whose numbers have gaps: items come and leave."""
    for n in range(0, 60, 7):
        coded.leave(f"item-{n:02}")
    coded.prune()
    coded.set({f"a-new-{n}": 100 + n for n in range(6)})


def test_a_refit_calls_its_codes_as_they_were_called_and_says_how_many_stay_whole(tmp_path):
    coded = Coded(tmp_path / "store", REFITTED, codebook_size=6)
    first = coded.code()
    added_to(coded)
    before = coded.codes()
    again = coded.code(refit=True)
    after = coded.codes()
    assert again.version != first.version
    stays = {i for i in before if after[i][:2] == before[i][:2]}
    assert {i: after[i] for i in stays} == {i: before[i] for i in stays}
    assert len(set(after.values())) == len(after) > len(stays) > 10
    assert again.kept.version == first.version
    same = [after[i] == before[i] for i in before]
    assert (again.kept.items, again.kept.share) == (len(before), pytest.approx(np.mean(same)))
    by_level = np.mean([np.array(after[i]) == before[i] for i in before], axis=0)
    assert again.kept.levels == pytest.approx(by_level.tolist())


def test_a_fit_by_other_settings_that_was_killed_goes_on_with_the_numbers_of_the_codes_before(
    tmp_path, monkeypatch
):
    coded = Coded(tmp_path / "store", REFITTED, codebook_size=6)
    coded.code()
    added_to(coded)
    shutil.copytree(coded.uri, tmp_path / "twin")

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "commit", killed)
        coded.code(seed=1)
    whole = Coded.__new__(Coded)
    whole.store, whole.options = Store.open(str(tmp_path / "twin")), coded.options
    assert [one.code(seed=1).fitted for one in (coded, whole)] == [False, True]
    assert coded.codes() == whole.codes()
    assert coded.versions() == whole.versions()


def test_codes_that_get_a_collision_level_are_no_codes_that_stayed(tmp_path):
    coded = Coded(tmp_path / "store", START, collision_level=False)
    coded.code()
    report = coded.code(collision_level=True)
    assert (report.kept.share, report.kept.levels) == (0.0, [1.0, 1.0])


def test_a_refit_to_the_same_vectors_keeps_every_code(coded):
    first = coded.code()
    again = coded.code(refit=True)
    assert (again.version, again.kept.share, again.kept.levels) == (first.version, 1.0, [1.0, 1.0, 1.0])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9))
def test_the_matching_keeps_the_most_codes_that_any_naming_could(seed, size):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, size, (2, 40, 1))
    place = places(before, after, size)
    assert sorted(place[0]) == list(range(size))
    shared = np.zeros((size, size))
    np.add.at(shared, (after[:, 0], before[:, 0]), 1)
    best = shared[linear_sum_assignment(shared, maximize=True)].sum()
    assert kept(before, place[0][after])[0] == pytest.approx(best / 40)
    # Called by other names alone, they get the names back.
    other = rng.permutation(size)
    assert kept(before, places(before, other[before], size)[0][other[before]])[0] == 1


def test_drift_is_the_error_of_what_came_since_over_that_of_the_fit(coded):
    first = coded.code()
    assert (first.drift.items, first.drift.error) == (0, None)
    coded.set({"new": 30, "far": 40})
    report = coded.code()
    assert report.drift.items == 2
    assert report.drift.error > 1
    assert coded.code().drift == report.drift
    assert len(report.drift.used) == len(report.drift.perplexity) == 2


def test_items_that_left_have_no_part_in_the_drift_and_are_not_looked_up_by_code(coded):
    coded.code()
    coded.set({"new": 30, "far": 40})
    before = coded.code().drift
    coded.leave("far")
    coded.leave("item-3")
    drift = coded.code().drift
    assert (before.items, drift.items) == (2, 1)
    errors = {i: told["error"] for i, told in facts_of(coded).items() if told["since_fit"]}
    assert drift.error == pytest.approx(errors["new"] / at_fit(coded))
    codes = {i: code for i, code in coded.codes().items() if i in coded.contents}
    assert drift.used == [len({code[level] for code in codes.values()}) / 2 for level in (0, 1)]
    store = Store.open(coded.uri)
    found = [i for first in (0, 1) for i in ids_of_code(store, store.resolve("codes"), [first])]
    assert sorted(found) == sorted(coded.contents)


def facts_of(coded: Coded) -> dict[str, dict[str, Any]]:
    rows = coded.store.facts(Store.open(coded.uri).resolve("codes")).to_pylist()
    return {row["item_id"]: json.loads(row["facts"]) for row in rows}


def at_fit(coded: Coded) -> float:
    """The mean error of the vectors of the fit."""
    return float(coded.store.codebooks(Store.open(coded.uri).resolve("codes").fingerprint)[1]["error"])


def test_a_code_is_looked_up_backwards_whole_or_as_a_branch(run, coded):
    codes = coded.codes()
    opened = mmfeat.open(coded.uri)
    for code in set(codes.values()):
        for levels in (1, 2, 3):
            branch = code[:levels]
            wanted = sorted(i for i in codes if codes[i][:levels] == branch)
            assert opened.ids_of_code("codes", branch) == wanted
    code = ",".join(map(str, codes["item-3"]))
    status, out, err = run("lookup", "--code", code, "--features", "codes", "--store", coded.uri)
    assert status == 0, err
    assert "item-3" in out and "item-4" not in out
    with pytest.raises(UsageError, match="1 to 3 numbers"):
        opened.ids_of_code("codes", [0, 0, 0, 0])
    with pytest.raises(UsageError, match="holds no codes"):
        opened.ids_of_code("vectors", [0])
    status, out, err = run("lookup", "--code", "x", "--features", "codes", "--store", coded.uri)
    assert (status, "by comma" in err) == (2, True)
