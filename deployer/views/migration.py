"""What an operator sees of a migration: each step, what they are asked, and how far it is."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deployer.api.comparisons import Comparison
from deployer.migration import steps
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
)
from deployer.migration.steps import STEPS
from deployer.migration.verbs import Question
from deployer.migration.words import command_line
from deployer.report.words import duration
from deployer.runs import results
from deployer.runs.events import Event, Listener
from deployer.runs.expected import Expected
from deployer.runs.interrupts import Interrupts
from deployer.runs.watch import planned_summary
from deployer.views.comparison import show_explanation, show_load, show_parity, show_servers
from deployer.views.console import OUTCOME_STYLE, shown
from deployer.views.json_lines import JsonLines
from deployer.views.live import LiveView
from deployer.views.operator import TerminalOperator
from deployer.views.plain import PlainView
from deployer.views.plan import plan_lines, print_lines

STYLE = {
    PENDING: "dim",
    RUNNING: "cyan",
    DONE: "green",
    SKIPPED: "dim",
    FAILED: "red",
    STOPPED: "yellow",
    TAKEN_BACK: "yellow",
}
STYLE_OF_OUTCOME = {**OUTCOME_STYLE, "": "dim", BEGUN: "red", BACK: "yellow", LEFT: "yellow"}
NOT_BEGUN = "not begun"
UNREAD = (OSError, UnicodeError)  # of an output that is closed, full, or of another encoding
UP_TO_PLAN = steps.NAMES[: steps.NAMES.index(steps.PLAN) + 1]


class PersonSeat:
    """Somebody who reads, and where they are asked, answers.

    Args:
        console: for all of it.
        asks: they are asked before anything is switched.
        verbose: say all.
    """

    def __init__(self, console: Console, asks: bool, verbose: bool = False) -> None:
        self._console = console
        self._asks = asks
        self._verbose = verbose
        self._plan: Mapping[str, Any] = {}
        self._scrolled = False  # something was shown below the plan

    @property
    def asks(self) -> bool:
        """Whether they are asked."""
        return self._asks

    def agrees(self, question: Question, state: State) -> bool:
        """Whether they say yes; what it is about they have been shown. Who cannot read it has not agreed to it."""
        try:
            return self._asked(question, state)
        except UNREAD:
            return False

    def _asked(self, question: Question, state: State) -> bool:
        if question.about == steps.CANARY and self._plan and self._scrolled:
            self._show_plan({host: one for host, one in self._plan.items() if host in question.hosts})
        if question.about == steps.CONFIRM and state.comparison is not None:
            for line in comparison_lines(state):
                self._console.print(line, highlight=False, soft_wrap=True)
        if question.about == BACK:
            self._console.print(hosts_table(state))
        self._console.print(shown(question.text), style="bold", highlight=False, soft_wrap=True)
        with Interrupts() as interrupts:
            return TerminalOperator(self._console, True).says_yes(interrupts)

    def tell(self, kind: str, **data: Any) -> None:
        """Print what happens; it goes on where nobody reads it."""
        with contextlib.suppress(*UNREAD):
            self._tell(kind, data)

    def _tell(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind == "plan":
            self._plan = data["hosts"]
            self._show_plan(self._plan)
        self._scrolled = self._scrolled or (kind == "migration.step" and data["step"] not in UP_TO_PLAN)
        for line in lines_of(kind, data):
            self._console.print(line, highlight=False, soft_wrap=True)

    def _show_plan(self, hosts: Mapping[str, Any]) -> None:
        print_lines(self._console, plan_lines(planned_summary(hosts)))

    @contextmanager
    def watching(self) -> Iterator[Sequence[Listener]]:
        """A live view at a terminal, lines elsewhere; the plan they have been shown."""
        if not self._console.is_terminal:
            yield [_without_plan(PlainView(self._console, self._verbose))]
            return
        with LiveView(self._console, self._verbose, Expected.from_journals()) as view:
            yield [_without_plan(view)]

    def compared(self, service: str, comparison: Comparison) -> None:
        """Print both servers, each prompt, and the figures."""
        with contextlib.suppress(*UNREAD):
            show_servers(self._console, comparison.old.server, comparison.new.server)
            if comparison.parity is not None:
                show_parity(self._console, comparison.parity)
            if comparison.load is not None:
                show_load(self._console, comparison.load)


class ProgramSeat:
    """A program that reads an event a line, and is asked nothing.

    Args:
        lines: takes the events.
    """

    asks = False

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._migration = ""

    def agrees(self, question: Question, state: State) -> bool:
        """It was ordered."""
        return True

    def tell(self, kind: str, **data: Any) -> None:
        """Write an event; it goes on where nobody reads it."""
        self._migration = str(data.get("migration") or self._migration)
        with contextlib.suppress(*UNREAD):
            self._lines(Event(kind, data, time.time(), self._migration))

    def watching(self) -> AbstractContextManager[Sequence[Listener]]:
        """The events of a change stand between those of the migration."""
        return _listening([self._lines])

    def compared(self, service: str, comparison: Comparison) -> None:
        """Write all of it."""
        self.tell("comparison", service=service, comparison=comparison.as_json)


@contextmanager
def _listening(listeners: Sequence[Listener]) -> Iterator[Sequence[Listener]]:
    yield listeners


def _without_plan(view: Callable[[Event], None]) -> Listener:
    """A view that is not told the plan, which the migration shows itself."""

    def listen(event: Event) -> None:
        if event.kind != "plan":
            view(event)

    return listen


def lines_of(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    """What is said of an event, as markup."""
    if kind == "migration.started":
        yield f"[bold]migration {shown(data['migration'])}[/] [dim]{shown(data['folder'])}[/]"
    elif kind == "migration.step" and data["state"] == RUNNING:
        yield f"[bold]{data['number']} of {data['of']} {shown(data['step'])}[/]: {shown(data['says'])}"
    elif kind == "migration.step":
        took = f" [dim]({duration(round(data['seconds']))})[/]" if data["seconds"] >= 1 else ""
        yield f"  [{STYLE[data['state']]}]{data['state']}[/] {shown(data['says'])}{took}"
        yield from _problems(data)
    elif kind == "migration.back" and data["state"] == RUNNING:
        for host, services in data["targets"].items():
            what = ", ".join(f"{service} to {release}" for service, release in services.items())
            yield f"[bold]back[/] {shown(f'{host}: {what}')}"
    elif kind == "migration.back":
        yield f"  [{STYLE[data['state']]}]{data['state']}[/] {shown(data['says'])}"
        yield from _problems(data)
    elif kind == "message":
        style = {"warning": "yellow", "error": "red"}.get(str(data.get("level")), "default")
        yield f"[{style}]{shown(data['text'])}[/]"


def _problems(data: Mapping[str, Any]) -> Iterator[str]:
    for line in data["problems"]:
        yield f"    [red]{shown(line)}[/]"


def comparison_lines(state: State) -> Iterator[str]:
    """What the comparison came to, in short, as markup."""
    judged = state.comparison
    if judged is None:
        return
    word = "[green]passed[/]" if judged.passed else "[red]did not pass[/]"
    yield f"the comparison on {shown(state.canary)} {word}"
    for line in judged.lines:
        yield f"  {shown(line)}"
    for line in judged.misses:
        yield f"  [red]{shown(line)}[/]"


def show_ending(console: Console, state: State, folder: object, report: object) -> None:
    """What the call came to, why the comparison did not pass, and what to type next."""
    judged = state.comparison
    if judged is not None and not judged.passed and not state.ended:
        for why in judged.explanations:
            show_explanation(console, "why", why)
    under_way = [one.name for one in STEPS if state.step(one.name).state == RUNNING]
    if under_way:
        console.print(f"{under_way[0]} is under way, or its end was not seen", style="yellow", highlight=False)
    if state.meaning:
        style = {results.DONE: "default", results.NOT_RESTORED: "red"}.get(state.exit_code, "yellow")
        console.print(shown(state.meaning), style=style, highlight=False, soft_wrap=True)
    for line in next_lines(state):
        console.print(line, highlight=False, soft_wrap=True)
    if folder is not None:
        where = f"state: {folder}" + (", report: report.html" if report is not None else "")
        console.print(f"[dim]{shown(where)}[/]", highlight=False, soft_wrap=True)


def next_lines(state: State) -> Iterator[str]:
    """What to type next, as markup."""
    if state.back is not None and state.back.whole and state.back.step.state != DONE:
        yield f"go on: {shown(command_line(state, '--back'))}"
        return
    if not state.ended:
        yield f"go on: {shown(command_line(state))}"
    if targets_back(state)[0]:
        yield f"go back: {shown(command_line(state, '--back'))}"


def show_status(console: Console, state: State, folder: object, report: object) -> None:
    """The steps, the hosts, and what to type next."""
    console.print(f"migration [bold]{shown(state.id)}[/]", highlight=False)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("step", "state", "begun (UTC)", "took"):
        table.add_column(column, no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for one in STEPS:
        step = state.step(one.name)
        took = duration(round(step.ended - step.started)) if step.started and step.ended else ""
        begun = time.strftime("%m-%d %H:%M:%S", time.gmtime(step.started)) if step.started else ""
        outcome = "\n".join(shown(line) for line in (step.says or one.says, *step.problems))
        outcome = outcome if step.says else f"[dim]{outcome}[/]"
        table.add_row(one.name, f"[{STYLE[step.state]}]{step.state}[/]", begun, took, outcome)
    console.print(table)
    if state.hosts:
        console.print(hosts_table(state))
    for line in comparison_lines(state):
        console.print(line, highlight=False, soft_wrap=True)
    if state.returned is not None:
        step = state.returned.step
        console.print(f"back: [{STYLE[step.state]}]{step.state}[/] {shown(step.says)}", highlight=False, soft_wrap=True)
    show_ending(console, state, folder, report)


def hosts_table(state: State) -> Table:
    """What each service of each host came to."""
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("host", "service", "before", "now"):
        table.add_column(column, overflow="fold")
    table.add_column("outcome", overflow="fold")
    for host, services in state.hosts.items():
        for service, one in services.items():
            style = STYLE_OF_OUTCOME.get(one.outcome, "red")
            name = f"[bold]{shown(host)}[/]" + (" canary" if host == state.canary else "")
            before = " ".join(filter(None, (one.engine, one.before))) or "none"
            outcome = one.outcome.replace("_", " ") or NOT_BEGUN
            table.add_row(name, shown(service), shown(before), shown(one.after), f"[{style}]{shown(outcome)}[/]")
    return table


def seat_of(as_json: bool, asks: bool, verbose: bool, console: Console) -> PersonSeat | ProgramSeat:
    """Who sits there.

    Args:
        as_json: a program does.
        asks: they are asked.
        verbose: say all.
        console: for people.
    """
    return ProgramSeat(JsonLines(sys.stdout)) if as_json else PersonSeat(console, asks, verbose)
