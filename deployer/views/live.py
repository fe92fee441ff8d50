"""For a terminal: a line a host that moves while it is worked on, and above it what has to be read at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from deployer.runs.events import Event
from deployer.runs.expected import Expected
from deployer.runs.watch import planned_summary
from deployer.views.board import ACTIVE, DONE, LOST, STAGES, WAITING, Board, HostLine, Progress, to_show
from deployer.views.console import OUTCOME_STYLE
from deployer.views.lines import SERVING_STYLE, is_urgent, lines_of
from deployer.views.plan import plan_lines, print_lines

REFRESHES = 4  # a second
OWN_LINES = 4  # of the region that are no host's
NARROW = 110  # columns below which a host's line says less
WIDEST = 140  # columns of a host's line: the eye loses a longer one
STATUS_STYLE = {WAITING: "dim", ACTIVE: "default", DONE: "green", LOST: "red"}


class LiveView:
    """Shows a run while it is entered.

    Args:
        console: a terminal.
        verbose: print every line that a log would have.
        expected: how long phases took before.
        clock: seconds that no change of the time of day disturbs.
    """

    name = "the terminal"

    def __init__(
        self,
        console: Console,
        verbose: bool = False,
        expected: Expected | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._verbose = verbose
        self._expected = expected or Expected()
        self._clock = clock
        self._board = Board(began=clock())
        self._lock = threading.Lock()
        self._live = self._region()

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Without the region, for a question and its answer."""
        self._live.stop()
        try:
            yield
        finally:
            self._live = self._region()  # one that was stopped would begin where it stood, over what was said since
            self._live.start()

    def _region(self) -> Live:
        return Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=REFRESHES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __call__(self, event: Event) -> None:
        """Show one event.

        Raises:
            OSError: the terminal is gone.
        """
        with self._lock:
            self._board = self._board.after(event, self._clock())
        if event.kind == "plan":
            print_lines(self._console, plan_lines(planned_summary(event.data["hosts"])))
        if is_urgent(event) or self._verbose:
            for line in lines_of(event, self._verbose):
                self._console.print(line, highlight=False)

    def _drawn(self) -> RenderableType:
        with self._lock:
            board = self._board
        return drawn(board, self._console.width, self._console.height, self._clock(), self._expected)


def drawn(board: Board, width: int, height: int, now: float, expected: Expected | None = None) -> RenderableType:
    """The region.

    Args:
        board: what every host is at.
        width: of the terminal, in columns.
        height: of the terminal, in lines.
        now: by the clock that the board was made with.
        expected: how long phases took before.
    """
    shown, rest = to_show(board, max(1, height - OWN_LINES))
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0), width=min(width, WIDEST))
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=18 if width < NARROW else 40)
    table.add_column(no_wrap=True, overflow="ellipsis", min_width=11, max_width=16)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right", min_width=6)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=22 if width < NARROW else 48)
    for host in shown:
        table.add_row(*_row(host, width, now, expected or Expected()))
    lines: list[RenderableType] = [_head(board, now), table]
    if rest:
        lines.append(Text(f"and {len(rest)} more: {_counts(rest)}", style="dim"))
    if board.interrupted:
        word = "no further batch is begun; Ctrl-C again leaves now" if board.interrupted == 1 else "leaving"
        lines.append(Text(f"interrupted: {word}", style="yellow", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _head(board: Board, now: float) -> Text:
    """What is done, in which batch, how many hosts are done, what is under way, and for how long."""
    verb = ("restoring all" if board.restoring else board.verb) + (" --check" if board.check else "")
    parts = [verb, clock_text(now - board.began)]
    number, of = board.batch
    parts += [f"batch {number} of {of}"] if number else []
    counts = {status: board.count(status) for status in (DONE, LOST)}
    parts += [f"{count} of {len(board.hosts)} {status}" for status, count in counts.items() if count]
    parts += [f"{board.later} later"] if board.later else []
    head = Text(" · ".join(parts), style="bold", no_wrap=True, overflow="ellipsis")
    if board.task:
        head.append(f" · {printable(board.task)}", style="not bold dim")
    return head


def _counts(hosts: Sequence[HostLine]) -> str:
    found = {status: sum(host.status == status for host in hosts) for status in (ACTIVE, LOST, WAITING, DONE)}
    return ", ".join(f"{count} {status}" for status, count in found.items() if count)


def _row(host: HostLine, width: int, now: float, expected: Expected) -> list[RenderableType]:
    style = STATUS_STYLE[host.status]
    word = host.phase if host.status in (ACTIVE, LOST) else host.phase if host.outcome == "" else "cutover"
    took = clock_text(now - host.since) if host.status == ACTIVE else ""
    length = host.expected if host.phase not in STAGES else expected.phase(host.name, host.phase)
    if took and length:
        took += f"/{clock_text(length)}"
    return [
        Text(printable(host.name), style="bold"),
        Text(printable(word), style=style),
        _middle(host, width),
        Text(took, style="dim"),
        _clients(host),
    ]


def _middle(host: HostLine, width: int) -> RenderableType:
    """How far it is, or what it came to."""
    if host.status in (LOST, DONE):
        return Text(printable(host.outcome), style=OUTCOME_STYLE.get(host.outcome, STATUS_STYLE[host.status]))
    progress = host.progress
    if progress is None or host.status != ACTIVE:
        return Text("")
    if not progress.total:
        return Text(printable(progress.text or _amount(progress, width)), style="cyan")
    bar = Table.grid(padding=(0, 1, 0, 0), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(ProgressBar(progress.total, min(progress.done, progress.total)), Text(_amount(progress, width)))
    return bar


def _amount(progress: Progress, width: int) -> str:
    if progress.unit == "bytes":
        parts = [decimal(int(progress.done))] + ([f"of {decimal(int(progress.total))}"] if progress.total else [])
        if progress.rate and width >= NARROW:
            left = (progress.total - progress.done) / progress.rate
            parts += [f"{decimal(int(progress.rate))}/s"] + ([f"{clock_text(left)} left"] if left > 0 else [])
        elif width < NARROW and progress.total:
            return f"{100 * progress.done / progress.total:.0f}% of {decimal(int(progress.total))}"
        return " ".join(parts)
    return (
        f"{progress.done:.0f}"
        + (f" of {progress.total:.0f}" if progress.total else "")
        + f" {printable(progress.unit)}"
    )


def _clients(host: HostLine) -> Text:
    """What a client of each service is answered by."""
    text = Text()
    for service, serving in host.serving.items():
        if text:
            text.append(" ")
        name = printable(service) if len(host.serving) > 1 else "serves"
        text.append(f"{name} ", style="dim")
        text.append(serving, style=SERVING_STYLE.get(serving, "yellow"))
    return text


def clock_text(seconds: float) -> str:
    """A duration as 0:07, 12:34 or 1:02:03."""
    whole = max(0, int(seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def printable(text: str) -> str:
    """A host's text without what would move the cursor."""
    return "".join(char if char.isprintable() else "?" for char in text)
