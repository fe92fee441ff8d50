"""Does what a page says, in its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.documented.blocks import Command, File, Step, read


class Typing(Protocol):
    """Where commands are typed."""

    def run(self, line: str) -> Command:
        """Type a command, and see what it prints."""


class Stage(Protocol):
    """Where a page is played."""

    @property
    def terminal(self) -> Typing:
        """Where its commands are typed now."""

    def play(self, step: str) -> None:
        """Do a step of the page."""

    def write(self, file: File) -> None:
        """Write a file that the page shows."""


def replay(page: str, on: Stage, note: Callable[[str], None]) -> list[Command]:
    """Do all that a page does.

    Args:
        page: its text, or that of a section.
        on: where.
        note: told what is about to be done.
    Returns:
        The commands whose output the page shows, with what they printed now, in the page's order.
    Raises:
        AssertionError: another command ended otherwise than the page says.
    """
    done: list[Command] = []
    for one in read(page):
        if isinstance(one, Step):
            note(f"lab: {one.name}")
            on.play(one.name)
        elif isinstance(one, File):
            note(f"file: {one.path}")
            on.write(one)
        else:
            note(f"$ {one.line}")
            now = on.terminal.run(one.line)
            note(f"{now.output}\n[exit code {now.status}]")
            if one.shown:
                done.append(now)
            else:
                assert now.status == one.status, f"$ {one.line}\n{now.output}\n[exit code {now.status}]"
    return done
