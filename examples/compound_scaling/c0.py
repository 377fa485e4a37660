"""Table 15 of the paper for this family: a base cascade C0, and what scaling it up makes of it.

    python examples/compound_scaling/c0.py

C0 is the most accurate committee of up to three models for the cost of phi = 0. Ck has its models
with phi higher by k, and of all thresholds those that are most accurate for the cost of phi = k.
val chooses everything, test evaluates. The first table takes C0 from all thirteen sizes, as the
paper does; it ends where larger sizes were not trained. The second takes it from the whole phis
among them, and goes on as far as the eight sizes do.
"""

from collections.abc import Sequence

from pool import C0_PHIS, PHIS, pool_of

from committee.report.text import interval
from committee.selection.front import Committee
from committee.study.base import POINTS
from committee.study.context import Study, study_of
from committee.text import human_cost, percent

SEED = 0
MOST = 3
ALL_PHIS = tuple(sorted({*C0_PHIS, *PHIS}))
WHOLE_PHIS = tuple(phi for phi in C0_PHIS if phi == int(phi))
HEAD = (
    "| | phi of its models | test | average cost | cost of phi = k | gain over phi = k | searched "
    "at that cost | gain over that |"
)

Stages = tuple[tuple[str, ...], ...]


def name_of(phi: float) -> str:
    return f"phi{phi:g}-seed{SEED}"


def phi_of(name: str) -> float:
    return float(name.removeprefix("phi").removesuffix(f"-seed{SEED}"))


def larger(stages: Stages, steps: int) -> Stages | None:
    """The stages with every phi higher by ``steps``; None if one of these sizes was not trained."""
    phis = [[phi_of(name) + steps for name in stage] for stage in stages]
    if not all(phi in ALL_PHIS for stage in phis for phi in stage):
        return None
    return tuple(tuple(name_of(phi) for phi in stage) for stage in phis)


def family(study: Study, phis: Sequence[float]) -> list[Committee]:
    """C0 of some sizes, and what can be scaled up from it, in order."""
    cost = study.single(name_of(0)).val.average_cost
    base = study.search(MOST, models=[name_of(phi) for phi in phis]).at_most(cost)
    members = []
    for steps in PHIS:
        stages = larger(base.cascade.models_of_stages, steps)
        if stages is None:
            break
        most = study.single(name_of(steps)).val.average_cost
        members.append(study.threshold_front(stages).at_most(most))
    return members


def summary(committee: Committee) -> str:
    """The phi of its models, stage by stage."""
    stages = committee.cascade.models_of_stages
    return " -> ".join(" + ".join(f"{phi_of(name):g}" for name in stage) for stage in stages)


def table(study: Study, phis: Sequence[float]) -> str:
    """The family in markdown, beside single models and what a search finds at their cost."""
    lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
    for steps, member in enumerate(family(study, phis)):
        single = study.single(name_of(steps))
        searched = study.search(MOST).at_most(single.val.average_cost)
        cells = (
            f"C{steps}",
            summary(member),
            f"{percent(member.test.accuracy)} ({interval(member.test)})",
            human_cost(member.test.average_cost, member.test.unit),
            human_cost(single.test.average_cost, single.test.unit),
            POINTS.text(study.gain(member.cascade, single.cascade)),
            summary(searched),
            POINTS.text(study.gain(member.cascade, searched.cascade)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tables() -> tuple[str, str]:
    """Of C0 from all thirteen sizes, and from the whole phis among them."""
    val, test = (pool_of(split, ALL_PHIS, [SEED]) for split in ("val", "test"))
    study = study_of(val, test, max_models=MOST)
    return table(study, C0_PHIS), table(study, WHOLE_PHIS)


def main() -> None:
    print("\n\n".join(tables()))


if __name__ == "__main__":
    main()
