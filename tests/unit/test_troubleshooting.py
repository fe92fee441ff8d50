"""docs/troubleshooting.md, in both languages, quotes what the tool prints: each quotation is printed anew here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop
from tests.documented.printed.blocks import Block, blocks, shows
from tests.documented.printed.cutting_over import BAD, GOOD
from tests.documented.printed.scenarios import SCENARIOS, Stage
from tests.doubles.released_host import SERVICE, ReleasedHost

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH, CHINESE = DOCS / "troubleshooting.md", DOCS / "zh" / "troubleshooting.md"
QUOTED = blocks(ENGLISH.read_text())


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ReleasedHost]]:
    """A host on which GOOD serves; made when the first scenario asks for it."""
    made: list[ReleasedHost] = []

    def host() -> ReleasedHost:
        if not made:
            made.append(ReleasedHost(tmp_path_factory.mktemp("host")))
            made[0].stage(GOOD)
            made[0].cut_over(GOOD)
        return made[0]

    yield host
    for one in made:
        stop(supervisor_for("process", SERVICE, one.folder), one.port, 0)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: Callable[[], ReleasedHost]) -> Iterator[Stage]:
    """What a scenario has; what it staged on the host that serves is removed afterwards."""
    used: list[ReleasedHost] = []

    def host() -> ReleasedHost:
        used.append(serving())
        return used[0]

    yield Stage(tmp_path, monkeypatch, host)
    for one in used:
        for path in sorted(Path(one.folder.release(BAD)).rglob("*"), reverse=True):
            path.unlink()
        if Path(one.folder.release(BAD)).is_dir():
            Path(one.folder.release(BAD)).rmdir()


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda block: block.name)
def test_what_the_page_quotes_is_what_is_printed(quoted: Block, stage: Stage) -> None:
    printed = SCENARIOS[quoted.name](stage)
    assert shows(quoted.text, printed), f"it prints:\n{printed}"


def test_every_quotation_names_its_scenario_and_every_scenario_is_quoted() -> None:
    assert sorted(block.name for block in QUOTED) == sorted(SCENARIOS)


def test_both_languages_quote_the_same() -> None:
    assert blocks(CHINESE.read_text()) == QUOTED


def test_a_quotation_may_leave_lines_out_and_nothing_else() -> None:
    printed = "gpu1 failed\n  why it did, in 12 s\n  more\nthe end"
    assert shows("gpu1 failed\n  why it did,\n  in 3.5 s\n…\nthe end\n", printed)
    assert not shows("gpu1 failed\nthe end\n", printed)
    assert not shows("gpu1 failed\n…\nmore\n", printed)
