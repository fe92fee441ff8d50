"""The command that fetches what the clients of services test and learn them by."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts, say_ansibles_words

if TYPE_CHECKING:
    from deployer.api import Client, ClientKit

EXIT_CODES = "Exit codes: 0 all kits are here, 1 some are not or were changed here, 2 not all hosts were asked."


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(client)


@on_hosts("service", "check")
def client(
    options: Options,
    into: Annotated[
        str, typer.Option("--into", metavar="FOLDER", help="The folder to write on this machine.")
    ] = "client",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that were changed there.")] = False,
) -> None:
    """Fetch test programs, a usage guide (English, Chinese) and Python access of each service, as its release has them.

    Example: python -m deployer client -i inventory/hosts.yml --service code2sql
    """
    from rich.console import Console

    from deployer.views.console import shown

    fetched = options.deployer.client(services=options.services, into=into, check=options.check, force=force)
    if options.as_json:
        typer.echo(json.dumps(client_json(fetched), indent=2))
    else:
        console = Console()
        for style, line in client_lines(fetched, options.check):
            console.print(shown(line), style=style, highlight=False, soft_wrap=True)
        for host in filter(lambda host: host.failure, fetched.hosts.values()):
            line = f"{host.host}: {shown(host.explained, lines=True)}"
            console.print(line, style="red", highlight=False, soft_wrap=True)
    say_ansibles_words(options, fetched)
    raise typer.Exit(fetched.exit_code)


def client_json(fetched: Client) -> dict[str, dict[str, object]]:
    """What became of the kits, without their texts."""
    from dataclasses import asdict

    return {
        host.host: {"failure": host.failure, "kits": [asdict(kit) for kit in host.kits]}
        for host in fetched.hosts.values()
    }


def client_lines(fetched: Client, check: bool) -> Iterator[tuple[str, str]]:
    """A line a service, each with its style, and how to go on."""
    first = ""
    for host in fetched.hosts.values():
        for kit in host.kits:
            yield ("yellow" if kit.problem else ""), f"{host.host} {kit.service}: {_became(kit, check)}"
            first = first or ("" if kit.problem else kit.folder)
    if first and not check:
        yield "dim", f"next: python3 {shlex.quote(first)}/test_sglang_api.py"


def _became(kit: ClientKit, check: bool) -> str:
    if kit.problem:
        return f"{kit.problem}. Fix: {kit.fix}"
    if not kit.written:
        done = "unchanged"
    else:
        done = f"{len(kit.written)} of {len(kit.files)} files {'would be written' if check else 'written'}"
    return f"{kit.folder}, release {kit.release} of {kit.engine}, {done}"
