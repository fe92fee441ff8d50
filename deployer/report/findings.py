"""What the plan found, each finding once with the hosts that have it: a pure function of a plan event."""

from __future__ import annotations

from deployer.report.model import PlanFinding
from deployer.report.reading import Data, mapping, objects, text

SEVERITIES = ("error", "warning", "info", "accepted")
NAMES = ("severity", "id", "subject", "message", "fix")


def findings(plans: Data) -> tuple[PlanFinding, ...]:
    """Worst first.

    Args:
        plans: host -> its plan, as `plan --json` has it.
    """
    where: dict[tuple[str, str, str, str, str], list[str]] = {}
    for host in plans:
        for one in objects(mapping(plans, host), "findings"):
            severity, identifier, subject, message, fix = (text(one, name) for name in NAMES)
            where.setdefault((severity, identifier, subject, message, fix), []).append(host)
    found = [PlanFinding(*key, tuple(hosts)) for key, hosts in where.items()]
    return tuple(sorted(found, key=lambda one: _rank(one.severity)))


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
