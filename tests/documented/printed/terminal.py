"""Has the tool's own views print what hosts and Ansible said, as a rollout prints it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import Outcome
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import plan_report
from deployer.runs.events import Event
from deployer.runs.results import CUTOVER, HostResult, Summary
from deployer.runs.watch import Watch
from deployer.views.plain import PlainView
from deployer.views.plan import plan_lines, print_lines
from deployer.views.status import print_status
from tests.doubles.hosts import host_facts
from tests.doubles.released_host import SERVICE, ReleasedHost
from tests.unit.deployer.runs.recorded import broadcast

WIDTH = 100


def console() -> Console:
    """A terminal that remembers what is printed to it."""
    return Console(width=WIDTH, record=True, force_terminal=False, file=io.StringIO())


def printed_by(draw: Callable[[Console], object]) -> str:
    """What a view prints."""
    screen = console()
    draw(screen)
    return screen.export_text()


def events(*told: Event) -> str:
    """Events, as a rollout prints them where there is no terminal."""
    return printed_by(lambda screen: [PlainView(screen)(one) for one in told])


def ended(
    host: str,
    task: str,
    result: Mapping[str, Any],
    how: str = "failed",
    action: str = "x.y.z",
    role: str = "preflight",
    item: bool = False,
) -> dict[str, Any]:
    """What ansible-runner tells of a task that has ended on a host."""
    data = {"host": host, "task": task, "role": role, "task_action": action, "res": dict(result)}
    return {"event": f"runner_{'item_' if item else ''}on_{how}", "event_data": data}


def watched(*told: Mapping[str, Any]) -> str:
    """What ansible-runner tells, as a rollout prints it."""
    seen: list[Event] = []
    watch = Watch(broadcast(seen))
    for one in told:
        watch.on_event(one)
    return events(*seen)


def cut_over(host: str, outcome: Outcome, **more: Any) -> str:
    """A cut-over's outcome, as a rollout prints it."""
    result = {"service": SERVICE, "changed": True, **outcome.as_dict(), **more}
    how = "failed" if outcome.failed else "ok"
    return watched(
        ended(host, "Ensure each service serves the release asked for", result, how, CUTOVER, "cutover", True)
    )


def plan(made: HostPlan, facts: HostFacts | None = None, host: str = "gpu1") -> str:
    """A plan, as `plan` prints it."""
    report = plan_report(made, facts or host_facts(), {})
    summary = Summary({host: HostResult(host, plan=report)})
    return printed_by(lambda screen: print_lines(screen, plan_lines(summary)))


def status(*services: Mapping[str, Any], host: str = "gpu1") -> str:
    """What a host says of its services, as `status` prints it."""
    summary = Summary({host: HostResult(host, services=services)})
    return printed_by(lambda screen: print_status(summary, screen))


def as_deployed(text: str, host: ReleasedHost) -> str:
    """A text of a host of the tests, as a host has it that is deployed to by default."""
    return text.replace(host.root, "/opt/inference").replace(str(host.port), "8001")


def in_place_of(text: str, folder: Path, instead: str) -> str:
    """A text in which a folder of the tests is called by another name."""
    return text.replace(str(folder), instead)
