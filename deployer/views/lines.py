"""Events as lines of markup: what a log has of them, and what stands above a live view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deployer.runs.events import Event
from deployer.runs.results import WEIGHTS
from deployer.views.console import cutover_line, shown

# The task that Ansible puts before every role with an argument spec, and ours that mostly have nothing to do.
UNSAID = ("Validating arguments", "Run the hooks", "Give the lock back", "Ensure the service description has no")
LEVEL_STYLE = {"info": "default", "warning": "yellow", "error": "red"}
SERVING_STYLE = {"old": "cyan", "new": "green", "none": "red", "unknown": "yellow"}
MOST_EVIDENCE = 8  # lines of a failure that are shown at once; the report has all
MOST_HOSTS = 8


def lines_of(event: Event, verbose: bool = False) -> Iterator[str]:
    """What an event is for people; nothing where it is not worth a line.

    Args:
        event: what happened.
        verbose: what changed nothing, too.
    """
    data = event.data
    if event.kind == "task":
        if verbose or not str(data["task"]).startswith(UNSAID):
            yield f"[dim]… {shown(data['task'])}[/]"
    elif event.kind == "step":
        yield from _step(data, verbose)
    elif event.kind == "cutover":
        yield from _cutover(data)
    elif event.kind == "state":
        yield f"[dim]{shown(data['host'])} {shown(state_text(data))}[/]"
    elif event.kind == "batch":
        yield f"[bold]{shown(batch_line(data))}[/]"
    elif event.kind == "message":
        yield from _message(data)
    elif event.kind == "interrupted":
        yield f"[yellow]{shown(data['text'])}[/]"
        for host, does in data.get("hosts", {}).items():
            yield f"  [bold]{shown(host)}[/] {shown(does)}"
    elif event.kind == "diff":
        for line in data["lines"]:
            style = {"+": "green", "-": "red"}.get(line[:1], "default")
            yield f"  [{style}]{shown(line)}[/]"


def is_urgent(event: Event) -> bool:
    """True for what has to be read at once, and stands above a live view."""
    if event.kind == "step":
        return str(event.data["kind"]) != "ok"
    if event.kind == "message":
        # How far a transfer is, the live view shows by itself.
        return not str(event.data["text"]).startswith(WEIGHTS)
    return event.kind in ("cutover", "batch", "interrupted", "diff")


def batch_line(data: Mapping[str, Any]) -> str:
    """A batch: which, how many are done, lost, and left."""
    hosts, lost = (list(data.get(key) or ()) for key in ("hosts", "lost"))
    names = ", ".join(hosts[:MOST_HOSTS]) + (f" and {len(hosts) - MOST_HOSTS} more" if len(hosts) > MOST_HOSTS else "")
    done, later = len(data.get("done") or ()), int(data.get("later") or 0)
    parts = [f"{done} done"] + ([f"{len(lost)} failed"] if lost else []) + ([f"{later} after it"] if later else [])
    return f"batch {data.get('batch')} of {data.get('of')}: {names} ({', '.join(parts)})"


def state_text(data: Mapping[str, Any]) -> str:
    """What a cut-over is at, and what a client of the service sees meanwhile."""
    serves = {"old": "the old one serves", "new": "the new one serves", "none": "nothing serves"}
    client = serves.get(str(data["serving"]), "what serves is not known")
    expected = data.get("expected")
    of = f" of about {expected:.0f}" if expected else ""
    return f"{data['service']}: {data['state']}, {client}, {data['seconds']:.0f}{of} s"


def _step(data: Mapping[str, Any], verbose: bool) -> Iterator[str]:
    host, task = f"[bold]{shown(data['host'])}[/]", shown(data["task"])
    if data["kind"] != "ok":
        # Of the sum of a loop, and of an end of a phase, everything was said.
        if data.get("message"):
            yield f"{host} [red]{data['kind']}[/] {task}"
            yield f"  [red]{shown(data['message'])}[/]"
            for line in str(data.get("detail") or "").splitlines():
                yield f"  [red]{shown(line)}[/]"
    elif data["changed"]:
        note = f" [dim]({shown(data['note'])})[/]" if data.get("note") else ""
        yield f"{host} [yellow]changed[/] {task}{note}"
    elif verbose and "phase_seconds" not in data:
        yield f"{host} [dim]ok[/] {task}"


def _cutover(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"[bold]{shown(data['host'])}[/] {cutover_line(data)}"
    if data.get("warning"):
        yield f"  [yellow]{shown(data['warning'])}[/]"
    if data.get("measured"):
        yield f"  [dim]{shown(data['measured'])}[/]"
    if data["outcome"] not in ("restored", "not_restored", "refused"):
        return
    kind = data["failure"].get("kind")
    yield f"  [red]{shown(data.get('reason') or 'it did not pass')}[/]" + (
        f" [dim]\\[{shown(kind)}][/]" if kind else ""
    )
    evidence = data["failure"].get("evidence") or str(data.get("log") or "").splitlines()[-MOST_EVIDENCE:]
    for line in evidence[:MOST_EVIDENCE]:
        yield f"    [dim]{shown(line)}[/]"
    if data.get("by_hand"):
        yield f"  [bold red]by hand on {shown(data['host'])}:[/] {shown(data['by_hand'])}"


def _message(data: Mapping[str, Any]) -> Iterator[str]:
    style = LEVEL_STYLE.get(str(data["level"]), "default")
    for line in str(data["text"]).splitlines():
        yield f"[{style}]{shown(line)}[/]"
