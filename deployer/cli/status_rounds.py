"""Asks for the state of services, once or round after round, and shows it."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from deployer.runs.asking import asked, why_no_host
from deployer.runs.interrupts import Interrupts
from deployer.runs.results import Summary
from deployer.runs.runner import Invocation, Run
from deployer.runs.service_states import CHOSEN, NOT_ASKED, as_json, exit_code, of_services
from deployer.views.console import shown
from deployer.views.status import print_status, status_view


def once(invocation: Invocation, strict: bool, for_programs: bool) -> int:
    """Ask once, show it, and give the exit code."""
    summary, run = asked("status", invocation)
    summary = of_services(summary, CHOSEN in invocation.extra_vars)
    if for_programs:
        typer.echo(json.dumps(as_json(summary), indent=2))
    elif summary.hosts:
        print_status(summary, Console())
    explain(summary, run, invocation, Console(stderr=True))
    return exit_code(summary, run.status, strict)


def round_after_round(invocation: Invocation, every: float, strict: bool, for_programs: bool) -> int:
    """Round after round until Ctrl-C; the exit code of the last whole one."""
    console, code = Console(), NOT_ASKED
    with Interrupts() as interrupts, _drawing(console, for_programs) as live:
        while not interrupts.requested:
            begun = time.monotonic()
            summary, run = asked("status", invocation, lambda: interrupts.requested)
            if interrupts.requested:
                break
            summary = of_services(summary, CHOSEN in invocation.extra_vars)
            code = exit_code(summary, run.status, strict)
            moment = time.strftime("%Y-%m-%d %H:%M:%S")
            view = Group(Text(moment, style="bold"), status_view(summary, console.width))
            if for_programs:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                typer.echo(json.dumps({"time": stamp, "exit_code": code, "hosts": as_json(summary)}))
            elif live is not None:
                live.update(view, refresh=True)
            else:
                console.print(view)
            explain(summary, run, invocation, Console(stderr=True))
            rest = max(0.0, every - (time.monotonic() - begun))
            select.select([interrupts.descriptor], [], [], rest)
    return code


@contextmanager
def _drawing(console: Console, for_programs: bool) -> Iterator[Live | None]:
    """Where one round takes the place of the one before: at a terminal."""
    if for_programs or not console.is_terminal:
        yield None
        return
    with Live(Text("asking the hosts …", style="dim"), console=console, auto_refresh=False) as live:
        yield live


def explain(summary: Summary, run: Run, invocation: Invocation, console: Console) -> None:
    """Why no host was met."""
    if not summary.hosts and run.status == 0 and (names := invocation.extra_vars.get(CHOSEN)):
        text = f"no host has a service {' or '.join(names)}. Fix: --service takes a name of inference_services"
        console.print(shown(text), style="red", highlight=False, soft_wrap=True)
    elif why := why_no_host(summary, run, invocation.limit):
        console.print(shown(why, lines=True), style="red", highlight=False, soft_wrap=True)
