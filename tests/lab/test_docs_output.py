"""docs/commands.md says what the commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import Command, read
from tests.documented.lab import stage
from tests.documented.replay import replay
from tests.documented.structure import structure

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def test_every_command_prints_what_the_page_shows(tmp_path):
    page = PAGE.read_text()

    with stage(make_inputs(default_cache(), print), tmp_path) as on:
        done = replay(page, on, print)

    shown = [one for one in read(page) if isinstance(one, Command)]
    assert [(one.line, one.status) for one in done] == [(one.line, one.status) for one in shown]
    differ = {
        now.line: sorted(set(structure(now.output)) ^ set(structure(before.output)))
        for now, before in zip(done, shown, strict=True)
    }
    assert {line: lines for line, lines in differ.items() if lines} == {}
