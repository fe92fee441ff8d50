"""What a rollout or a rollback came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployer.api.base import HostAnswer
from deployer.api.plans import Plan, plan_of
from deployer.runs import results
from deployer.runs.results import HostResult, Summary

if TYPE_CHECKING:
    from deployer.runs.outcome import ChangeResult


@dataclass(frozen=True)
class ServiceOutcome:
    """What a cut-over came to.

    Args:
        service: its name.
        outcome: unchanged, committed, restored, not_restored, refused or planned.
        before: id of the release that was committed before; '' for none.
        after: id of the one that is committed now; '' for none.
        target: id of the one that was asked for.
        reason: why it failed, in one line; '' where it did not.
        seconds: how long each state of the transaction took.
        measured: what gate.parity and gate.load came to, in one line; '' where they were not asked.
        raw: as the module returned it.
    """

    service: str
    outcome: str
    before: str
    after: str
    target: str
    reason: str
    seconds: Mapping[str, float]
    measured: str
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> ServiceOutcome:
        """From JSON."""
        keys = ("service", "outcome", "before", "after", "target", "reason", "measured")
        said = {key: str(value.get(key) or "") for key in keys}
        return cls(**said, seconds=dict(value.get("seconds") or {}), raw=value)


@dataclass(frozen=True)
class HostOutcome(HostAnswer):
    """What a host came to: its services that were cut over, in that order."""

    services: tuple[ServiceOutcome, ...] = ()

    @classmethod
    def of(cls, host: HostResult) -> HostOutcome:
        """From what a run came to."""
        return cls(host.host, not host.unreachable, host.failure, services=tuple(map(ServiceOutcome.of, host.cutovers)))


@dataclass(frozen=True)
class Rollout:
    """A rollout, or a rollback, that has ended.

    Args:
        exit_code: 0 done, 1 failed and restored, 2 refused before anything changed, 3 failed and not restored or not
            known, 4 stopped on request.
        meaning: the same in words; '' where all is well.
        hosts: by name.
        restored: hosts that were brought back after others had failed, with on_failure='restore-all'.
        plan: what it was to start; None of a rollback, whose releases are there already.
        messages: what was said beside, such as warnings, a line each.
        run: its id, such as 20261129T023417Z-rollout.
        folder: of its journal; None in check mode.
        report: its HTML file; None where there is none.
        seconds: how long it took.
        problems: what went wrong beside it, a line each, such as a journal that could not be written.
    """

    exit_code: int
    meaning: str
    hosts: Mapping[str, HostOutcome]
    restored: Mapping[str, HostOutcome]
    plan: Plan | None
    messages: tuple[str, ...]
    run: str
    folder: Path | None
    report: Path | None
    seconds: float
    problems: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """True where every host is at what was asked for."""
        return self.exit_code == results.DONE

    @property
    def failures(self) -> dict[str, str]:
        """Why, of every host that failed, in one line."""
        return {name: host.reason for name, host in self.hosts.items() if host.failure}


def rollout_of(result: ChangeResult, messages: Sequence[str] = ()) -> Rollout:
    """A rollout from what carrying it out came to."""
    restored = result.restored.summary if result.restored is not None else Summary()
    return Rollout(
        exit_code=result.exit_code,
        meaning=result.meaning,
        hosts=_hosts(result.summary),
        restored=_hosts(restored),
        plan=plan_of(result.summary) if any(host.plan for host in result.summary.hosts.values()) else None,
        messages=tuple(messages),
        run=result.run,
        folder=result.folder,
        report=result.report,
        seconds=result.seconds,
        problems=result.problems,
    )


def _hosts(summary: Summary) -> dict[str, HostOutcome]:
    return {name: HostOutcome.of(host) for name, host in summary.hosts.items()}
