"""How long things are expected to take: as long as they took the last time, as the journals of this controller say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployer.runs.events import Event
from deployer.runs.journal import kept_runs

LATEST_RUNS = 20  # that are looked into


@dataclass(frozen=True)
class Expected:
    """Seconds, by what they are of.

    Args:
        cutovers: of a cut-over that was committed, by host and service.
        services: the same of a service on whichever host was the last.
        phases: of a phase in which something was changed, by host and phase.
    """

    cutovers: Mapping[tuple[str, str], float] = field(default_factory=dict)
    services: Mapping[str, float] = field(default_factory=dict)
    phases: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def cutover(self, host: str, service: str) -> float | None:
        """Of a service's cut-over; None where it was never seen."""
        return self.cutovers.get((host, service), self.services.get(service))

    def phase(self, host: str, phase: str) -> float | None:
        """Of a phase on a host; None where it was never seen."""
        return self.phases.get((host, phase))

    @classmethod
    def from_journals(cls, base: Path | None = None) -> Expected:
        """What the latest runs say.

        Args:
            base: the folder of the runs.
        """
        found = cls()
        for run in reversed(kept_runs(base)[:LATEST_RUNS]):
            try:
                found = found.after(run.events())
            except OSError:  # removed meanwhile
                continue
        return found

    def after(self, events: Iterable[Event]) -> Expected:
        """What is expected once one more run was seen."""
        cutovers, services, phases = dict(self.cutovers), dict(self.services), dict(self.phases)
        for event in events:
            data = event.data
            if event.kind == "cutover" and data.get("outcome") == "committed" and isinstance(data.get("seconds"), dict):
                seconds = float(sum(data["seconds"].values()))
                cutovers[str(data.get("host")), str(data.get("service"))] = seconds
                services[str(data.get("service"))] = seconds
            if event.kind == "step" and data.get("phase_changed") and data.get("kind") == "ok":
                phases[str(data.get("host")), str(data.get("phase"))] = float(data.get("phase_seconds") or 0)
        return Expected(cutovers, services, phases)
