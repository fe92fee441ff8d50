"""Pages are read, played and written; docs/commands.md shows every command, each as the command line takes it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from deployer.cli.main import app
from tests.documented.blocks import Command, File, Section, Step, read, sections, written
from tests.documented.files import merged, without_gpus
from tests.documented.lab import STEPS
from tests.documented.replay import replay
from tests.documented.structure import structure

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
PYTHON = ["python", "-m", "deployer"]

TEXT = """# Page
<!-- lab: do something -->
```console
$ one --option
printed
  more

$ two
[exit code 3]
```
prose
```python
$ no command
```
"""

SECTIONS = """# Page
## One
<!-- stage: two hosts -->
<!-- file: fleet/hosts.yml -->
```yaml
all: {}
```
```sh
# nothing but this
one --option \\
  --other
two  # exit code 3
```
<!-- into: fleet/hosts.yml -->
```yaml
more: {}
```
## Two
"""


class Stage:
    """Notes what is done; every command prints its line and ends with 0."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.terminal = self

    def run(self, line: str) -> Command:
        self.done.append(line)
        return Command(line, line, 0)

    def play(self, step: str) -> None:
        self.done.append(step)

    def write(self, file: File) -> None:
        self.done.append(file.path)


def commands() -> list[Command]:
    """Of the page."""
    return [one for one in read(PAGE.read_text()) if isinstance(one, Command)]


def test_a_page_is_read_in_its_order():
    step, one, two = read(TEXT)

    assert step == Step("do something")
    assert (one.line, one.output.rstrip(), one.status) == ("one --option", "printed\n  more", 0)
    assert two == Command("two", "", 3)


def test_a_section_is_read_with_its_stage_its_files_and_commands_that_show_no_output():
    one, two = sections(SECTIONS)

    assert (one.title, one.stage, two) == ("One", "two hosts", Section("Two", "## Two\n", ""))
    assert [*read(one.text)] == [
        File("fleet/hosts.yml", "all: {}\n", whole=True),
        Command("one --option --other", shown=False),
        Command("two", status=3, shown=False),
        File("fleet/hosts.yml", "more: {}\n", whole=False),
    ]


def test_a_page_is_played_in_its_order_and_gives_what_it_shows():
    on = Stage()

    done = replay(TEXT, on, print)

    assert on.done == ["do something", "one --option", "two"]
    assert [one.output for one in done] == ["one --option", "two"]


def test_a_command_without_output_that_ends_otherwise_than_the_page_says_fails():
    with pytest.raises(AssertionError, match="two"):
        replay(SECTIONS, Stage(), print)


def test_a_change_of_a_file_is_merged_by_key_and_by_name():
    base = {"a": {"b": 1, "c": [1]}, "services": [{"name": "x", "port": 1}, {"name": "y"}]}
    change = {"a": {"c": [2]}, "services": [{"name": "x", "port": 2}, {"name": "z"}]}

    services = [{"name": "x", "port": 2}, {"name": "y"}, {"name": "z"}]
    assert merged(base, change) == {"a": {"b": 1, "c": [2]}, "services": services}


def test_a_description_for_gpus_is_one_for_hosts_without_them():
    described = {"inference_services": [{"name": "x", "gpus": [6], "options": {"tensor_parallel_size": 2, "a": 1}}]}

    (service,) = without_gpus(described, {"options": {"device": "cpu"}})["inference_services"]

    assert service == {"name": "x", "gpus": [], "options": {"a": 1, "device": "cpu"}}
    assert without_gpus({"inference_root": "/srv"}, {}) == {"inference_root": "/srv"}


def test_a_page_is_written_with_what_was_printed_and_nothing_else_changes():
    done = [Command("one --option", "new\n"), Command("two", "failed\n", 1)]

    page = written(TEXT, done)

    assert "$ one --option\nnew\n$ two\nfailed\n[exit code 1]\n```\nprose" in page
    assert page.startswith("# Page\n<!-- lab: do something -->\n") and "$ no command" in page


def test_what_was_printed_at_another_time_has_the_same_structure():
    assert structure("gpu1  up 12 s  3f9a1c07b2de\n") == structure("gpu1    up 1,204 s   0f9a1c07b2d1")
    assert structure("gpu1 committed (stop 0.6 s gate 19 s)\nx") == structure("x\ngpu1 committed (gate 2.5 s)")
    assert structure("gpu1 serving") != structure("gpu1 failing")
    assert structure("gpu1 s: gate, nothing serves, 2 s\n  gpu1 [2026-11-29 07:55:46] Prefill batch") == []


def test_every_step_of_the_page_is_known():
    assert {one.name for one in read(PAGE.read_text()) if isinstance(one, Step)} <= set(STEPS)


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.line)
def test_a_documented_command_is_one_that_the_command_line_takes(command):
    words = shlex.split(command.line)
    if words[:3] != PYTHON:
        return
    group, words = typer.main.get_command(app), words[3:]
    while isinstance(group, TyperGroup):
        if words[0] not in group.commands and group.name == "lock":  # `lock NAME` is `lock environment NAME`
            words = ["environment", *words]
        assert words[0] in group.commands, f"there is no {words[0]}"
        group, words = group.commands[words[0]], words[1:]
    if "--help" not in words:
        group.make_context(group.name, list(words))  # parses, and runs nothing


def test_an_option_that_there_is_not_is_none_that_the_command_line_takes():
    with pytest.raises(Exception, match="--no-such-option"):
        typer.main.get_command(app).commands["plan"].make_context("plan", ["--no-such-option"])


def test_every_command_is_documented():
    group = typer.main.get_command(app)
    shown = {shlex.split(command.line)[3] for command in commands() if shlex.split(command.line)[:3] == PYTHON}

    assert set(group.commands) <= shown
