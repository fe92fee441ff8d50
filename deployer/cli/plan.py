"""The commands that look at hosts before anything is changed: plan and doctor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts, say_ansibles_words

if TYPE_CHECKING:
    from rich.table import Table

    from deployer.api import Plan
    from deployer.runs.results import HostResult, Summary
    from deployer.views.plan import Line

EXIT_CODES = "Exit codes: 0 clean, 1 warnings, 2 errors, or a host that could not be planned."


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    for command in (plan, doctor):
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(command)


@on_hosts("service")
def plan(
    options: Options,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no host; needs --gpu.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="With --offline: the GPUs of a host, such as H200x8.")] = "",
) -> None:
    """Say what a rollout would start on every host, whether it fits, and what is wrong with it; change nothing.

    Example: python -m deployer plan -i inventory/hosts.yml -l gpu-nodes
    """
    from deployer.views.plan import plan_lines

    if offline != bool(gpu):
        raise typer.BadParameter("--offline and --gpu go together. Fix: plan --offline --gpu H200x8")
    _show(options, options.deployer.plan(services=options.services, assume_gpus=gpu), plan_lines)


@on_hosts()
def doctor(options: Options) -> None:
    """Check the hosts alone: Python, driver, GPUs, limits, disk, ports; change nothing.

    Example: python -m deployer doctor -i inventory/hosts.yml
    """
    from deployer.views.plan import doctor_lines

    _show(options, options.deployer.doctor(), doctor_lines)


def _show(options: Options, plan: Plan, lines: Callable[[Summary], Iterable[Table | Line]]) -> None:
    """Print what came of it, and exit with its code."""
    from rich.console import Console

    from deployer.views.plan import print_lines

    if options.as_json:
        typer.echo(json.dumps({host.host: plan_json(host) for host in plan.summary.hosts.values()}, indent=2))
    else:
        print_lines(Console(), lines(plan.summary if options.verbose else plan.explained))
    say_ansibles_words(options, plan)
    raise typer.Exit(plan.exit_code)


def plan_json(host: HostResult) -> dict[str, Any]:
    """What `--json` says of a host."""
    nothing: dict[str, Any] = {"services": [], "findings": [], "checks": [], "exit_code": 2}
    failure = "" if host.plan else host.failure
    return {"reachable": not host.unreachable, "failure": failure, **(host.plan or nothing)}
