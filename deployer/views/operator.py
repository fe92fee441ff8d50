"""Asks the one who sits at the terminal: whether the plan is carried out, and whether a batch is begun."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from rich import box
from rich.console import Console
from rich.table import Table

from deployer.runs.interrupts import Interrupts
from deployer.runs.questions import INTERRUPTED, Message
from deployer.runs.results import Summary
from deployer.views.console import OUTCOME_STYLE, shown

YES = ("y", "yes")


class TerminalOperator:
    """Somebody at a terminal.

    Args:
        console: for what they are asked.
        asks_first: whether they are to agree to the plan before anything is changed.
        paused: while it is entered, nothing else draws on the terminal.
    """

    has_terminal = True

    def __init__(
        self,
        console: Console,
        asks_first: bool,
        paused: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._console = console
        self._asks_first = asks_first
        self._paused = paused

    @property
    def asks_first(self) -> bool:
        """Whether they are to agree to the plan before anything is changed."""
        return self._asks_first

    def agrees(self, foreseen: Summary, interrupts: Interrupts) -> bool:
        """Whether they say yes to what is foreseen; the plan itself they have been shown."""
        with self._paused():
            if foreseen.outcomes:
                self._console.print(foreseen_table(foreseen))
            return self.says_yes(interrupts)

    def says_yes(self, interrupts: Interrupts) -> bool:
        """Whether they say yes to what they have been shown."""
        return self._typed("Go on? \\[yes/no] ", interrupts) in YES

    def confirms(self, question: Message, interrupts: Interrupts) -> str:
        """Why the batch may not be begun; '' where it may."""
        with self._paused():
            typed = self._typed("  begin it? \\[yes/no] ", interrupts)
        if typed is None:
            return INTERRUPTED
        return "" if typed in YES else "it was not confirmed"

    def _typed(self, question: str, interrupts: Interrupts) -> str | None:
        """A line that is typed after the question was asked, in lower case; None where an end was asked for instead."""
        descriptor = sys.stdin.fileno()
        termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        self._console.print(question, end="", style="bold")
        typed = ""
        while not typed.endswith("\n"):
            readable, _, _ = select.select([interrupts.descriptor, descriptor], [], [])
            if interrupts.descriptor in readable:
                self._console.print()
                return None
            got = os.read(descriptor, 1024).decode(errors="replace")
            if not got:
                break
            typed += got
        return typed.strip().lower()


def foreseen_table(foreseen: Summary) -> Table:
    """What check mode says of every service: what serves now, and what would."""
    table = Table(title="What would be done", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("host", "service", "serves now", "would serve", "outcome"):
        table.add_column(column, overflow="fold")
    for name, host in foreseen.hosts.items():
        for one in host.cutovers:
            outcome = str(one["outcome"])
            engines = one.get("engines") or {}
            ids = [str(one.get(key) or "none") for key in ("before", "after")]
            releases = [shown(" ".join(filter(None, (str(engines.get(id) or ""), id)))) for id in ids]
            style = OUTCOME_STYLE.get(outcome, "red")
            service = shown(one.get("service") or "")
            table.add_row(f"[bold]{shown(name)}[/]", service, *releases, f"[{style}]{shown(outcome)}[/]")
    return table
