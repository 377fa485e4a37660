"""The command line: the table of commands, each loaded on its first call, and the error line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from committee.cli.help import GROUPS, START, Command
from committee.compiled import PLAIN
from committee.errors import CommitteeError
from committee.text import printable
from committee.version import __version__

# Every command with its line in `committee --help`, which is also the first line of the function's
# docstring. `committee NAME` calls the function NAME of the module NAME in this package.
COMMANDS = {
    "demo": "Choose, evaluate and run a cascade of six small networks, all in the package.",
    "predict": "Compute the outputs of every model on every sample; stop and resume at will.",
    "import": "Import outputs that were computed elsewhere; no model is needed.",
    "relabel": "Add the labels of a split or correct them, without computing outputs again.",
    "profile": "Measure multiply-adds, parameters, latency and throughput of every model.",
    "costs": "Add costs to a store: a table of your own, or benchmarks that timm publishes.",
    "calibrate": "Fit a calibration of each model and keep it in the store.",
    "search": "Find the Pareto front of accuracy and cost, and choose a committee by a target.",
    "certify": "Certify what a given cascade promises on new data.",
    "label": "List the samples whose labels decide whether a cascade keeps a promise.",
    "evaluate": "Evaluate a cascade on stored predictions, beside its models and its reference.",
    "study": "Repeat every analysis of the paper on this pool.",
    "report": "Search, and write the front as one page that works offline.",
    "run": "Run a cascade over images, clips or records and write one row per sample.",
    "serve": "Serve a cascade over HTTP; requests share the batches of every stage.",
    "watch": "Raise an alarm if new samples differ from those that certified the cascade.",
    "verify": "Compare the decisions of stored predictions, runs and exports, one by one.",
    "export": "Export a cascade as a folder, one ONNX file or for Triton, to run elsewhere.",
    "export-onnx": "Convert torch models to ONNX files and check them against the originals.",
}
_RESUMABLE = {"predict", "run"}
BAD_INPUT = 2
INTERRUPTED = 130
# The exit code of a program whose output pipe was closed.
CLOSED_PIPE = 141


class _Commands(TyperGroup):
    """A group of the commands in the table, which loads only the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": dict.fromkeys(COMMANDS)})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return command(cmd_name) if cmd_name in COMMANDS else None

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name]) for name in names])


def _new_app(completes: bool = False) -> typer.Typer:
    return typer.Typer(
        cls=_Commands,
        add_completion=completes,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


@cache
def command(name: str) -> Any:
    """Return one command, a click command with its parameters, loaded from its module.

    The last paragraph of the function's docstring, an example, becomes the end of the help.
    """
    function = name.replace("-", "_") + "_" * (name == "import")
    run = getattr(import_module(f"committee.cli.{function}"), function)
    text, _, example = str(run.__doc__).rpartition("\n\n    Example: ")
    app = _new_app()
    app.command(name, cls=Command, help=text, epilog=" ".join(example.split()))(run)
    return typer.main.get_command(app)


@cache
def _group() -> Any:
    app = _new_app(completes=True)
    app.callback(invoke_without_command=True)(_options)
    return typer.main.get_command(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{__version__} ({PLAIN})" if PLAIN else __version__)
        raise typer.Exit


def _options(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", help="Show the version and stop.", is_eager=True, callback=_show_version
    ),
) -> None:
    """Choose, certify and run cascades and ensembles of already-trained models."""
    # main() reads --debug, so that users may also write it after the command.
    if context.invoked_subcommand is None:
        sys.stdout.write(START)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; bad input gets one line and code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if arguments is None and not (debug or sys.warnoptions):
        # Hide the warnings of libraries; our own notes tell users what they should know.
        warnings.simplefilter("ignore")
    # Pillow warns of images above 89 megapixels but reads them; it refuses those from 179 on.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    words = [word for word in words if word != "--debug"]
    try:
        code = _call(words)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if _is_interrupted(error):
            return _interrupted(words)
        if _is_closed_pipe(error):
            return _close_output()
        if debug and not isinstance(error, typer.TyperException):
            raise
        return _fail(_message(error, words), BAD_INPUT)
    if code == INTERRUPTED:  # typer's answer to Ctrl-C
        return _interrupted(words)
    return code if isinstance(code, int) else 0


def _call(words: Sequence[str]) -> Any:
    """Call a command, or answer a shell that asks for completions, which exits with code 0."""
    try:
        return _group().main(words, "committee", standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise
        return 0


def _message(error: BaseException, words: Sequence[str]) -> str:
    """Return the line for an error; all unexpected errors are worded here."""
    if isinstance(error, CommitteeError):
        return str(error)
    if isinstance(error, typer.TyperException):
        message = getattr(error, "format_message", error.__str__)().rstrip(".")
        message += ", for example --promise 0.95" if "'--promise'" in message else ""
        stop = "" if message.endswith("?") else "."
        name = f"{words[0]} " if words and words[0] in COMMANDS else ""
        return f"{message}{stop} See: committee {name}--help"
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "not enough memory. Use fewer models or samples, or a smaller --batch-size"
    text = str(error).strip().split("\n")[0][:300]
    what = ": ".join(filter(None, [type(error).__name__, text]))
    return f"internal error ({what}); run again with --debug and report it"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its chain of causes and contexts."""
    for _ in range(100):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _is_interrupted(error: BaseException) -> bool:
    """Return True if Ctrl-C caused the error: an interrupted import may raise something else."""
    return any(isinstance(each, KeyboardInterrupt | typer.Abort) for each in _chain(error))


def _is_closed_pipe(error: BaseException) -> bool:
    """Return True if the output pipe was closed, as by ``| head``."""
    return any(isinstance(each, BrokenPipeError) for each in _chain(error))


def _close_output() -> int:
    # Otherwise Python flushes the rest at exit, and fails.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE


def _interrupted(words: Sequence[str]) -> int:
    if words[:1] == ["serve"]:
        return _fail("stopped before it was ready", INTERRUPTED)
    resumes = f"; {words[0]} goes on where it stopped" if words and words[0] in _RESUMABLE else ""
    return _fail(f"stopped. Run the same command again{resumes}", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    # One line, without control characters.
    line = printable(" ".join(message.split()))
    sys.stderr.write(f"committee: {line}\n")
    return code
