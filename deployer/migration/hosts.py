"""What the services of hosts are, before, during and after their cut-overs: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from deployer.migration.state import BACK, BEGUN, COMMITTED, LEFT, UNCHANGED, Hosts, State, Switched
from deployer.migration.verbs import Changed, Serving
from deployer.runs import results


def begun(hosts: Hosts) -> dict[str, dict[str, Switched]]:
    """The services with their cut-over under way."""
    return {
        host: {name: replace(one, outcome=BEGUN) for name, one in services.items()} for host, services in hosts.items()
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


def left_alone(
    hosts: Hosts, named: Sequence[str], now: Mapping[str, Mapping[str, Serving]]
) -> tuple[dict[str, dict[str, Switched]], tuple[str, ...]]:
    """What going back leaves as it is, LEFT, and why, a line each.

    That is a service which somebody has switched since: what its owner chose is newer than what this migration knows.
    And it is what the inventory does not have any more: a host, or a service of it.

    Args:
        hosts: what services are.
        named: the hosts that go back.
        now: what serves; a host that is not reached has no services, one that the inventory lacks is not there.
    """
    left: dict[str, dict[str, Switched]] = {}
    why: list[str] = []
    for host in named:
        for service, one in hosts[host].items():
            if not one.switched or not one.before:
                continue
            found = now.get(host, {}).get(service, Serving())
            if host not in now:
                reason = "the inventory does not have this host any more"
            elif now[host] and service not in now[host]:
                reason = "the inventory does not describe this service any more"
            elif one.outcome == COMMITTED and found.engine:
                reason = f"somebody has started {found.engine} there since"
            elif one.outcome == COMMITTED and found.release not in ("", one.after, one.before):
                reason = f"somebody has switched it to {found.release} since"
            else:
                continue
            left.setdefault(host, {})[service] = replace(one, outcome=LEFT, reason=reason)
            why.append(f"{host}: {service} stays as it is: {reason}. Its release before was {one.before}")
    return left, tuple(why)


def targets_back(
    state: State, hosts: Sequence[str] = ()
) -> tuple[dict[str, dict[str, str]], dict[str, tuple[str, ...]]]:
    """The releases that what was switched goes back to, host -> service -> id; and what had none before, which stays.

    Args:
        state: of the migration.
        hosts: only these; all where none is named.
    """
    wanted: dict[str, dict[str, str]] = {}
    without: dict[str, tuple[str, ...]] = {}
    for host in hosts or state.switched:
        for service, one in state.hosts.get(host, {}).items():
            if one.switched and one.before:
                wanted.setdefault(host, {})[service] = one.before
            elif one.switched:
                without[host] = (*without.get(host, ()), service)
    return wanted, without
