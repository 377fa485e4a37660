"""Agreement: does a running cascade decide what its evaluation on stored predictions promised?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from committee.evaluate import decided
from committee.flow import Decisions
from committee.pool import Pool
from committee.run.runner import Runner


@dataclass(frozen=True)
class Agreement:
    """How many samples were decided alike.

    Args:
        samples: How many were compared.
        same_class: Same predicted class.
        same_stage: Same stage of exit.
        largest_difference: Of the two scores, over samples that left at the same stage.
    """

    samples: int
    same_class: int
    same_stage: int
    largest_difference: float

    @property
    def complete(self) -> bool:
        """Whether every sample has the same class and the same stage of exit."""
        return self.same_class == self.same_stage == self.samples


def agreement(runner: Runner, pool: Pool, decisions: Decisions) -> Agreement:
    """Compare decisions made by running with those made on stored predictions.

    Args:
        runner: What decided.
        pool: Stored predictions of the same samples.
        decisions: What it decided, in the order of the pool.
    """
    promised = decided(runner.cascade, pool)
    alike = promised.stage == decisions.stage
    differences = np.abs(promised.score - decisions.score)[alike]
    return Agreement(
        samples=len(pool),
        same_class=int((promised.predicted == decisions.predicted).sum()),
        same_stage=int(alike.sum()),
        largest_difference=float(differences.max(initial=0.0)),
    )
