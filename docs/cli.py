"""Write docs/cli.md, the help of every command: ``make docs``."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

from committee.cli import COMMANDS, main

HEAD = "# Command line\n\nThe help of every command, as `--help` prints it.\n"


def help_of(*words: str) -> str:
    """Return what ``committee WORDS --help`` prints in a terminal of 80 columns."""
    os.environ["COLUMNS"] = "80"
    text = io.StringIO()
    with redirect_stdout(text):
        main([*words, "--help"])
    return text.getvalue()


def page() -> str:
    """Return the whole page."""
    parts = [f"{HEAD}\n```text\n{help_of()}```\n"]
    parts += [f"## committee {name}\n\n```text\n{help_of(name)}```\n" for name in COMMANDS]
    return "\n".join(parts)


if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(page(), encoding="utf-8")
