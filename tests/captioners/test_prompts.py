"""Prompt files: named, versioned, with no variable that is not declared."""

from pathlib import Path

import pytest

from mmfeat.extract.prompts import fill, list_prompts, load_prompt
from mmfeat.schemas.errors import ConfigError


def write(path: Path, text: str, **more: str) -> str:
    rows = {"name": '"mine"', "version": "3", "text": f'"{text}"', **more}
    path.write_text("\n".join(f"{k} = {v}" for k, v in rows.items()))
    return str(path)


def test_every_shipped_prompt_loads_under_its_file_name():
    assert list_prompts() == ["describe", "describe-video"]
    for name in list_prompts():
        assert load_prompt(name).name == name
        assert load_prompt(name).version >= 1


def test_an_unknown_prompt_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigError, match="'descibe'") as caught:
        load_prompt("descibe")
    assert "describe, describe-video" in str(caught.value.hint)


def test_a_users_own_file_goes_by_path(tmp_path):
    path = write(tmp_path / "mine.toml", "What is {title}?", variables='["title"]', max_new_tokens="7")
    mine = load_prompt(path)
    assert (mine.name, mine.version, mine.max_new_tokens) == ("mine", 3, 7)
    assert fill(mine.prompt.text, {"title": "a {kettle}"}) == "What is a {kettle}?"


def test_doubled_braces_are_literal_ones(tmp_path):
    mine = load_prompt(write(tmp_path / "mine.toml", 'Answer as {{\\"colour\\": ...}}'))
    assert fill(mine.text, {}) == 'Answer as {"colour": ...}'


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        ("What is {title}?", {}, r"uses \['title'\]"),
        ("What is this?", {"variables": '["title"]'}, r"declares \['title'\]"),
        ("What is {price}?", {"variables": '["price"]'}, "variables.0"),
        ("What is {title.__class__}?", {"variables": '["title"]'}, "title.__class__"),
        ("What is {title!r}?", {"variables": '["title"]'}, "takes no format"),
        ("What is {title", {"variables": '["title"]'}, "not a prompt"),
        ("What?", {"temperature": "1"}, "temperature"),
        ("What?", {"version": "0"}, "version"),
        ("", {}, "text"),
    ],
)
def test_a_file_that_is_not_a_prompt_is_refused_with_the_reason(tmp_path, text, more, reason):
    with pytest.raises(ConfigError, match=reason):
        load_prompt(write(tmp_path / "mine.toml", text, **more))


def test_a_missing_file_and_one_that_is_not_toml_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no file .*gone\.toml"):
        load_prompt(str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_text("describe this")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_prompt(str(tmp_path / "bad.toml"))
