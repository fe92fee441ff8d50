"""docs/migration.md shows commands that the command line takes, and its Chinese version the same ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from deployer.cli.main import app
from deployer.migration.steps import STEPS as OF_A_MIGRATION
from tests.documented.blocks import Command, read
from tests.documented.lab import STEPS

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, CHINESE = ((DOCS / name).read_text() for name in ("migration.md", "zh/migration.md"))


@pytest.mark.parametrize(
    "command", [one for one in read(ENGLISH) if isinstance(one, Command)], ids=lambda one: one.line
)
def test_a_command_of_the_page_is_one_that_the_command_line_takes(command: Command) -> None:
    words = shlex.split(command.line)
    assert words[:3] == ["python", "-m", "deployer"]
    command_line = typer.main.get_command(app).commands[words[3]]  # type: ignore[attr-defined]
    command_line.make_context(words[3], words[4:])


def test_the_chinese_page_has_the_same_commands_headings_and_tables() -> None:
    assert list(read(CHINESE)) == list(read(ENGLISH))
    for mark in (r"^#+ ", r"^\| ", r"^- "):
        assert len(re.findall(mark, CHINESE, re.MULTILINE)) == len(re.findall(mark, ENGLISH, re.MULTILINE)), mark


def test_every_step_has_a_row_on_both_pages_and_what_is_done_to_the_lab_is_known() -> None:
    for page in (ENGLISH, CHINESE):
        assert re.findall(r"^\| `(\w+)` \| \S", page, re.MULTILINE)[: len(OF_A_MIGRATION)] == [
            one.name for one in OF_A_MIGRATION
        ]
    assert {one.name for one in read(ENGLISH) if not isinstance(one, Command)} <= set(STEPS)
