"""Run this folder's cascade on records, with numpy and onnxruntime alone.

    python run.py records.jsonl

reads one JSON object a line, with a key for each column, and prints one line of JSON for each.
From Python:

    from run import Cascade
    cascade = Cascade("this folder")
    cascade({"column": [1, 2, 3]})

The folder ``committee`` holds the library's own files of the rule, so that decisions are the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from opening import opened  # type: ignore[import-not-found]  # lies beside this file in a bundle

from committee.errors import CommitteeError
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs, checked_outputs


class Cascade:
    """The cascade of a folder, ready to decide on records one by one."""

    def __init__(self, folder: str | Path) -> None:
        self.models, self.rule, self.sessions, self.classes = opened(Path(folder))

    def __call__(self, record: Any) -> dict[str, Any]:
        """Run stage after stage until the cascade is sure enough.

        Args:
            record: A mapping of columns, or the value of the only one.

        Returns:
            ``class_index``, ``class_name``, ``confidence`` and ``stage`` of exit, from 0.
        """

        def answer(request: Request) -> Answers:
            return {name: self._outputs(name, record) for name in request.models}

        decided = drive(decide(self.rule, 1), answer)
        predicted = decided.predicted.item()
        return {
            "class_index": predicted,
            "class_name": self.classes[predicted] if self.classes else str(predicted),
            "confidence": decided.score.item(),
            "stage": decided.stage.item(),
        }

    def _outputs(self, name: str, record: Any) -> Outputs:
        session, model = self.sessions[name], self.models[name]
        fields = model["preprocessing"]["fields"]
        feed = {
            port.name: _fed(len(port.shape), field, record)
            for port, field in zip(session.get_inputs(), fields, strict=True)
        }
        values = session.run(None, feed)[0]
        return checked_outputs(f"model {name!r}", model["kind"], values)


def _fed(axes: int, field: dict[str, Any], record: Any) -> Any:
    """Return one input (1, ...) of a graph."""
    columns, value = field["columns"], record
    if columns and isinstance(record, dict):
        lacking = [column for column in columns if column not in record]
        if lacking:
            raise ValueError(f"the record has no {lacking[0]!r}")
        value = [record[column] for column in columns] if field["row"] else record[columns[0]]
    array = np.asarray([value], field["dtype"] or object)
    # A column of numbers is (1,), and many graphs take each column as (1, 1).
    return array[..., None] if array.ndim == axes - 1 else array


def main(paths: list[str]) -> int:
    """Decide on records; one that cannot be used gives an error, and the others go on."""
    usage = "usage: python run.py FILE.jsonl...   prints one line of JSON a record\n"
    if set(paths) & {"-h", "--help"}:
        sys.stdout.write(usage)
        return 0
    try:
        cascade = Cascade(Path(__file__).parent)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"run.py: {error}\n")
        return 2
    if not paths:
        sys.stderr.write(usage)
        return 2
    failed = 0
    for path in paths:
        for row in _rows(cascade, Path(path)):
            failed = 1 if "error" in row else failed
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    return failed


def _rows(cascade: Cascade, path: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each line of a file, or why there is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        yield {"id": str(path), "error": str(error)}
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = cascade(json.loads(line))
        except (ValueError, TypeError, CommitteeError) as error:
            row = {"error": str(error)}
        yield {"id": f"{path}:{number}", **row}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
