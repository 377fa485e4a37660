"""A few hundred damaged and crafted files; ``make fuzz`` takes 100,000."""

from __future__ import annotations

from pathlib import Path

import fuzz


def test_damaged_files_give_one_line_or_the_same_answer(tmp_path: Path) -> None:
    fuzz.fuzz(tmp_path, 240, 0, lambda _: None)
