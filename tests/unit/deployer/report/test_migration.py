"""The report of a migration: what is on the page, for every way in which one may stand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from deployer.compare.parity import Explanation
from deployer.migration.state import BACK, DONE, FAILED, RUNNING, Judged, Return, State, StepState, Switched
from deployer.migration.steps import NAMES
from deployer.report.migration import headline, page, write_migration

HOSTILE = "<script>alert(1)</script>\x1b[31m"
WHOLE = State(
    "20261129T000000Z-migration",
    100.0,
    initiator="alice@bastion",
    given=("fleet/hosts.yml",),
    sources=("fleet/hosts.yml",),
    steps={name: StepState(DONE, 100.0 + n, 101.0 + n, f"{name} is done") for n, name in enumerate(NAMES)},
    canary="a",
    hosts={"a": {"s": Switched("old", "llamafactory", "new", "committed")}, "b": {"s": Switched()}},
    comparison=Judged(True, ("s: the same answers",), folders={"s": "compared/s"}),
    ended=DONE,
)


def test_the_page_has_steps_hosts_comparison_and_the_way_back() -> None:
    run = "20261129T000001Z-rollout"
    html = page(WHOLE.with_step("canary", runs=(run,)))
    assert "Migration done" in html and "1 of 2" in html and "s: the same answers" in html
    assert f'href="../../runs/{run}/report.html"' in html and 'href="compared/s/report.html"' in html
    assert "python -m deployer migrate -i fleet/hosts.yml --back" in html and "Go on:" not in html
    assert len(re.findall(r'<i class="good" style="left:[^"]+;width:[\d.]+%">', html)) == len(NAMES)
    assert "http" not in re.sub(r"http-equiv", "", html), "it needs nothing else to be read"


def test_why_a_comparison_did_not_pass_is_on_it_with_the_fix() -> None:
    why = Explanation("system-prompt", "it adds one", "chat_template")
    judged = Judged(False, ("s: answers differ",), ("s: 6 of 8 prompts",), (why,), {"s": "compared/s"})
    html = page(replace(WHOLE, ended="", comparison=judged, exit_code=1, meaning="the canary went back"))
    for said in (
        "did not pass",
        "s: 6 of 8 prompts",
        "it adds one",
        "<b>Fix:</b> chat_template",
        "the canary went back.",
    ):
        assert said in html


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (WHOLE, "Migration done"),
        (replace(WHOLE, ended=BACK, back=Return(("a",), True, StepState(DONE, 1.0, 2.0, "back"))), "Back at what"),
        (replace(WHOLE.without("rollout"), ended=""), "Stopped before rollout"),
        (replace(WHOLE.with_step("canary", state=RUNNING, ended=0.0), ended=""), "Under way, or not seen to end"),
        (replace(WHOLE.with_step("canary", state=FAILED), ended="", exit_code=3), "Not done"),
        (State("20261129T000000Z-migration", 0.0), "Stopped before doctor"),
    ],
)
def test_the_headline_says_how_it_stands(state: State, word: str) -> None:
    assert headline(state).word.startswith(word) and word in page(state)


def test_texts_of_hosts_do_nothing_on_it(tmp_path: Path) -> None:
    step = StepState(FAILED, 1.0, 2.0, HOSTILE, (HOSTILE,), (), "")
    state = replace(
        WHOLE,
        steps={"doctor": step},
        hosts={HOSTILE: {HOSTILE: Switched(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)}},
        comparison=Judged(False, (HOSTILE,), (HOSTILE,), (Explanation(HOSTILE, HOSTILE, HOSTILE),), {HOSTILE: "x"}),
        meaning=HOSTILE,
        limit=HOSTILE,
    )
    path = write_migration(tmp_path, state)
    html = path.read_text()
    assert "<script" not in html and "\x1b" not in html and path.stat().st_mode & 0o077 == 0
