"""Help and options: nothing that is written vanishes, and one word is understood everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import typer

import mmfeat
from mmfeat.cli import app


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that start it."""
    command = command or typer.main.get_command(app)
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


COMMANDS = dict(commands())


def helped(run, words: tuple[str, ...]) -> str:
    code, out, _ = run(*words, "--help")
    assert code == 0
    # Without the frame and the line ends of a narrow terminal.
    return re.sub(r"[\s│╭╮╰╯─]+", "", out)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_all_that_is_written_and_every_default(run, words, monkeypatch):
    shown = helped(run, words)
    monkeypatch.setenv("COLUMNS", "80")
    assert helped(run, words).count("[default:") == shown.count("[default:")
    for parameter in COMMANDS[words].params:
        written = (getattr(parameter, "help", None) or "").replace("\\[", "[")
        assert re.sub(r"\s+", "", written) in shown
        default = parameter.default
        if default is not None and not isinstance(default, bool) and parameter.param_type_name == "option":
            assert f"[default:{getattr(default, 'value', default)}]" in shown, parameter.name


def test_the_version_is_an_option_of_its_own(run):
    assert run("--version") == (0, f"{mmfeat.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["failures", "WORD", "a"],
        ["failures", "WORD", "a,b", "WORD", "c"],
        ["lookup", "1", "WORD", "a"],
        ["lookup", "1", "WORD", "a,b"],
        ["search", "--text", "x", "WORD", "a"],
        ["export", "npy", "--out", "o", "WORD", "a"],
        ["report", "captions", "WORD", "a"],
    ],
)
@pytest.mark.parametrize("word", ["--feature", "--features"])
def test_feature_and_features_are_one_word_in_every_command(run, words, word):
    # Both get as far as the store, which is not there.
    code, _, err = run(*[word if one == "WORD" else one for one in words], "--store", "nowhere")
    assert (code, "There is no store" in err) == (1, True)


def test_extract_takes_features_by_comma_and_one_by_one(run):
    for words in (["--features", "title_text,clap"], ["--feature", "title_text", "--features", "clap"]):
        code, _, err = run("extract", "--dataset", "sample", *words)
        assert (code, "no feature 'clap'" in err) == (2, True)


def numbers() -> Iterator[tuple[tuple[str, ...], str]]:
    """Every option that takes a number, with the words that start its command."""
    for words, command in COMMANDS.items():
        taken = {} if command.callback is None else get_type_hints(command.callback)
        for parameter in command.params:
            kind = taken.get(parameter.name)
            if {int, float} & {kind, *get_args(kind)} and parameter.param_type_name == "option":
                yield words, parameter.opts[-1]


NUMBERS = list(numbers())


@pytest.mark.parametrize(
    ("words", "name"), NUMBERS, ids=lambda one: one if isinstance(one, str) else " ".join(one)
)
def test_a_number_without_measure_is_refused_in_words(run, words, name):
    for number in ("inf", "-inf", "nan", "1e308", "1" + "0" * 20):
        code, _, err = run(*words, name, number)
        assert code == 2 and name in err and "Traceback" not in err, number


def test_every_option_that_takes_a_number_is_tried():
    assert len(NUMBERS) > 25
    assert {(("serve",), "--timeout"), (("search",), "-k"), (("runs", "list"), "--limit")} <= set(NUMBERS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_no_flag_that_only_says_what_is_so_anyway(run, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(*words, "--help")
    assert "--no-" not in out and "[default: (" not in out and "…" not in out
