"""The commands that change what hosts have or serve: stage, rollout and rollback."""

from __future__ import annotations

import contextlib
import shlex
import sys
from enum import Enum
from typing import Annotated, Any

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts
from deployer.runs.restore import RESTORE_ALL, RESTORE_HOST

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed and restored, 2 refused before anything changed, 3 failed and not restored, "
    "or not known, 4 stopped on request, also by a no to the plan."
)
EVENTS = "With --json, an event a line while it happens (docs/events.md)."
LOOK = {
    "rollout": "python -m deployer plan",
    "stage": "python -m deployer plan",
    "rollback": "python -m deployer history",
}


class OnFailure(str, Enum):
    """What a rollout that failed does with the hosts that it had cut over."""

    restore_host = RESTORE_HOST
    restore_all = RESTORE_ALL


Batches = Annotated[str, typer.Option("--batches", help="How many hosts at once, such as 1,25%,100%.")]
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
    for command in (stage, rollout, rollback):
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. {EVENTS} {EXIT_CODES}")(command)


@on_hosts("check", "yes")
def stage(options: Options, max_fail: MaxFail = "") -> None:
    """Show the plan and ask; put on all hosts what a rollout needs there, touching nothing that runs.

    The rollout that follows has only the switch left to do.

    Example: python -m deployer stage -i inventory/hosts.yml -l gpu-nodes --yes
    """
    variables = rollout_variables(None, "", None, False, max_fail, options.check)
    raise typer.Exit(_carry_out("stage", options, variables, OnFailure.restore_host))


@on_hosts("service", "check", "yes")
def rollout(
    options: Options,
    batches: Batches = "",
    pause: Pause = None,
    confirm: Confirm = False,
    max_fail: MaxFail = "",
    on_failure: OnFailureOption = OnFailure.restore_host,
) -> None:
    """Show the plan and ask; stage the described services on all hosts, then cut over in batches.

    Ctrl-C once: no further batch. Twice: stop watching; it says what each host does by itself.

    Example: python -m deployer rollout -i inventory/hosts.yml -l gpu-nodes --batches 1,25%,100% --yes
    """
    variables = rollout_variables(options.service, batches, pause, confirm, max_fail, options.check)
    raise typer.Exit(_carry_out("rollout", options, variables, on_failure))


@on_hosts("service", "check", "yes")
def rollback(
    options: Options,
    to: Annotated[
        str, typer.Option("--to", help="An id of `history` or its beginning, @previous, @adopted or @predecessor.")
    ] = "",
    batches: Batches = "",
    pause: Pause = None,
    confirm: Confirm = False,
    max_fail: MaxFail = "",
    on_failure: OnFailureOption = OnFailure.restore_host,
) -> None:
    """Go back to the release that served before, or to any other that the hosts keep.

    Shows what would be done and asks, as rollout does.

    Example: python -m deployer rollback -i inventory/hosts.yml -l gpu-nodes --to @adopted --yes
    """
    if to in ("staged",):
        raise typer.BadParameter("--to staged is what rollout does. Fix: give an id, or @previous")
    variables = rollout_variables(options.service, batches, pause, confirm, max_fail, options.check)
    target = {"cutover_to": to} if to else {}
    raise typer.Exit(_carry_out("rollback", options, {**variables, **target}, on_failure))


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
    problems = "; ".join(settings_problems(variables))
    if problems:
        raise typer.BadParameter(problems.replace("rollout_", "--").replace("--max_fail", "--max-fail"))
    if confirm:
        if not (check or sys.stdin.isatty()):
            raise typer.BadParameter("--confirm asks at the terminal, and there is none. Fix: leave it out, or --pause")
        variables["rollout_confirm"] = True
    if service:
        variables["cutover_services"] = service
    return variables


def _carry_out(verb: str, options: Options, variables: dict[str, Any], on_failure: OnFailure) -> int:
    """Do it, show it, and give the exit code."""
    # Imported late: nothing of it is needed to say what the options are.
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from deployer.api.change import Change, carry_out
    from deployer.runs.expected import Expected
    from deployer.runs.questions import Unattended
    from deployer.views.console import Screen
    from deployer.views.ending import print_ending
    from deployer.views.json_lines import JsonLines
    from deployer.views.live import LiveView
    from deployer.views.operator import TerminalOperator
    from deployer.views.plain import PlainView

    terminal = sys.stdin.isatty()
    asks = not (options.yes or options.check)
    if asks and (options.as_json or not terminal):
        why = "--json answers programs, which cannot be asked" if options.as_json else "there is no terminal to ask at"
        look = " ".join([LOOK[verb], *(f"-i {shlex.quote(one)}" for one in options.inventory or ())])
        raise DeployError(f"{why}, and nothing is changed on a guess", f"--yes, after a look at: {look}")
    order = Change(verb, options.invocation(variables), on_failure.value, options.verbose)
    if options.as_json:
        someone = TerminalOperator(Screen(stderr=True), False) if terminal else Unattended()
        return carry_out(order, [JsonLines(sys.stdout)], someone).exit_code
    console = Screen()
    if console.is_terminal:
        with LiveView(console, options.verbose, Expected.from_journals()) as view:
            someone = TerminalOperator(console, asks, view.paused) if terminal else Unattended()
            result = carry_out(order, [view], someone)
    else:
        someone = TerminalOperator(console, asks) if terminal else Unattended()
        result = carry_out(order, [PlainView(console, options.verbose)], someone)
    with contextlib.suppress(OSError, UnicodeError, KeyboardInterrupt):  # the run is over, whoever reads of it
        print_ending(result, console)
    return result.exit_code
