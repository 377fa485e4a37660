"""Command line: one file a command, each a thin call; this one runs them and words their errors."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import typer

from committee.cli import (
    calibrate,
    demo,
    evaluate,
    export,
    export_onnx,
    import_,
    predict,
    profile,
    relabel,
    report,
    run,
    search,
    study,
    verify,
)
from committee.errors import CommitteeError
from committee.text import printable

app = typer.Typer(
    name="committee",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "predict": predict.predict,
    "import": import_.import_,
    "relabel": relabel.relabel,
    "profile": profile.profile,
    "calibrate": calibrate.calibrate,
    "search": search.search,
    "evaluate": evaluate.evaluate,
    "study": study.study,
    "report": report.report,
    "run": run.run,
    "verify": verify.verify,
    "export": export.export,
    "export-onnx": export_onnx.export_onnx,
}
_EXAMPLES = {
    "demo": "Example: committee demo --out demo-out",
    "predict": "Example: committee predict pool.toml --data images/val --split val",
    "import": "Example: committee import small=s.npy large=l.npy --kind logits --split val "
    "--labels labels.npy --cost small=41e6 --cost large=126e6",
    "relabel": "Example: committee relabel predictions --split val --labels labels.csv",
    "profile": "Example: committee profile pool.toml",
    "calibrate": "Example: committee calibrate predictions --split cal",
    "search": "Example: committee search predictions --match large --within 0.005 --out c.json",
    "evaluate": "Example: committee evaluate c.json predictions",
    "study": "Example: committee study predictions --out study",
    "report": "Example: committee report predictions --match large --out report.html",
    "run": "Example: committee run c.json --data images/new --out results.csv",
    "verify": "Example: committee verify c.json --data images/test --predictions predictions/test",
    "export": "Example: committee export c.json --out c.onnx",
    "export-onnx": "Example: committee export-onnx pool.toml --out exported",
}
for _name, _command_of in _COMMANDS.items():
    # The first line whole: of what it takes from the text itself, typer cuts off the end.
    _short = str(_command_of.__doc__).partition("\n")[0]
    app.command(_name, short_help=_short, epilog=_EXAMPLES[_name])(_command_of)

# Commands that were stopped and take up their work again.
_GOING_ON = {"predict", "run"}
BAD_INPUT = 2
INTERRUPTED = 130
# As a shell says of a program whose reader has gone.
UNREAD = 141


def _show_version(wanted: bool) -> None:
    if wanted:
        from committee.compiled import PLAIN
        from committee.version import __version__

        typer.echo(f"{__version__} ({PLAIN})" if PLAIN else __version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", help="Show the version and stop.", is_eager=True, callback=_show_version
    ),
) -> None:
    """Ensembles and cascades of already-trained models: choose, evaluate and run them.

    In this order: predict or import (val, then test), search, evaluate, report or study; then run,
    verify and export. Begin with: committee demo
    """
    # --debug is read by main(), which also takes it after the command.


@cache
def _built() -> Any:
    """The commands, read once a process."""
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input gives one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if arguments is None and not (debug or sys.warnoptions):
        # Of libraries; what the user should know is said in lines of our own.
        warnings.simplefilter("ignore")
    # Pillow's for images above 89 megapixels, which are read like others; from 179 on it refuses.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    words = [word for word in words if word != "--debug"]
    try:
        code = _built().main(words or ["--help"], "committee", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if _is_interrupted(error):
            return _stopped(words)
        if _is_closed_pipe(error):
            return _unread()
        if debug and not isinstance(error, typer.TyperException):
            raise
        return _told(_worded(error, words), BAD_INPUT)
    # As typer answers Ctrl-C.
    return _stopped(words) if code == INTERRUPTED else code if isinstance(code, int) else 0


def _worded(error: BaseException, words: Sequence[str]) -> str:
    """Return what a user reads of an error; no other place words what nobody expected."""
    if isinstance(error, CommitteeError):
        return str(error)
    if isinstance(error, typer.TyperException):
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        stop = "" if message.endswith("?") else "."
        return f"{message}{stop} See: committee {_command(words)}--help"
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "not enough memory. Give fewer models, samples or a smaller --batch-size"
    text = str(error).strip().split("\n")[0][:300]
    return (
        f"internal error ({type(error).__name__}{': ' if text else ''}{text}); "
        "run again with --debug and report it"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that it was raised from or while handling."""
    for _ in range(100):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C is at the bottom: an import that it stops fails with other words."""
    return any(isinstance(each, KeyboardInterrupt | typer.Abort) for each in _chain(error))


def _is_closed_pipe(error: BaseException) -> bool:
    """Return whether nobody reads what is printed any more: ``| head``."""
    return any(isinstance(each, BrokenPipeError) for each in _chain(error))


def _unread() -> int:
    # What Python still holds to be printed goes nowhere, without a word of its own.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return UNREAD


def _stopped(words: Sequence[str]) -> int:
    kept = f"; {words[0]} goes on where it was" if {*words[:1]} & _GOING_ON else ""
    return _told(f"stopped. Run the same command again{kept}", INTERRUPTED)


def _command(words: Sequence[str]) -> str:
    known = {command.name for command in app.registered_commands}
    return f"{words[0]} " if words and words[0] in known else ""


def _told(message: str, code: int) -> int:
    # One line, of which the terminal obeys nothing.
    line = printable(" ".join(message.split()))
    sys.stderr.write(f"committee: {line}\n")
    return code
