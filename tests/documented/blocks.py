"""A page whose ```console blocks show commands and what they print: read, and written anew."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FENCE = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^<!-- lab: (?P<step>[a-z ]+) -->$", re.MULTILINE)
PROMPT = "$ "
EXIT = re.compile(r"^\[exit code (\d+)\]$")


@dataclass(frozen=True)
class Command:
    """One command of a page and what the page says it prints.

    Args:
        line: as it is typed.
        output: what is printed.
        status: its exit code.
    """

    line: str
    output: str = ""
    status: int = 0

    @property
    def text(self) -> str:
        """As it stands in a block."""
        lines = [PROMPT + self.line, *self.output.rstrip().splitlines()]
        return "\n".join([*lines, *([f"[exit code {self.status}]"] if self.status else [])]) + "\n"


@dataclass(frozen=True)
class Step:
    """What is done to the lab between two commands: `<!-- lab: NAME -->`."""

    name: str


def read(page: str) -> Iterator[Command | Step]:
    """The steps and commands of a page, in its order."""
    for found in sorted([*FENCE.finditer(page), *STEP.finditer(page)], key=lambda one: one.start()):
        if found.re is STEP:
            yield Step(found["step"])
        else:
            yield from _commands(found["body"])


def written(page: str, done: Sequence[Command]) -> str:
    """The page with what the commands have printed.

    Args:
        page: with commands, whatever it says they print.
        done: all of them with what they printed, in the page's order.
    """
    rest = iter(done)

    def block(found: re.Match[str]) -> str:
        texts = [next(rest).text for _ in _commands(found["body"])]
        return f"```console\n{''.join(texts)}```"

    return FENCE.sub(block, page)


def _commands(body: str) -> Iterator[Command]:
    line, output = "", list[str]()
    for one in [*body.splitlines(), PROMPT]:
        if not one.startswith(PROMPT):
            output.append(one)
            continue
        if line:
            yield _command(line, output)
        line, output = one[len(PROMPT) :], []


def _command(line: str, output: list[str]) -> Command:
    status = EXIT.match(output[-1]) if output else None
    return Command(line, "\n".join(output[:-1] if status else output), int(status[1]) if status else 0)
