"""Two ways of doing the same, timed in pairs: how much longer the one takes, and between which bounds that lies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """How many times as long one way takes as the other.

    Attributes:
        estimate: the median of the geometric means of any two pairs' ratios (Hodges and Lehmann, 1963).
        lower, upper: the bounds of its interval of confidence; 0 and infinity where there are too few pairs for one.
        pairs: how many were timed.
    """

    estimate: float
    lower: float
    upper: float
    pairs: int

    def within(self, limit: float) -> bool | None:
        """Whether it is at most `limit`; None where that cannot be told: the interval has it inside."""
        if self.upper <= limit:
            return True
        return False if self.lower > limit else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        upper = round(self.upper, 4) if math.isfinite(self.upper) else None
        return {"estimate": round(self.estimate, 4), "lower": round(self.lower, 4), "upper": upper, "pairs": self.pairs}

    def __str__(self) -> str:
        if not math.isfinite(self.upper):
            return f"{self.estimate:.3f}, of {self.pairs} pairs, too few for an interval"
        return (
            f"{self.estimate:.3f} ({CONFIDENCE:.0%} interval {self.lower:.3f} to {self.upper:.3f}, {self.pairs} pairs)"
        )


def ratio_of(these: Sequence[float], those: Sequence[float]) -> Ratio:
    """How many times as long these took as those, pair by pair.

    The interval is that of Wilcoxon's signed ranks: exact for any distribution of the ratios' logarithms that is
    symmetric, as it is when both ways vary alike. A slow hour of the machine, which both of a pair share, cancels out.

    Args:
        these: seconds, at least one.
        those: seconds of the other way, as many, in the same order.
    """
    logs = [math.log(this / that) for this, that in zip(these, those, strict=True)]
    means = sorted((one + other) / 2 for one, other in combinations_with_replacement(logs, 2))
    estimate, outside = math.exp(statistics.median(means)), _outside(len(logs))
    if not outside:
        return Ratio(estimate, 0.0, math.inf, len(logs))
    return Ratio(estimate, math.exp(means[outside - 1]), math.exp(means[-outside]), len(logs))


def _outside(pairs: int) -> int:
    """The rank from either end of the sorted means at which the interval begins; 0 where all of them are too few.

    Of all 2^n signs of the ranks 1 to n, at most the part that confidence leaves on one side sums up to less.
    """
    counts = [1]  # signs whose positive ranks sum up to the index
    for rank in range(1, pairs + 1):
        longer = counts + [0] * rank
        for index, count in enumerate(counts):
            longer[index + rank] += count
        counts = longer
    most, below, rank = (1 - CONFIDENCE) / 2 * 2**pairs, 0, 0
    while below + counts[rank] <= most:
        below += counts[rank]
        rank += 1
    return rank
