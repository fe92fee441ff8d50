"""Files for Prometheus and Grafana, and what became of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deployer.api.answers import HostStatus, status_of
from deployer.api.base import Answer
from deployer.monitoring.files import WrittenFile
from deployer.monitoring.produced import produce
from deployer.monitoring.targets import Target, WithoutMetrics
from deployer.runs.results import Summary


@dataclass(frozen=True)
class Monitoring(Answer[HostStatus]):
    """What was written for monitors.

    Args:
        files: one each for targets, rules and dashboard.
        targets: all that are scraped from now on.
        kept: those of them of which no host told, since it did not answer or was not asked.
        without: services that hosts told of and that are not scraped, each with the reason.
    """

    files: tuple[WrittenFile, ...] = ()
    targets: tuple[Target, ...] = ()
    kept: tuple[Target, ...] = ()
    without: tuple[WithoutMetrics, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 written, 1 a file was left as somebody edited it, 2 not all hosts could be asked."""
        if not self.hosts or any(host.failure for host in self.hosts.values()):
            return 2
        return 1 if any(one.edited for one in self.files) else 0


def monitoring_of(
    summary: Summary, output: str, services: Collection[str], into: Path, part: bool, check: bool
) -> Monitoring:
    """Write the files after a run of the playbook `status`; `services` as in `plan_of`, the rest as in `produce`.

    Raises:
        DeployError: a service that is named is on no host, or a file cannot be read or written.
    """
    status = status_of(summary, output, services)
    named = {one.service for host in status.hosts.values() for one in host.services}
    made = produce(summary, named, into, part or bool(services), check)
    return Monitoring(status.hosts, summary, output, made.files, made.targets, made.kept, made.without)
