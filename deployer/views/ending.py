"""What is left to be read once a run has ended: what every service came to, what serves now, what it means."""

from __future__ import annotations

from rich.console import Console

from deployer.runs.outcome import ChangeResult
from deployer.runs.results import NOT_RESTORED, Summary
from deployer.views.console import outcome_table, shown
from deployer.views.status import print_status


def print_ending(result: ChangeResult, console: Console) -> None:
    """The tables, the meaning in one line, and where the journal and the report are."""
    if _cut_over(result.summary):
        console.print(outcome_table(result.summary))
    if result.restored is not None and _cut_over(result.restored.summary):
        console.print(outcome_table(result.restored.summary, title="Restored"))
    if result.status is not None and result.status.hosts:
        print_status(result.status, console)
    if result.meaning:
        style = "red" if result.exit_code == NOT_RESTORED else "yellow"
        console.print(shown(result.meaning), style=style, highlight=False, soft_wrap=True)
    for problem in result.problems:
        console.print(shown(problem), style="red", highlight=False, soft_wrap=True)
    if result.folder is not None:
        where = f"journal: {result.folder}" + (f", report: {result.report.name}" if result.report else "")
        console.print(f"[dim]{shown(where)}[/]", highlight=False, soft_wrap=True)


def _cut_over(summary: Summary) -> bool:
    return any(host.cutovers for host in summary.hosts.values())
