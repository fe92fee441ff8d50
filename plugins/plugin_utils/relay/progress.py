"""How far a transfer is, on every host and in all: folded from what the relays write, shown a line at a time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from operator import truediv
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock, write_file

PREFIX = "weights: "  # what a line begins with: `python -m deployer` shows those
SHOWN_HOSTS = 8
LINE_EVERY = 5.0  # seconds


class FleetProgress:
    """What all hosts of a run said last; the processes that Ansible runs for its hosts share it through a folder.

    Args:
        folder: of the run, on the controller.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder, "progress")
        self._said = Path(folder, "said")
        if not self._said.exists():
            self._said.touch()  # the first line is for when something has been received

    def note(self, host: str, report: Mapping[str, Any]) -> str:
        """Keep what a host said.

        Returns:
            The line to show; '' where one was shown a moment ago, by whomever.
        """
        self._folder.mkdir(exist_ok=True)
        write_file(
            str(self._folder / host_file(host)),
            json.dumps({**report, "host": host}),
            0o600,
        )
        try:
            with exclusive_lock(f"{self._said}.lock", 0):
                # Below zero: the clock was set back.
                if self._said.exists() and 0 <= time.time() - self._said.stat().st_mtime < LINE_EVERY:
                    return ""
                self._said.touch()
        except (DeployError, OSError):
            return ""
        return PREFIX + fleet_line(self.reports())

    def reports(self) -> list[dict[str, Any]]:
        """What the hosts said last, by their names."""
        found = []
        for path in self._folder.glob("*.json"):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):  # just being replaced
                continue
        return sorted(found, key=lambda one: str(one["host"]))


def host_file(host: str) -> str:
    """The name of a file for a host, whatever the host is called."""
    return f"{hashlib.sha256(host.encode()).hexdigest()}.json"


def fleet_line(reports: list[dict[str, Any]]) -> str:
    """Share of every host, then bytes, rate and remaining time of the fleet.

    Args:
        reports: what relays said of themselves (`relay.job`), with their `host`.
    """
    total = sum(one["total"] for one in reports)
    there = sum(one["resumed"] + one["received"] for one in reports)
    going = [one for one in reports if one["state"] == "receiving"]
    rate = sum(one["rate"] for one in going)
    hosts = [f"{one['host']} {_share(one)}" for one in reports]
    if len(hosts) > SHOWN_HOSTS:
        slowest = min(reports, key=lambda one: _part(one))
        hosts = [
            f"{len(reports) - len(going)} of {len(reports)} hosts done",
            f"the slowest is {slowest['host']} {_share(slowest)}",
        ]
    rates = [one["rate"] for one in going]
    remaining = [one["total"] - one["resumed"] - one["received"] for one in going]
    left = f", {duration(max(map(truediv, remaining, rates)))} left" if rates and min(rates) > 0 else ""
    return f"{', '.join(hosts)}; {size(there)} of {size(total)}, {size(rate)}/s{left}"


def size(number: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.2f} GB"


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 5 s` or `2 h 10 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _part(report: Mapping[str, Any]) -> float:
    total = report["total"]
    return (report["resumed"] + report["received"]) / total if total else 1.0


def _share(report: Mapping[str, Any]) -> str:
    state = report["state"]
    return str(state) if state in ("landed", "failed") else f"{100 * min(_part(report), 1):.0f} %"
