"""What was seen: checks, figures and times, on the disk as soon as they are known: a run may be cut short."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.gpu_proof.figures import Figure


@dataclass(frozen=True)
class Check:
    """Something that had to be so, whether it was (None where what was seen does not tell), and what was seen."""

    what: str
    holds: bool | None
    seen: str


@dataclass
class Evidence:
    """All of a run.

    Args:
        folder: where it is kept, with recordings and logs beside it.
        names: replaced in every log and recording (`recordings.without_names`).
    """

    folder: Path
    names: Mapping[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Sequence[Figure]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Of the run, so far."""
        return time.monotonic() - self.begun

    def check(self, what: str, holds: bool | None, seen: object = "") -> bool:
        """Note a check, and say it."""
        self.checks.append(Check(what, holds, str(seen)))
        word = "open" if holds is None else "ok  " if holds else "FAIL"
        self.note(f"{word} {what}{f': {seen}' if str(seen) else ''}")
        self.write()
        return bool(holds)

    def compared(self, what: str, figures: Sequence[Figure]) -> None:
        """Note the figures of a service; each has to be near enough."""
        self.figures[what] = figures
        for one in figures:
            seen = f"planned {one.planned:,.6g}, measured {one.measured:,.6g} ({one.difference:+.2%}; {one.source})"
            self.check(f"{what}: {one.name}", one.within, seen)

    def know(self, **facts: Any) -> None:
        """Note facts that nothing hangs on."""
        self.facts |= facts
        self.write()

    def skip(self, why: str) -> None:
        """Note what is left out."""
        self.skipped.append(why)
        self.note(f"skip {why}")
        self.write()

    def note(self, line: str) -> None:
        """Say how far it is."""
        print(f"[{self.seconds:6.1f}s] {line}", file=sys.stderr, flush=True)

    def write(self) -> None:
        """Keep what is known now."""
        value = {
            "facts": self.facts,
            "checks": [asdict(one) for one in self.checks],
            "figures": {what: [one.as_dict() for one in figures] for what, figures in self.figures.items()},
            "skipped": self.skipped,
        }
        (self.folder / "figures.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")

    @property
    def holds(self) -> bool:
        """Whether everything that was checked was so, and something was."""
        return bool(self.checks) and all(one.holds for one in self.checks)
