"""What operators see: texts of hosts, made safe for a terminal, and tables of what came of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployer.runs.results import HostResult, Summary

SHORTEST = 0.05  # seconds of a state that is worth mentioning
OUTCOME_STYLE = {"unchanged": "dim", "planned": "cyan", "committed": "green", "restored": "yellow", "refused": "yellow"}


class Screen(Console):
    """Where a run is shown. That nobody reads it any more is an error of the output, and does not end the program."""

    def on_broken_pipe(self) -> None:
        """Called by rich.

        Raises:
            BrokenPipeError: always; rich itself would leave the program here.
        """
        raise BrokenPipeError("nobody reads it")


def shown(text: Any, lines: bool = False) -> str:
    """Text of a host as markup that shows it: without control characters, which reach a terminal otherwise.

    Args:
        text: as the host gave it.
        lines: keep line breaks.
    """
    return escape("".join(char if char.isprintable() or (lines and char == "\n") else "?" for char in str(text)))


def cutover_line(result: Mapping[str, Any]) -> str:
    """A cut-over in one line of markup."""
    outcome = str(result.get("outcome", "unknown"))
    style = OUTCOME_STYLE.get(outcome, "red")
    seconds = result.get("seconds") or {}
    took = " ".join(f"{state} {value:.1f} s" for state, value in seconds.items() if value >= SHORTEST)
    before, target = result.get("before") or "none", result.get("target") or "none"
    serves = f"{before} serves again" if result.get("before") else "nothing serves, as before"
    change = f"{serves}, {target} did not pass" if outcome == "restored" else f"{before} → {target}"
    text = f"{result.get('service')}: {change}"
    return f"[{style}]{shown(outcome)}[/] {shown(text)}" + (f" [dim]({took})[/]" if took else "")


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
                shown(host.host),
                shown(cutover.get("service", "")),
                shown(cutover.get("before") or "none"),
                shown(cutover.get("after") or "none"),
                f"[{OUTCOME_STYLE.get(outcome, 'red')}]{shown(outcome)}[/]",
            )
        if not host.cutovers:
            table.add_row(shown(host.host), "", "", "", _without_cutover(host))
    return table


def _without_cutover(host: HostResult) -> str:
    if host.unreachable:
        return "[red]unreachable[/]"
    return f"[red]{shown('failed: ' + host.failed_task)}[/]" if host.failure else "[dim]not cut over[/]"
