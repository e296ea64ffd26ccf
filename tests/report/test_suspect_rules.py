"""What each suspicion takes for suspect, and what it leaves alone."""

from __future__ import annotations

import pytest
import reporting

from mmfeat.report.captions import read_captions, the_captions
from mmfeat.report.language import LanguageCheck
from mmfeat.report.rules import Rules
from mmfeat.report.suspects import find_suspects
from mmfeat.schemas.errors import ConfigError

RIGHT = "Two grey cats sleep beside a blue bowl on a wooden floor."


def kinds_of(tmp_path, texts, titles=(), language=None, **rules):
    """The kinds of suspicion per text."""
    ids = [str(n) for n in range(len(texts))]
    planted = reporting.Planted(
        ids, dict(zip(ids, texts, strict=True)), titles=dict(zip(ids, titles, strict=False))
    )
    store = reporting.write(tmp_path / "store", planted)
    captions = read_captions(store, the_captions(store))
    check = LanguageCheck(language, ratio=3) if language else None
    found = find_suspects(captions, Rules(**rules), check, seed=0)
    return [{s.kind for s in found if i in s.item_ids} for i in ids]


def test_each_text_is_under_the_suspicions_it_deserves(tmp_path):
    deserved = {
        RIGHT: set(),
        "…": {"empty"},
        "A cat": {"short"},
        "I cannot describe this image.": {"refusal"},
        'A sign reads "I cannot see the sea" beside a door.': set(),
        "A man says sorry, I can't help, on a poster in a street.": set(),
        "The image shows a cat on a mat near a door.": {"boilerplate"},
        "Sure! A cat on a mat in the sun of noon.": {"boilerplate"},
        "A poster of the image that shows a cat at night.": set(),
        "so so so so so so so bright": {"loop"},
        "ha ha ha, says the clown to a child": set(),
        "a red car and a blue car and a red car and a blue car and a red car and a blue car": {"loop"},
        "A cat on a mat.<|im_end|>": {"leak"},
        "**A cat** lies on a green mat": {"leak"},
        "assistant: A kitten on a grey mat": {"leak"},
        "Describe this picture in one or two plain sentences, and a cat.": {"leak"},
        "A kitten of 3 < 5 weeks & its mother look up": set(),
    }
    assert dict(zip(deserved, kinds_of(tmp_path, list(deserved)), strict=True)) == deserved


def test_a_copied_title_is_found_and_a_text_that_says_more_is_not(tmp_path):
    title = "Blue enamel kettle, 2 litres"
    texts = ["A blue enamel kettle, 2 litres.", "A round kettle of blue enamel on a stove, with steam."]
    assert kinds_of(tmp_path, texts, [title, title]) == [{"title_copy"}, set()]


def test_another_language_than_the_stated_one_is_found_whichever_is_stated(tmp_path):
    texts = [RIGHT, "Zwei graue Katzen schlafen neben einer blauen Schale auf dem Boden."]
    assert kinds_of(tmp_path, texts, language="en") == [set(), {"language"}]
    assert kinds_of(tmp_path, texts, language="de") == [{"language"}, set()]


def test_texts_of_two_items_that_differ_in_a_word_are_near_duplicates(tmp_path):
    long = "a man in a dark coat walks along a wet street at night past shops with bright signs and a dog"
    texts = [long, long + " follows", RIGHT]
    assert kinds_of(tmp_path, texts) == [{"near_duplicate"}, {"near_duplicate"}, set()]


def test_a_refusal_on_many_items_is_no_further_finding(tmp_path):
    assert kinds_of(tmp_path, ["I cannot describe this."] * 2) == [{"refusal"}] * 2


def test_rules_decide_what_is_too_short(tmp_path):
    assert kinds_of(tmp_path, [RIGHT], short_words=13) == [{"short"}]


@pytest.mark.parametrize("language", ["xx", "english"])
def test_an_unknown_language_is_an_error_that_names_the_known_ones(tmp_path, language):
    with pytest.raises(ConfigError, match=f"no language '{language}'") as raised:
        kinds_of(tmp_path, [RIGHT], language=language)
    assert "en, " in raised.value.hint
