"""Times, sizes and names as people read them, and text of hosts as a page may show it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from rich.filesize import decimal

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
COLOURS = re.compile(r"\x1b\[[0-9;:]*m")  # of logs: what they are for is lost here, and they hide the text
STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200)  # seconds
DAY = 24 * 3600
TICKS = 6
NAMED = 6  # hosts in a sentence
PART = " of "  # between how far something is and how far it goes


def plain(value: str) -> str:
    """Text without what could act on its reader: control characters, and those that turn the direction of writing."""
    if value.isascii() and value.isprintable():
        return value
    value = COLOURS.sub("", value).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else _instead(char) for char in value)


def _instead(char: str) -> str:
    return " " if char.isspace() and char > "\x7f" else REPLACEMENT


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `12 min 3 s`, `2 h 5 min`."""
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small, names = (
        (whole // 3600, whole % 3600 // 60, ("h", "min")) if whole >= 3600 else (whole // 60, whole % 60, ("min", "s"))
    )
    return f"{large} {names[0]} {small} {names[1]}" if small else f"{large} {names[0]}"


def amount(done: float, total: float, unit: str) -> str:
    """How far something is: `13.8 GB of 27.6 GB`, `3 of 8 shards`; '' where nothing is known."""
    if not done and not total:
        return ""
    whole, part = (decimal(int(one)) if unit == "bytes" else f"{one:.0f}" for one in (max(done, total), done))
    words = whole if done >= total else f"{part}{PART}{whole}"
    return words if unit == "bytes" else f"{words} {unit}"


def clock(seconds: float, day: bool = False) -> str:
    """A moment in UTC, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S" if day else "%H:%M:%S", time.gmtime(seconds))


def counted(number: int, noun: str) -> str:
    """`1 host`, `2 hosts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int = NAMED) -> str:
    """Names for people: the first half of those that there is room for, when there are too many."""
    if len(names) <= most:
        return ", ".join(names)
    first = max(1, most // 2)
    return f"{', '.join(names[:first])} and {len(names) - first} more"


def ticks(length: float) -> list[float]:
    """Where the marks of a time axis stand, in seconds from its start; 0 is one of them."""
    steps = (*STEPS, DAY // 8, DAY // 6, DAY // 4, DAY // 2, DAY)
    step = next((step for step in steps if length / step <= TICKS), 0)
    step = step or DAY * -(-int(length) // (DAY * TICKS))
    return [float(mark) for mark in range(0, int(length) + 1, step)]
