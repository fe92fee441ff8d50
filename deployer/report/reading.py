"""Reads what a run left in its folder, and takes from it what has the type that it should have.

A run may have been killed in the middle of a line, and a newer version may have written what this one does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.runs.events import Event, parse
from deployer.runs.journal import EVENTS, RUN

Data = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a run's folder holds.

    Args:
        run: id of the run.
        events: in the order in which they were written.
        ending: run.json; empty where the run did not come to writing it.
        unread: lines that are no event.
    """

    run: str
    events: tuple[Event, ...]
    ending: Data
    unread: int = 0


def read_record(folder: Path) -> Record:
    """What the run of a folder left.

    Raises:
        OSError: it has no events, or they cannot be read.
    """
    lines = (folder / EVENTS).read_text(encoding="utf-8", errors="replace").split("\n")
    parsed = [parse(line) for line in lines if line.strip()]
    events = tuple(event for event in parsed if event is not None)
    try:
        ending = _json_object((folder / RUN).read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        ending = {}
    run = next((event.run for event in events if event.run), folder.name)
    return Record(run, events, ending, len(parsed) - len(events))


def text(data: Data, key: str) -> str:
    """A value as text; '' where there is none."""
    value = data.get(key)
    return "" if value is None or isinstance(value, (dict, list)) else str(value)


def number(data: Data, key: str, default: float = 0.0) -> float:
    """A value as a finite number."""
    value = data.get(key)
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good and value is not None else default


def mapping(data: Data, key: str) -> Data:
    """A value as an object; an empty one where there is none."""
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def objects(data: Data, key: str) -> list[Data]:
    """The objects of a list."""
    value = data.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def texts(data: Data, key: str) -> tuple[str, ...]:
    """The texts of a list."""
    value = data.get(key)
    return tuple(str(one) for one in value if not isinstance(one, (dict, list))) if isinstance(value, list) else ()


def _json_object(content: str) -> Data:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
