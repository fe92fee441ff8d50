"""`make docs-output`: run the pages' commands in the lab, and write into the pages what they print.

PAGES="guide" runs one page; without it, all of them.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from demo.inputs import DemoInputs, default_cache, make_inputs
from tests.documented import guide, lab
from tests.documented.blocks import Command, read, sections, written
from tests.documented.replay import replay

DOCS = Path(__file__).parents[2] / "docs"
TRANSLATED = DOCS / "zh"


def note(text: str) -> None:
    """Say what is done."""
    print(text, file=sys.stderr, flush=True)


def run_commands(page: str, inputs: DemoInputs, folder: Path) -> list[Command]:
    """All of docs/commands.md, which has one lab."""
    with lab.stage(inputs, folder) as on:
        return replay(page, on, note)


def run_guide(page: str, inputs: DemoInputs, folder: Path) -> list[Command]:
    """The sections of docs/guide.md that show what is printed, each on hosts of its own."""
    done: list[Command] = []
    for number, section in enumerate(sections(page)):
        if any(isinstance(one, Command) and one.shown for one in read(section.text)):
            place = folder / str(number)
            place.mkdir()
            with guide.stage(section.stage, inputs, place) as on:
                done += replay(section.text, on, note)
    return done


RUN: dict[str, Callable[[str, DemoInputs, Path], list[Command]]] = {"commands": run_commands, "guide": run_guide}


def main(names: list[str]) -> int:
    try:
        require_lab_machine()
        inputs = make_inputs(default_cache(), note)
        for name in names or RUN:
            page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
            with (
                tempfile.TemporaryDirectory(prefix="documented-", dir=default_cache()) as folder,
                contextlib.redirect_stdout(sys.stderr),
            ):
                done = RUN[name](page, inputs, Path(folder))
            # A translation shows the same output.
            for path in (DOCS / f"{name}.md", TRANSLATED / f"{name}.md"):
                if path.is_file():
                    path.write_text(written(path.read_text(encoding="utf-8"), done), encoding="utf-8")
    except (DeployError, AssertionError) as error:
        note(f"docs-output: {error}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
