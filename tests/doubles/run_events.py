"""What a rollout or a rollback printed with `--json`, folded for a test to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

CHANGING = ("rollout", "rollback", "stage")


def consent(verb: str, words: Sequence[str]) -> list[str]:
    """The option by which a command that changes hosts asks nobody; tests have no terminal."""
    return ["--yes"] if verb in CHANGING and not {"--yes", "-y", "--check"} & {*words} else []


def events_of(output: str) -> list[dict[str, Any]]:
    """The events; other lines are left out."""
    return [json.loads(line) for line in output.splitlines() if line.startswith('{"schema"')]


def outcome_of(output: str) -> dict[str, Any]:
    """What a command printed with `--json`: an object, or events, of which is told what they came to.

    Returns:
        Of events: exit_code, meaning, stopped; hosts and restored, both lists with host, unreachable, failure, and
        services, what their cut-overs came to.
    """
    events = events_of(output)
    if not events:
        value: dict[str, Any] = json.loads(output[output.index("{\n") :])
        return value
    (ended,) = [event for event in events if event["event"] == "run.ended"]
    later = next((index for index, event in enumerate(events) if event["event"] == "restoring"), len(events))
    services = {name: _cutovers(events[:later], name) for name in ended["hosts"]}
    hosts = [
        {"host": name, "unreachable": one["unreachable"], "failure": one["failure"], "services": services[name]}
        for name, one in ended["hosts"].items()
    ]
    restored = {event["host"]: None for event in events[later:] if event["event"] == "cutover"}
    back = [{"host": name, "services": _cutovers(events[later:], name)} for name in restored]
    return {**{key: ended[key] for key in ("exit_code", "meaning", "stopped")}, "hosts": hosts, "restored": back}


def _cutovers(events: Sequence[dict[str, Any]], host: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "cutover" and event["host"] == host]
