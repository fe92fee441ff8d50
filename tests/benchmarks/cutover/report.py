"""What the benchmark says: a table of the rounds, and last the line with the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

LIMIT = 1.10  # the outage, of stopping and starting by hand


@dataclass(frozen=True)
class Round:
    """Seconds of one round.

    Args:
        stop: by hand: from SIGTERM until the old engine has ended.
        start: by hand: from the start of the new engine until its first chat was answered.
        outage: of the cut-over: from the last answer of the old engine to the first of the new one.
        failed_outside: questions that failed at another time than in that outage.
    """

    stop: float
    start: float
    outage: float
    failed_outside: int

    @property
    def by_hand(self) -> float:
        """What it takes without anything around it."""
        return self.stop + self.start


def ratio(rounds: Sequence[Round]) -> float | None:
    """The shortest outage, of the shortest time by hand: other work on the machine only ever adds time."""
    if not rounds:
        return None
    return min(one.outage for one in rounds) / min(one.by_hand for one in rounds)


def within_limit(rounds: Sequence[Round]) -> bool:
    """Whether the limit is kept and nothing failed outside the outages; what was not measured has proved nothing."""
    found = ratio(rounds)
    return found is not None and found <= LIMIT and not any(one.failed_outside for one in rounds)


def table(rounds: Sequence[Round], old: str, new: str) -> Table:
    """The rounds."""
    shown = Table(title=f"Seconds without an answer, {old} to {new}")
    for heading in ("round", "old stops", "new answers", "by hand", "cut-over", "failed outside"):
        shown.add_column(heading, justify="right")
    for number, one in enumerate(rounds, 1):
        seconds = (f"{value:.2f}" for value in (one.stop, one.start, one.by_hand, one.outage))
        shown.add_row(str(number), *seconds, str(one.failed_outside))
    return shown


def last_line(rounds: Sequence[Round]) -> str:
    """The line that every benchmark ends with."""
    found = ratio(rounds)
    return f"bench-cutover: ratio {'not measured' if found is None else f'{found:.2f}'}, limit {LIMIT:.2f}"
