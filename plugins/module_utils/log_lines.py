"""Lines of a service's log: when, how grave, what; and which of them are wanted. Pure, apart from the host's time zone.

SGLang's own lines have no level (srt/utils/common.py, configure_logger): `[2026-11-29 02:00:00 TP0] text`. What they
begin with has to tell. Uvicorn, LLaMA-Factory and Python's warnings write theirs.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ERROR, WARNING, INFO = "error", "warning", "info"
LEVELS = (INFO, WARNING, ERROR)
LONGEST = 8 * 1024  # characters of a line
MOST = 1024 * 1024  # bytes of lines that one answer holds
SYSLOG = {"0": ERROR, "1": ERROR, "2": ERROR, "3": ERROR, "4": WARNING}  # PRIORITY of the host's journal

_STAMP = re.compile(
    r"^(?P<open>\[)?(?P<date>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d:\d\d)(?:[.,]\d{1,6})?(?(open)[^\]]{0,40}\])\s*"
)
# LLaMA-Factory and transformers: [INFO|2026-11-29 02:00:00] module:123 >> text
_NAMED = re.compile(r"^\[(?P<level>[A-Z]+)\|(?:[\w.]+:\d+\] )?(?P<date>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d)")
_LEVEL = re.compile(r"^(?:\x1b\[\d+m)*(?P<level>DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?:\x1b\[\d+m)*\b[:\s|]")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^Fatal Python error")
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning)\b")
_GRAVE = re.compile(
    r"^(?:error|fatal|critical|exception|failed|received sigquit|segmentation fault)\b"
    r"|^\w+ hit an exception|\bout of memory\b|^[A-Za-z_][\w.]*(?:Error|Exception)\b",
    re.IGNORECASE,
)
_DOUBTFUL = re.compile(
    r"^(?:warn(?:ing)?|cannot|could not|unable to)\b|^\S+:\d+: \w*Warning: |\bdeprecated\b", re.IGNORECASE
)
_BELONGS = ("During handling of the above exception", "The above exception was the direct cause")
_AGE = re.compile(r"(?P<number>\d{1,9})\s*(?P<unit>[smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAMES = {"WARN": WARNING, "WARNING": WARNING, "ERROR": ERROR, "CRITICAL": ERROR, "FATAL": ERROR}


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        text: without its end.
        time: in seconds since the epoch; 0 where nothing tells.
        level: error, warning or info; '' where nothing tells.
    """

    text: str
    time: float = 0.0
    level: str = ""

    def as_dict(self) -> dict[str, str]:
        """As JSON holds it, the time as ISO 8601 in UTC."""
        return {"time": moment(self.time) if self.time else "", "level": self.level, "text": self.text}


@dataclass(frozen=True)
class Carried:
    """What the lines before say of the next one.

    Attributes:
        time: of the line before.
        level: of the line before.
        traceback: True in the middle of one.
    """

    time: float = 0.0
    level: str = ""
    traceback: bool = False

    @classmethod
    def from_dict(cls, value: Any) -> Carried:
        """The value that `dataclasses.asdict` gave."""
        known = value if isinstance(value, dict) else {}
        return cls(float(known.get("time") or 0), str(known.get("level") or ""), bool(known.get("traceback")))

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True)
class Wanted:
    """Which lines are wanted.

    Args:
        level: this and graver ones; a line whose level nothing tells counts as info.
        holding: text that a line has to hold, upper and lower case alike; '' for any.
        since: seconds since the epoch; 0 for any time. A line whose time nothing tells is wanted.
        lines: the newest so many.
    """

    level: str = INFO
    holding: str = ""
    since: float = 0.0
    lines: int = 0

    def takes(self, line: Line) -> bool:
        """Whether it is one of these."""
        grave = LEVELS.index(line.level or INFO) >= LEVELS.index(self.level)
        return (
            grave
            and (not self.since or not line.time or line.time >= self.since)
            and self.holding.casefold() in line.text.casefold()
        )


@dataclass(frozen=True)
class Kept:
    """The lines that are left, oldest first, and how many were left out for being too many."""

    lines: Sequence[Line] = field(default_factory=tuple)
    left_out: int = 0


def understood(lines: Iterable[Line], before: Carried) -> tuple[list[Line], Carried]:
    """The lines with their time and level, as far as they or the lines before them tell.

    Args:
        lines: in their order; a time that is known already stays, and so does a level that is graver.
        before: of the lines before.
    Returns:
        The lines, and what they say of the next one.
    """
    found = []
    for line in lines:
        own_time, own_level, text = _own(line.text)
        new = bool(own_time or own_level)
        if _TRACEBACK.search(text):
            level, traceback = ERROR, True
        elif before.traceback and not new:
            level = ERROR
            # The line without indent that names what was raised ends it; another one may be chained to it.
            traceback = text[:1] in ("", " ", "\t") or text.startswith(_BELONGS) or not _RAISED.match(text)
        elif not new and text[:1] in (" ", "\t"):
            level, traceback = before.level, False
        else:
            level, traceback = own_level or _guessed(text), False
        level = max(level or INFO, line.level or INFO, key=LEVELS.index)
        when = line.time or own_time or before.time
        found.append(replace(line, time=when, level=level))
        before = Carried(when, level, traceback)
    return found, before


def kept(lines: Iterable[Line], wanted: Wanted, most: int = MOST) -> Kept:
    """The wanted lines; of too many the newest.

    Args:
        lines: oldest first, understood.
        wanted: which.
        most: bytes, roughly, that they may have together.
    """
    found = [line for line in lines if wanted.takes(line)]
    first = max(0, len(found) - wanted.lines) if wanted.lines else 0
    size, start = 0, len(found)
    while start > first:
        size += len(found[start - 1].text.encode(errors="replace"))
        if size > most:
            break
        start -= 1
    return Kept(tuple(found[start:]), start - first)


def plain(text: str) -> str:
    """A line for reading: of a bar that is drawn over itself the last state; not longer than LONGEST; no colours."""
    line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text.rstrip("\r\n").rpartition("\r")[2])
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def since_epoch(text: str, now: float) -> float:
    """A moment in seconds since the epoch: `10m` before now (s, m, h, d), or ISO 8601, in UTC unless it says otherwise.

    Raises:
        ValueError: it is neither.
    """
    age = _AGE.fullmatch(text.strip())
    if age:
        return now - int(age["number"]) * _UNITS[age["unit"]]
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?)?", text.strip()
    )
    if match is None:
        raise ValueError(f"{text!r} is neither an age such as 10m nor a time such as 2026-11-29T02:00")
    day, clock, second, zone = match.groups()
    seconds = timegm(time.strptime(f"{day} {clock or '00:00'}:{second or '00'}", "%Y-%m-%d %H:%M:%S"))
    if zone and zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return float(seconds)


def moment(seconds: float) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def _own(text: str) -> tuple[float, str, str]:
    """A line's own time and level, and the text behind them."""
    named = _NAMED.match(text)
    if named:
        return _local(named["date"], named["time"]), _NAMES.get(named["level"], INFO), text[named.end() :]
    stamp = _STAMP.match(text)
    rest = text[stamp.end() :] if stamp else text
    when = _local(stamp["date"], stamp["time"]) if stamp else 0.0
    level = _LEVEL.match(rest)
    return when, _NAMES.get(level["level"], INFO) if level else "", rest


def _guessed(text: str) -> str:
    rest = _own(text)[2]
    return ERROR if _GRAVE.search(rest) else WARNING if _DOUBTFUL.search(rest) else ""


def _local(day: str, clock: str) -> float:
    """A time of this host's clock, as its programs write it."""
    try:
        return time.mktime(time.strptime(f"{day} {clock}", "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0
