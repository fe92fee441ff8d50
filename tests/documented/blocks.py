"""The pages that are run: their commands, the files that they show, and what is done to the lab in between.

<!-- stage: NAME -->        before the commands of a section: the hosts that they are typed for
<!-- lab: NAME -->          what else is done there
```console                  commands with what they print; written anew by `make docs-output`
```sh                       commands alone, one a line: each exits with 0, or as `# exit code N` at its end says
<!-- file: PATH -->         the ```yaml block that follows becomes that file
<!-- into: PATH -->         the ```yaml block that follows changes that file
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FENCE = re.compile(r"^```console\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^<!-- (?P<how>file|into): (?P<path>\S+) -->\n```yaml\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^<!-- lab: (?P<step>[a-z ]+) -->$", re.MULTILINE)
STAGE = re.compile(r"^<!-- stage: (?P<stage>[a-z ]+) -->$", re.MULTILINE)
SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
PROMPT = "$ "
EXIT = re.compile(r"^\[exit code (\d+)\]$")
SHELL_EXIT = re.compile(r"\s+# exit code (\d+)$")


@dataclass(frozen=True)
class Command:
    """One command of a page and what the page says it prints.

    Args:
        line: as it is typed.
        output: what is printed.
        status: its exit code.
        shown: whether the page shows what it prints.
    """

    line: str
    output: str = ""
    status: int = 0
    shown: bool = True

    @property
    def text(self) -> str:
        """As it stands in a block."""
        lines = [PROMPT + self.line, *self.output.rstrip().splitlines()]
        return "\n".join([*lines, *([f"[exit code {self.status}]"] if self.status else [])]) + "\n"


@dataclass(frozen=True)
class Step:
    """What is done to the lab between two commands: `<!-- lab: NAME -->`."""

    name: str


@dataclass(frozen=True)
class File:
    """A file that the page shows.

    Args:
        path: relative to the folder of the commands.
        text: YAML.
        whole: False where it is only what changes in the file.
    """

    path: str
    text: str
    whole: bool


@dataclass(frozen=True)
class Section:
    """What stands below a `## ` of a page.

    Args:
        title: of the section.
        text: of it.
        stage: the hosts that its commands are typed for; '' where it says none.
    """

    title: str
    text: str
    stage: str


def read(page: str) -> Iterator[Command | Step | File]:
    """The steps, commands and files of a page, in its order."""
    found = [one for pattern in (FENCE, SHELL, FILE, STEP) for one in pattern.finditer(page)]
    for one in sorted(found, key=lambda one: one.start()):
        if one.re is STEP:
            yield Step(one["step"])
        elif one.re is FILE:
            yield File(one["path"], one["body"], one["how"] == "file")
        elif one.re is SHELL:
            yield from _typed(one["body"])
        else:
            yield from _commands(one["body"])


def sections(page: str) -> Iterator[Section]:
    """The sections of a page, in its order."""
    begins = [*SECTION.finditer(page)]
    ends = [*(one.start() for one in begins[1:]), len(page)]
    for one, end in zip(begins, ends, strict=True):
        text = page[one.start() : end]
        stage = STAGE.search(text)
        yield Section(one["title"], text, stage["stage"] if stage else "")


def written(page: str, done: Sequence[Command]) -> str:
    """The page with what the commands have printed.

    Args:
        page: with commands, whatever it says they print.
        done: all of those whose output it shows with what they printed, in the page's order.
    """
    rest = iter(done)

    def block(found: re.Match[str]) -> str:
        texts = [next(rest).text for _ in _commands(found["body"])]
        return f"```console\n{''.join(texts)}```"

    return FENCE.sub(block, page)


def _typed(body: str) -> Iterator[Command]:
    """The lines of an ```sh block; one that ends with a backslash goes on in the next."""
    for line in re.sub(r"\\\n\s*", "", body).splitlines():
        if line and not line.startswith("#"):
            status = SHELL_EXIT.search(line)
            yield Command(SHELL_EXIT.sub("", line), status=int(status[1]) if status else 0, shown=False)


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
