"""Reads what was logged since the last look: from the host's journal, and from files that are rotated and truncated.

Of this package it needs `log_lines` alone: while a log is followed, the two are sent to the host with every question.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import select
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import (
    INFO,
    MOST,
    SYSLOG,
    Carried,
    Line,
    Wanted,
    kept,
    plain,
    understood,
)

READ_LINES = 20_000  # of the journal, at most, at one look
READ_BYTES = 4 * MOST  # of a file, at most, at one look
JOURNAL_PATIENCE = 30  # seconds for journalctl
GATHER = 0.8  # seconds for more lines once the first has come: one answer takes a round trip
PAUSE = 0.25  # seconds between two looks at files
FIELDS = "MESSAGE,PRIORITY,_COMM"
PRIVATE = os.path.join("releases", "*", "private.json")  # where secrets of releases are (adoption.record.PRIVATE_FILE)

Hide = Callable[[str], str]  # takes the secrets out of a line


@dataclass(frozen=True)
class Source:
    """Where a service's log is.

    Args:
        service: the service's name.
        folder: the service's folder.
        units: units whose journal it is.
        files: paths of log files, each with the numeric id of the user whose file it has to be (0 for anybody's).
        problem: why nothing can be read; '' otherwise.
    """

    service: str
    folder: str
    units: Sequence[str] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Source:
        """The source that `dataclasses.asdict` gave."""
        return cls(
            str(value["service"]),
            str(value["folder"]),
            tuple(value["units"]),
            dict(value["files"]),
            str(value["problem"]),
        )


@dataclass(frozen=True)
class Read:
    """What a look has found.

    Attributes:
        lines: oldest first, without secrets.
        cursor: where the next look goes on.
        left_out: how many older lines were too many.
        problem: what could not be read; '' where all could.
    """

    lines: Sequence[Line]
    cursor: dict[str, Any]
    left_out: int = 0
    problem: str = ""

    def as_dict(self, service: str) -> dict[str, Any]:
        """As JSON holds it."""
        lines = [line.as_dict() for line in self.lines]
        return {
            "service": service,
            "lines": lines,
            "cursor": self.cursor,
            "left_out": self.left_out,
            "problem": self.problem,
        }


def read(source: Source, cursor: Mapping[str, Any], wanted: Wanted, hide: Hide) -> Read:
    """What was logged since `cursor`; without one, the newest lines.

    Args:
        source: where.
        cursor: of the last look; empty at the first.
        wanted: which lines.
        hide: takes the secrets out of a line.
    """
    if source.problem:
        return Read((), dict(cursor), 0, source.problem)
    problems: list[str] = []
    now: dict[str, Any] = {"files": {}, "carried": {}}
    carried: Mapping[str, Any] = cursor.get("carried") or {}
    found: list[Line] = []
    if source.units:
        lines, now["journal"] = _journal(source.units, str(cursor.get("journal") or ""), wanted, problems)
        lines, last = understood(lines, Carried.from_dict(carried.get("journal")))
        now["carried"]["journal"] = last.as_dict()
        found += lines
    places: Mapping[str, Any] = cursor.get("files") or {}
    for path, owner in source.files.items():
        texts, now["files"][path] = read_file(path, owner, places.get(path), problems)
        lines, last = understood(map(Line, texts), Carried.from_dict(carried.get(path)))
        now["carried"][path] = last.as_dict()
        found += lines
    if len(source.files) + bool(source.units) > 1:
        found.sort(key=lambda line: line.time)
    clean = (Line(plain(hide(line.text)), line.time, line.level) for line in found)
    result = kept(clean, wanted)
    return Read(result.lines, now, result.left_out, "; ".join(problems))


def follow(
    orders: Sequence[Mapping[str, Any]], patience: float, hiding: Callable[[str], Hide] | None = None
) -> list[dict[str, Any]]:
    """Wait until one of several services logs something, at most so long, and read it.

    Args:
        orders: for each service its `source`, `cursor` and `wanted`, as JSON holds them.
        patience: seconds.
        hiding: for a service's folder, what takes its secrets out of a line. Without it, of a service with secrets
            nothing is read: the answer says `secrets`.
    """
    asked = [(Source.from_dict(one["source"]), one["cursor"], Wanted(**one["wanted"])) for one in orders]
    _await([source for source, _, _ in asked], [cursor for _, cursor, _ in asked], patience)
    found = []
    for source, cursor, wanted in asked:
        current = current_of(source.folder)  # before the look: a change during it is seen at the next one
        if hiding is None and has_secrets(source.folder):
            found.append({"service": source.service, "secrets": True, "current": current})
            continue
        hide = hiding(source.folder) if hiding else str
        found.append({**read(source, cursor, wanted, hide).as_dict(source.service), "current": current})
    return found


def has_secrets(folder: str) -> bool:
    """Whether any release that a service keeps has secrets."""
    return bool(glob.glob(os.path.join(glob.escape(folder), PRIVATE)))


def current_of(folder: str) -> str:
    """The release that a service's `current` names; '' for none. When it is another one, the log may be elsewhere."""
    try:
        return os.path.basename(os.readlink(os.path.join(folder, "current")))
    except OSError:
        return ""


def read_file(
    path: str, owner: int, place: Mapping[str, Any] | None, problems: list[str]
) -> tuple[list[str], dict[str, int]]:
    """The lines of a log file behind `place`, and the next place; across a rotation, and from the start of a new file.

    A log is rotated by renaming it, or by copying and emptying it: then it is the same file, and shorter than before.

    Args:
        path: of the file; the one before is PATH.1.
        owner: whose file it has to be; 0 for anybody's.
        place: `inode`, `offset` and `size` of the last look, and when PATH.1 was `rotated`, in nanoseconds; None at the
            first, which begins READ_BYTES before the end.
        problems: what could not be read is added here.
    """
    # In this order: a rotation meanwhile is seen now, or at the next look.
    rotated = _modified(f"{path}.1")
    stream = _opened(path, owner, problems)
    now = os.fstat(stream.fileno()) if stream is not None else None
    texts, emptied = _rest(f"{path}.1", owner, place, now) if place else ([], False)
    if stream is None or now is None:
        return texts, dict(place or {"inode": 0, "offset": 0, "size": 0, "rotated": rotated})
    with stream:
        same = place is not None and place["inode"] == now.st_ino and place["offset"] <= now.st_size and not emptied
        offset = int(place["offset"]) if place is not None and same else 0
        lines, end = _complete(stream, offset, now.st_size, whole=place is None)
        return texts + lines, {"inode": now.st_ino, "offset": end, "size": now.st_size, "rotated": rotated}


def _rest(path: str, owner: int, place: Mapping[str, Any], now: os.stat_result | None) -> tuple[list[str], bool]:
    """What was logged behind a place before the log was rotated, and whether it was emptied for that."""
    before = _opened(path, owner, [])
    if before is None:
        return [], False
    with before:
        found = os.fstat(before.fileno())
        renamed = found.st_ino == place["inode"] and (now is None or now.st_ino != found.st_ino)
        # A log that is as long as its copy is about to be emptied: what it holds is read from itself.
        emptied = now is not None and now.st_ino == place["inode"] and now.st_size < found.st_size
        copied = emptied and found.st_mtime_ns != place.get("rotated", 0)
        if not (renamed or copied) or found.st_size < place["offset"]:
            return [], False
        return _complete(before, place["offset"], found.st_size, whole=True)[0], copied


def _modified(path: str) -> int:
    """When a file was written to last, in nanoseconds; 0 where there is none."""
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def _complete(stream: Any, offset: int, size: int, whole: bool) -> tuple[list[str], int]:
    """The lines between two places, and where the last whole one ends.

    Args:
        whole: take a last line that has no end yet, too.
    """
    start = max(offset, size - READ_BYTES)
    stream.seek(start)
    data: bytes = stream.read(size - start)
    if start > offset:  # in the middle of a line
        cut = data.find(b"\n") + 1
        start, data = start + cut, data[cut:]
    if not whole and len(data) < MOST:
        data = data[: data.rfind(b"\n") + 1]
    text = data.decode(errors="replace")
    return text.split("\n")[: None if text and not text.endswith("\n") else -1], start + len(data)


def _opened(path: str, owner: int, problems: list[str]) -> Any:
    """A log file; None where it is no plain file of its user's, who could point root at another's by it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.append(f"{path}: {error.strerror or error}")
        return None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or (owner and found.st_uid != owner):
        os.close(descriptor)
        problems.append(f"{path} is no plain file of the user who runs the service: it is not read")
        return None
    return os.fdopen(descriptor, "rb")


def _journal(units: Sequence[str], cursor: str, wanted: Wanted, problems: list[str]) -> tuple[list[Line], str]:
    """The lines of units behind a cursor, or the newest ones, and the next cursor."""
    if cursor:
        rows = _output([*_journalctl(units), f"--lines={READ_LINES}", f"--after-cursor={cursor}"], problems)
        lines, last = entries(rows)
        return lines, last or cursor
    unfiltered = wanted.lines and not wanted.holding and wanted.level == INFO
    most = wanted.lines if unfiltered else READ_LINES
    since = [f"--since=@{int(wanted.since)}"] if wanted.since else []
    # Newest first: with --since, journalctl counts --lines from there otherwise.
    rows = _output([*_journalctl(units), "--reverse", f"--lines={most}", *since], problems)
    if not unfiltered and len(rows) >= READ_LINES:
        problems.append(f"only the newest {READ_LINES:,} lines were looked at")
    lines, last = entries(reversed(rows))
    if not last:  # nothing yet: what comes from now on
        last = entries(_output([*_journalctl(()), "--lines=1"], []))[1]
    return lines, last


def entries(rows: Iterable[str]) -> tuple[list[Line], str]:
    """The lines that entries of `journalctl --output=json` hold, and the last one's cursor."""
    found, cursor = [], ""
    for row in rows:
        try:
            entry = json.loads(row)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict):
            continue
        cursor = str(entry.get("__CURSOR") or cursor)
        message = entry.get("MESSAGE")
        if isinstance(message, list):  # bytes, where it is no UTF-8 or holds control characters
            with contextlib.suppress(TypeError, ValueError):
                message = bytes(message).decode(errors="replace")
        stamp = str(entry.get("__REALTIME_TIMESTAMP") or "0")
        when = int(stamp) / 1e6 if stamp.isdigit() else 0.0
        # A service's own lines all have the same priority; systemd says by it what failed.
        level = SYSLOG.get(str(entry.get("PRIORITY")), "") if entry.get("_COMM") == "systemd" else ""
        found += [Line(text, when, level) for text in str(message or "").split("\n")]
    return found, cursor


def _journalctl(units: Sequence[str]) -> list[str]:
    command = ["journalctl", "--no-pager", "--quiet", "--all", "--output=json", f"--output-fields={FIELDS}"]
    return command + [f"--unit={unit}" for unit in units]


def _output(command: Sequence[str], problems: list[str]) -> list[str]:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=JOURNAL_PATIENCE, check=False
        )
    except FileNotFoundError:
        problems.append("journalctl is not on this host")
        return []
    except subprocess.TimeoutExpired:
        problems.append(f"journalctl did not answer within {JOURNAL_PATIENCE} s")
        return []
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        problems.append(f"journalctl failed: {said[-1] if said else f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace").splitlines()


def _await(sources: Sequence[Source], cursors: Sequence[Mapping[str, Any]], patience: float) -> None:
    """Wait until there is something new, and a moment for what comes with it."""
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        journals = [
            stack.enter_context(_waiting(source.units, str(cursor["journal"])))
            for source, cursor in zip(sources, cursors)
            if source.units and cursor.get("journal")
        ]
        while (left := deadline - time.monotonic()) > 0:
            readable, _, _ = select.select(journals, [], [], min(PAUSE, left))
            if readable or any(_grown(source, cursor) for source, cursor in zip(sources, cursors)):
                time.sleep(min(GATHER, max(0.0, deadline - time.monotonic())))
                return


def _grown(source: Source, cursor: Mapping[str, Any]) -> bool:
    """Whether a file of a source is another one or of another size than at the last look."""
    places: Mapping[str, Any] = cursor.get("files") or {}
    for path in source.files:
        with contextlib.suppress(OSError):
            found, place = os.stat(path), places.get(path) or {}
            if (found.st_ino, found.st_size) != (place.get("inode"), place.get("size")):
                return True
    return False


@contextlib.contextmanager
def _waiting(units: Sequence[str], cursor: str) -> Iterator[int]:
    """A descriptor that is readable once units have logged something behind a cursor, or nobody can tell."""
    command = [*_journalctl(units), "--follow", "--no-tail", f"--after-cursor={cursor}"]
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        nothing, end = os.pipe()
        os.close(end)
        try:
            time.sleep(PAUSE)
            yield nothing
        finally:
            os.close(nothing)
        return
    assert process.stdout is not None
    try:
        yield process.stdout.fileno()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
