"""What a run came to: for people as one line, for programs as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployer.runs import results
from deployer.runs.restore import Restored
from deployer.runs.results import HostResult, Summary

# From the best to the worst; the worst of a host's services is the host's.
OUTCOMES = ("planned", "unchanged", "committed", "refused", "restored", "not_restored")
DECLINED = "not agreed to; nothing was changed"


@dataclass(frozen=True)
class ChangeResult:
    """What carrying out a change came to.

    Args:
        exit_code: 0 done, 1 failed and restored, 2 refused, 3 not restored or not known, 4 stopped on request.
        meaning: the same for people; '' where all is well.
        summary: of the playbook, host by host.
        restored: what bringing every host back came to; None where that was not done.
        plan: of every host, as `plan --json` has it; empty where none was made.
        status: what hosts served after something failed; None where they were not asked.
        run: id of the run.
        folder: of its journal; None in check mode.
        report: the run's report; None where there is no journal.
        seconds: how long all of it took.
        problems: what went wrong beside the run itself, a line each: a journal that could not be written, an output.
    """

    exit_code: int
    meaning: str
    summary: Summary
    restored: Restored | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    status: Summary | None = None
    run: str = ""
    folder: Path | None = None
    report: Path | None = None
    seconds: float = 0.0
    problems: tuple[str, ...] = ()


def meaning(summary: Summary, code: int, restored: Restored | None = None) -> str:
    """An exit code in words; '' where everything is done."""
    if code == results.DONE:
        return ""
    if restored is not None and code == results.RESTORED:
        return "failed; every host that had been cut over is back at what it served before" + (
            ", but for those that had nothing before" if restored.without else ""
        )
    settled = [name for name, host in summary.hosts.items() if host.cutover_settled]
    if settled:
        return f"the end of the cut-over was not seen on {', '.join(settled)}, where every service serves"
    if code == results.RESTORED:
        return "failed; what served before serves again where a release did not pass"
    if code == results.REFUSED:
        return "refused; nothing that serves was changed"
    if code == results.STOPPED:
        done = [host for host in summary.hosts.values() if host.cutovers]
        if not done:
            return "stopped on request; nothing that serves was changed"
        return f"stopped on request after {len(done)} of {len(summary.hosts)} hosts; run it again to go on"
    if restored is not None and restored.exit_code == results.NOT_RESTORED:
        return "FAILED, AND NOT ALL HOSTS ARE BACK"
    if summary.lost_sight:
        return "OUTCOME NOT KNOWN: each host finishes or restores by itself; look again with: python -m deployer status"
    return "FAILED AND NOT RESTORED: on some host nothing is known to serve"


def host_outcomes(summary: Summary, staged: bool = False) -> dict[str, dict[str, Any]]:
    """What every host came to, with its services, as `run.ended` has it; `staged` as in `host_outcome`."""
    return {
        name: {
            "outcome": host_outcome(host, staged),
            "failure": host.failure,
            "unreachable": host.unreachable,
            "services": {
                str(one.get("service") or ""): {key: one.get(key) for key in ("outcome", "before", "after")}
                for one in host.cutovers
            },
        }
        for name, host in summary.hosts.items()
    }


def host_outcome(host: HostResult, staged: bool = False) -> str:
    """The worst that its services came to; `unknown` where an end was not seen; `untouched` before its cut-over.

    Args:
        host: what the run came to there.
        staged: the run was to stage and no more, and is done.
    """
    if host.cutover_unknown:
        return "unknown"
    if host.unreachable:
        return "unreachable"
    seen = [str(one.get("outcome") or "") for one in host.cutovers]
    worst = max(seen, key=lambda one: OUTCOMES.index(one) if one in OUTCOMES else len(OUTCOMES), default="")
    if host.failure and worst in ("", "unchanged", "committed", "planned"):
        return "failed"
    return worst or ("staged" if staged else "untouched")
