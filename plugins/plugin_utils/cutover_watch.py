"""What a host says of a cut-over that is under way on it: read by a plain command, told to people and programs.

No module: a cut-over may take minutes, and this is asked every other second.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder

MARK = "==sglang-deployer=="  # a line between the files: JSON, in which a text has no line of its own
LOADS = ("measure", "gate", "restore")  # states of which the host says how far they are
OLD, NEW, NONE, UNKNOWN = "old", "new", "none", "unknown"  # what a client of the service is answered by


@dataclass(frozen=True)
class Seen:
    """One look at a host.

    Args:
        over: whether the job has ended, or is not there any more: its result is to be fetched.
        transaction: the service's transaction.json; empty where none is under way.
        loading: the service's loading.json; empty where nothing loads.
    """

    over: bool
    transaction: Mapping[str, Any] = field(default_factory=dict)
    loading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The state that the transaction is in; '' before and after it."""
        return str(self.transaction.get("state") or "")


def command(folder: ServiceFolder, job: str) -> str:
    """What shows all of it, from any shell.

    Args:
        folder: of the service, on the host.
        job: path of the job's file, which Ansible writes.
    """
    parts = [f"cat {shlex.quote(path)} 2>/dev/null" for path in (folder.transaction, folder.loading, job)]
    return f"; echo; echo {MARK}; ".join(parts) + f"; echo; echo {MARK}"


def parse(text: str) -> Seen | None:
    """What `command` printed; None where the host did not come to its end."""
    parts = re.split(f"^{MARK}$", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    if len(parts) != 4:
        return None
    transaction, loading, job = (_mapping(part) for part in parts[:3])
    return Seen("started" not in job or bool(job.get("finished")), transaction or {}, loading or {})


def serving(transaction: Mapping[str, Any]) -> str:
    """What a client sees while a transaction is in its state."""
    state, before, after = (transaction.get(key) for key in ("state", "from", "to"))
    if state in ("measure", "drain"):
        return OLD if before else NONE
    if state == "commit":
        return NEW
    if state == "gate" and before == after:
        return UNKNOWN  # it runs already, and is being asked
    return NONE if state else UNKNOWN


def text_of(service: str, seen: Seen, seconds: float) -> str:
    """One line for people.

    Args:
        service: its name.
        seen: of it.
        seconds: since the cut-over began.
    """
    how_far = str(seen.loading.get("text") or "") if seen.state in LOADS else ""
    return ", ".join(filter(None, (f"{service}: {seen.state or 'beginning'}", how_far, f"{seconds:.0f} s")))


def _mapping(text: str) -> dict[str, Any]:
    """A file's JSON; empty for a file that is not there."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
