"""Results on their way into one file: parts that are whole at any moment, joined in the end.

While a run goes on, ``OUT.part/`` holds one file a stretch of samples, of the kind of ``OUT``, and
``run.json``, which says what runs. A run that was stopped leaves them, readable; the same run goes
on after the last. When all samples are decided the parts become ``OUT`` and the folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from committee.errors import ChangedError, DataError
from committee.files import write_text
from committee.run.results import Result, join_results, read_results, write_results


class Parts:
    """The parts of one run.

    Args:
        out: The file that the results end up in.
        identity: What runs on what, by name: a run goes on only with the same.
        told: What parts of the identity are, in words.

    Raises:
        ChangedError: If another run was begun and not finished there.
        DataError: If the folder cannot be made.
    """

    def __init__(
        self, out: Path, identity: Mapping[str, str], told: Mapping[str, str] | None = None
    ) -> None:
        self._out = out
        self.folder = out.with_name(out.name + ".part")
        manifest = self.folder / "run.json"
        known = self._known(manifest)
        told = dict(told or {})
        for key, now in identity.items():
            if known is not None and known.get(key) != now:
                raise ChangedError(
                    f"{self.folder}: was begun with {_difference(key, known, {**identity, **told})}"
                    ". Finish it with the same, or delete that folder to begin again"
                )
        if known is None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(
                    f"{out}: cannot be written, for {self.folder.name} beside it, which holds what "
                    f"is done so far, cannot be made ({error.strerror}). Name another place"
                ) from None
            data = {**identity, "told": told}
            write_text(manifest, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
        self._ends = self._found()

    @staticmethod
    def _known(manifest: Path) -> dict[str, Any] | None:
        try:
            data = json.loads(manifest.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):
            data = None
        if not isinstance(data, dict):
            raise ChangedError(f"{manifest}: altered; delete {manifest.parent} and run again")
        return data

    def _found(self) -> list[int]:
        """Ends of the parts that follow one another from the first sample on."""
        ends: dict[int, int] = {}
        for path in self.folder.glob(f"*{self._out.suffix}"):
            start, _, end = path.stem.partition("-")
            if start.isdigit() and end.isdigit():
                ends[int(start)] = int(end)
        found, at = [], 0
        while at in ends:
            at = ends[at]
            found.append(at)
        return found

    @property
    def done(self) -> int:
        """How many samples, from the first on, have their results."""
        return self._ends[-1] if self._ends else 0

    def write(self, start: int, end: int, results: Sequence[Result]) -> None:
        """Write the results of samples ``start`` to ``end``, the latter not among them."""
        write_results(self._path(start, end), results)
        self._ends.append(end)

    def read(self) -> Iterator[list[Result]]:
        """The results of each part, in order."""
        for path in self._paths():
            yield read_results(path)

    def finish(self) -> Path:
        """Join the parts into the file; the folder goes."""
        join_results(self._out, self._paths())
        shutil.rmtree(self.folder)
        return self._out

    def _paths(self) -> list[Path]:
        return [self._path(s, e) for s, e in zip([0, *self._ends], self._ends, strict=False)]

    def _path(self, start: int, end: int) -> Path:
        return self.folder / f"{start:012}-{end:012}{self._out.suffix}"


def _difference(key: str, known: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """What was another when a run was begun, in words."""
    words = known.get("told")
    before = words.get(key) if isinstance(words, dict) else None
    other = "other" if key.endswith("s") else "another"
    if before == now[key] and key == "cascade":
        return (
            f"another cascade of the same stages, {before}: its thresholds, models, classes, "
            "calibrations or origin differ"
        )
    if before == now[key]:
        return f"other {key}: as many, but their ids, labels or order differ"
    return f"{other} {key}: {before or known.get(key)}; now {now[key]}"
