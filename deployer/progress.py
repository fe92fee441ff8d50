"""How far a download is, or other work on files: what it tells, and the ways to show it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

PERCENT_PER_LINE = 10
LEAST_SECONDS = 1.0  # between two lines, however fast it goes
SECONDS_PER_LINE = 10.0


class Progress(Protocol):
    """Told how the work goes. Any thread may call it."""

    def line(self, text: str) -> None:
        """A step begins or has ended."""

    def total(self, files: int, size: int) -> None:
        """So many files and bytes there are, 0 files where bytes alone count; said again when more is known."""

    def advance(self, size: int) -> None:
        """So many bytes more are done; negative when some have to be done again."""

    def done(self, file: str) -> None:
        """A file is done, verified."""


class Silent:
    """Shows nothing."""

    def line(self, text: str) -> None: ...

    def total(self, files: int, size: int) -> None: ...

    def advance(self, size: int) -> None: ...

    def done(self, file: str) -> None: ...


class PlainLines:
    """For a log: a line every 10 %, and every 10 seconds; not more than one a second, but always the last.

    Args:
        say: takes a line.
        done: what is being done, in the past tense.
    """

    def __init__(self, say: Callable[[str], None], done: str = "fetched") -> None:
        self._say = say
        self._verb = done
        self._lock = threading.Lock()
        self._started = self._said = time.monotonic()
        self._files = self._size = self._files_done = self._size_done = self._percent = 0

    def line(self, text: str) -> None:
        """Say it."""
        with self._lock:
            self._say(text)

    def total(self, files: int, size: int) -> None:
        """Begin to count, or correct the total."""
        with self._lock:
            if files != self._files:
                self._started = self._said = time.monotonic()
            self._files, self._size = files, size

    def advance(self, size: int) -> None:
        """Count bytes."""
        with self._lock:
            self._size_done += size
            self._say_when_due()

    def done(self, file: str) -> None:
        """Count a file; the last one is always said."""
        with self._lock:
            self._files_done += 1
            self._say_when_due()

    def _say_when_due(self) -> None:
        # What lags behind counts: sizes may be known of some files only.
        shares = [self._files_done / self._files] if self._files else []
        shares += [self._size_done / self._size] if self._size else []
        complete = self._files_done == self._files if self._files else self._size_done >= self._size
        percent = 100 if complete else int(99 * min([1.0, *shares]))
        now = time.monotonic()
        enough = percent >= self._percent + PERCENT_PER_LINE and now >= self._said + LEAST_SECONDS
        if not enough and percent < 100 and now < self._said + SECONDS_PER_LINE:
            return
        self._percent, self._said = percent - percent % PERCENT_PER_LINE, now
        rate = decimal(int(self._size_done / max(now - self._started, 0.001)))
        size = decimal(self._size_done) + (f" of {decimal(self._size)}" if self._size else "")
        files = f"{self._files_done} of {self._files} files, " if self._files else ""
        self._say(f"{self._verb} {files}{size}, {rate}/s")


class Bar:
    """For a terminal: a bar with bytes, rate and files, drawn by rich while a download runs."""

    def __init__(self, console: Console) -> None:
        self._rich = RichProgress(
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counted]}"),
            console=console,
        )
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._files = self._done = 0

    def line(self, text: str) -> None:
        """Print it above the bar."""
        self._rich.console.print(escape(text), highlight=False, soft_wrap=True)

    def total(self, files: int, size: int) -> None:
        """Show the bar, or correct its total."""
        with self._lock:
            self._files = files
            if self._task is None:
                self._task = self._rich.add_task("", total=size, counted="")
                self._rich.start()
            self._rich.update(self._task, total=size, counted=self._counted())

    def advance(self, size: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._rich.update(self._task, advance=size)

    def done(self, file: str) -> None:
        """Count a file; after the last one the bar stays as it is, above what is said next."""
        with self._lock:
            self._done += 1
            if self._task is not None:
                self._rich.update(self._task, counted=self._counted())
                if self._done == self._files:
                    self._rich.stop()

    def _counted(self) -> str:
        return f"{self._done} of {self._files} files" if self._files else ""

    def stop(self) -> None:
        """Leave the bar as it is."""
        self._rich.stop()


@contextmanager
def shown(console: Console, done: str = "fetched") -> Iterator[Progress]:
    """A bar on a terminal, lines elsewhere.

    Args:
        console: to show it on.
        done: what is being done, in the past tense, for lines.
    """
    if not console.is_terminal:
        yield PlainLines(lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True), done)
        return
    bar = Bar(console)
    try:
        yield bar
    finally:
        bar.stop()


def as_progress(progress: Progress | Callable[[str], None]) -> Progress:
    """`progress` itself, or lines to it where it is a function that takes a line."""
    return PlainLines(progress) if callable(progress) else progress


def by_bytes(progress: Progress) -> Callable[[int, int], None]:
    """What tells `progress` of work that is known by its bytes: called with those done so far, and all."""
    done_before: int | None = None

    def on_progress(done: int, total: int) -> None:
        nonlocal done_before
        if done_before is None:
            progress.total(0, total)
        progress.advance(done - (done_before or 0))
        done_before = done

    return on_progress
