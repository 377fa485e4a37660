"""Whatever a command raises is one line and a code; no terminal obeys a name."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import committee_command
from committee.cli import main, output
from committee.text import cell, from_cell


def _stopped_import() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (RuntimeError("odd \x1b]0;x\x07\nmore"), 2, "internal error (RuntimeError: odd \\x1b]0;x"),
        (RecursionError(), 2, "internal error (RecursionError); run again with --debug"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "stopped. Run the same command again"),
        (_stopped_import, 130, "stopped. Run the same command again"),
    ],
)
def test_any_exception_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: object,
    code: int,
    line: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        if callable(raised):
            raised()
        raise raised  # type: ignore[misc]

    monkeypatch.setattr("committee.cli._group", lambda: type("C", (), {"main": fails}))
    assert main(["evaluate"]) == code
    told = capsys.readouterr().err
    assert told.startswith(f"committee: {line}")
    assert told.count("\n") == 1
    assert "\x1b" not in told


def test_what_is_said_is_one_line_without_controls(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("a\ncommittee: all is well\x1b[2J\u202e")
    assert capsys.readouterr().out == "a\\ncommittee: all is well\\x1b[2J\\u202e\n"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(1)", "+x", "-1.png", "\tx", "'=x", "''=x", "'-5", "-5", "red", "'tis", ""],
)
def test_cells_of_csv_are_no_formulas_and_come_back(text: str) -> None:
    made = str(cell(text))
    assert from_cell(made) == text
    assert made[:1] not in ("=", "+", "-", "@", "\t") or made == "-5"


def test_ctrl_c_while_the_package_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "committee.cli", Loading("committee.cli"))
    assert committee_command.main() == 130
    assert capsys.readouterr().err == "committee: stopped. Run the same command again\n"
