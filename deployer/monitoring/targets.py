"""What Prometheus scrapes, as its file_sd takes it: one target for each service that has metrics."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.runs.results import Summary

OLD_MODULE = "its state was read without them: use one version of this package everywhere"


@dataclass(frozen=True)
class Target:
    """One service that is scraped.

    Args:
        address: ADDRESS:PORT.
        labels: of all its series: host, service, engine, model, served_name, port.
    """

    address: str
    labels: Mapping[str, str]

    @property
    def host(self) -> str:
        """The host, as the inventory names it."""
        return self.labels.get("host", "")

    @property
    def service(self) -> str:
        """The service's name."""
        return self.labels.get("service", "")


@dataclass(frozen=True)
class WithoutMetrics:
    """A service that is not scraped, and why.

    Args:
        host: as the inventory names it.
        service: its name.
        problem: why, and what to do about it.
        told: False where its host could not tell; it is scraped on where it was scraped before.
    """

    host: str
    service: str
    problem: str
    told: bool = True


def targets_of(summary: Summary, services: Collection[str]) -> tuple[list[Target], list[WithoutMetrics]]:
    """The services that hosts told of: those that are scraped, and those that are not.

    Args:
        summary: of a run of the playbook `status`.
        services: names of those that are meant.
    """
    targets, without = [], []
    for host in summary.hosts.values():
        for one in host.services:
            name = str(one["service"])
            if name not in services:
                continue
            metrics = one.get("metrics")
            if metrics is None:
                without.append(WithoutMetrics(host.host, name, str(one.get("detail") or OLD_MODULE), told=False))
            elif metrics["target"]:
                targets.append(Target(str(metrics["target"]), _labels(host.host, one)))
            else:
                without.append(WithoutMetrics(host.host, name, str(metrics["problem"])))
    return targets, without


def _labels(host: str, service: Mapping[str, Any]) -> dict[str, str]:
    names = ("service", "engine", "model", "served_name", "port")
    return {"host": host, **{name: str(service.get(name) or "") for name in names}}


def merged(
    before: Collection[Target],
    now: Collection[Target],
    without: Collection[WithoutMetrics],
    kept: Collection[str] | None,
) -> list[Target]:
    """The targets there are from now on, by host and service.

    What is known of a host that did not answer stays, and of a service that it could not tell of: alerts are for these.

    Args:
        before: those that were written last.
        now: those that hosts told of.
        without: the services that hosts told of and that have no metrics.
        kept: hosts of which targets that nobody told of stay; None for all hosts.
    """
    told = {(one.host, one.service) for one in now} | {(one.host, one.service) for one in without if one.told}
    unknown = {(one.host, one.service) for one in without if not one.told}

    def stays(one: Target) -> bool:
        key = (one.host, one.service)
        return key in unknown or (key not in told and (kept is None or one.host in kept))

    left = filter(stays, before)
    return sorted((*now, *left), key=lambda one: (one.host, one.service))


def text_of(targets: Collection[Target]) -> str:
    """As Prometheus reads it (configuration, "file_sd_config")."""
    groups = [{"targets": [one.address], "labels": dict(one.labels)} for one in targets]
    return json.dumps(groups, indent=2, ensure_ascii=False) + "\n"


def parsed(text: str, path: str) -> list[Target]:
    """The targets that `text_of` wrote, whoever has changed them since.

    Args:
        text: of the file.
        path: of the file, for who has to mend it.
    Raises:
        DeployError: it is no such file.
    """
    try:
        return [
            Target(str(address), {str(name): str(value) for name, value in group.get("labels", {}).items()})
            for group in json.loads(text)
            for address in group["targets"]
        ]
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise DeployError(f"{path} is no list of targets", "move it away: it is written anew") from None
