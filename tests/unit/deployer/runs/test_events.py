"""The schema: lines that programs read, and that docs/events.md describes."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from deployer.runs.events import HEAD, SCHEMA, Event, parse, timestamp

ROOT = Path(__file__).parents[4]
DOCUMENT = ROOT / "docs" / "events.md"
TELLERS = ("emit", "_emit")


def test_a_line_comes_back_as_the_event_that_it_was() -> None:
    event = Event("task", {"phase": "model", "task": "[x]\nü"}, 1_795_920_011.125, "20261129T023417Z-rollout")
    line = event.as_json()
    assert "\n" not in line and parse(line) == event
    value = json.loads(line)
    assert value["schema"] == SCHEMA and [*value][:4] == [*HEAD]


def test_what_is_no_event_is_none() -> None:
    for line in ("", "{", "[]", "{}", '{"event": "x"}', '{"event": "x", "run": "y", "time": "yesterday"}'):
        assert parse(line) is None, line


def test_times_are_utc_to_the_millisecond() -> None:
    assert timestamp(0.1239) == "1970-01-01T00:00:00.123Z"


def told_kinds() -> set[str]:
    """The kinds that the source tells of."""
    found: set[str] = set()
    for path in (path for package in ("runs", "api") for path in (ROOT / "deployer" / package).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            names = [part.attr if isinstance(part, ast.Attribute) else getattr(part, "id", "") for part in [node.func]]
            if (
                isinstance(node.func, ast.Attribute)
                and node.func.attr == "tell"
                and isinstance(node.func.value, ast.Attribute)
            ):
                names.append(node.func.value.attr)
            if {*names} & {*TELLERS} and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return found


def test_every_kind_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^### `([a-z.]+)`$", DOCUMENT.read_text(), re.MULTILINE))
    assert documented == told_kinds()
