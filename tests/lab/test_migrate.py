"""The whole migration from a LLaMA-Factory that somebody started to SGLang, and back: as docs/migration.md has it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import Command, Step, read
from tests.documented.lab import HOSTS, STEPS, Stage, stage
from tests.lab.fleet import SERVICE

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
BY_HAND, OTHER = HOSTS
# A load that is soon over, on two cores that nobody else should be compared on.
SHORT = {"--rates 1,4": "--rates 2,max", "--requests 40": "--requests 4", "--no-worse 1.2": "--no-worse 100"}
WITHIN = 300  # seconds for a killed step to have come so far

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The page's lab: LLaMA-Factory serves on the first host, started by hand, and nothing on the second."""
    with stage(make_inputs(default_cache(), print), tmp_path_factory.mktemp("migrating")) as made:
        made.team.start()
        made.describe()
        yield made


@pytest.fixture(scope="module")
def pages() -> tuple[list[Command | Step], list[Command]]:
    """What the page does up to going back, and its single commands."""
    every = list(read(PAGE.read_text()))
    single = next(place for place, one in enumerate(every) if isinstance(one, Command) and " doctor " in one.line)
    return every[:single], [one for one in every[single:] if isinstance(one, Command)]


def typed(on: Stage, command: Command) -> Command:
    """A command of the page, with a short load."""
    line = command.line
    for long, short in SHORT.items():
        line = line.replace(long, short)
    began = time.monotonic()
    done = on.terminal.run(line)
    print(f"$ {line}\n{done.output}\n[exit {done.status}, {time.monotonic() - began:.0f} s]")
    return done


def migrations(on: Stage) -> list[Path]:
    """Their folders."""
    return sorted((on.folder / ".deployer" / "migrations").glob("2*"))


def state(on: Stage) -> dict[str, Any]:
    """state.json of the newest migration."""
    value: dict[str, Any] = json.loads((migrations(on)[-1] / "state.json").read_text())
    return value


def kill_at(on: Stage, line: str, said: str) -> None:
    """Type a command, and end it and all that it has started as soon as it has said something."""
    going = on.terminal.begin(line)
    deadline = time.monotonic() + WITHIN
    while said not in going.printed.read_text(errors="replace"):
        assert going.process.poll() is None and time.monotonic() < deadline, going.printed.read_text(errors="replace")
        time.sleep(0.2)
    going.kill()


def test_a_service_that_was_started_by_hand_is_migrated_compared_and_brought_back(
    on: Stage, pages: tuple[list[Command | Step], list[Command]]
) -> None:
    before = on.team.look()
    fleet = on.fleet
    walked = iter(pages[0])
    plan, measure, refused = (one for one in (next(walked) for _ in range(3)) if isinstance(one, Command))
    for command in (plan, measure):
        done = typed(on, command)
        assert done.status == 0, done.output
    assert on.team.look().pids == before.pids, "nothing that runs was touched"

    done = typed(on, refused)
    assert done.status == refused.status == 1
    assert "system-prompt: the old server adds a system prompt" in done.output
    assert not fleet.is_sglang(BY_HAND) and on.team.look().typed.differences(before.typed) == {}
    assert state(on)["steps"]["canary"]["state"] == "taken back"

    mended, again, status = next(walked), next(walked), next(walked)
    assert isinstance(mended, Step) and isinstance(again, Command) and isinstance(status, Command)
    STEPS[mended.name](on)
    kill_at(on, again.line, f"batch 1 of 1: {BY_HAND}")
    assert state(on)["steps"]["canary"]["state"] == "running"
    done = typed(on, again)
    assert done.status == again.status == 0
    assert fleet.is_sglang(BY_HAND) and fleet.is_sglang(OTHER)
    assert len(migrations(on)) == 1 and state(on)["ended"] == "done" and state(on)["comparison"]["passed"]
    assert typed(on, status).status == 0

    (folder,) = migrations(on)
    page = (folder / "compared" / SERVICE / "report.html").read_text()
    assert (
        page.count("<figure>") >= 4 and f'href="compared/{SERVICE}/report.html"' in (folder / "report.html").read_text()
    )

    back = next(walked)
    assert isinstance(back, Command) and typed(on, back).status == 0
    after = on.team.look()
    assert after.typed.differences(before.typed) == {} and after.engine.differences(before.engine) == {}
    assert not fleet.is_sglang(BY_HAND) and fleet.is_sglang(OTHER) and state(on)["ended"] == "back"


def test_the_same_is_done_by_single_commands(on: Stage, pages: tuple[list[Command | Step], list[Command]]) -> None:
    STEPS["add the system prompt"](on)
    done = [typed(on, command) for command in pages[1]]
    assert [(one.line, one.status) for one in done] == [(one.line, one.status) for one in pages[1]]
    assert not on.fleet.is_sglang(BY_HAND)
