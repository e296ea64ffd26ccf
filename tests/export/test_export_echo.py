"""Every format: each item finds its own vector by the target's rule; moved rows are found out."""

import numpy as np
import pytest
from helpers.echo import (
    OPTIONS,
    assert_echo,
    every_role,
    expected,
    export_with_moved_rows,
    make_input,
    roles_of,
    shifted,
    swapped,
    value,
)
from helpers.export_readers import READERS, REFUSED, SAMPLE_IDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmfeat.export import Request, export, get, names, verify
from mmfeat.schemas.errors import UsageError

IDS = ["10", "9", "007", "7", "B00.1", "a b", "ü-ñ", "視頻", "x" * 200, "'q'", "-1", "1e5"]
FORMATS = sorted(READERS)


def ids_for(format):
    return [i for i in SAMPLE_IDS.get(format, IDS) if i not in REFUSED.get(format, ())]


def test_every_format_has_an_independent_reader():
    assert set(names()) == set(READERS)


@pytest.mark.parametrize("format", FORMATS)
def test_every_item_finds_its_own_value_by_the_targets_rule(tmp_path, format):
    data, options = make_input(format, ids_for(format)), OPTIONS.get(format)
    export(data, Request(format, tmp_path / "sample", features=every_role(format), options=options))
    assert_echo(READERS[format](tmp_path / "sample"), expected(format, ids_for(format)))
    assert verify(tmp_path / "sample").problems == ()


@pytest.mark.parametrize("move", [shifted, swapped])
@pytest.mark.parametrize("format", FORMATS)
def test_moved_rows_fail_the_reader_and_verify(tmp_path, format, move):
    export_with_moved_rows(make_input(format, ids_for(format)), format, tmp_path / "sample", move)
    with pytest.raises(AssertionError):
        assert_echo(READERS[format](tmp_path / "sample"), expected(format, ids_for(format)))
    report = verify(tmp_path / "sample")
    (echo,) = [p for p in report.problems if p.kind == "echo"]
    # Two swapped items, or all of them, in every feature.
    assert echo.count == len(roles_of(get(format))) * (2 if move is swapped else len(ids_for(format)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_changed_byte_fails_verify(tmp_path, format):
    data, options = make_input(format, ids_for(format)), OPTIONS.get(format)
    report = export(data, Request(format, tmp_path / "sample", features=every_role(format), options=options))
    for name in report.files:
        path = tmp_path / "sample" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    changed = [p for p in verify(tmp_path / "sample").problems if p.kind == "file"]
    assert changed[0].count == len(report.files)


@pytest.mark.parametrize("format", FORMATS)
def test_a_lost_file_fails_verify_without_a_traceback(tmp_path, format):
    data, options = make_input(format, ids_for(format)), OPTIONS.get(format)
    report = export(data, Request(format, tmp_path / "sample", features=every_role(format), options=options))
    for name in report.files:
        (tmp_path / "sample" / name).unlink()
    found = verify(tmp_path / "sample").problems
    assert {p.kind for p in found} == {"file", "unreadable"}
    assert found[0].count == len(report.files)


ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
    | st.sampled_from(
        ["NA", "null", "None", "001", "1", "1.0", "a.b.jpg", " lead", "trail ", 'say "hi"', "[PAD]"]
    ),
    min_size=1,
    max_size=8,
    unique=True,
)


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=ids, data=st.data())
def test_any_ids_any_missing_any_order_reads_back_or_is_refused(tmp_path_factory, format, ids, data):
    exporter = get(format)
    mask = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    order = data.draw(st.permutations(ids))
    missing = data.draw(st.sampled_from([p for p in exporter.missing if p in ("mask", "drop")]))
    given_input = make_input(format, ids, mask)
    folder = tmp_path_factory.mktemp("any") / "sample"
    kept = {i for i, ok in zip(ids, mask, strict=True) if ok}

    def run(**options):
        export(
            given_input,
            Request(
                format,
                folder,
                features=every_role(format),
                items=order,
                missing=missing,
                options={**OPTIONS.get(format, {}), **options},
            ),
        )

    try:
        run()
    except UsageError as error:
        assert not folder.exists()
        nothing_left = not kept and missing == "drop"
        a_formula = "as formulas in a spreadsheet" in error.message
        assert not a_formula or any(i.lstrip()[:1] in set("=@+-") for i in ids), error
        a_cut_text = "pandas reads as missing or cuts" in error.message
        assert not a_cut_text or "\0" in "".join(kept)
        assert nothing_left or a_formula or a_cut_text or "ids" in error.message, error
        users_too_short = "users with fewer" in error.message
        if nothing_left or a_formula or a_cut_text or users_too_short:
            return
        if "ids" not in exporter.options.model_fields:
            return
        run(ids="index")
    assert_echo(READERS[format](folder), expected(format, kept))
    assert verify(folder).problems == ()


def test_the_echo_values_tell_items_apart():
    assert not np.array_equal(value("1", "vector"), value("01", "vector"))
