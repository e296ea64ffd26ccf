"""The pairwise judge of the caption report, on a server that is a fake: it chooses by words in captions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import chat_server
import numpy as np
import pyarrow as pa
import pytest
from helpers.storing import make_rows, text_spec
from PIL import Image

from mmfeat.extract.served import client
from mmfeat.report import judge as judging
from mmfeat.report.judge import choice_of, sign_test, verdict_of, wilson_interval
from mmfeat.schemas.catalog import CATALOG_SCHEMA
from mmfeat.schemas.server import ANSWERS_FOLDER
from mmfeat.store import Store

#: What each item's captions make the fake say: of the earlier caption, and of the later one.
CAPTIONS = {
    "better": ("a cup", "a good cup"),
    "better too": ("a jug", "a good jug"),
    "worse": ("a good bowl", "a bowl"),
    "tied": ("an even plate", "an even flat plate"),
    "flips": ("a fork", "a long fork"),
    "mumbles": ("a strange spoon", "a strange new spoon"),
    "same": ("a knife", "a knife"),
    "no file": ("a plate", "a good plate"),
}
COVERS = {"no file": "nothing.png"}


class FakeJudge(chat_server.ModelServer):
    """No model: the caption that says ``good`` is better; ``even`` ones tie, ``strange`` ones get no plain
    answer, and of all others it takes the first."""

    path = "/v1/chat/completions"
    name = "fake-judge"

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        parts = body["messages"][0]["content"]
        assert [part["type"] for part in parts] == ["image_url", "text"]
        first, second = re.findall(r'(?:First|Second): "(.*)"', parts[1]["text"])
        if "strange" in first:
            said = "The first thing that I see is a spoon"
        elif "even" in first:
            said = "Tie."
        else:
            said = "second" if "good" in second else "First"
        return chat_server.completion(said, "stop", 10, 2)


@pytest.fixture(scope="module")
def fake():
    with chat_server.running(FakeJudge) as server:
        yield server


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("judged")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(folder / "thing.png")
    ids = list(CAPTIONS)
    store = Store.open(str(folder / "store"), create=True)
    items = [{"item_id": i, "title": i, "cover": str(folder / COVERS.get(i, "thing.png"))} for i in ids]
    with store.lease("test"):
        store.put_catalog(pa.Table.from_pylist(items, CATALOG_SCHEMA), {"name": "test"})
        for number in (0, 1):
            writer = (FakeJudge.name, "another writer")[number]
            spec = text_spec().model_copy(update={"model": writer})
            texts = [CAPTIONS[i][number] for i in ids]
            store.commit(store.add_version(spec), make_rows(spec, ids, texts), replace=False)
            store.set_current(spec.name, spec.fingerprint)
    return store


JUDGE = ("report", "captions", "--judge-model", FakeJudge.name, "--judge-captioner", "openai")


def judge(run, store, *further: str) -> tuple[int, dict[str, Any], str]:
    code, out, err = run(*JUDGE, "--store", store.uri, *further, "--json")
    return code, json.loads(out), err


@pytest.fixture
def asked(fake, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client.client_of.cache_clear()
    fake.requests.clear()
    return fake


def test_wins_losses_ties_and_answers_that_flip_with_the_order_are_counted(run, store, asked):
    _, told, _ = judge(run, store)
    found = told["judged"]
    assert (found["wins"], found["losses"], found["ties"], found["flips"]) == (2, 1, 1, 1)
    assert {one["item_id"]: one["verdict"] for one in found["pairs"]} == {
        "better": "after",
        "better too": "after",
        "worse": "before",
        "tied": "tie",
        "flips": "flip",
    }
    assert (found["always_first"], found["always_second"]) == (1, 0)
    assert found["share"] == pytest.approx(2 / 3) and found["p"] == 1.0


def test_items_without_a_plain_answer_are_named_and_same_captions_are_not_asked(run, store, asked):
    _, told, _ = judge(run, store)
    found = told["judged"]
    said = "The first thing that I see is a spoon"
    assert [(one["item_id"], one["reason"]) for one in found["unjudged"]] == [
        ("mumbles", f"earlier caption first, the answer names neither: {said}"),
        ("no file", "earlier caption first: read: there is no such file"),
    ]
    assert found["differ"] == 7


def test_what_it_cost_is_told(run, store, asked):
    _, told, _ = judge(run, store)
    found = told["judged"]
    assert found["questions"] == len(asked.requests) == 12
    assert (found["prompt_tokens"], found["new_tokens"]) == (120, 24)


def test_a_judge_of_its_own_captions_is_told(run, store, asked, tmp_path):
    page = tmp_path / "report.html"
    _, told, _ = judge(run, store, "--out", str(page))
    assert told["judged"]["own"] == told["judged"]["against"]
    assert f"The judge wrote {told['judged']['own']} itself" in page.read_text()


def test_another_seed_is_no_other_judge_where_all_items_are_asked_about(run, store, asked):
    first, second = (judge(run, store, "--sample-seed", seed)[1]["judged"] for seed in ("0", "1"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_a_report_that_was_cut_short_pays_for_no_question_twice(run, store, asked, monkeypatch):
    def killed(item_id: str, answers: list[Any]) -> Any:
        if item_id == "flips":
            raise KeyboardInterrupt
        return judged(item_id, answers)

    judged = judging._judged
    monkeypatch.setattr(judging, "_judged", killed)
    code, _, _ = run(*JUDGE, "--store", store.uri)
    assert code != 0 and 0 < len(asked.requests) < 12
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_BASE_URL", asked.url)
    client.client_of.cache_clear()
    _, told, _ = judge(run, store)
    assert len(asked.requests) == len(set(asked.requests)) == 12
    assert (told["judged"]["wins"], told["judged"]["prompt_tokens"]) == (2, 120)


def test_a_cap_ends_the_report_and_a_new_allowance_goes_on_from_there(run, store, asked):
    code, _, err = run(*JUDGE, "--max-requests", "5", "--store", store.uri)
    assert code == 3 and len(asked.requests) == 5
    assert "cap of 5 requests is reached" in err and "goes on from there" in err
    assert judge(run, store, "--max-requests", "7")[1]["judged"]["wins"] == 2
    assert len(asked.requests) == len(set(asked.requests)) == 12


def test_answers_are_kept_until_the_report_is_made_and_no_longer(run, store, asked):
    run(*JUDGE, "--max-requests", "5", "--store", store.uri)
    folder = Path(store.uri) / ANSWERS_FOLDER
    assert len(list(folder.rglob("*.json"))) == 5
    judge(run, store)
    assert not list(folder.rglob("*.json"))


def test_a_server_that_lets_nobody_in_ends_the_report_and_says_why(run, store, asked, monkeypatch):
    monkeypatch.setattr(asked, "key", "secret")
    code, _, err = run(*JUDGE, "--store", store.uri)
    assert code != 0 and "does not let us in (401)" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("first", "first"),
        ("  Second.", "second"),
        ("The second caption, as it is longer", "second"),
        ('"Tie"', "tie"),
        ("first. It names the colour", "first"),
        ("The first dog runs", None),
        ("A red cup", None),
        ("first or second", None),
        ("", None),
    ],
)
def test_an_answer_is_a_choice_where_it_names_one_plainly(answer, choice):
    assert choice_of(answer) == choice


@pytest.mark.parametrize(
    ("choices", "verdict"),
    [
        (("first", "second"), "before"),
        (("second", "first"), "after"),
        (("tie", "tie"), "tie"),
        (("first", "first"), "flip"),
        (("second", "second"), "flip"),
        (("tie", "first"), "flip"),
    ],
)
def test_an_item_is_won_where_both_orders_agree(choices, verdict):
    assert verdict_of(choices) == verdict


def test_the_sign_test_and_the_interval_are_exact_on_counts_by_hand():
    # 2 * (1 + 10 + 45) / 2 ** 10
    assert sign_test(8, 2) == sign_test(2, 8) == 0.109375
    assert sign_test(6, 0) == 2 / 64
    assert sign_test(3, 3) == sign_test(0, 0) == 1.0
    assert wilson_interval(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-5)
    # z * z / (n + z * z) of none
    assert wilson_interval(0, 10) == pytest.approx((0.0, 3.841459 / 13.841459), abs=1e-6)
    assert wilson_interval(5, 5)[1] == 1.0
