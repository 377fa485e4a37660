"""Scores of a batch of which a user's function fails on some samples: the others are decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, CommitteeError, NotFiniteError
from committee.models.failures import run_in_parts
from committee.rule.agreement import combine_and_score
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Outputs, joined
from committee.text import first_line


@dataclass(frozen=True, eq=False)
class _Scored:
    """Combinations of N samples, and their scores, shape (N,)."""

    combination: Outputs
    scores: Array

    def rows(self, index: Array | slice) -> _Scored:
        """Return those of some samples."""
        return _Scored(self.combination.rows(index), self.scores[index])


class ScoringInParts:
    """Combines and scores as :func:`combine_and_score`; a sample that it fails on does so alone.

    Such samples exit at once, with any class; :meth:`taken` says which they are.
    """

    def __init__(self) -> None:
        self._failed: Mapping[int, str] = {}

    def taken(self) -> Mapping[int, str]:
        """Return why samples failed since this was last called, by row of the last call."""
        failed, self._failed = self._failed, {}
        return failed

    def __call__(
        self, outputs: Mapping[str, Outputs], combine: str, confidence: str, xp: Namespace = NUMPY
    ) -> tuple[Outputs, Array]:
        """Return the combination, and its scores (n,)."""
        try:
            return combine_and_score(outputs, combine, confidence, xp)
        except Exception:  # anybody's code may raise anything
            return self._in_parts(outputs, combine, confidence)

    def _in_parts(
        self, outputs: Mapping[str, Outputs], combine: str, confidence: str
    ) -> tuple[Outputs, Array]:
        def run(rows: Array) -> tuple[_Scored, Mapping[int, str]]:
            some = {name: each.rows(rows) for name, each in outputs.items()}
            try:
                return _Scored(*combine_and_score(some, combine, confidence)), {}
            except NotFiniteError:
                raise NotFiniteError(f"confidence {confidence!r}: NaN or infinite score") from None
            except CommitteeError:
                raise
            except Exception as error:
                raise CascadeError(f"confidence {confidence!r}: {first_line(error)}") from error

        *_, newest = outputs.values()
        made = run_in_parts(len(newest.values), run, _joined)
        self._failed = made.failed
        scored = made.answer or _Scored(newest, np.zeros(len(newest.values)))
        scored.scores[[*made.failed]] = np.inf
        return scored.combination, scored.scores


def _joined(parts: Sequence[_Scored]) -> _Scored:
    combinations = joined([part.combination for part in parts])
    return _Scored(combinations, np.concatenate([part.scores for part in parts]))
