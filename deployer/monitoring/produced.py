"""All files for monitors, from what hosts told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from deployer.monitoring.dashboard import dashboard_text
from deployer.monitoring.files import WrittenFile, current_text, write_files
from deployer.monitoring.targets import Target, WithoutMetrics, merged, parsed, targets_of, text_of
from deployer.runs.results import Summary

TARGETS = "targets/sglang.json"
RULES = "rules/sglang.yml"
DASHBOARD = "dashboards/sglang.json"


@dataclass(frozen=True)
class Produced:
    """What was written.

    Args:
        files: one each for targets, rules and dashboard.
        targets: all that are scraped from now on.
        kept: those of them of which no host told, since it did not answer or was not asked.
        without: services that hosts told of and that are not scraped.
    """

    files: tuple[WrittenFile, ...]
    targets: tuple[Target, ...]
    kept: tuple[Target, ...]
    without: tuple[WithoutMetrics, ...]


def rules_text() -> str:
    """The alert rules, as Prometheus reads them."""
    return resources.files("deployer.monitoring").joinpath("rules.yml").read_text(encoding="utf-8")


def produce(
    summary: Summary, services: Collection[str], folder: Path, part: bool = False, check: bool = False
) -> Produced:
    """Write the files for monitors.

    Args:
        summary: of a run of the playbook `status`.
        services: names of those that are meant.
        folder: to write to.
        part: not all hosts and services were asked: what was written of others stays.
        check: write nothing, say what would be.
    Raises:
        DeployError: the folder or a file cannot be read or written.
    """
    now, without = targets_of(summary, services)
    before = _before(folder)
    silent = [name for name, host in summary.hosts.items() if host.failure or host.unreachable]
    targets = merged(before, now, without, None if part else silent)
    texts = {TARGETS: text_of(targets), RULES: rules_text(), DASHBOARD: dashboard_text()}
    files = write_files(folder, texts, check)
    kept = [one for one in targets if one not in now]
    return Produced(files, tuple(targets), tuple(kept), tuple(without))


def _before(folder: Path) -> Sequence[Target]:
    text = current_text(folder, TARGETS)
    return parsed(text, str(folder / TARGETS)) if text.strip() else ()
