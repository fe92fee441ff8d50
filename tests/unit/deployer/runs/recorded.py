"""A rollout as ansible-runner and the channel told of it: gpu1 is committed, gpu2 restored, gpu3 not reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deployer.runs.broadcast import Broadcast
from deployer.runs.events import Event
from deployer.runs.expected import Expected
from deployer.runs.redaction import Redaction
from deployer.runs.watch import Watch

RECORDING = Path(__file__).parents[3] / "recordings" / "runner_events" / "rollout.jsonl"


class Ticks:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The next second."""
        self.now += 1
        return self.now


def recording() -> list[dict[str, Any]]:
    """What was told, in order."""
    return [json.loads(line) for line in RECORDING.read_text().splitlines()]


def broadcast(told: list[Event], *secrets: str) -> Broadcast:
    """Puts every event into a list."""
    return Broadcast("20261129T023417Z-rollout", [told.append], Redaction(secrets))


def watched(*more: dict[str, Any], expected: Expected | None = None, **options: Any) -> tuple[list[Event], Watch]:
    """The events of the recorded run, and of what is told beside."""
    told: list[Event] = []
    watch = Watch(broadcast(told), expected, clock=Ticks(), **options)
    for one in (*recording(), *more):
        if "told" in one:
            watch.told(one["told"], {key: value for key, value in one.items() if key != "told"})
        else:
            watch.on_event(one)
    watch.finish()
    return told, watch
