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
from types import SimpleNamespace
from typing import Any

from opening import (  # type: ignore[import-not-found]  # lies beside this file in a bundle
    opened,
    row_of,
    run_as_program,
)

from committee.models.records import RecordBatch, check_whole, fed, only_value
from committee.rule.flow import Answers, Request, decide, drive
from committee.rule.outputs import Outputs, checked_outputs


class Cascade:
    """The cascade of a folder, ready to decide on records one by one."""

    def __init__(self, folder: str | Path) -> None:
        self.models, self.rule, self.sessions, self.classes = opened(Path(folder))
        self.recipes = {name: _recipe(model) for name, model in self.models.items()}

    def __call__(self, record: Any) -> dict[str, Any]:
        """Run stage after stage until the cascade is sure enough.

        Args:
            record: A mapping of columns, or the value of the only one.

        Returns:
            ``class_index``, ``class_name``, ``confidence`` and ``stage`` of exit, from 0.
        """
        if not any(field.columns for each in self.recipes.values() for field in each.fields):
            record = only_value(record)
        check_whole([record], self.recipes.values())

        def answer(request: Request) -> Answers:
            return {name: self._outputs(name, record) for name in request.models}

        row: dict[str, Any] = row_of(drive(decide(self.rule, 1), answer), self.classes)
        return row

    def _outputs(self, name: str, record: Any) -> Outputs:
        session, model = self.sessions[name], self.models[name]
        recipe = self.recipes[name]
        batch = RecordBatch.of([record], recipe).items()
        feed = {
            port.name: fed(values, field.dtype, port.shape)
            for port, field, (_, values) in zip(
                session.get_inputs(), recipe.fields, batch, strict=True
            )
        }
        values = session.run(None, feed)[0]
        return checked_outputs(f"model {name!r}", model["kind"], values)


def _recipe(model: dict[str, Any]) -> Any:
    fields = model["preprocessing"]["fields"]
    return SimpleNamespace(fields=[SimpleNamespace(**{"types": (), **each}) for each in fields])


def main(paths: list[str]) -> int:
    """Decide on records; one that cannot be used gives an error, and the others go on."""
    usage = "usage: python run.py FILE.jsonl...   prints one line of JSON a record\n"

    def rows(cascade: Cascade) -> Iterator[dict[str, Any]]:
        for path in paths:
            yield from _rows(cascade, Path(path))

    return int(run_as_program(paths, usage, Cascade, rows))


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
        except Exception as error:  # onnxruntime raises many kinds
            row = {"error": " ".join(str(error).split())}
        yield {"id": f"{path}:{number}", **row}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
