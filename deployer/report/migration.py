"""The report of a migration: one HTML file that says what each step and each host came to, and how to go back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from deployer.migration.hosts import targets_back
from deployer.migration.state import (
    BACK,
    BEGUN,
    DONE,
    FAILED,
    LEFT,
    PENDING,
    RUNNING,
    SKIPPED,
    STOPPED,
    TAKEN_BACK,
    State,
    StepState,
    Switched,
)
from deployer.migration.steps import STEPS
from deployer.migration.words import command_line
from deployer.report.markup import template
from deployer.report.verdict import BAD, BADGES, GOOD, QUIET, WARN, Badge
from deployer.report.words import clock, counted
from deployer.runs import results
from deployer.runs.journal import FOLDER as RUNS

REPORT = "report.html"
TEMPLATE = "migration.html.j2"
LEAST = 0.6  # percent of the width that the shortest step has

STATES = {
    PENDING: Badge("○", "not begun", QUIET),
    RUNNING: Badge("?", "under way", WARN),
    DONE: Badge("✓", "done", GOOD),
    SKIPPED: Badge("=", "skipped", QUIET),
    FAILED: Badge("✗", "failed", BAD),
    STOPPED: Badge("○", "stopped", WARN),
    TAKEN_BACK: Badge("↩", "taken back", WARN),
}
OUTCOMES = {
    **BADGES,
    "": Badge("○", "not begun", QUIET),
    BEGUN: Badge("?", "end not seen", BAD),
    BACK: Badge("↩", "went back", WARN),
    LEFT: Badge("=", "left as it is", WARN),
}
NOT_PASSED = Badge("✗", "did not pass", WARN)
ENDINGS = {
    results.DONE: ("✓", GOOD),
    results.RESTORED: ("↩", WARN),
    results.REFUSED: ("✗", WARN),
    results.NOT_RESTORED: ("✗", BAD),
    results.STOPPED: ("○", WARN),
}


@dataclass(frozen=True)
class Row:
    """A step as it is drawn.

    Args:
        name, says: of the step.
        badge: how far it is.
        step: what came of it.
        left, width: of its bar, in percent of the whole; both 0 where it was not begun.
        runs: id and relative address of the reports of its runs.
    """

    name: str
    says: str
    badge: Badge
    step: StepState
    left: float
    width: float
    runs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HostRow:
    """A service of a host: what it came to."""

    host: str
    service: str
    canary: bool
    badge: Badge
    one: Switched


def write_migration(folder: Path, state: State) -> Path:
    """Write the report of a migration as it is now.

    Args:
        folder: of the migration.
        state: of it.

    Returns:
        The path of the HTML file, which only its user may read; an older one was replaced in one step.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / REPORT
    write_file(str(path.absolute()), page(state), mode=0o600)
    return path


def page(state: State) -> str:
    """The HTML of a migration's report."""
    rows = list(_rows(state))
    begun = [row.step.started for row in rows if row.step.started]
    html: str = template(TEMPLATE).render(
        state=state,
        headline=headline(state),
        sentence=_sentence(state),
        rows=rows,
        start=min(begun, default=state.created),
        hosts=list(_hosts(state)),
        switched=len(state.switched),
        can_go_back=bool(targets_back(state)[0]),
        comparison=state.comparison,
        judged=Badge("✓", "passed", GOOD) if state.comparison and state.comparison.passed else NOT_PASSED,
        settings=list(_settings(state)),
        again=command_line(state),
        back=command_line(state, "--back"),
        back_badge=STATES[state.returned.step.state] if state.returned else None,
        back_runs=_links(state.returned.step.runs) if state.returned else (),
    )
    return html


def headline(state: State) -> Badge:
    """How far the migration is, in a few words."""
    if state.ended == DONE:
        return Badge("✓", "Migration done", GOOD)
    if state.ended == BACK:
        return Badge("↩", "Back at what served before", WARN)
    if any(state.step(name.name).state == RUNNING for name in STEPS):
        return Badge("?", "Under way, or not seen to end", WARN)
    sign, tone = ENDINGS.get(state.exit_code, ("✗", BAD))
    waits = f"Stopped before {state.next_step}" if state.exit_code == results.DONE else "Not done"
    return Badge(sign, waits, tone)


def _sentence(state: State) -> str:
    who = state.initiator or "Somebody"
    limit = f", limited to {state.limit}," if state.limit else ""
    said = f"{who} began it on {clock(state.created, day=True)} UTC for {counted(len(state.hosts), 'host')}{limit}"
    canary = f"; the canary is {state.canary}" if state.canary else ""
    meaning = f"; {state.meaning.rstrip('.')}" if state.meaning else ""
    return f"{said}{canary}{meaning}."


def _rows(state: State) -> Iterator[Row]:
    every = [state.step(one.name) for one in STEPS]
    begun = [one for one in every if one.started]
    start = min((one.started for one in begun), default=0.0)
    whole = max((one.ended or one.started for one in begun), default=0.0) - start
    for one, step in zip(STEPS, every, strict=True):
        left = width = 0.0
        if step.started and whole > 0:
            left = min(100 - LEAST, (step.started - start) / whole * 100)
            width = max(LEAST, min(100 - left, ((step.ended or step.started) - step.started) / whole * 100))
        yield Row(one.name, one.says, STATES[step.state], step, round(left, 2), round(width, 2), _links(step.runs))


def _links(runs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Runs lie beside migrations."""
    return tuple((run, f"../../{RUNS.name}/{run}/report.html") for run in runs)


def _hosts(state: State) -> Iterator[HostRow]:
    for host, services in state.hosts.items():
        for service, one in services.items():
            badge = OUTCOMES.get(one.outcome) or Badge("?", one.outcome, BAD)
            yield HostRow(host, service, host == state.canary, badge, one)


def _settings(state: State) -> Iterator[tuple[str, str]]:
    asked = state.settings
    yield "Migration", state.id
    yield "Inventory", " ".join(state.sources)
    if state.limit:
        yield "Limit", state.limit
    if asked.services:
        yield "Services", ", ".join(asked.services)
    if not asked.compare:
        yield "Compared", "nothing, as asked"
        return
    yield "Prompts", asked.prompts or "the built-in questions"
    answers = "texts may differ, lengths of prompts may not" if asked.rendering_only else "have to be the same"
    yield "Answers", "are shown, and decide nothing" if asked.accept_differences else answers
    if asked.load:
        rates = ", ".join("all at once" if rate == float("inf") else f"{rate:g}/s" for rate in asked.rates)
        yield "Load", f"{rates}, {counted(asked.requests, 'request')} each"
        worse = f"no more than {asked.no_worse:g} times as slow" if asked.no_worse is not None else "decides nothing"
        yield "The load", worse
