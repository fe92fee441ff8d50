"""What happens in a run, as data of one schema: what `--json`, the journal, the live view and the report are made of.

docs/events.md describes every kind for other programs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SCHEMA = 1  # counts up when a kind or a key changes its meaning or goes away; new ones may come at any time
HEAD = ("schema", "run", "time", "event")  # the keys of every line


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Args:
        kind: what, as docs/events.md has it.
        data: what is said of it; everything in it is JSON.
        time: seconds since the epoch.
        run: id of the run that it belongs to.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)
    run: str = ""

    def as_json(self) -> str:
        """One line, without its end."""
        head = {"schema": SCHEMA, "run": self.run, "time": timestamp(self.time), "event": self.kind}
        return json.dumps({**head, **self.data}, default=str)


def parse(line: str) -> Event | None:
    """The event of a line of a journal; None for what is none, such as the last line of a run that was killed.

    Args:
        line: as `Event.as_json` writes it.
    """
    try:
        value = json.loads(line)
        moment = datetime.fromisoformat(value["time"].replace("Z", "+00:00")).timestamp()
        data = {key: one for key, one in value.items() if key not in HEAD}
        return Event(str(value["event"]), data, moment, str(value["run"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


Listener = Callable[[Event], None]


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
