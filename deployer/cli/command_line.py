"""What the commands share: their options, defined once, the run that follows from them, and how errors are said."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from deployer.runs import results
from deployer.runs.problems import of_run, told
from deployer.runs.results import Summary
from deployer.runs.runner import Invocation, Run, initiator

if TYPE_CHECKING:
    from rich.console import Console

    from deployer.api import Answer, Deployer

Inventory = Annotated[
    list[str] | None,
    typer.Option("-i", "--inventory", help="Inventory, as ansible-playbook takes it."),
]
Limit = Annotated[str, typer.Option("-l", "--limit", help="Only these hosts, as a host pattern.")]
ExtraVars = Annotated[
    list[str] | None,
    typer.Option("-e", "--extra-vars", help="key=value or @file, as ansible-playbook."),
]
Services = Annotated[
    list[str] | None, typer.Option("--service", help="Only this service of each host; may be given several times.")
]
Check = Annotated[bool, typer.Option("--check", help="Change nothing, say what would change.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing: do it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of what people read.")]
Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Say all: steps that changed nothing, Ansible's words."),
]
VaultFile = Annotated[
    list[str] | None,
    typer.Option("--vault-password-file", metavar="FILE", help="Has a vault password."),
]
VaultId = Annotated[
    list[str] | None,
    typer.Option("--vault-id", metavar="LABEL@FILE", help="The same for one label."),
]
BecomeFile = Annotated[str, typer.Option("--become-password-file", metavar="FILE", help="Has sudo's password.")]
ConnectionFile = Annotated[
    str,
    typer.Option("--connection-password-file", metavar="FILE", help="Has SSH's password."),
]
AskVault = Annotated[bool, typer.Option("-J", "--ask-vault-pass", help="Ask for a vault password.")]
AskBecome = Annotated[bool, typer.Option("-K", "--ask-become-pass", help="Ask for sudo's password.")]
AskConnection = Annotated[bool, typer.Option("-k", "--ask-pass", help="Ask for SSH's password.")]

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": False}
PASS_ON_HELP = "Words after -- go to ansible-playbook as they are, for example: -- --forks 10"
ASKING = {
    "-J": "-J", "--ask-vault-pass": "-J", "--ask-vault-password": "-J",
    "-K": "-K", "--ask-become-pass": "-K",
    "-k": "-k", "--ask-pass": "-k",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The options of a command that contacts hosts: the same words with the same meaning in every one of them.

    The fields are the parameters that `on_hosts` gives a command; CHOSEN are for commands that ask for them.
    """

    service: Services = None
    check: Check = False
    yes: Yes = False
    inventory: Inventory = None
    limit: Limit = ""
    extra_vars: ExtraVars = None
    vault_password_file: VaultFile = None
    vault_id: VaultId = None
    become_password_file: BecomeFile = ""
    connection_password_file: ConnectionFile = ""
    ask_vault_pass: AskVault = False
    ask_become_pass: AskBecome = False
    ask_pass: AskConnection = False
    as_json: Json = False
    verbose: Verbose = False
    words: Sequence[str] = ()  # behind --
    typed: frozenset[str] = frozenset()  # the parameters of the command that were, and are not by default

    @functools.cached_property
    def arguments(self) -> tuple[str, ...]:
        """Words for ansible-playbook; what it is to be told and nobody else is asked for now, once."""
        from deployer.cli.passwords import handed_over

        given = [word for value in self.extra_vars or () for word in ("-e", value)]
        given += [word for path in self.vault_password_file or () for word in ("--vault-password-file", path)]
        given += [word for name in self.vault_id or () for word in ("--vault-id", name)]
        passwords = (
            ("--become-password-file", self.become_password_file, self.ask_become_pass, "sudo password: "),
            ("--connection-password-file", self.connection_password_file, self.ask_pass, "SSH password: "),
            ("--vault-password-file", "", self.ask_vault_pass, "vault password: "),
        )
        for option, path, ask, prompt in passwords:
            if path or ask:
                given += [option, path or handed_over(prompt)]
        return (*given, *self.words)

    def invocation(self, variables: Mapping[str, Any] | None = None) -> Invocation:
        """What a playbook is to be run with.

        Args:
            variables: of the command itself.
        """
        own = {"cutover_initiator": initiator(), **(variables or {})}
        return Invocation(self.inventory or (), self.limit, self.check, own, self.arguments)

    @property
    def deployer(self) -> Deployer:
        """The same for the Python API."""
        from deployer.api import Deployer

        return Deployer(self.inventory or (), limit=self.limit, arguments=self.arguments)

    @property
    def services(self) -> tuple[str, ...]:
        """Those that --service names; empty for all."""
        return tuple(self.service or ())


CHOSEN = frozenset({"service", "check", "yes"})
OF_THE_CALL = ("words", "typed")  # fields of Options that are no parameters


def on_hosts(*chosen: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function that takes Options first: it gets the options of all commands that contact hosts.

    What goes wrong and was to be foreseen is said in one line, and ends it with 2.

    Args:
        chosen: those of CHOSEN that it takes, too.
    """
    hints = get_type_hints(Options, include_extras=True)
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])
        for one in fields(Options)
        if one.name not in OF_THE_CALL and (one.name not in CHOSEN or one.name in chosen)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]

        @functools.wraps(command)
        def run(*, context: typer.Context, **values: Any) -> None:
            given = {one.name: values.pop(one.name) for one in shared}
            refuse_arguments(given["inventory"] or (), context.args)
            given["verbose"] |= bool(context.parent and context.parent.params.get("verbose"))  # deployer -v VERB
            typed = frozenset(name for name in context.params if _is_typed(context, name))
            options = Options(**given, words=tuple(context.args), typed=typed)
            with errors_said(command.__name__.replace("_", " "), options.verbose):
                command(options, **values)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def refuse_arguments(inventory: Sequence[str], words: Sequence[str]) -> None:
    """What could not work is refused before Ansible starts.

    Raises:
        typer.BadParameter: a word that belongs behind `--`, a prompt that nobody could answer, no such inventory.
    """
    if words and "--" not in sys.argv:
        raise typer.BadParameter(f"unexpected {words[0]!r}. Fix: -l {words[0]} for a host, -- before words for Ansible")
    for word in words:
        if word in ASKING:
            raise typer.BadParameter(
                f"{word} would wait for an answer that cannot be typed there. Fix: write {ASKING[word]} before the --"
            )
    for path in inventory:
        if "," not in path and not Path(path).expanduser().exists():
            raise typer.BadParameter(f"there is no inventory {path}. Fix: give the path of its hosts.yml")


@contextmanager
def errors_said(command: str, verbose: bool = True) -> Iterator[None]:
    """Say what went wrong and what to do about it, and exit with 2.

    Args:
        command: as it is called.
        verbose: with the detail, such as Ansible's own words.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

    try:
        yield
    except DeployError as error:
        text = str(error) if verbose or not error.detail else str(DeployError(error.problem, error.fix))
        more = "" if verbose or not error.detail else " (-v says more)"
        # A file name that is no UTF-8 cannot be printed as it is.
        typer.echo(f"{command}: {text}{more}".encode(errors="backslashreplace").decode(), err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        typer.echo(f"{command}: interrupted; the next run goes on from here", err=True)
        raise typer.Exit(2) from None


def say_ansibles_words(options: Options, answer: Answer[Any]) -> None:
    """With -v, what Ansible printed, where something went wrong."""
    if options.verbose and answer.failures:
        typer.echo(answer.output, err=True)


def tell(
    summary: Summary,
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

    Raises:
        DeployError: no host was met.
    """
    from rich.console import Console

    from deployer.views.console import shown

    if not summary.hosts:
        raise of_run(run.output, run.status).error()
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
            console.print(f"{host}: {shown(told(why, host), lines=True)}", style="red", highlight=False, soft_wrap=True)
