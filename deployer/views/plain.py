"""For a log: a line when something happens, and one now and then while something takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from deployer.runs.events import Event
from deployer.runs.watch import CUTOVER_PHASE, planned_summary
from deployer.views.console import shown
from deployer.views.lines import lines_of
from deployer.views.plan import plan_lines, print_lines

PROGRESS_EVERY = 10.0  # seconds, of each host


class PlainView:
    """Prints events.

    Args:
        console: where to.
        verbose: what changed nothing, too.
        clock: seconds, for what is not said too often.
    """

    name = "the output"

    def __init__(self, console: Console, verbose: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._verbose = verbose
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def __call__(self, event: Event) -> None:
        """Print one.

        Raises:
            OSError: nobody reads it any more.
        """
        if event.kind == "plan":
            print_lines(self._console, plan_lines(planned_summary(event.data["hosts"])))
        elif event.kind == "progress":
            self._progress(event)
        for line in lines_of(event, self._verbose):
            self._console.print(line, highlight=False, soft_wrap=True)

    def _progress(self, event: Event) -> None:
        """How far an engine loads; of transfers, a line for the whole fleet is said anyway."""
        data = event.data
        host, now = (str(data["host"]), str(data["service"])), self._clock()
        if (
            data["phase"] == CUTOVER_PHASE
            and data["text"]
            and now - self._said.get(host, -PROGRESS_EVERY) >= PROGRESS_EVERY
        ):
            self._said[host] = now
            line = f"  [cyan]{shown(data['host'])} {shown(data['text'])}[/]"
            self._console.print(line, highlight=False, soft_wrap=True)
