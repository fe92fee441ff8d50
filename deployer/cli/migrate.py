"""The command that walks from a server that was started by hand to what is described."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deployer.cli.changes import Batches, MaxFail, rollout_variables
from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts
from deployer.cli.compare import (
    RATES,
    AskLoad,
    NoWorse,
    PromptFile,
    Rates,
    RenderingOnly,
    Requests,
    rates_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from deployer.api.migrations import Migration
    from deployer.migration.state import Given

EXIT_CODES = (
    "Exit codes: 0 done, or stopped where --until says, 1 failed and restored, or the comparison did not pass and the "
    "canary went back, 2 refused before anything changed, 3 not restored, or not known, 4 stopped on request."
)

NAMES = {"service": "services"}  # of settings, where the option is called otherwise

Until = Annotated[str, typer.Option("--until", metavar="STEP", help="Stop after this step, such as plan or compare.")]
Back = Annotated[bool, typer.Option("--back", help="Every host that was switched goes back to what served before.")]
Status = Annotated[bool, typer.Option("--status", help="Say how far it is; contact no host.")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin a new one, whatever was begun before.")]
Canary = Annotated[str, typer.Option("--canary", metavar="HOST", help="Switch this host first.")]
AskCompare = Annotated[
    bool | None, typer.Option("--compare/--no-compare", help="Measure the canary before and after, and compare.")
]
AcceptDifferences = Annotated[
    bool | None,
    typer.Option("--accept-differences/--same-answers", help="Answers are shown, and decide nothing."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. {EXIT_CODES}")(migrate)


@on_hosts("service", "check", "yes")
def migrate(
    options: Options,
    until: Until = "",
    back: Back = False,
    status: Status = False,
    restart: Restart = False,
    canary: Canary = "",
    prompts: PromptFile = None,
    compare: AskCompare = None,
    load: AskLoad = False,
    rates: Rates = RATES,
    requests: Requests = 40,
    rendering_only: RenderingOnly = False,
    accept_differences: AcceptDifferences = None,
    no_worse: NoWorse = None,
    batches: Batches = "",
    max_fail: MaxFail = "",
) -> None:
    """From what was started by hand to what is described, step by step: one host first, compared, then the rest.

    The same command again goes on where it stopped; what it was begun with needs no second mention.

    Example: python -m deployer migrate -i fleet/hosts.yml -l gpu-nodes --load --no-worse 1.2
    """
    if sum((back, status, bool(until or restart or options.check))) > 1:
        raise typer.BadParameter("--back and --status each go alone, without --until, --restart and --check")
    if status:
        _say_status(options)
        raise typer.Exit()
    from deployer.views.console import Screen
    from deployer.views.migration import seat_of

    asks = _asks(options, until, back)
    console = Screen()
    seat = seat_of(options.as_json, asks, options.verbose, console)
    variables = rollout_variables(None, batches, None, False, max_fail)
    values = {
        "service": options.services,
        "canary": canary,
        "prompts": prompts,
        "compare": compare,
        "load": load,
        "rates": rates_of(rates),
        "requests": requests,
        "rendering_only": rendering_only,
        "accept_differences": accept_differences,
        "no_worse": no_worse,
        "batches": variables.get("rollout_batches", ()),
        "max_fail": variables.get("rollout_max_fail", 0),
    }
    given = given_of(values, options.typed)
    if back:
        done = options.deployer.migrate_back(seat=seat, **given)
    else:
        done = options.deployer.migrate(until=until, restart=restart, check=options.check, seat=seat, **given)
    if not options.as_json:
        _say_ending(console, done)
    raise typer.Exit(done.exit_code)


def given_of(values: Mapping[str, Any], typed: Collection[str]) -> Given:
    """What was typed, and nothing else: the rest is as when the migration was begun.

    Args:
        values: of all options that a migration keeps, by the name of their parameter.
        typed: the names of those that were.
    """
    given: dict[str, Any] = {NAMES.get(name, name): value for name, value in values.items() if name in typed}
    return cast("Given", given)


def _asks(options: Options, until: str, back: bool) -> bool:
    """Whether somebody is asked before anything is switched.

    Raises:
        DeployError: something would be switched, and nobody can be asked; or there is no step of that name.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from deployer.migration.steps import BEFORE_THE_SWITCH, step_named

    if until:
        step_named(until)
    if options.yes or options.check or (until in BEFORE_THE_SWITCH and not back):
        return False
    if sys.stdin.isatty() and not options.as_json:
        return True
    why = "--json answers programs, which cannot be asked" if options.as_json else "there is no terminal to ask at"
    hosts = [*(f"-i {shlex.quote(one)}" for one in options.inventory or ())]
    hosts += [f"-l {shlex.quote(options.limit)}"] * bool(options.limit)
    look = " ".join(["python -m deployer migrate", *hosts, "--status" if back else f"--until {BEFORE_THE_SWITCH[-1]}"])
    fix = f"--yes; or first what touches nothing that serves: {look}"
    raise DeployError(f"{why}, and nothing is switched on a guess", fix)


def _say_ending(console: Console, done: Migration) -> None:
    import contextlib

    from deployer.views.migration import show_ending

    with contextlib.suppress(OSError, UnicodeError, KeyboardInterrupt):  # it is over, whoever reads of it
        show_ending(console, done.state, done.folder, done.report)


def _say_status(options: Options) -> None:
    """How far the newest migration is.

    Raises:
        DeployError: there is none.
    """
    from rich.console import Console

    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from deployer.migration.state import dumped
    from deployer.views.migration import show_status

    found = options.deployer.migration()
    if found is None:
        raise DeployError(
            "there is no migration of these hosts in this folder",
            "begin one: python -m deployer migrate; or give the same -i and -l, from the folder that it was begun in",
        )
    if options.as_json:
        typer.echo(json.dumps({**json.loads(dumped(found.state)), "next": found.state.next_step}, indent=2))
        return
    show_status(Console(), found.state, found.folder, found.report)
