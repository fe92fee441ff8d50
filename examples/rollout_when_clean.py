"""Roll out when the plan is clean, from a program of your own.

    python examples/rollout_when_clean.py fleet/hosts.yml [LIMIT]

Plans, refuses where the plan has errors, rolls out, and says what each host came to. Its exit code is that of
`python -m deployer rollout`.
"""

from __future__ import annotations

import sys

from deployer import Deployer, DeployError
from deployer.api import Event

REFUSED = 2


def say(event: Event) -> None:
    """One line for what a client would notice; docs/events.md has the other events."""
    if event.kind == "state":
        print(f"  {event.data['host']} {event.data['service']}: {event.data['state']}", flush=True)


def main(inventory: str, limit: str = "") -> int:
    """Plan, roll out, report; the exit code."""
    fleet = Deployer(inventory, limit=limit)
    try:
        plan = fleet.plan()
        for host, finding in plan.errors:
            print(f"{host}: {finding.subject}: {finding.message} [{finding.id}]. Fix: {finding.fix}")
        for host, why in plan.failures.items():
            print(f"{host}: {why}")
        if plan.exit_code == REFUSED:
            return REFUSED
        if not plan.changes:
            print("nothing to do")
            return 0
        print(
            "to be switched, as far as the plan knows: "
            + ", ".join(f"{service} on {host}" for host, service in plan.changes),
            flush=True,
        )
        rollout = fleet.rollout(batches=(1, "100%"), on_failure="restore-all", listeners=[say])
    except DeployError as error:
        print(f"refused: {error.problem}. Fix: {error.fix}")
        return REFUSED
    for outcome in rollout.hosts.values():
        for service in outcome.services:
            print(f"{outcome.host} {service.service}: {service.outcome}, release {service.after or 'none'}")
    for host, why in rollout.failures.items():
        print(f"{host}: {why}")
    print(rollout.meaning or "done", f"in {rollout.seconds:.0f} s; the report is {rollout.report}")
    return rollout.exit_code


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
