"""What people see at a prompt, in a notebook and on a narrow terminal: short, whole and escaped."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec, token_spec, vector_spec, vectors

import mmfeat
from mmfeat.datasets import check, load
from mmfeat.export import verify
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.errors import GateFailed, MmfeatError, UnknownItems, UsageError
from mmfeat.schemas.reasons import counted
from mmfeat.store import Store

IDS = [f"item-{n}" for n in range(300)]
CLI = "from mmfeat.cli import main; main()"
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path) -> Path:
    """Vectors, texts and token vectors of 300 items, of which every fourth has failed, in long names."""
    cells = [None if n % 4 == 0 else n for n in range(len(IDS))]
    lists = {
        vector_spec("a_feature_with_a_long_name", 64): [*vectors(len(IDS), 64)],
        text_spec(): [MARKUP] * len(IDS),
        token_spec(): [np.ones((2, 3), np.float16)] * len(IDS),
    }
    opened = Store.open(str(tmp_path / "store"), create=True)
    with opened.lease("test"):
        items = [{"item_id": i, "title": MARKUP} for i in IDS]
        opened.put_catalog(pa.Table.from_pylist(items, schema=CATALOG_SCHEMA), {"name": MARKUP})
        for spec, values in lists.items():
            version = opened.add_version(spec)
            given = [None if gap is None else value for gap, value in zip(cells, values, strict=True)]
            opened.commit(version, make_rows(spec, IDS, given), replace=False)
            opened.set_current(version.name, version.fingerprint)
    return tmp_path / "store"


def on_a_terminal(words: list[str], columns: int) -> str:
    """What a command shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that nobody writes any more
        pass
    os.close(ours)
    assert process.wait() == 0, shown.decode()
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode().replace("\r\n", "\n"))


def test_a_feature_set_says_what_it_is_in_a_line(store):
    found = mmfeat.open(store).lookup()
    assert len(repr(found)) < 400 and "\n" not in repr(found)
    for words in ("300 items", "[300, 64]", "225 of 300 ok", "caption", "tokens"):
        assert words in repr(found)
    for column in found.values():
        assert len(repr(column)) < 200 and column.spec.version in repr(column)


def test_stores_sets_and_reports_show_themselves_in_a_notebook_and_run_nothing(store, tmp_path):
    opened = mmfeat.open(store)
    feature = "a_feature_with_a_long_name"
    made = opened.export("npy", tmp_path / MARKUP.replace("/", ""), features=[feature], missing="drop")
    forgotten = opened.forget(IDS[:2], MARKUP)
    shown = [opened, opened.lookup(IDS[2:]), made, verify(made.path), forgotten, opened.verify_forgotten()]
    shown.append(check(load("sample")))
    for thing in shown:
        html = thing._repr_html_()
        assert html.count("<table>") == html.count("</table>") >= 1
        assert "<img" not in html
        assert len(html) < 20_000 and len(repr(thing)) < 3_000
    assert str(store) in repr(opened)
    assert "225" in opened._repr_html_() or "224" in opened._repr_html_()


def test_every_report_shows_itself():
    from mmfeat.export import ExportReport
    from mmfeat.pipelines.quantize import QuantizeReport
    from mmfeat.pipelines.run_report import RunReport
    from mmfeat.report.model import CaptionReport

    for report in (RunReport, QuantizeReport, ExportReport, CaptionReport):
        assert callable(report._repr_html_)
    run = RunReport(**{field.name: [] for field in fields(RunReport)})
    assert "<table>" in run._repr_html_()


def test_an_evaluation_shows_figures_beside_shuffled_rows_and_its_verdict_in_a_notebook():
    from mmfeat.evaluate import Evaluation, FeatureVerdict, Finding
    from mmfeat.evaluate.statistics import Estimate, Lift

    def figures(mean: float) -> dict[str, Estimate]:
        return {"auc": Estimate(mean, mean - 0.1, mean + 0.1, 30)}

    lift = Lift(**{field.name: None for field in fields(Lift)})
    measured = Finding("auc", "users", figures(0.75), figures(0.5), figures(0.51), lift, True)
    unmeasured = Finding("ndcg", "users", {}, {}, {}, lift, None)
    given = {field.name: 0 for field in fields(Evaluation)}
    verdict = FeatureVerdict("title@1", f"It knows {MARKUP}.", {"probe": measured, "profile": unmeasured})
    found = Evaluation(
        **{**given, "features": [verdict], "agreement": ["They agree."], "notes": ["few items"]}
    )
    html = found._repr_html_()
    for words in (
        "title@1",
        "0.7500",
        "[0.6500, 0.8500]",
        "0.5000",
        "yes",
        "It knows",
        "They agree. few items.",
    ):
        assert words in html
    assert "could not be measured" in html and "<img" not in html


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_a_narrow_terminal_breaks_no_version_and_no_number(store, columns):
    shown = on_a_terminal(["status", "--store", str(store)], columns)
    versions = [feature.version for feature in mmfeat.open(store).status()]
    assert [v for v in versions if v in shown] == versions
    assert shown.count("225") == len(versions)
    *table, _ = shown.strip().splitlines()
    assert max(map(len, table)) <= max(columns, *map(len, versions))


def test_a_list_breaks_no_name_on_a_narrow_terminal():
    from mmfeat.extract import registry

    shown = on_a_terminal(["encoders", "list"], 80)
    assert [method.name for method in registry.methods() if method.name not in shown] == []


def test_printing_an_error_says_what_to_do_and_the_command_line_says_it_once(run, tmp_path):
    error = UsageError("There is no x.", hint="Write y.")
    assert str(error) == "There is no x. Write y."
    assert str(MmfeatError("Alone.")) == "Alone."
    assert str(GateFailed("Two gates", hint="Look.")) == "Two gates. Look."
    assert "Check the ids" in str(UnknownItems(["a"]))
    code, out, err = run("status", "--store", "nowhere", "--json")
    told = json.loads(out)["error"]
    assert code == 1 and told["hint"] not in told["message"]
    assert err.count(told["hint"]) == 1


def test_failures_are_summed_up_by_reason_before_the_items(run, store):
    code, out, _ = run("failures", "--store", store)
    assert code == 0
    # The ids in the reasons differ; the kind does not.
    first = out[out.index("caption@") :].splitlines()[:3]
    assert first[1].split() == ["items", "stage", "reason", "first", "item"]
    assert first[2].split()[:2] == ["75", "decode"]
    body = json.loads(run("failures", "--store", store, "--json")[1])
    versions = [feature.version for feature in mmfeat.open(store).status()]
    assert set(body) == {*versions, "summary", "marked"}
    assert set(body["marked"]) == set(versions)
    for version in versions:
        assert len(body[version]) == 75
        assert body["summary"][version] == [
            {"stage": "decode", "reason": "cannot decode item-0", "items": 75, "first": "item-0"}
        ]


def test_reasons_that_differ_in_numbers_names_and_places_are_one():
    reasons = [
        "too large: 4000 x 300 pixels", "too large: 12 x 99,000 pixels",
        "no such file: /media/covers/a.png", "no such file: /media/covers/deep/b.png",
        "404 from https://a.example/x.jpg?y=1", "404 from https://b.example/z.png",
        "unknown format 'abc'", 'unknown format "d e f"', "file is empty",
    ]  # fmt: skip
    rows = [{"item_id": str(n), "stage": "read", "reason": reason} for n, reason in enumerate(reasons)]
    assert [(one.items, one.reason) for one in counted(rows)] == [
        (2, reasons[0]), (2, reasons[2]), (2, reasons[4]), (2, reasons[6]), (1, "file is empty"),
    ]  # fmt: skip
