"""The commands that change what hosts serve: rollout and rollback."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated, Any

import typer

from deployer.cli.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    Check,
    ExtraVars,
    Inventory,
    Json,
    Limit,
    Verbose,
    invocation_of,
)
from deployer.runs.change import RESTORE_ALL, RESTORE_HOST, Change, change

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed and restored, 2 refused before anything changed, 3 failed and not restored, "
    "or not known, 4 stopped on request between two batches."
)


class OnFailure(str, Enum):
    """What a rollout that failed does with the hosts that it had cut over."""

    restore_host = RESTORE_HOST
    restore_all = RESTORE_ALL


Services = Annotated[
    list[str] | None, typer.Option("--service", help="Only this service of each host; may be given several times.")
]
Batches = Annotated[
    str, typer.Option("--batches", help="How many hosts at once, such as 1,25%,100%; the first batch is the canary.")
]
Pause = Annotated[int | None, typer.Option("--pause", min=0, help="Seconds to wait between two batches.")]
Confirm = Annotated[bool, typer.Option("--confirm", help="Ask before each batch but the first.")]
MaxFail = Annotated[
    str, typer.Option("--max-fail", help="How many hosts may fail before no further batch is begun: 2, or 10%.")
]
OnFailureOption = Annotated[
    OnFailure,
    typer.Option(
        "--on-failure",
        help="restore-host: only a host whose release did not pass goes back; restore-all: all that were cut over do.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    for command in (rollout, rollback):
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(command)


def rollout(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    service: Services = None,
    batches: Batches = "",
    pause: Pause = None,
    confirm: Confirm = False,
    max_fail: MaxFail = "",
    on_failure: OnFailureOption = OnFailure.restore_host,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Stage the described services on all hosts, then cut over in batches.

    Ctrl-C once: no further batch. Twice: stop watching; hosts finish by themselves.

    Example: python -m deployer rollout -i inventory/hosts.yml -l gpu-nodes --batches 1,25%,100% --confirm
    """
    variables = rollout_variables(service, batches, pause, confirm, max_fail, check)
    invocation = invocation_of(context, inventory, limit, extra_vars, check, variables)
    raise typer.Exit(change(Change("deploy", "rollout", invocation, on_failure.value, as_json, verbose)))


def rollback(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    to: Annotated[
        str, typer.Option("--to", help="An id of `history` or its beginning, @previous, @adopted or @predecessor.")
    ] = "",
    service: Services = None,
    batches: Batches = "",
    pause: Pause = None,
    confirm: Confirm = False,
    max_fail: MaxFail = "",
    on_failure: OnFailureOption = OnFailure.restore_host,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Go back to the release that served before, or to any other that the hosts keep.

    Example: python -m deployer rollback -i inventory/hosts.yml -l gpu-nodes --to @adopted
    """
    if to in ("staged",):
        raise typer.BadParameter("--to staged is what rollout does. Fix: give an id, or @previous")
    variables = rollout_variables(service, batches, pause, confirm, max_fail, check)
    invocation = invocation_of(
        context, inventory, limit, extra_vars, check, {**variables, **({"cutover_to": to} if to else {})}
    )
    raise typer.Exit(change(Change("rollback", "rollback", invocation, on_failure.value, as_json, verbose)))


def rollout_variables(
    service: list[str] | None, batches: str, pause: int | None, confirm: bool, max_fail: str, check: bool = False
) -> dict[str, Any]:
    """The variables of the playbooks that the options stand for; those that were not given are left out.

    Raises:
        typer.BadParameter: one cannot work.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.rollout import settings_problems

    variables: dict[str, Any] = {}
    if batches:
        sizes = [word.strip() for word in batches.split(",")]
        variables["rollout_batches"] = [int(size) if size.isdigit() else size for size in sizes]
    if max_fail:
        variables["rollout_max_fail"] = int(max_fail) if max_fail.isdigit() else max_fail
    if pause is not None:
        variables["rollout_pause"] = pause
    problems = settings_problems(variables)
    if problems:
        raise typer.BadParameter("; ".join(problems))
    if confirm:
        if not (check or sys.stdin.isatty()):
            raise typer.BadParameter("--confirm asks at the terminal, and there is none. Fix: leave it out, or --pause")
        variables["rollout_confirm"] = True
    if service:
        variables["cutover_services"] = service
    return variables
