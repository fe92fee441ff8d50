"""Asks the hosts something by a playbook that changes nothing, and says nothing meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from deployer.runs.problems import of_run
from deployer.runs.results import Summary, parse_event
from deployer.runs.runner import Event, Invocation, Run, run_playbook


def asked(playbook: str, invocation: Invocation, cancelled: Callable[[], bool] | None = None) -> tuple[Summary, Run]:
    """Run a playbook that changes nothing, quietly.

    Args:
        playbook: its name.
        invocation: what it is run with.
        cancelled: whether it is to be ended, as `run_playbook` has it.
    Returns:
        What came of it on every host, and how it ended.
    """
    summary = Summary()

    def on_event(event: Event) -> None:
        nonlocal summary
        step = parse_event(event)
        if step is not None:
            summary = summary.after(step)

    run = run_playbook(playbook, invocation, on_event, cancelled)
    return summary, run


def why_no_host(summary: Summary, run: Run, limit: str = "") -> str:
    """Why no host was met, in one line; '' where one was.

    Args:
        summary: of the run.
        run: how it ended.
        limit: the pattern that it was given.
    """
    return "" if summary.hosts else of_run(run.output, run.status, limit).line()
