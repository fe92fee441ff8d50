"""What an operator sees: a line when something happens on a host, a table at the end."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff
from typing import Any

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from deployer.runs.results import CUTOVER, LOCK, PREFLIGHT, RELAY, ROLLOUT, HostResult, Step, Summary

# The task that Ansible puts before every role with an argument spec, and ours that mostly have nothing to do.
UNSAID = ("Validating arguments", "Run the hooks", "Give the lock back")
STATE_STYLE = {"serving": "green", "changing": "yellow", "absent": "dim"}
OUTCOME_STYLE = {"unchanged": "dim", "planned": "cyan", "committed": "green", "restored": "yellow", "refused": "yellow"}


def counted(number: int, noun: str) -> str:
    """`1 wheel`, `2 wheels`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Reporter:
    """Prints steps as they end.

    Args:
        console: where to.
        verbose: steps that changed nothing too.
        diff: what changed, line by line.
    """

    def __init__(self, console: Console, verbose: bool = False, diff: bool = False) -> None:
        self.console = console
        self.verbose = verbose
        self.diff = diff
        self.warned: set[tuple[str, str, str]] = set()

    def task(self, name: str) -> None:
        """One line for a task that starts on all hosts: what is being waited for."""
        if not name.startswith(UNSAID) or self.verbose:
            self.console.print(f"… {escape(name)}", style="dim")

    def progress(self, line: str) -> None:
        """How far something long is."""
        self.console.print(f"  {shown(line)}", style="cyan", highlight=False, soft_wrap=True)

    def step(self, step: Step) -> None:
        """One line for one step that changed something or failed."""
        if step.kind == "started":
            return
        if step.action == PREFLIGHT:
            self._warn(step)
        if step.action == CUTOVER and step.item and "outcome" in step.result:
            self.console.print(f"[bold]{escape(step.host)}[/] {cutover_line(step.result)}")
        if step.action == LOCK and step.result.get("took_over"):
            line = f"[bold]{escape(step.host)}[/] [yellow]lock taken over[/] from {shown(step.result['took_over'])}"
            self.console.print(line, highlight=False, soft_wrap=True)
        for line in step.result.get("would_run") or ():
            self.console.print(f"[bold]{escape(step.host)}[/] would run {shown(line)}", highlight=False, soft_wrap=True)
        if step.action == ROLLOUT and step.result.get("stopped"):
            self.console.print(shown(step.message, lines=True), style="yellow", highlight=False, soft_wrap=True)
        elif step.kind != "ok" and not step.ignored:
            if not (step.message.startswith("One or more items failed")):
                self.console.print(f"[bold]{escape(step.host)}[/] [red]{step.kind}[/] {escape(step.task)}")
                self.console.print(f"  {shown(step.message, lines=True)}", style="red", highlight=False, soft_wrap=True)
        elif step.action != CUTOVER and (self.verbose or step.result.get("changed")) and not step.item:
            word = "[yellow]changed[/]" if step.result.get("changed") else "[dim]ok[/]"
            said = relay_line(step.result) if step.action == RELAY and step.result.get("landed") else ""
            self.console.print(f"[bold]{escape(step.host)}[/] {word} {escape(step.task)}[dim]{said}[/]", soft_wrap=True)
            for source, why in (step.result.get("lost") or {}).items() if said else ():
                line = f"[bold]{escape(step.host)}[/] [yellow]warning[/] {shown(source)} was left: {shown(why)}"
                self.console.print(line, highlight=False, soft_wrap=True)
        if self.diff and step.kind == "ok" and step.action != CUTOVER:
            for line in diff_lines(step.result.get("diff")):
                style = {"+": "green", "-": "red"}.get(line[0])
                self.console.print(f"  {line}", style=style, highlight=False, markup=False, soft_wrap=True)

    def _warn(self, step: Step) -> None:
        """What the plan warns of, each once however many hosts it is found on; errors are in the step's message."""
        for one in (step.result.get("plan") or {}).get("findings", ()):
            key = (one["id"], one["subject"], one["message"])
            if one["severity"] == "warning" and key not in self.warned:
                self.warned.add(key)
                line = f"{shown(one['subject'])}: {shown(one['message'])} [dim]({one['id']})[/]"
                self.console.print(
                    f"[bold]{escape(step.host)}[/] [yellow]warning[/] {line}", highlight=False, soft_wrap=True
                )


def shown(text: Any, lines: bool = False) -> str:
    """Text of a host as markup that shows it: without control characters, which reach a terminal otherwise.

    Args:
        text: as the host gave it.
        lines: keep line breaks.
    """
    return escape("".join(char if char.isprintable() or (lines and char == "\n") else "?" for char in str(text)))


def diff_lines(diff: Any) -> list[str]:
    """A module's diff, one or a list of them, as unified diffs without context."""
    lines: list[str] = []
    for one in diff if isinstance(diff, list) else [diff]:
        if isinstance(one, Mapping) and one.get("before") != one.get("after"):
            before, after = (str(one.get(key) or "").splitlines() for key in ("before", "after"))
            name = str(one.get("after_header") or "")
            lines += [line.rstrip() for line in unified_diff(before, after, name, name, n=0) if line.rstrip()]
    return lines


def relay_line(result: Mapping[str, Any]) -> str:
    """What a host received in a transfer of weights, as markup."""
    seconds = max(float(result["landed"]) - float(result["started"]), 0.001)
    parts = [f"{decimal(int(result['received']))} in {seconds:.0f} s"]
    parts += [f"{decimal(int(result['resumed']))} were there"] if result.get("resumed") else []
    parts += [f"{counted(int(result['linked']), 'file')} linked"] if result.get("linked") else []
    return escape(f" ({', '.join(parts)})")


def cutover_line(result: Mapping[str, Any]) -> str:
    """A cut-over in one line of markup."""
    outcome = str(result.get("outcome", "unknown"))
    style = OUTCOME_STYLE.get(outcome, "red")
    seconds = result.get("seconds") or {}
    took = " ".join(f"{state} {value:.1f} s" for state, value in seconds.items())
    text = f"{result.get('service')}: {result.get('before') or 'none'} → {result.get('target') or 'none'}"
    return f"[{style}]{escape(outcome)}[/] {escape(text)}" + (f" [dim]({took})[/]" if took else "")


def outcome_table(summary: Summary, title: str = "Outcome") -> Table:
    """Host, service, release before and now, outcome - one row a service, one a host that was not reached."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in ("host", "service", "before", "now"):
        table.add_column(column, no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for host in summary.hosts.values():
        for cutover in host.cutovers:
            outcome = str(cutover["outcome"])
            table.add_row(
                escape(host.host),
                escape(str(cutover.get("service", ""))),
                escape(str(cutover.get("before") or "none")),
                escape(str(cutover.get("after") or "none")),
                f"[{OUTCOME_STYLE.get(outcome, 'red')}]{escape(outcome)}[/]",
            )
        if not host.cutovers:
            table.add_row(escape(host.host), "", "", "", _without_cutover(host))
    return table


def _short(message: str, width: int = 160) -> str:
    line = message.partition("\n")[0]
    return line if len(line) <= width else line[: width - 1] + "…"


def _without_cutover(host: HostResult) -> str:
    if host.unreachable:
        return "[red]unreachable[/]"
    return f"[red]{escape('failed: ' + host.failed_task)}[/]" if host.failure else "[dim]not cut over[/]"


def status_table(summary: Summary) -> Table:
    """What every service of every host is at."""
    table = Table(title="Services", title_justify="left", padding=(0, 1, 0, 0), box=box.SIMPLE)
    for column in ("host", "service", "state", "engine", "release", "previous", "port", "up"):
        table.add_column(column, no_wrap=True)
    for host in summary.hosts.values():
        for service in host.services:
            state = str(service["state"])
            uptime = service.get("uptime")
            table.add_row(
                escape(host.host),
                escape(str(service["service"])),
                f"[{STATE_STYLE.get(state, 'red')}]{state}[/]",
                str(service.get("engine") or ""),
                str(service.get("current") or "none"),
                str(service.get("previous") or service.get("predecessor") or "none"),
                str(service.get("port") or ""),
                f"{uptime} s" if uptime is not None else "",
            )
        if not host.services:
            reason = "unreachable" if host.unreachable else "unknown"
            table.add_row(escape(host.host), "", f"[red]{reason}[/]", *[""] * 5)
    return table


def print_status(summary: Summary, console: Console) -> None:
    """The table, and what is known beside it."""
    console.print(status_table(summary))
    for line in status_details(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def status_details(summary: Summary) -> list[str]:
    """What is known beside the states, a line each: too long for a column."""
    lines = []
    for host in summary.hosts.values():
        for service in host.services:
            if service.get("detail"):
                lines.append(f"{host.host} {service['service']}: {service['detail']}")
        if not host.services and host.failure:
            lines.append(f"{host.host}: {_short(host.failure)}")
    return lines
