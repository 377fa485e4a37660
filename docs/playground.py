"""Write docs/site/static/playground_data.js, what the playground answers from: ``make playground``.

It holds every member of the front of every set of up to three of the embedded networks. A front of
more networks has no other member: what no committee beats is beaten by none of its own models'.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import committee as cm
from committee.pool.evaluate import exits_of, source_of
from committee.selection.front import preference

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).parent / "site" / "static" / "playground_data.js"
MOST = 3


def halves() -> tuple[cm.Pool, cm.Pool]:
    """Return the images that choose and those that evaluate, as in ``committee demo``."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import worlds

    pool = worlds.embedded()
    return pool.rows(np.arange(5000), "val"), pool.rows(np.arange(5000, 10_000), "test")


def members(val: cm.Pool) -> Iterator[cm.Committee]:
    """Yield the members of all fronts, each once."""
    seen = set()
    for size in range(1, MOST + 1):
        for names in itertools.combinations(val.names, size):
            for each in cm.search(val.only(names), max_models=size):
                key = json.dumps(each.cascade.rule_json())
                if key not in seen:
                    seen.add(key)
                    yield each


def counts(cascade: cm.Cascade, pool: cm.Pool) -> tuple[Any, list[int]]:
    """Return which samples are answered correctly, and how many exit at each stage."""
    stages, correct = exits_of(cascade, source_of(cascade, pool))
    return correct, np.bincount(stages, minlength=len(cascade.stages)).tolist()


def row(cascade: cm.Cascade, val: cm.Pool, test: cm.Pool, alone: list[Any]) -> list[Any]:
    """Return a committee's models and thresholds, and its counts on both splits."""
    number = {name: at for at, name in enumerate(val.names)}
    (chosen, exits), (correct, later) = counts(cascade, val), counts(cascade, test)
    return [
        [[number[name] for name in stage.models] for stage in cascade.stages],
        [float(f"{stage.threshold:.4g}") for stage in cascade.stages[:-1]],
        [int(chosen.sum()), *exits],
        [int(correct.sum()), *later],
        # Test images on which only it, and only each model alone, is correct.
        [int(((correct > 0) & (each == 0)).sum()) for each in alone],
        [int(((correct == 0) & (each > 0)).sum()) for each in alone],
    ]


def data() -> dict[str, Any]:
    """Return all that the page needs; of committees equal in accuracy and cost the first counts."""
    val, test = halves()
    alone = [counts(cm.Cascade.of([name]), test)[0] for name in val.names]
    ranked = sorted(
        members(val), key=lambda each: preference(each.cascade, each.evaluation.worst_case_cost)
    )
    return {
        "models": val.names,
        "macs": [int(val.prices("macs")[name]) for name in val.names],
        "samples": [len(val), len(test)],
        "committees": [row(each.cascade, val, test, alone) for each in ranked],
    }


def script() -> str:
    """Return the data as a script, which a page may load from a disk, as it may no JSON."""
    made = data()
    rows = ",\n".join(json.dumps(each, separators=(",", ":")) for each in made.pop("committees"))
    head = f"// Written by docs/playground.py.\nconst PLAYGROUND = {json.dumps(made)[:-1]}"
    return f'{head}, "committees": [\n{rows}\n]}};\n'


if __name__ == "__main__":
    OUT.write_text(script(), encoding="utf-8")
