"""What the documentation names exists, and a translation has the same commands as its original."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from deployer.cli.main import app
from tests.documented.blocks import Command, File, Step, read, sections
from tests.documented.guide import STAGES
from tests.documented.pages import blocks, deployer_commands, headings, links, make_targets, markers, playbooks

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "guide.md"
PAGES = [*REPOSITORY.glob("README*.md"), *sorted((REPOSITORY / "docs").rglob("*.md"))]
CHINESE = sorted((REPOSITORY / "docs" / "zh").glob("*.md"))
PLACEHOLDER = re.compile(r"[A-Z]+|…")  # VERB, in a sentence about all of them


def mistakes(words: list[str]) -> list[str]:
    """What of a command the command line does not have."""
    command, rest = typer.main.get_command(app), words
    while isinstance(command, TyperGroup):
        options = {name for one in command.params for name in one.opts}
        if not rest or rest[0] in options or PLACEHOLDER.fullmatch(rest[0]):
            return []
        if rest[0] not in command.commands and command.name == "lock":  # `lock NAME` is `lock environment NAME`
            rest = ["environment", *rest]
        if rest[0] not in command.commands:
            return [rest[0]]
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_a_page_names_exists(path: Path) -> None:
    page = path.read_text()
    wrong = {" ".join(words): found for words in deployer_commands(page) if (found := mistakes(words))}
    assert wrong == {}
    assert {name for name in playbooks(page) if not (REPOSITORY / "playbooks" / f"{name}.yml").is_file()} == set()
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(page) <= targets
    assert [link for link in links(page) if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.name)
def test_a_translation_has_the_commands_of_its_original(path: Path) -> None:
    if path.name == "README.md":  # an index of other pages
        return
    original, page = (REPOSITORY / "docs" / path.name).read_text(), path.read_text()
    assert blocks(page) == blocks(original)
    assert markers(page) == markers(original)
    assert headings(page) == headings(original)


def test_every_page_is_in_an_index() -> None:
    for folder in (REPOSITORY / "docs", REPOSITORY / "docs" / "zh"):
        named = set(links((folder / "README.md").read_text()))
        assert {one.name for one in folder.glob("*.md")} - {"README.md"} <= named


def test_what_a_page_does_not_have_right_is_found() -> None:
    page = (
        "`python -m deployer plan --no-such` and\n```sh\npython -m deployer lock x --check  # --y\nmake nothing\n```\n"
    )
    assert [mistakes(words) for words in deployer_commands(page)] == [[], ["--no-such"]]
    assert make_targets(page) == {"nothing"}
    assert playbooks("`ansible-playbook deployer.sglang.deploy`") == {"deploy"}
    assert blocks("```yaml\na: 1  # one\n```\n") == blocks("```yaml\na: 1  # 一\n```\n")
    assert blocks("```sh\na  # exit code 1\n```\n") != blocks("```sh\na\n```\n")


def test_the_stages_and_steps_of_the_guide_are_known() -> None:
    for section in sections(GUIDE.read_text()):
        found = [*read(section.text)]
        assert section.stage or not found, f"{section.title}: for which stage?"
        steps = [one.name.replace(" ", "_") for one in found if isinstance(one, Step)]
        assert all(hasattr(STAGES[section.stage][0], step) for step in steps)


def test_every_command_of_the_guide_is_run() -> None:
    page = GUIDE.read_text()
    run = [one.line for one in read(page) if isinstance(one, Command)]
    shown = [one for one in blocks(page) if one.language in ("sh", "console", "")]
    assert len(run) >= sum(one.text.count("python -m deployer") for one in shown) > 50
    assert all(one.text.strip() for one in read(page) if isinstance(one, File))
