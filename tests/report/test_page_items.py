"""The data of all items inside the page."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mmfeat.report.page.items import COLUMNS, Item, embed
from mmfeat.schemas.visible import visible

PLAIN = Item("a", "Title", "a red cup", "ok", "", (), 3, 0.31)
STRANGE = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    ["</script>", "<!--", "&", "\u2028"]
)


def rows(embedded) -> list[dict[str, object]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in json.loads(embedded.json)["rows"]]


def test_every_item_is_there_in_the_order_given():
    items = [replace(PLAIN, id=f"{n}", suspects=(n % 2,)) for n in (3, 1, 2)]
    found = rows(embed(items, ["loops", "refusals"]))
    assert [row["id"] for row in found] == ["3", "1", "2"]
    assert found[0] == {
        "id": "3",
        "title": "Title",
        "caption": "a red cup",
        "status": "ok",
        "reason": "",
        "suspects": [1],
        "words": 3,
        "grounding": 0.31,
    }


@given(title=STRANGE, caption=STRANGE)
def test_any_text_comes_back_and_can_end_no_script_element(title, caption):
    embedded = embed([replace(PLAIN, title=title, caption=caption)], ["</script>"])
    assert not set(embedded.json) & set("<>&\u2028\u2029")
    (row,) = rows(embedded)
    assert (row["title"], row["caption"]) == (visible(title), visible(caption))


def test_a_score_that_is_no_number_is_none():
    found = rows(embed([replace(PLAIN, grounding=g) for g in (float("nan"), float("inf"), None)], []))
    assert [row["grounding"] for row in found] == [None, None, None]


def test_texts_are_cut_before_an_item_is_left_out():
    ids = [f"{n}" for n in range(99)] + ["an id that is long " * 40]
    embedded = embed([replace(PLAIN, id=i, caption="word " * 400) for i in ids], [], most_bytes=60_000)
    assert len(embedded.json) <= 60_000
    assert [row["id"] for row in rows(embedded)] == ids
    assert rows(embedded)[0]["caption"] == ("word " * 100) + "…"
    assert embedded.notice.startswith("All 100 items, texts cut at 500 characters")


def test_what_still_does_not_fit_leaves_out_items_without_findings():
    fine = [replace(PLAIN, id=f"{n}", caption="word " * 40) for n in range(200)]
    failed = replace(PLAIN, id="failed", status="failed", reason="decode: empty")
    suspect = replace(PLAIN, id="suspect", suspects=(0,))
    embedded = embed([*fine, failed, suspect], ["loops"], most_bytes=20_000)
    found = [row["id"] for row in rows(embedded)]
    assert found[:2] == ["failed", "suspect"]
    assert found[2:] == [f"{n}" for n in range(len(found) - 2)]
    assert 50 < len(found) < 202
    assert embedded.notice.startswith(f"{len(found)} of 202 items, those with findings first")
    assert embedded.total == 202


def test_the_limit_holds_for_texts_that_grow_in_the_page():
    embedded = embed(
        [replace(PLAIN, id=f"{n}", caption="<" * 500) for n in range(100)], [], most_bytes=60_000
    )
    assert len(embedded.json) <= 60_000 + len('{"columns":,"kinds":[],"rows":}') + len(json.dumps(COLUMNS))
