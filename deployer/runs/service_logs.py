"""Reads the logs of services on all hosts, and follows them: what hosts answer goes to a view, line by line."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from deployer.runs.interrupts import Interrupts
from deployer.runs.problems import short
from deployer.runs.questions import Questions
from deployer.runs.results import Step, Summary, parse_event
from deployer.runs.runner import Event, Invocation, Run, run_playbook

PLAYBOOK = "logs"
MODULE = "deployer.sglang.service_log"
MOST_HOSTS = 500  # that are followed at once: each keeps a worker of Ansible's


@dataclass(frozen=True)
class LogLine:
    """A line, and whose it is.

    Args:
        host: as the inventory names it.
        service: that has logged it.
        time: ISO 8601 in UTC; '' where nothing tells.
        level: error, warning or info; '' where nothing tells.
        text: as the host gave it.
    """

    host: str
    service: str
    time: str
    level: str
    text: str


def lines_of(host: str, service: str, lines: Iterable[Mapping[str, Any]]) -> list[LogLine]:
    """The lines of one answer of M(deployer.sglang.service_log)."""
    return [LogLine(host, service, *(str(one.get(key) or "") for key in ("time", "level", "text"))) for one in lines]


def merged(logs: Iterable[Sequence[LogLine]]) -> list[LogLine]:
    """The lines of several logs by time; a line that has none follows the one before it in its log.

    Args:
        logs: each oldest first.
    """
    keyed: list[tuple[str, LogLine]] = []
    for log in logs:
        last = next((line.time for line in log if line.time), "")
        for line in log:
            last = max(last, line.time)
            keyed.append((last, line))
    return [line for _, line in sorted(keyed, key=lambda one: one[0])]


class LogView(Protocol):
    """Where lines go."""

    def known(self, hosts: Iterable[str]) -> None:
        """Names of hosts that will be met."""

    def lines(self, lines: Iterable[LogLine]) -> None:
        """Show lines."""

    def remark(self, host: str, service: str, text: str) -> None:
        """Say something of a log, or of a host where there is no service."""

    def left_out(self, host: str, service: str, count: int) -> None:
        """Say that lines are missing."""


@dataclass
class Gathered:
    """What hosts have answered, and which of them did not."""

    view: LogView
    at_once: bool
    summary: Summary = field(default_factory=Summary)
    found: list[list[LogLine]] = field(default_factory=list)
    services: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def on_event(self, event: Event) -> None:
        """Take one event of Ansible's."""
        step = parse_event(event)
        if step is None:
            return
        before = self.summary
        self.summary = self.summary.after(step)
        if step.action == MODULE and step.kind == "ok":
            self._answered(step)
        host = self.summary.hosts[step.host]
        if self.at_once and host.failure and not (step.host in before.hosts and before.hosts[step.host].failure):
            with self._lock:
                self.view.remark(step.host, "", short(host.failure, step.host))

    def told(self, question: Mapping[str, Any]) -> str:
        """Take what the action says while it follows; it goes on once that is printed."""
        message: Mapping[str, Any] = question.get("log") or {}
        host, service = str(message.get("host")), str(message.get("service") or "")
        with self._lock:
            self.services.add(service)
            self.view.lines(lines_of(host, service, message.get("lines") or ()))
            self.view.left_out(host, service, int(message.get("left_out") or 0))
            if message.get("problem"):
                self.view.remark(host, service, str(message["problem"]))
        return ""

    def show(self) -> None:
        """Print all that was gathered, by time."""
        self.view.known(self.summary.hosts)
        self.view.lines(merged(self.found))
        for host in self.summary.hosts.values():
            if host.failure:
                self.view.remark(host.host, "", short(host.failure, host.host))

    def _answered(self, step: Step) -> None:
        for one in step.result.get("logs") or ():
            service = str(one["service"])
            self.services.add(service)
            self.found.append(lines_of(step.host, service, one["lines"]))
            self.view.left_out(step.host, service, int(one.get("left_out") or 0))
            if one.get("problem"):
                self.view.remark(step.host, service, str(one["problem"]))


def read_logs(invocation: Invocation, view: LogView) -> tuple[Gathered, Run]:
    """Show what services have logged, by time, once all hosts have answered."""
    gathered = Gathered(view, at_once=False)
    with _listening(gathered) as path:
        run = run_playbook(PLAYBOOK, _with_socket(invocation, path), gathered.on_event)
    gathered.show()
    return gathered, run


def follow_logs(invocation: Invocation, view: LogView) -> tuple[Gathered, Run, bool]:
    """Show what services log, as they do, until Ctrl-C or until no host is left to follow.

    Returns:
        What came, how the playbook ended, and whether that was Ctrl-C.
    """
    gathered = Gathered(view, at_once=True)
    words = ["--forks", str(MOST_HOSTS), *invocation.arguments]
    with Interrupts() as interrupts, _listening(gathered) as path:
        order = replace(_with_socket(invocation, path), arguments=words)
        run = run_playbook(PLAYBOOK, order, gathered.on_event, lambda: interrupts.requested)
        return gathered, run, interrupts.requested


@contextmanager
def _listening(gathered: Gathered) -> Iterator[str]:
    """The path of a socket at which the playbook tells what was logged."""
    with Questions(gathered.told) as questions:
        yield questions.path


def _with_socket(invocation: Invocation, path: str) -> Invocation:
    return replace(invocation, extra_vars={**invocation.extra_vars, "rollout_socket": path})
