"""A reply that must be JSON of a schema is taken as it is or refused; nothing is mended."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfeat.extract.describers.captions.replies import InvalidReply, parse_reply

SCHEMA = json.dumps(
    {
        "type": "object",
        "required": ["colour", "shapes"],
        "additionalProperties": False,
        "properties": {
            "colour": {"enum": ["red", "blue"]},
            "shapes": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        },
    }
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    max_leaves=12,
)


def test_a_fitting_reply_is_stored_as_canonical_json():
    reply = '{ "shapes" : ["ring", "\\u00e9toile"],\n "colour": "red" }'
    assert parse_reply(reply, SCHEMA) == '{"colour":"red","shapes":["ring","étoile"]}'


@given(JSON)
def test_whatever_json_a_model_writes_keeps_its_value(value):
    written = json.dumps(value, indent=1)
    try:
        written.encode()
    except UnicodeEncodeError:
        return
    assert json.loads(parse_reply(written, "{}")) == value


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("a red circle", "it is not JSON"),
        ("", "it is not JSON"),
        ('```json\n{"colour": "red", "shapes": []}\n```', "it is not JSON"),
        ('Here it is: {"colour": "red", "shapes": []}', "it is not JSON"),
        ('{"colour": "red", "shapes": ["ring"', "it is not JSON"),
        ('{"colour": "red", "colour": "blue", "shapes": []}', "a key is given twice"),
        ('{"colour": NaN, "shapes": []}', "NaN is not a JSON number"),
        ('{"colour": 1e999, "shapes": []}', "it is not JSON"),
        ('{"colour": "\\ud83d", "shapes": []}', "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"colour": "green", "shapes": []}', "colour: 'green' is not one of"),
        ('{"colour": "red"}', "'shapes' is a required property"),
        ('{"colour": "red", "shapes": ["ring", 3]}', r"shapes\[1\]: 3 is not of type 'string'"),
        ('{"colour": "red", "shapes": ["a", "b", "c"]}', "is too long"),
        ('{"colour": "red", "shapes": [], "size": 1}', "'size' was unexpected"),
    ],
)  # fmt: skip
def test_a_reply_that_does_not_fit_is_refused_with_what_is_wrong(reply, problem):
    with pytest.raises(InvalidReply, match=problem) as caught:
        parse_reply(reply, SCHEMA)
    assert "\n" not in caught.value.problem
    assert len(caught.value.problem) < 400
