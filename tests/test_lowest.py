"""requirements-lowest.txt, on which ``make test-lowest`` runs, is what pyproject.toml admits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pinned(text: str, sign: str) -> tuple[str, tuple[int, ...]]:
    """Name and version of a requirement; zeros at the end of a version say nothing."""
    bound = text.partition(";")[0]  # without what says where it is installed
    name, version = re.fullmatch(rf"([\w.-]+)(?:\[.*\])?{sign}([\d.]+)", bound).groups()
    numbers = [int(number) for number in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return name, tuple(numbers)


def test_the_lowest_versions_are_the_bounds() -> None:
    extras = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    bounds = [
        each for each in PROJECT["dependencies"] + extras if not each.startswith("committee[")
    ]
    lines = (ROOT / "requirements-lowest.txt").read_text(encoding="utf-8").splitlines()
    lowest = [pinned(line, "==") for line in lines if not line.startswith("#")]
    assert len(dict(lowest)) == len(lowest)
    assert dict(lowest) == dict(pinned(each, ">=") for each in bounds)
    # One bound a package, in whichever extra it stands.
    assert len(set(bounds)) == len(lowest)
