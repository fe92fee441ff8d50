"""What two outputs of the same command have in common, whenever and wherever they were printed."""

from __future__ import annotations

import re

# What an engine logs, how far it was when it was looked at, and what a tiny model answers: another time, other lines.
_PASSING = re.compile(
    r"\[(?:[A-Z]+\|)?\d{4}-\d\d-\d\d[ T]|\bINFO: "
    r"|^\S+ \S+: (?:drain|stop|prove|start|gate|restore|commit), |^~|^n~| MB/s$"
)
# From the most particular to the most general. What is left of a line is its words.
_PATTERNS = (
    (re.compile(r"\b\d{8}T\d{6}Z-[a-z]+(-\d+)?\b"), "RUN"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b(?!\.)"), "ID"),
    (re.compile(r"\(\w+ [\d.]+ s(?: \w+ [\d.]+ s)*\)"), "(STATES)"),
    (re.compile(r"\b\d[\d,]* (?:s|m|min|h|d)(?: \d+ (?:s|m|min|h))?(?= |$)"), "DURATION"),
    (re.compile(r"\b\d[\d,]*(\.\d+)?[KMG]?\b"), "N"),
    (re.compile(r"[█▓░·━╸╺─]+"), "BAR"),
    (re.compile(r"[ \t]+"), " "),
)


def structure(text: str) -> list[str]:
    """The lines of an output without times, numbers, ids, bars and padding, each once, sorted: hosts work at once."""
    lines: set[str] = set()
    for line in text.splitlines():
        if _PASSING.search(line):
            continue
        for pattern, stands_for in _PATTERNS:
            line = pattern.sub(stands_for, line)
        lines.add(line.strip())
    return sorted(filter(None, lines))
