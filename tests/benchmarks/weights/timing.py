"""When a transfer began and when each host had everything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One transfer to some hosts. The hosts of a lab share this machine's clock, so their times compare.

    Args:
        started: host -> unix time in seconds at which its transfer began.
        landed: host -> unix time at which the host had every byte.
    """

    started: Mapping[str, float]
    landed: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From the first start until the last host has everything."""
        return max(self.landed.values()) - min(self.started.values())
