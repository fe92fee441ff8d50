"""The command that compares two servers, such as the one that serves with the one that is to."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployer.cli.command_line import Options, on_hosts
from deployer.cli.compared_servers import ComparedServer

if TYPE_CHECKING:
    from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
    from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts
    from deployer.api.comparisons import Asked, Comparison, LoadBy, Measurement
    from deployer.compare.maker import Maker

RATES = "1,2,4"
MAX = "max"
EPILOG = (
    "Exit codes: 0 the same answers and a load as good as asked for, 1 not, 2 could not be measured. "
    "A key that a server wants is taken from OPENAI_API_KEY."
)

Servers = Annotated[
    list[str],
    typer.Argument(
        metavar="[OLD] NEW",
        help="Servers, such as http://gpu1:8001, or HOST:SERVICE of the inventory; one with --record or --against.",
    ),
]
AskParity = Annotated[bool, typer.Option("--parity", help="Compare answers; so it is, too, where --load is not given.")]
AskLoad = Annotated[
    bool, typer.Option("--load", help="Compare time to first token, latency and throughput under load.")
]
Record = Annotated[
    Path | None, typer.Option("--record", metavar="FILE", help="Measure one server now, to compare with it later.")
]
Against = Annotated[
    Path | None, typer.Option("--against", metavar="FILE", help="Measure one server as that in FILE, and compare.")
]
Model = Annotated[str, typer.Option("--model", help="Name to ask both for; the first that each lists otherwise.")]
OldModel = Annotated[str, typer.Option("--old-model", metavar="NAME", help="The same for the old one alone.")]
NewModel = Annotated[str, typer.Option("--new-model", metavar="NAME", help="The same for the new one alone.")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompts", metavar="FILE", help="A prompt a line: text, or JSON with messages.")
]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of an answer: 64, under load 128.")]
RenderingOnly = Annotated[bool, typer.Option("--rendering-only", help="Texts may differ, prompt lengths may not.")]
Rates = Annotated[str, typer.Option("--rates", metavar="LIST", help="Requests a second, and max for all at once.")]
Requests = Annotated[int, typer.Option("--requests", min=1, help="Requests at each rate.")]
RequestTimeout = Annotated[
    float, typer.Option("--request-timeout", metavar="SECONDS", help="After which one has failed.")
]
Seed = Annotated[int, typer.Option("--seed", help="Of the choice of prompts and the times between requests.")]
PythonPrefix = Annotated[
    str, typer.Option("--python", metavar="[HOST:]PREFIX", help="An environment with SGLang, which makes the load.")
]
SshConfig = Annotated[str, typer.Option("--ssh-config", metavar="FILE", help="For HOST:PREFIX, another than your own.")]
Tokenizer = Annotated[
    str, typer.Option("--tokenizer", metavar="FOLDER", help="The model's folder where the load is made: counts tokens.")
]
NoWorse = Annotated[
    float | None,
    typer.Option("--no-worse", metavar="FACTOR", min=0, help="Exit with 1 where p99 latency or failures are worse."),
]
OldAbout = Annotated[str, typer.Option("--old-about", metavar="TEXT", help="Hardware and flags of the old one.")]
About = Annotated[str, typer.Option("--about", metavar="TEXT", help="The same of the new one, or of the only one.")]
Into = Annotated[Path | None, typer.Option("--into", metavar="FOLDER", help="The folder to write on this machine.")]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(epilog=EPILOG)(compare)


@on_hosts()
def compare(
    options: Options,
    servers: Servers,
    parity: AskParity = False,
    load: AskLoad = False,
    record: Record = None,
    against: Against = None,
    model: Model = "",
    old_model: OldModel = "",
    new_model: NewModel = "",
    prompts: PromptFile = None,
    max_tokens: MaxTokens = None,
    rendering_only: RenderingOnly = False,
    rates: Rates = RATES,
    requests: Requests = 40,
    request_timeout: RequestTimeout = 60.0,
    seed: Seed = 1,
    python: PythonPrefix = "",
    ssh_config: SshConfig = "",
    tokenizer: Tokenizer = "",
    no_worse: NoWorse = None,
    old_about: OldAbout = "",
    about: About = "",
    into: Into = None,
) -> None:
    """Compare two servers that speak the OpenAI API: what they answer, and how fast they are under load.

    Where old and new share a port and GPUs: --record FILE OLD before the rollout, --against FILE NEW after it.

    Example: python -m deployer compare --record old.json http://gpu1:8001
    """
    wanted = 1 if record or against else 2
    if len(servers) != wanted or (record and against):
        raise typer.BadParameter("give OLD and NEW, or one of them with either --record FILE or --against FILE")
    if against and (prompts or max_tokens or parity or load):
        raise typer.BadParameter(
            f"{against} says what is asked. Fix: leave out --prompts, --max-tokens, --parity and --load"
        )
    first = ComparedServer(servers[0], old_model or model, (about or old_about) if record else old_about)
    last = ComparedServer(servers[-1], new_model or model, about)
    _refuse_mixture(first, last, options)
    from deployer.api import comparisons
    from deployer.compare.maker import Maker
    from deployer.compare.record import load_file, refuse_place, save

    if record is not None:
        refuse_place(record)
    if against is not None:
        old = load_file(against)
        asked = comparisons.Asked.of(old)
    else:
        settings = _settings(rates, requests, max_tokens, request_timeout, seed) if load else None
        asked = comparisons.Asked(_prompts(prompts), max_tokens or comparisons.MAX_TOKENS, parity or not load, settings)
    made = _made_by(Maker(python, ssh_config) if python else None, tokenizer, asked, (first, last))
    if record is not None:
        measured = first.measured(asked, made, options.deployer, _say)
        save(measured, record)
        _say_recorded(measured, record, first, options)
        raise typer.Exit(_not_measured(measured))
    if against is None:
        old = first.measured(asked, made, options.deployer, _say)
    new = last.measured(asked, made, options.deployer, _say)
    compared = comparisons.compare(old, new, rendering_only=rendering_only, no_worse=no_worse)
    report = _written(compared, into) if into is not None else None
    _show(compared, report, options.as_json)
    raise typer.Exit(compared.exit_code)


def _refuse_mixture(first: ComparedServer, last: ComparedServer, options: Options) -> None:
    """Refuse options that say nothing to who is measured."""
    named = [one for one in (first, last) if one.on_host != ("", "")]
    if named and any(one.model for one in named):
        raise typer.BadParameter(f"{named[0].word} is asked by the name of its release. Fix: leave out --model")
    if options.limit:
        raise typer.BadParameter("-l says nothing here. Fix: name the host, as HOST:SERVICE")


def _prompts(path: Path | None) -> Prompts | None:
    from deployer.compare.prompt_file import read_prompts

    return read_prompts(path) if path is not None else None


def _settings(rates: str, requests: int, max_tokens: int | None, timeout: float, seed: int) -> LoadSettings:
    from deployer.api.comparisons import LoadSettings

    return LoadSettings(rates_of(rates), requests, max_tokens or LoadSettings.max_tokens, timeout, seed)


def _made_by(maker: Maker | None, tokenizer: str, asked: Asked, servers: Sequence[ComparedServer]) -> LoadBy | None:
    """What makes the load of servers that are named by URL; None where none is to be made."""
    from deployer.api.comparisons import LoadBy

    if asked.load is None or all(one.on_host != ("", "") for one in servers):
        return None
    if maker is None:
        raise typer.BadParameter(
            "a load is made by SGLang's own benchmark. Fix: give --python an environment with SGLang"
        )
    return LoadBy(maker, tokenizer, asked.load)


def rates_of(text: str) -> tuple[float, ...]:
    """The rates that `--rates` names.

    Raises:
        typer.BadParameter: it names none.
    """
    try:
        rates = tuple(math.inf if one.strip() == MAX else float(one) for one in text.split(","))
        if all(rate > 0 for rate in rates):
            return rates
    except ValueError:
        pass
    raise typer.BadParameter(f"--rates {text!r}. Fix: give numbers above 0 and {MAX}, such as 1,4,{MAX}")


def _say(text: str) -> None:
    typer.echo(f"… {text}", err=True)


def _say_recorded(measured: Measurement, path: Path, server: ComparedServer, options: Options) -> None:
    from deployer.wording import printable

    replies = len(measured.answers.replies) if measured.answers else 0
    steps = len(measured.load.steps) if measured.load else 0
    if options.as_json:
        typer.echo(json.dumps({"recorded": str(path), "answers": replies, "rates": steps}))
        return
    parts = [f"{replies} answers"] * bool(replies) + [f"a load at {steps} rates"] * bool(steps)
    typer.echo(f"recorded {' and '.join(parts)} of {printable(measured.server.name)} in {path}")
    on_host = server.on_host != ("", "")
    words = [f" -i {shlex.quote(one)}" for one in options.inventory or () if on_host]
    more = " --python PREFIX" if steps and not on_host else ""
    who = server.word if on_host else measured.server.url
    typer.echo(f"after the rollout: python -m deployer compare{''.join(words)} --against {path}{more} {who}")


def _not_measured(measured: Measurement) -> int:
    """2 where a load was to be made and could be at no rate, which is said; 0 otherwise."""
    from deployer.wording import printable

    steps = measured.load.steps if measured.load else ()
    if not steps or not all(one.problem for one in steps):
        return 0
    typer.echo(f"compare: the load could not be made: {printable(steps[0].problem)}", err=True)
    return 2


def _written(compared: Comparison, folder: Path) -> Path:
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
    from deployer.report.comparison import write_comparison

    try:
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        write_file(str(folder / "comparison.json"), _text(compared.as_json), mode=0o600)
        return write_comparison(folder, compared.old, compared.new, compared.parity, compared.load)
    except OSError as error:
        raise DeployError(f"{folder} cannot be written: {error}", "name a folder of yours with --into") from error


def _show(compared: Comparison, report: Path | None, as_json: bool) -> None:
    if as_json:
        typer.echo(_text({**compared.as_json, "report": str(report) if report else None}), nl=False)
        return
    from rich.console import Console

    from deployer.views.comparison import show_load, show_parity, show_servers

    console = Console()
    show_servers(console, compared.old.server, compared.new.server)
    if compared.parity is not None:
        show_parity(console, compared.parity)
    if compared.load is not None:
        show_load(console, compared.load)
    if report is not None:
        console.print(f"report: {report}", markup=False, highlight=False, soft_wrap=True)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
