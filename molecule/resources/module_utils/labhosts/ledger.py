"""What a lab has made on this machine, written down before it is made, so that a killed run can be cleaned up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from .processes import ProcessIdentity

Kind = Literal["cgroup", "link", "netns", "process"]


@dataclass(frozen=True)
class Entry:
    """One thing that the lab made.

    Args:
        kind: what it is.
        name: a path (cgroup), or a name (link, network namespace, the host that a process carries).
        process: who it is, for a process.
    """

    kind: Kind
    name: str
    process: ProcessIdentity | None = None


class Ledger:
    """The file of entries, oldest first; only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, entry: Entry) -> None:
        with self._path.open("a") as handle:
            handle.write(json.dumps(asdict(entry)) + "\n")

    def entries(self) -> list[Entry]:
        """All entries; a last line cut short by a kill was never acted on and is left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [_parse(line) for line in lines if line.endswith("\n")]

    def process_of(self, host: str) -> ProcessIdentity | None:
        """The process that carried `host` last, running or not."""
        found = [entry.process for entry in self.entries() if entry.kind == "process" and entry.name == host]
        return found[-1] if found else None


def _parse(line: str) -> Entry:
    fields = json.loads(line)
    process = fields["process"]
    return Entry(fields["kind"], fields["name"], ProcessIdentity(**process) if process else None)
