"""The command that writes a first inventory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    AskBecome,
    AskConnection,
    BecomeFile,
    ConnectionFile,
    Json,
    Options,
    Verbose,
    errors_said,
    refuse_arguments,
    say_ansibles_words,
)
from deployer.cli.plan import plan_json

if TYPE_CHECKING:
    from deployer.api import Plan
    from deployer.first_inventory.inventory import FirstInventory
    from deployer.first_inventory.survey import Seen
    from deployer.first_inventory.targets import Target

EXIT_CODES = (
    "Exit codes: 0 clean, 1 the plan has warnings, or something has to be filled in first, 2 the plan has errors, a "
    "host was not seen, or nothing was written."
)
SSH_CONFIG = "~/.ssh/config"


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(init)


def init(
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="HOST", help="HOST, USER@HOST, HOST:PORT or USER@HOST:PORT.")
    ] = None,
    into: Annotated[Path, typer.Option("--into", help="The folder to write, which must not be there.")] = Path("fleet"),
    every: Annotated[bool, typer.Option("--all", help="All hosts of the ssh configuration.")] = False,
    ssh_config: Annotated[Path, typer.Option("--ssh-config", help="Another than your own.")] = Path(SSH_CONFIG),
    no_plan: Annotated[bool, typer.Option("--no-plan", help="End once the inventory is written.")] = False,
    become_password_file: BecomeFile = "",
    connection_password_file: ConnectionFile = "",
    ask_become_pass: AskBecome = False,
    ask_pass: AskConnection = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Look at hosts and write a commented inventory of what was found on them; change nothing there.

    Without a host, those of ~/.ssh/config are offered. It ends with a plan of the new inventory.

    Example: python -m deployer init gpu1.example.com me@gpu2.example.com:2222
    """
    given, words = _apart(hosts or [])
    refuse_arguments((), words)
    with errors_said("init", verbose):
        from deployer.first_inventory import targets
        from deployer.first_inventory.files import refuse_existing

        refuse_existing(into)
        own = str(ssh_config) == SSH_CONFIG
        config = ssh_config.expanduser().absolute()
        if given and every:
            raise typer.BadParameter("--all takes the hosts of the ssh configuration. Fix: name hosts, or give --all")
        wanted = given or _offered(targets.configured_hosts(config), config, every)
        found = [targets.resolved(one, None if own else config) for one in targets.parse_targets(wanted)]
        options = Options(
            become_password_file=become_password_file,
            connection_password_file=connection_password_file,
            ask_become_pass=ask_become_pass,
            ask_pass=ask_pass,
            as_json=as_json,
            verbose=verbose,
            words=tuple(words),
        )
        ssh = {} if own else targets.ssh_variables(config)
        try:
            code = _run(found, ssh, into, options, not no_plan)
        except KeyboardInterrupt:
            _say(f"interrupted: {f'{into} is written' if into.is_dir() else 'nothing was written'}", "red")
            code = 2
        raise typer.Exit(code)


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The hosts, and the words behind `--`, which typer gives together."""
    behind = len(sys.argv) - sys.argv.index("--") - 1 if "--" in sys.argv else 0
    cut = max(0, len(words) - behind)
    return list(words[:cut]), list(words[cut:])


def _offered(names: Sequence[str], config: Path, every: bool) -> list[str]:
    """The hosts of the ssh configuration that are wanted: all, or those that a person picks.

    Raises:
        DeployError: there are none, or nobody is there to pick.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

    if not names:
        raise DeployError(f"{config} has no entry for a host", "name hosts: init gpu1.example.com me@gpu2:2222")
    if every:
        return list(names)
    listed = "\n".join(f"{at:>4}  {name}" for at, name in enumerate(names, 1))
    typer.echo(f"Hosts of {config}:\n{listed}", err=True)
    if not _is_terminal():
        fix = f"name them: init {names[0]} …; or take all: init --all"
        raise DeployError("no host was given, and without a terminal none of these is taken", fix)
    while True:
        answer = typer.prompt("Which? Numbers or names, or all", err=True).replace(",", " ").split()
        if answer == ["all"]:
            return list(names)
        picked = [names[int(one) - 1] if one.isdigit() and 0 < int(one) <= len(names) else one for one in answer]
        strangers = [one for one in picked if one not in names]
        if picked and not strangers:
            return list(dict.fromkeys(picked))
        typer.echo(f"{strangers[0] if strangers else 'nothing'} is none of them", err=True)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _run(found: Sequence[Target], ssh: Mapping[str, str], into: Path, options: Options, plan: bool) -> int:
    """Look, write, plan; the exit code."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from deployer.first_inventory.decisions import LOCK
    from deployer.first_inventory.files import shipped_environment, write_folder
    from deployer.first_inventory.inventory import first_inventory
    from deployer.first_inventory.survey import look_at

    _say(f"looking at {', '.join(one.name for one in found)} …")
    seen = look_at(found, ssh, lambda path: replace(options, inventory=[str(path)]).invocation())
    for one in seen:
        if one.survey is None and one.trouble is not None:
            _say(f"{one.target.name} was not seen: {one.trouble}", "red")
    if not any(one.survey for one in seen):
        _say("nothing was written, as no host was seen", "red")
        if options.as_json:
            _print_json(seen, None, into, [], None, 2)
        return 2
    inventory = first_inventory(seen, ssh, datetime.now(UTC).strftime("%Y-%m-%d"), str(into))
    copies = {LOCK: shipped_environment("sglang")} if inventory.needs_lock else {}
    files = write_folder(into, inventory.files, copies)
    _say_written(inventory, into, files)
    planned = _planned(inventory, into, options) if plan and inventory.complete else None
    code = max(2 if inventory.unseen else 0, 1 if inventory.fill_in else 0, planned.exit_code if planned else 0)
    if options.as_json:
        _print_json(seen, inventory, into, files, planned, code)
    return code


def _say(text: str, style: str = "") -> None:
    """A line for people: not on standard output, which is the plan's, or a program's."""
    from rich.console import Console

    from deployer.views.console import shown

    Console(stderr=True).print(shown(text, lines=True), style=style, highlight=False, soft_wrap=True)


def _say_written(inventory: FirstInventory, into: Path, files: Sequence[str]) -> None:
    """What was written, and what a person has to do with it."""
    _say(f"wrote {', '.join(str(into / name) for name in files)}")
    for one in inventory.described:
        for line in one.plan.look_at:
            _say(f"look at  {one.name}: {line}", "yellow")
    if inventory.needs_lock:
        _say(f"run      python -m deployer bundle {into}/environments/sglang", "yellow")
    for host, lines in inventory.fill_in.items():
        for line in lines:
            _say(f"fill in  {host}: {line}", "yellow")
    if inventory.fill_in:
        which = "" if inventory.complete else "nothing was planned; "
        _say(f"{which}then: python -m deployer plan -i {into}/hosts.yml", "yellow")


def _planned(inventory: FirstInventory, into: Path, options: Options) -> Plan:
    """Plan the hosts that can be, print that as `plan` does, and give what came of it."""
    from dataclasses import replace

    from rich.console import Console

    from deployer.views.plan import plan_lines, print_lines

    names = inventory.complete
    limit = "" if len(names) == len(inventory.described) and not inventory.unseen else ",".join(names)
    asking = replace(options, inventory=[str(into / "hosts.yml")], limit=limit)
    plan = asking.deployer.plan()
    if not options.as_json:
        print_lines(Console(), plan_lines(plan.summary if options.verbose else plan.explained))
    say_ansibles_words(options, plan)
    return plan


def _print_json(
    seen: Sequence[Seen],
    inventory: FirstInventory | None,
    into: Path,
    files: Sequence[str],
    plan: Plan | None,
    code: int,
) -> None:
    hosts = {
        one.target.name: {
            "seen": one.survey is not None,
            "problem": one.trouble.problem if one.trouble else "",
            "fix": one.trouble.fix if one.trouble else "",
            "found": one.survey.as_dict() if one.survey else None,
        }
        for one in seen
    }
    described = inventory.described if inventory else ()
    value = {
        "folder": str(into),
        "files": list(files),
        "hosts": hosts,
        "look_at": {one.name: one.plan.look_at for one in described if one.plan.look_at},
        "fill_in": inventory.fill_in if inventory else {},
        "plan": {host.host: plan_json(host) for host in plan.summary.hosts.values()} if plan else None,
        "exit_code": code,
    }
    typer.echo(json.dumps(value, indent=2))
