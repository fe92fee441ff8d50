"""What the commands share: their options, the playbook run that follows from them, and asking the hosts quietly."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deployer.runs import results
from deployer.runs.runner import Event, Invocation, Run, run_playbook
from deployer.views.console import shown

Inventory = Annotated[
    list[str] | None, typer.Option("-i", "--inventory", help="Inventory, as ansible-playbook takes it.")
]
Limit = Annotated[str, typer.Option("-l", "--limit", help="Only these hosts, as a host pattern.")]
ExtraVars = Annotated[
    list[str] | None, typer.Option("-e", "--extra-vars", help="key=value or @file, as ansible-playbook.")
]
Check = Annotated[bool, typer.Option("--check", help="Change nothing, say what would change.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Also show steps that changed nothing.")]
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}
PASS_ON_HELP = "Words after -- go to ansible-playbook as they are, for example: -- --vault-password-file vault.txt"


def invocation_of(
    context: typer.Context,
    inventory: list[str] | None,
    limit: str,
    extra_vars: list[str] | None,
    check: bool,
    variables: Mapping[str, Any] | None = None,
) -> Invocation:
    """What a playbook is to be run with, from the options of a command.

    Args:
        variables: of the command itself.

    Raises:
        typer.BadParameter: the options cannot work.
    """
    _refuse_arguments(inventory or (), context.args)
    arguments = [word for value in extra_vars or () for word in ("-e", value)] + list(context.args)
    initiator = {"cutover_initiator": f"{_user()}@{socket.gethostname()}"}
    return Invocation(inventory or (), limit, check, {**initiator, **(variables or {})}, arguments)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry in /etc/passwd
        return f"uid {os.getuid()}"


def _refuse_arguments(inventory: Sequence[str], words: Sequence[str]) -> None:
    """What could not work is refused before Ansible starts.

    Raises:
        typer.BadParameter: a word that belongs behind `--`, a prompt that nobody could answer, no such inventory.
    """
    if words and "--" not in sys.argv:
        raise typer.BadParameter(f"unexpected {words[0]!r}. Fix: -l {words[0]} for a host, -- before words for Ansible")
    for word in words:
        if word in ("-K", "-k", "-J") or word.startswith("--ask-"):
            raise typer.BadParameter(
                f"{word} would wait for an answer that cannot be typed here. "
                "Fix: --become-password-file, --connection-password-file or --vault-password-file"
            )
    for path in inventory:
        if "," not in path and not Path(path).expanduser().exists():
            raise typer.BadParameter(f"there is no inventory {path}. Fix: give the path of its hosts.yml")


def explain(summary: results.Summary, run: Run, console: Console) -> None:
    """Where no host was met, Ansible's own words are the reason."""
    if not summary.hosts:
        lines = [line for line in run.output.splitlines() if line.strip()]
        text = "\n".join(lines[-12:]) or "ansible-playbook said nothing"
        console.print("no host was met: the inventory names none in gpu-nodes, or Ansible failed first:", style="red")
        console.print(text, highlight=False, markup=False)


def asked(playbook: str, invocation: Invocation) -> tuple[results.Summary, Run]:
    """Run a playbook that changes nothing, quietly."""
    summary = results.Summary()

    def on_event(event: Event) -> None:
        nonlocal summary
        step = results.parse_event(event)
        if step is not None:
            summary = summary.after(step)

    run = run_playbook(playbook, invocation, on_event)
    return summary, run


def tell(
    summary: results.Summary,
    run: Run,
    module: str,
    failures: Mapping[str, str],
    as_json: str,
    show: Callable[[Console, Mapping[str, Mapping[str, Any]]], None],
) -> None:
    """Print what a REPORTING module returned on every host, and why it did not on others.

    Args:
        summary: of the run.
        run: how it ended.
        module: of `results.REPORTING`.
        failures: host -> why.
        as_json: the key that the module's value has in JSON; '' to `show` it.
        show: prints the results by host.
    """
    found = summary.reports_of(module)
    if as_json:
        value = results.REPORTING[module]
        hosts = {
            name: {"failure": failures.get(name, ""), as_json: found[name][value] if name in found else None}
            for name in summary.hosts
        }
        typer.echo(json.dumps(hosts, indent=2))
    else:
        console = Console()
        show(console, found)
        for host, why in failures.items():
            console.print(f"{host}: {shown(why)}", style="red", highlight=False, soft_wrap=True)
    explain(summary, run, Console(stderr=True))


@contextmanager
def errors_said(command: str) -> Iterator[None]:
    """Say what went wrong and what to do about it, and exit with 2."""
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

    try:
        yield
    except DeployError as error:
        # A file name that is no UTF-8 cannot be printed as it is.
        typer.echo(f"{command}: {error}".encode(errors="backslashreplace").decode(), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"{command}: interrupted; the next run goes on from here", err=True)
        raise typer.Exit(2) from None
