"""Prompt files: named, versioned, with no variable that is not declared."""

import json
from pathlib import Path

import pytest

from mmfeat.extract.describers.captions.replies import parse_reply
from mmfeat.extract.describers.prompts import list_prompts, load_prompt, path_of
from mmfeat.extract.registry import resolve_all
from mmfeat.schemas.errors import ConfigError
from mmfeat.schemas.job import load_job
from mmfeat.schemas.templates import fill


def write(path: Path, text: str, **more: str) -> str:
    rows = {"name": '"mine"', "version": "3", "text": f'"{text}"', **more}
    path.write_text("\n".join(f"{k} = {v}" for k, v in rows.items()))
    return str(path)


def test_every_shipped_prompt_loads_under_its_file_name():
    assert list_prompts() == [
        "describe", "describe-clip", "describe-scene", "describe-sound", "describe-titled", "describe-video",
        "ocr", "paper", "paper-audio", "summarise-scenes", "tags",
    ]  # fmt: skip
    for name in list_prompts():
        assert load_prompt(name).name == name
        assert load_prompt(name).version >= 1


def test_an_unknown_prompt_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigError, match="'descibe'") as caught:
        load_prompt("descibe")
    assert "describe, describe-clip" in str(caught.value.hint)


def test_a_users_own_file_goes_by_path(tmp_path):
    path = write(tmp_path / "mine.toml", "What is {title}?", variables='["title"]', max_new_tokens="7")
    mine = load_prompt(path)
    assert (mine.name, mine.version, mine.max_new_tokens) == ("mine", 3, 7)
    assert fill(mine.prompt.text, {"title": "a {kettle}"}) == "What is a {kettle}?"


def test_any_column_or_feature_may_be_named_and_a_question_mark_says_that_an_item_may_lack_it(tmp_path):
    path = write(tmp_path / "mine.toml", "{price} {brand?}?", variables='["price", "brand"]')
    assert load_prompt(path).prompt.variables == {"price": False, "brand": True}
    assert fill(load_prompt(path).text, {"price": "3", "brand": ""}) == "3 ?"


def test_doubled_braces_are_literal_ones(tmp_path):
    mine = load_prompt(write(tmp_path / "mine.toml", 'Answer as {{\\"colour\\": ...}}'))
    assert fill(mine.text, {}) == 'Answer as {"colour": ...}'


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        ("What is {title}?", {}, r"uses \['title'\]"),
        ("What is this?", {"variables": '["title"]'}, r"declares \['title'\]"),
        ("{title} or {title?}?", {"variables": '["title"]'}, "question mark in one place"),
        ("What is {title.__class__}?", {"variables": '["title"]'}, "title.__class__"),
        ("What is {title:>9}?", {"variables": '["title"]'}, "takes no format"),
        ("What is {title", {"variables": '["title"]'}, "not a prompt"),
        ("What?", {"temperature": "1"}, "temperature"),
        ("What?", {"schema": '{type = "thing"}'}, "not a JSON Schema"),
        ("What?", {"schema": "{default = 2024-01-01}"}, "not JSON"),
        (
            "What?",
            {"schema": '{properties.a."$ref" = "https://example.org/a.json"}'},
            "only what is in the file",
        ),
        ("What?", {"version": "0"}, "version"),
        ("", {}, "text"),
    ],
)
def test_a_file_that_is_not_a_prompt_is_refused_with_the_reason(tmp_path, text, more, reason):
    with pytest.raises(ConfigError, match=reason):
        load_prompt(write(tmp_path / "mine.toml", text, **more))


def test_a_schema_goes_into_the_spec_as_canonical_json_and_free_text_has_none(tmp_path):
    mine = load_prompt(
        write(tmp_path / "mine.toml", "Which?", schema='{type = "object", required = ["b", "a"]}')
    )
    assert mine.prompt.reply_schema == '{"required":["b","a"],"type":"object"}'
    assert load_prompt("describe").prompt.reply_schema is None


def test_the_example_in_the_shipped_tags_prompt_fits_its_own_schema():
    tags = load_prompt("tags").prompt
    example = fill(tags.text, {}).partition("For example:")[2].strip()
    assert json.loads(parse_reply(example, tags.reply_schema))["objects"] == ["cat", "sofa"]


def test_a_missing_file_and_one_that_is_not_toml_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no file .*gone\.toml"):
        load_prompt(str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_text("describe this")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_prompt(str(tmp_path / "bad.toml"))


def test_prompts_are_listed_and_shown_by_name_or_path(run, tmp_path):
    code, out, _ = run("prompts", "list", "--json")
    assert code == 0
    assert [p["name"] for p in json.loads(out)] == list_prompts()
    assert run("prompts", "show", "tags")[1].rstrip() == path_of("tags").read_text().rstrip()
    path = write(tmp_path / "mine.toml", "Who is {title}?", variables='["title"]')
    code, out, _ = run("prompts", "show", path, "--json")
    assert (code, json.loads(out)["variables"]) == (0, ["title"])


def test_a_prompt_that_is_wrong_is_shown_to_be_so(run, tmp_path):
    path = write(tmp_path / "mine.toml", "Who is {title}?")
    code, _, err = run("prompts", "show", path)
    assert code == 2
    assert "uses ['title'] in braces" in err


def test_prompt_files_are_looked_up_beside_the_job(tmp_path):
    for name in ("scene.toml", "whole.toml"):
        text, variables = ("{scenes}", '["scenes"]') if name == "whole.toml" else ("What?", "[]")
        write(tmp_path / name, text, variables=variables)
    (tmp_path / "job.toml").write_text(
        '[store]\nuri = "s"\n[dataset]\nname = "sample"\n[features.c]\nsource = "video"\n'
        'captioner = "openai"\nmodel = "m"\nsampling = "scenes"\n'
        'prompt = "scene.toml"\nsummary_prompt = "whole.toml"\n'
    )
    (spec,) = resolve_all(load_job(tmp_path / "job.toml").features)
    assert (spec.prompt.text, spec.options["summary"]["prompt"]["text"]) == ("What?", "{scenes}")
