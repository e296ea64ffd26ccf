"""The command line: ``mmfeat COMMAND``. Commands parse, call the API and print; no logic."""

from __future__ import annotations

import errno
import signal
import sys
import weakref
from types import FrameType
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from mmfeat import console
from mmfeat.commands import (
    demo,
    doctor,
    evaluate,
    export,
    forget,
    imports,
    init,
    jobs,
    lists,
    promote,
    prune,
    quantize,
    read,
    report,
    runs,
    serve,
    snapshots,
)
from mmfeat.schemas.errors import MmfeatError, OutputError

# What shells report for a program that Ctrl-C ended.
_INTERRUPTED = 130

# What the system says of a place if nothing can be written.
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_ROOM = "Check free space and access rights; what was committed before is kept."


class _Commands(TyperGroup):
    """All commands. What stands in square brackets in their help is shown: Rich takes it for its own."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _escape_help(self)


def _escape_help(command: Any) -> None:
    command.help = command.help and escape(command.help)
    for parameter in command.params:
        if words := getattr(parameter, "help", None):
            parameter.help = escape(words)
    for below in getattr(command, "commands", {}).values():
        _escape_help(below)


app = typer.Typer(
    cls=_Commands,
    name="mmfeat",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # Both words are understood everywhere: --feature where one is meant, --features where several are.
        "token_normalize_func": lambda word: "feature" if word == "features" else word,
    },
    help="From item media to versioned vectors and captions, and to the file a recommender loads.",
)

app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("extract")(jobs.extract)
app.command("run")(jobs.run)
app.command("promote")(promote.promote)
app.command("rollback")(promote.rollback)
app.command("gc")(promote.gc)
app.command("prune")(prune.prune)
app.command("status")(read.status)
app.command("failures")(read.failures)
app.command("lookup")(read.lookup)
app.command("search")(read.search)
app.command("index")(read.index)
app.command("quantize")(quantize.quantize)
app.command("import")(imports.import_)
app.command("export")(export.export)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(report.app, name="report")
app.command("forget")(forget.forget)
app.add_typer(runs.app, name="runs")
app.add_typer(snapshots.app, name="snapshot")
app.add_typer(lists.datasets_app, name="datasets")
app.add_typer(lists.encoders_app, name="encoders")
app.add_typer(lists.prompts_app, name="prompts")
app.add_typer(lists.presets_app, name="presets")
app.command("serve")(serve.serve)
app.command("doctor")(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        from mmfeat import __version__

        console.say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """The options that stand before a command."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong use, 3 a gate fell short."""
    _Stop.latest = None
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)
    except MmfeatError as error:
        console.print_error(error, as_json="--json" in sys.argv)
        code = error.exit_code
    except OSError as error:
        if error.errno not in _REFUSED:
            raise  # a defect, or the output's reader went away
        place = "" if error.filename is None else f" ({error.filename})"
        console.print_error(OutputError(f"{error.strerror}{place}.", hint=_ROOM), "--json" in sys.argv)
        code = OutputError.exit_code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        if not hasattr(error, "show") or not hasattr(error, "exit_code"):
            raise
        error.show()  # a usage error of the command line itself
        code = error.exit_code
    # Typer answers Ctrl-C with this code and no word.
    if code == _INTERRUPTED:
        signal.signal(signal.SIGTERM, _ignore)
        console.note(f"Stopped. {console.STOPPED}")
    sys.exit(code if isinstance(code, int) else 0)


class _Stop(KeyboardInterrupt):
    """A scheduler's stop, for as long as it is under way."""

    latest: weakref.ref[_Stop] | None = None

    def __init__(self) -> None:
        super().__init__()
        _Stop.latest = weakref.ref(self)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A scheduler's stop ends a run as Ctrl-C does: what is computed is committed first.

    Asked again meanwhile, it goes on with that. Where some library has swallowed the stop, there is none.
    """
    if _Stop.latest is None or _Stop.latest() is None:
        raise _Stop


def _ignore(number: int, frame: FrameType | None) -> None:
    """The end has come already. SIG_IGN would be inherited by whatever is started yet."""
