"""Agreement with the reference on new samples: does what was promised hold still?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from committee.certificates.e_values import ShareWithin
from committee.rule.certificate import CertificateRecord


@dataclass(frozen=True)
class AgreementNow:
    """What samples that cascade and reference both decided say, at every moment.

    Args:
        samples: How many there are.
        flips: Those with another answer.
        low: The share of flips is at least this; both bounds hold for ever at the level together.
        high: It is at most this.
        level: The level.
        promise: ``kept`` or ``broken`` if the bounds show it, ``open`` if not, empty without one.
    """

    samples: int
    flips: int
    low: float
    high: float
    level: float
    promise: Literal["kept", "broken", "open", ""]


def agreement_now(
    samples: int, flips: int, record: CertificateRecord | None, level: float = 0.95
) -> AgreementNow:
    """Return what flips say of a promise, by a confidence sequence of their share.

    Few flips keep a promise of agreement, and one of accuracy within the reference's: no more
    accuracy is lost than there are flips. Many break a promise of agreement alone, for a flip may
    also be to the better.

    Args:
        samples: How many samples both decided, in the order in which they came.
        flips: Those with another answer.
        record: The certificate, whose level holds; None without one.
        level: The level without a certificate.

    >>> agreement_now(1000, 10, None).high < 0.03
    True
    """
    level = record.level if record is not None else level
    low, high = _bounds(samples, flips, level)
    outcome: Literal["kept", "broken", "open", ""] = "" if record is None else "open"
    if record is not None and record.promise != "at least":
        if high <= record.margin:
            outcome = "kept"
        elif record.promise == "agreement" and low > record.margin:
            outcome = "broken"
    return AgreementNow(samples, flips, low, high, level, outcome)


def _bounds(samples: int, flips: int, level: float) -> tuple[float, float]:
    """Return the bounds of a share that hold at all times together, each at half of 1 - level."""
    counts, limit = np.array([flips, samples - flips]), math.log(2 / (1 - level))

    def refused(low: float, high: float) -> bool:
        return bool(ShareWithin(low, high).log_e(counts) >= limit)

    share = flips / max(samples, 1)
    low = 0.0 if flips == 0 else _edge(lambda p: refused(0.0, p), 0.0, share)
    high = 1.0 if flips == samples else _edge(lambda p: refused(p, 1.0), 1.0, share)
    return low, high


def _edge(refused: Callable[[float], bool], outside: float, inside: float) -> float:
    """Return the last share that is refused, between one that may be and one that is not."""
    for _ in range(40):
        middle = (outside + inside) / 2
        if refused(middle):
            outside = middle
        else:
            inside = middle
    return outside
