"""Mistakes in a job's file: which table and key, what was written, what it takes, and what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field, ValidationError, create_model

from mmfeat.export.formats import ducho, lc_rec
from mmfeat.extract.describers.captions.openai import OpenAICaptionerOptions
from mmfeat.extract.describers.prompts import PromptFile
from mmfeat.schemas.job import JobConfig
from mmfeat.schemas.spec import FeatureSpec
from mmfeat.schemas.validation import in_words

HEAD = '[store]\nuri = "s"\n[dataset]\nname = "sample"\n'
FEATURE = '[features.x]\nsource = "title"\nencoder = "open_clip"\n'
JARGON = ("Input should", "Field required", "valid string", "type=", "pydantic", "Traceback", "Extra inputs")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[store]\nuri = 3\n", ["store.uri: takes a text in quotes, not 3"]),
        (
            "[store]\nurl = 's'\n",
            ["store.url: there is no such key. Did you mean 'uri'?", "store.uri: is missing"],
        ),
        ("store = 's'\n", ["store: takes a table, not 's'"]),
        (HEAD, ["features: is missing"]),
        (f"{HEAD}[features]\n", ["features: takes 1 or more of them, not an empty table"]),
        (f"{HEAD}{FEATURE}[run]\nlimit = 'three'\n", ["run.limit: takes a whole number, not 'three'"]),
        (f"{HEAD}{FEATURE}[run]\nlimit = 0\n", ["run.limit: takes more than 0, not 0"]),
        (f"{HEAD}{FEATURE}[run]\nmax_failed = 7\n", ["run.max_failed: takes 1.0 at most, not 7"]),
        (
            f"{HEAD}{FEATURE}[run]\nretry_failed = 'often'\n",
            ["run.retry_failed: takes true or false, not 'often'"],
        ),
        (f"{HEAD}{FEATURE}[run]\nrefit = 'x'\n", ["run.refit: takes a list in square brackets, not 'x'"]),
        (
            f"{HEAD}{FEATURE}[resources]\nexecutor = 'loca'\n",
            ["resources.executor: takes 'auto', 'local' or 'ray', not 'loca'", "Did you mean 'local'"],
        ),
        (
            f"{HEAD}{FEATURE}[limits]\nitem_seconds = [1]\n",
            ["limits.item_seconds: takes a number, not a list"],
        ),
        (f"{HEAD}[features.X]\nsource = 'title'\n", ["features.X: takes a name of small letters", "not 'X'"]),
        (
            f"{HEAD}[features.x]\nsource = 'title'\nencoder = 3\n",
            ["features.x.encoder: takes a text", "not 3"],
        ),
        (f"{HEAD}columns = {{ photos = 'picture' }}\n{FEATURE}", ["dataset.columns.photos", "not 'picture'"]),
        (
            f"{HEAD}{FEATURE}[run]\nwait_seconds = inf\n",
            ["run.wait_seconds: takes 1000000.0 at most, not inf"],
        ),
        (f"{HEAD}{FEATURE}[run]\nwait_seconds = 1e308\n", ["takes 1000000.0 at most, not 1e+308"]),
        (f"{HEAD}{FEATURE}[run]\nmax_failed = inf\n", ["takes 1.0 at most, not inf"]),
        (f"{HEAD}{FEATURE}[limits]\nitem_seconds = inf\n", ["limits.item_seconds: takes", "not inf"]),
        (f"{HEAD}{FEATURE}[resources]\ncpus = 0x1{'0' * 4000}\n", ["takes 65536 at most, not a far larger"]),
        (f"{HEAD}{FEATURE}[spending]\nprompt_price = inf\n", ["no number that a setting can be", "1e+15"]),
        (
            f"{HEAD}{FEATURE}[limits.fetch]\nbuckets = ['mybucket']\n",
            ["limits.fetch.buckets.0: takes a bucket such as s3://NAME", "not 'mybucket'"],
        ),
        (f"{HEAD}{FEATURE}[gatse]\n", ["there is no table [gatse]. Did you mean 'gates'"]),
    ],
)
def test_a_mistake_is_told_in_words_with_its_table_and_key(run, tmp_path, text, says):
    (tmp_path / "job.toml").write_text(text)
    code, _, err = run("run", "job.toml")
    assert code == 2 and "job.toml" in err
    for words in says:
        assert words in err
    assert not [word for word in JARGON if word in err]


def test_a_secret_that_stands_in_the_wrong_place_is_not_told(run, tmp_path):
    (tmp_path / "job.toml").write_text("[store]\nuri = 's'\n[run]\nlimit = 'sk-abcdefghijklmnop'\n")
    _, _, err = run("run", "job.toml")
    assert "run.limit" in err and "abcdefgh" not in err


@pytest.mark.parametrize(
    "words",
    [
        ["datasets", "check", "table", "--root", "t.csv", "-o", "id_column=1", "-o", "no_such=1"],
        ["report", "captions", "--gates", "gates.toml", "--store", "nowhere"],
    ],
)
def test_options_of_datasets_and_gates_are_told_so_too(run, tmp_path, words):
    (tmp_path / "t.csv").write_text("item_id,title\n1,a\n")
    (tmp_path / "gates.toml").write_text("[rules]\nduplicates = 'many'\n")
    code, _, err = run(*words)
    assert code != 0
    assert not [word for word in JARGON if word in err]


def patterns(schema: Any) -> Iterator[str]:
    """Every pattern that a text, or a key, of a JSON schema has to be of."""
    if isinstance(schema, dict):
        if isinstance(found := schema.get("pattern"), str):
            yield found
        yield from schema.get("patternProperties", {})
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inner:
        yield from patterns(part)


@pytest.mark.parametrize(
    "model", [JobConfig, FeatureSpec, OpenAICaptionerOptions, PromptFile, ducho.Options, lc_rec.Options]
)
def test_no_setting_is_asked_for_by_a_pattern(model):
    found = set(patterns(model.model_json_schema()))
    assert found
    for pattern in found:
        with pytest.raises(ValidationError) as wrong:
            create_model("Model", text=(str, Field(pattern=pattern)))(text="é")
        said = in_words(wrong.value.errors()[0])
        assert said.startswith("takes a") or said.startswith("takes the"), said
        assert pattern not in said and "of the form" not in said
