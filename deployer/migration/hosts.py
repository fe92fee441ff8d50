"""What the services of hosts are, before, during and after their cut-overs: pure functions."""

from __future__ import annotations

from dataclasses import replace

from deployer.migration.state import BACK, BEGUN, COMMITTED, UNCHANGED, Hosts, Switched
from deployer.migration.verbs import Changed
from deployer.runs import results


def begun(hosts: Hosts) -> dict[str, dict[str, Switched]]:
    """The services with their cut-over under way; those that were switched before stay so."""
    return {
        host: {name: one if one.switched else replace(one, outcome=BEGUN) for name, one in services.items()}
        for host, services in hosts.items()
    }


def came_to(earlier: Hosts, changed: Changed) -> dict[str, dict[str, Switched]]:
    """What services are after a rollout; of those that it did not come to, what they were, unless nobody knows."""
    under_way = begun(earlier)
    unseen = changed.code == results.NOT_RESTORED
    after: dict[str, dict[str, Switched]] = {}
    for host, services in under_way.items():
        cuts = changed.cuts.get(host, {})
        after[host] = {
            name: one.after_cutover(cuts[name].outcome, cuts[name].after, cuts[name].reason)
            if name in cuts
            else (one if unseen else earlier[host][name])
            for name, one in services.items()
        }
    return after


def went_back(hosts: Hosts, changed: Changed) -> dict[str, dict[str, Switched]]:
    """What services are after going back: BACK where what served before is committed."""
    after: dict[str, dict[str, Switched]] = {}
    for host, cuts in changed.cuts.items():
        for service, cut in cuts.items():
            known = hosts.get(host, {}).get(service, Switched())
            there = cut.outcome in (COMMITTED, UNCHANGED) and cut.after == known.before
            one = replace(known, after=cut.after, reason=cut.reason, outcome=BACK if there else known.outcome)
            after.setdefault(host, {})[service] = one
    return after
