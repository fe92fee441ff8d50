"""docs/guide.md does what it says, section by section: `pytest -m '' tests/lab/test_guide.py -k nfs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import Command, Section, read, sections
from tests.documented.guide import stage
from tests.documented.replay import replay
from tests.documented.structure import structure
from tests.lab.conftest import NewLab

PAGE = Path(__file__).parents[2] / "docs" / "guide.md"
PLAYED = [one for one in sections(PAGE.read_text()) if one.stage]

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.mark.parametrize("section", PLAYED, ids=lambda section: section.stage.replace(" ", "_"))
def test_a_section_does_what_it_says(section: Section, new_lab: NewLab, tmp_path: Path) -> None:
    with stage(section.stage, make_inputs(default_cache(), print), tmp_path) as on:
        done = replay(section.text, on, print)

    shown = [one for one in read(section.text) if isinstance(one, Command) and one.shown]
    assert [(one.line, one.status) for one in done] == [(one.line, one.status) for one in shown]
    assert [structure(one.output) for one in done] == [structure(one.output) for one in shown]
