"""What new labelled samples say of a promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from committee.certificates.costs import AverageCost
from committee.certificates.figures import share_text
from committee.reading import plain
from committee.text import about, counted, html_table


@dataclass(frozen=True)
class Verdict:
    """What new labelled samples say of a promise.

    Args:
        outcome: ``kept`` or ``broken`` if the samples show it at the level, else ``open``.
        estimate: The difference, accuracy or agreement on these samples.
        low: Its one-sided lower bound at the level.
        high: Its one-sided upper bound at the level.
        samples: Number of samples.
        more: About how many samples more would decide; None if decided, or more than 10^9.
        cost: What they say of a promised cost; None without one. The outcome is of both.
        paired: True if the estimate is a difference from the reference.
    """

    outcome: Literal["kept", "broken", "open"]
    estimate: float
    low: float
    high: float
    samples: int
    more: int | None = None
    cost: AverageCost | None = None
    paired: bool = False

    def __repr__(self) -> str:
        return f"<Verdict: {self}>"

    def __str__(self) -> str:
        """Return the outcome in words, with estimate, number and bounds."""
        value, samples = share_text(self.estimate, self.paired), counted(self.samples, "sample")
        cost = "" if self.cost is None else f"; {self.cost.text}"
        low, high = (each.removesuffix(" points") for each in self._bounds)
        return f"{self.text}; {value} on {samples} (one-sided bounds {low}, {high}{cost})"

    def _repr_html_(self) -> str:
        what = "difference from the reference" if self.paired else "share of the samples"
        rows = [
            ("promise", self.text),
            (what, share_text(self.estimate, self.paired)),
            ("one-sided bounds", " and ".join(self._bounds)),
            ("samples", f"{self.samples:,}"),
        ]
        if self.cost is not None:
            rows.append(("cost", self.cost.text))
        return html_table("On new samples", ("", ""), [((a, ""), (b, "")) for a, b in rows])

    @property
    def _bounds(self) -> tuple[str, str]:
        """The bounds, each rounded to the safe side."""
        return (
            share_text(self.low, self.paired, "down"),
            share_text(self.high, self.paired, "up"),
        )

    @property
    def text(self) -> str:
        """The outcome in words."""
        if self.outcome != "open":
            return self.outcome
        if self.more is None and self.cost is None:
            return "cannot tell; nor could many more samples like these"
        more = f", {about(self.more, 'sample')} more would" if self.more else ""
        return f"cannot tell yet{more}"

    def to_json(self) -> dict[str, Any]:
        """Return every figure by name."""
        cost = None if self.cost is None else plain(self.cost)
        return {**vars(self), "cost": cost, "text": self.text}

    def with_cost(self, cost: AverageCost | None) -> Verdict:
        """Return the same with what the samples say of a promised cost."""
        if cost is None:
            return self
        outcome = self.outcome
        if cost.broken:
            outcome = "broken"
        elif outcome == "kept" and not cost.kept:
            outcome = "open"
        return replace(self, outcome=outcome, cost=cost)
