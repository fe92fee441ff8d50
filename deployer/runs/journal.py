"""The controller's journal: one folder a run, in the folder that the run was started from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(".deployer") / "runs"
# What a step leaves behind: never its arguments or its whole result, which may hold secrets.
KEPT = ("outcome", "service", "before", "after", "target", "adopted", "probe", "reason", "seconds")


class Journal:
    """Events of one run, one JSON object a line, readable by the user alone.

    Args:
        verb: rollout or rollback.
        base: folder that journals go below.
    """

    def __init__(self, verb: str, base: Path = FOLDER) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = _new_folder(base, f"{stamp}-{verb}")
        self.path = self.folder / "journal.jsonl"
        self.path.touch(mode=0o600)

    def write(self, event: str, **values: Any) -> None:
        """Append one event."""
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **values}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, sort_keys=True, default=str) + "\n")


def kept(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a module's result that a journal holds; of a failure its kind: its evidence is lines of a log."""
    failure = result.get("failure")
    kind = str(failure.get("kind") or "") if isinstance(failure, Mapping) else ""
    known = {key: result[key] for key in KEPT if result.get(key) not in (None, "", {})}
    return {**known, "failure": kind} if kind else known


def _new_folder(base: Path, name: str) -> Path:
    for number in range(1, 1000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
            return folder
        except FileExistsError:
            continue
    raise FileExistsError(f"{base / name}: too many runs in one second")
