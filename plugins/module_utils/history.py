"""What a host keeps of its services: releases, and what happened to them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_text
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store

MARKS = ("current", "previous", "adopted", "predecessor")
SERVED = ("committed", "unchanged")
LONGEST = 300  # characters of a reason


def service_history(root: str, service: str, last: int) -> dict[str, Any]:
    """The releases of a service that are kept, and the last events of its journal.

    Args:
        root: the deployment's root folder.
        service: the service's name.
        last: how many events.
    """
    folder = Store(root).service(service)
    entries = journal.entries(folder)
    return {
        "service": service,
        "releases": releases_of(folder, entries),
        "events": [event for event in map(event_of, entries) if event is not None][-last:] if last > 0 else [],
    }


def event_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry as people read it; None for the beginning of what has its end in another entry.

    Returns:
        `time`, `event`, `initiator`, `from`, `to`, `outcome`, `seconds` (all of it, or None), `reason`; what an entry
        does not say is ''.
    """
    event = plain(entry.get("event"))
    if event == "started":
        return None
    failure = entry.get("failure")
    kind = failure.get("kind") if isinstance(failure, Mapping) else failure
    reason = plain(entry.get("reason"))
    return {
        "time": plain(entry.get("time")),
        "event": event,
        "initiator": plain(entry.get("initiator")),
        "from": plain(entry.get("from")),
        "to": plain(entry.get("to")),
        "outcome": plain(entry.get("outcome")),
        "seconds": _sum(entry.get("seconds")),
        "reason": f"{plain(kind)}: {reason}" if kind and reason else reason or plain(kind),
    }


def releases_of(folder: ServiceFolder, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every release that is kept, in the order in which they were staged; one that cannot be read is named as well."""
    try:
        names = [name for name in os.listdir(folder.releases) if not name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    links = {mark: folder.release_of(mark) for mark in MARKS}
    found = [_release(folder, name, links, entries) for name in names]
    return sorted(found, key=lambda one: (one["staged"], one["id"]))


def _release(
    folder: ServiceFolder, name: str, links: Mapping[str, str | None], entries: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    path = os.path.join(folder.release(name), RELEASE_FILE)
    try:
        value = json.loads(read_text(path) or "")
        staged = int(os.stat(path).st_mtime)
    except (OSError, ValueError, RecursionError):
        value, staged = {}, 0
    value = value if isinstance(value, dict) else {}
    served = [str(entry.get("time") or "") for entry in entries if _brought(entry, name)]
    return {
        "id": plain(name),
        "marks": [mark for mark in MARKS if links[mark] == name],
        "readable": value.get("id") == name,
        "engine": plain(value.get("engine")),
        "environment": _artifact(value.get("environment")),
        "model": _artifact(value.get("model")),
        "staged": staged,
        "committed": plain(served[-1]) if served else "",
    }


def _brought(entry: Mapping[str, Any], release: str) -> bool:
    ended = entry.get("event") == "ended" and entry.get("outcome") in SERVED
    return entry.get("to") == release and (ended or entry.get("event") in ("adopted", "mended"))


def _artifact(value: Any) -> str:
    """An artifact's name: as its folder is called, or as it was adopted."""
    if not isinstance(value, Mapping):
        return ""
    return plain(os.path.basename(str(value.get("path") or "").rstrip("/")) or value.get("name"))


def _sum(seconds: Any) -> float | None:
    if isinstance(seconds, Mapping):
        numbers = [value for value in seconds.values() if isinstance(value, (int, float))]
        return round(float(sum(numbers)), 2) if numbers else None
    return round(float(seconds), 2) if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None


def plain(value: Any) -> str:
    """A value for people: one line, without control characters, not endless."""
    text = "" if value is None else str(value)
    text = "".join(char if char.isprintable() else " " if char in "\n\t" else "?" for char in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
