"""Which hosts a failed rollout brings back, and whether it did: pure functions over what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deployer.runs.results import NOT_RESTORED, RESTORED, Summary

RESTORE_HOST, RESTORE_ALL = "restore-host", "restore-all"  # what a rollout that failed does with other hosts
TAG_OPTIONS = ("-t", "--tags", "--skip-tags", "--start-at-task")


@dataclass(frozen=True)
class Restored:
    """What bringing hosts back came to.

    Args:
        wanted: host -> service -> the release that it had before.
        without: host -> the services that had none before, which stay as they are.
        summary: of the run that brought them back.
    """

    wanted: Mapping[str, Mapping[str, str]]
    without: Mapping[str, Sequence[str]]
    summary: Summary = field(default_factory=Summary)

    @property
    def exit_code(self) -> int:
        """RESTORED when every one serves what it had before."""
        for name, services in self.wanted.items():
            host = self.summary.hosts.get(name)
            seen = {str(cutover.get("service")): cutover for cutover in host.cutovers} if host else {}
            for service, release in services.items():
                one = seen.get(service, {})
                if one.get("outcome") not in ("committed", "unchanged") or one.get("after") != release:
                    return NOT_RESTORED
        return RESTORED


def to_restore(summary: Summary) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """The releases that hosts had before a run committed others; and the services that had none, by host."""
    wanted: dict[str, dict[str, str]] = {}
    without: dict[str, list[str]] = {}
    for name, host in summary.hosts.items():
        for cutover in host.cutovers:
            if cutover.get("outcome") != "committed":
                continue
            service, before = str(cutover.get("service")), str(cutover.get("before") or "")
            if before:
                wanted.setdefault(name, {})[service] = before
            else:
                without.setdefault(name, []).append(service)
    return wanted, without


def restore_lines(wanted: Mapping[str, Mapping[str, str]], without: Mapping[str, Sequence[str]]) -> list[str]:
    """What is about to be done, for people."""
    lines = [f"restoring all: {', '.join(wanted)} go back to what they served before"] if wanted else []
    lines += [f"{host} had no {', '.join(services)} before: it stays" for host, services in without.items()]
    return lines or ["restoring all: no host had been cut over"]


def without_tags(words: Sequence[str]) -> list[str]:
    """Words for ansible-playbook without those that leave tasks out: the playbooks that follow have other tags."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in TAG_OPTIONS:
            skip = True
        elif not word.startswith(("--tags=", "--skip-tags=", "--start-at-task=")):
            kept.append(word)
    return kept
