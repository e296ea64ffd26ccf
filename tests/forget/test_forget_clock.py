"""Forgetting by a machine whose clock is behind the one that wrote the store; and what it can't remove."""

from __future__ import annotations

import time
from pathlib import Path

import lance
import pytest
from forgettable import ID, OTHERS, ids_in_every_version, make_store, traces

import mmfeat
from mmfeat.schemas.errors import StoreError

DAY = 24 * 3600


def seconds_field(seconds: int) -> bytes:
    """A protobuf timestamp's seconds, as a manifest holds them: field 1, a varint."""
    field = bytearray([0x08])
    while seconds > 0x7F:
        field.append(seconds & 0x7F | 0x80)
        seconds >>= 7
    return bytes([*field, seconds])


def written_by_a_clock_ahead(folder: Path, by: int) -> int:
    """Let every state of every table be of so many seconds later; how many there are."""
    now, moved = int(time.time()), 0
    for path in folder.rglob("*.manifest"):
        data = path.read_bytes()
        for second in range(now - 600, now + 1):
            moved += data.count(seconds_field(second))
            data = data.replace(seconds_field(second), seconds_field(second + by))
        path.write_bytes(data)
    return moved


@pytest.mark.parametrize("by", [3600, 400 * DAY])
def test_what_a_clock_ahead_wrote_is_forgotten_with_every_file_that_held_it(tmp_path, by):
    folder = tmp_path / "store"
    store = make_store(folder)
    assert written_by_a_clock_ahead(folder, by) >= len(list(folder.rglob("*.manifest")))
    table = lance.dataset(str(folder / f"{store.resolve('caption').table}.lance"))
    assert table.versions()[-1]["timestamp"].timestamp() > time.time() + by - 700
    mmfeat.open(folder).forget([ID], "asked to", cache=tmp_path / "cache")
    assert mmfeat.open(folder).verify_forgotten().ok
    assert traces(folder) == {} and ids_in_every_version(folder) == set(OTHERS)
    for name in ("first", "second"):
        assert mmfeat.open(folder, snapshot=name).ids == OTHERS


def test_forgetting_is_no_success_while_a_file_still_holds_the_item(tmp_path):
    folder = tmp_path / "store"
    table = folder / f"{make_store(folder).resolve('caption').table}.lance"
    # Of another program, which mmfeat neither moves nor removes: a branch that began before.
    lance.dataset(str(table)).create_branch("theirs", lance.dataset(str(table)).version)
    with pytest.raises(StoreError, match=f"still hold '{ID}'") as raised:
        mmfeat.open(folder).forget([ID], "asked to", cache=tmp_path / "cache")
    assert "--verify" in raised.value.hint
    assert mmfeat.open(folder).verify_forgotten().pending == [ID]
    lance.dataset(str(table)).branches.delete("theirs")
    mmfeat.open(folder).forget([ID], "asked to", cache=tmp_path / "cache")
    assert mmfeat.open(folder).verify_forgotten().ok and traces(folder) == {}
