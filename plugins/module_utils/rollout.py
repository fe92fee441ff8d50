"""How a rollout goes through its hosts: batches, how many hosts may fail, and the mistakes in such settings."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import Problems

PERCENTAGE = re.compile(r"\d{1,3}%")
LONGEST_PAUSE = 24 * 3600  # seconds
STAGED = "staged"  # what the role `cutover` takes beside the targets of the module: what this run has staged
# From the worst to the best: what a host came to is what its worst service came to.
OUTCOMES = ("not_restored", "unknown", "restored", "refused", "committed", "planned", "unchanged")


def number_of(value: Any, total: int) -> int | None:
    """How many of `total` a count or a percentage is, rounded down; None where it is neither."""
    if isinstance(value, bool):
        return None
    text = str(value).strip()
    if PERCENTAGE.fullmatch(text):
        percent = int(text[:-1])
        return total * percent // 100 if percent <= 100 else None
    return int(text) if text.isdigit() else None


def batches_of(hosts: Sequence[str], batches: Any) -> list[list[str]]:
    """The hosts in batches, as Ansible's `serial` cuts them: a percentage is of all hosts, and one host at least.

    Args:
        hosts: all of them, in order.
        batches: a count or a percentage, or a list of them, whose last goes on to the end.
    """
    sizes = list(batches) if isinstance(batches, (list, tuple)) else [batches]
    left, found = list(hosts), []
    while left:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        number = number_of(size, len(hosts)) or 0
        if number == 0:
            number = 1 if str(size).strip().endswith("%") else len(left)
        found.append(left[:number])
        left = left[number:]
    return found


def why_stop(batches: Sequence[Sequence[str]], batch: int, lost: Collection[str], max_fail: Any) -> str:
    """Why no further batch may be begun; '' where it may.

    Args:
        batches: all of the rollout.
        batch: the number of the one that would be begun, from 0.
        lost: hosts that failed or could not be reached.
        max_fail: how many hosts may be lost, a count or a percentage of all.
    """
    total = sum(len(one) for one in batches)
    allowed = number_of(max_fail, total) or 0
    canary = [host for host in batches[0] if host in lost] if batch > 0 else []
    if canary:
        return f"the first batch did not pass: {some(canary)}"
    if len(lost) > allowed:
        return f"{len(lost)} of {total} hosts failed or were not reached, {allowed} may: {some(sorted(lost))}"
    return ""


def some(names: Sequence[str], most: int = 8) -> str:
    """Names for people, not all of very many."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def settings_problems(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with a rollout's settings, a line each with key and fix.

    Args:
        settings: of `rollout_batches`, `rollout_max_fail`, `rollout_pause`, `cutover_services` those that are to be
            looked at, and `services`, the names of all services that are described on any host.
    """
    problems = Problems()
    if "rollout_batches" in settings:
        given = settings["rollout_batches"]
        sizes = given if isinstance(given, (list, tuple)) else [given]
        if not sizes or any(not number_of(size, 100) for size in sizes):
            problems.add("rollout_batches", f"is {given!r}", "give counts and percentages, such as [1, '25%', '100%']")
    if "rollout_max_fail" in settings and number_of(settings["rollout_max_fail"], 100) is None:
        fix = "give a count of hosts, or a percentage such as '10%'"
        problems.add("rollout_max_fail", f"is {settings['rollout_max_fail']!r}", fix)
    if "rollout_pause" in settings:
        problems.integer("rollout_pause", settings["rollout_pause"], 0, LONGEST_PAUSE)
    _services(problems, settings.get("cutover_services") or [], settings.get("services") or [])
    return problems.found


def _services(problems: Problems, wanted: Any, known: Sequence[str]) -> None:
    if not isinstance(wanted, (list, tuple)):
        problems.add("cutover_services", f"is {wanted!r}", "give a list of names of services")
        return
    for name in wanted:
        if name not in known:
            fix = f"use some of {', '.join(sorted(known))}" if known else "describe it in inference_services"
            problems.add("cutover_services", f"(--service) there is no service {name!r} on these hosts", fix)


def cutover_items(
    services: Sequence[Mapping[str, Any]],
    target: str,
    chosen: Sequence[str],
    staged: Sequence[Mapping[str, Any]],
    own_targets: Mapping[str, str] | None,
) -> list[dict[str, str]]:
    """What one host is to be brought to: a service and its release each.

    Args:
        services: those described on the host.
        target: `cutover_to`; STAGED for what this run has staged.
        chosen: names of the services that are cut over; none for all.
        staged: what the module `release` said that it staged.
        own_targets: targets of this host alone by service, which are then the only services; None for none.
    """
    releases = {str(one["service"]): str(one["id"]) for one in staged if one.get("role") == "service"}
    names = [str(one["name"]) for one in services]
    if own_targets is not None:
        return [{"service": name, "release": str(own_targets[name])} for name in names if name in own_targets]
    wanted = [name for name in names if not chosen or name in chosen]
    return [{"service": name, "release": releases[name] if target == STAGED else target} for name in wanted]


def host_outcome(results: Sequence[Mapping[str, Any]]) -> str:
    """What a host came to, from the results of its cut-overs; `refused` where none was begun."""
    said = [str(one.get("outcome") or "unknown") for one in results if not one.get("skipped")]
    return min(said, key=OUTCOMES.index, default="refused") if set(said) <= set(OUTCOMES) else "unknown"
