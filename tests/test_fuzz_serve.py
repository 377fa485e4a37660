"""Ten thousand hostile requests; ``make fuzz`` takes 100,000."""

from __future__ import annotations

from pathlib import Path

import fuzz_serve


def test_hostile_requests_get_one_line_and_harm_no_other(tmp_path: Path) -> None:
    fuzz_serve.fuzz(tmp_path, 10_000, 0, lambda _: None)
