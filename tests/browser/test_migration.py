"""The report of a migration in a real browser: on a phone and a desk, in the light and dark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deployer.compare.parity import Explanation
from deployer.migration.state import DONE, FAILED, TAKEN_BACK, Judged, Return, State, StepState, Switched
from deployer.migration.steps import NAMES
from deployer.report.migration import write_migration
from tests.browser.chromium import Page
from tests.browser.test_report import BEYOND, DESK, FAINT, PHONE

# The bars of the steps: how wide each is, and whether it lies on its track.
BARS = """[...document.querySelectorAll('.steps .track i')].map(one => {
  const at = one.getBoundingClientRect(), on = one.parentElement.getBoundingClientRect();
  return [at.width >= 3, at.left >= on.left - 1 && at.right <= on.right + 1];
})"""
SECONDS = (3, 3, 3, 84, 17, 60, 51, 0, 45, 0)
WHY = Explanation("system-prompt", "the old server adds a system prompt of 78 tokens " * 4, "chat_template " * 8)


def migration() -> State:
    """One whose canary went back, with long texts."""
    at, steps = 1795945561.0, {}
    for name, took in zip(NAMES, SECONDS, strict=True):
        steps[name] = StepState(DONE, at, at + took, f"{name} is done", runs=("20261129T000001Z-rollout",))
        at += took + 20
    steps["compare"] = replace(steps["compare"], state=FAILED, problems=("code2sql: 6 of 8 prompts " + "x" * 180,))
    steps["canary"] = replace(steps["canary"], state=TAKEN_BACK)
    old = Switched("310d65438250", "llamafactory", "310d65438250", "back")
    return State(
        "20261129T000000Z-migration",
        1795945561.0,
        initiator="alice@bastion",
        given=("fleet/hosts.yml",),
        sources=("/srv/" + "a-long-folder/" * 12 + "hosts.yml",),
        steps=steps,
        canary="gpu1.example.com",
        hosts={"gpu1.example.com": {"code2sql": old}, "gpu2.example.com": {"code2sql": Switched()}},
        comparison=Judged(False, ("code2sql: answers differ",), ("6 of 8",), (WHY,), {"code2sql": "compared/code2sql"}),
        back=Return(("gpu1.example.com",), False, StepState(DONE, at, at + 30, "gpu1.example.com serves what served")),
        exit_code=1,
        meaning="the comparison did not pass, and the canary went back",
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page."""
    return write_migration(tmp_path_factory.mktemp("migration"), migration())


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_all_of_it_can_be_read_and_nothing_is_fetched(tab: Page, report: Path, width: int, dark: bool) -> None:
    tab.open(report, width, dark)
    assert tab.value(BARS) == [[True, True]] * len(NAMES)
    assert tab.value(BEYOND) == [] and tab.value(FAINT) == []
    assert tab.complaints == [] and tab.requests == [report.as_uri()]
