"""The verbs of a migration, done by its hosts; and who sits there meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.rollout import number_of
from deployer.api import comparisons
from deployer.api.comparisons import Comparison, LoadSettings, read_prompts
from deployer.api.measured import Measured
from deployer.api.plans import Plan
from deployer.api.rollouts import Rollout
from deployer.compare.parity import Explanation
from deployer.migration import verbs as found
from deployer.migration.state import Judged, Settings, State
from deployer.migration.verbs import Question
from deployer.report.comparison import headline, write_comparison
from deployer.report.migration import REPORT, write_migration
from deployer.runs.provenance import inventory_state
from deployer.runs.redaction import Redaction, known_secrets
from deployer.runs.watch import planned_hosts
from deployer.wording import counted

if TYPE_CHECKING:
    from deployer.api.hosts import Hosts
    from deployer.runs.events import Event, Listener

PROMPTS, COMPARISONS = "prompts", "compared"
OLD, NEW, COMPARED = "old.json", "new.json", "comparison.json"


class Seat(found.Seat, Protocol):
    """Who sits there, with what they watch."""

    def watching(self) -> AbstractContextManager[Sequence[Listener]]:
        """Listeners for a change that begins now, while it is entered."""

    def compared(self, service: str, comparison: Comparison) -> None:
        """Told what comparing a service before and after came to."""


class Nobody:
    """Nobody sits there: what passed goes on, and what did not goes back."""

    asks = False

    def agrees(self, question: Question, state: State) -> bool:
        """It was ordered."""
        return True

    def tell(self, kind: str, **data: Any) -> None:
        """Nobody listens."""

    def watching(self) -> AbstractContextManager[Sequence[Listener]]:
        """Nobody watches."""
        return nullcontext(())

    def compared(self, service: str, comparison: Comparison) -> None:
        """Nobody looks."""


@dataclass
class _Interrupted:
    """A listener that knows whether Ctrl-C was typed."""

    interrupted: bool = False

    def __call__(self, event: Event) -> None:
        self.interrupted = self.interrupted or event.kind == "interrupted"


@dataclass(frozen=True)
class OnFleet:
    """The verbs of a migration, done by its hosts.

    Args:
        deployer: of its hosts.
        folder: of the migration; None where nothing is written.
        seat: who watches.
        check: change nothing.
    """

    deployer: Hosts
    folder: Path | None
    seat: Seat
    check: bool = False

    def inventory(self) -> str:
        return str(inventory_state(self.deployer.paths)["digest"])

    def doctor(self, max_fail: int | str) -> found.Looked:
        plan = self.deployer.doctor()
        good, problems = _judged(plan, max_fail)
        return found.Looked(good, _counted(plan), self._redacted(problems))

    def adopt(self, services: Sequence[str], max_fail: int | str) -> found.Adopted:
        adoption = self.deployer.adopt(check=self.check)
        serving: dict[str, dict[str, found.Serving]] = {}
        problems: dict[str, list[str]] = {}
        recorded = []
        for host, answer in adoption.hosts.items():
            chosen = [one for one in answer.services if not services or one.service in services]
            serving[host] = {one.service: found.Serving(one.release, one.engine) for one in chosen}
            recorded += [f"{one.service} of {host}" for one in chosen if one.changed]
            wrong = [f"{host}: {one.problem}. Fix: {one.fix}" for one in chosen if one.problem]
            if answer.failure and not any(one.problem for one in answer.services):
                wrong = [f"{host}: {answer.reason}"]
            if wrong:
                problems[host] = wrong
        good = len(problems) <= (number_of(max_fail, len(adoption.hosts)) or 0)
        says = f"recorded {', '.join(recorded)}" if recorded else "nothing new to record"
        lines = self._redacted([line for wrong in problems.values() for line in wrong])
        return found.Adopted(good, says if good else "not all can be recorded", lines, serving)

    def serves_now(self) -> Mapping[str, Mapping[str, found.Serving]]:
        return {
            host: {one.service: found.Serving(one.release, one.engine) for one in answer.services}
            for host, answer in self.deployer.adopt(check=True).hosts.items()
        }

    def plan(self, services: Sequence[str], max_fail: int | str) -> found.Planned:
        plan = self.deployer.plan(services=services)
        self.seat.tell("plan", hosts=planned_hosts(plan.explained))
        good, problems = _judged(plan, max_fail)
        planned = tuple(
            found.PlannedService(host.host, one.service, not one.changes)
            for host in plan.hosts.values()
            if host.exit_code < 2
            for one in host.services
            if one.role == "service"
        )
        lost = tuple(host.host for host in plan.hosts.values() if host.exit_code == 2)
        return found.Planned(good, _counted(plan), self._redacted(problems), planned, lost)

    def stage(self, max_fail: int | str) -> found.Changed:
        heard = _Interrupted()
        with self.seat.watching() as listeners:
            done = self.deployer.stage(max_fail=max_fail, check=self.check, listeners=(heard, *listeners))
        hosts = counted(len(done.hosts), "host")
        would = "would be staged on" if self.check else "staged on"
        return replace(_changed(done, f"{would} {hosts}"), interrupted=heard.interrupted)

    def record(self, host: str, services: Sequence[str], settings: Settings) -> found.Recorded:
        problems = []
        taken = []
        for one in self._measured(host, services, settings):
            if one.measurement is None:
                problems.append(f"{host} {one.service}: {one.problem}")
                continue
            comparisons.save(one.measurement, self._of(one.service) / OLD)
            taken.append(one.service)
        missing = [service for service in services if service not in taken and not problems]
        problems += [f"{host} {service}: it was not measured" for service in missing]
        return found.Recorded(tuple(taken), self._redacted(problems))

    def rollout(
        self, hosts: Sequence[str], services: Sequence[str], batches: Sequence[int | str], max_fail: int | str
    ) -> found.Changed:
        these = replace(self.deployer, limit=",".join(hosts))
        heard = _Interrupted()
        with self.seat.watching() as listeners:
            every: Sequence[Listener] = (heard, *listeners)
            done = these.rollout(services=services, batches=batches, max_fail=max_fail, listeners=every)
        return replace(_changed(done, _outcomes(done)), interrupted=heard.interrupted)

    def compare(self, host: str, services: Sequence[str], settings: Settings) -> Judged:
        missing = []
        for one in self._measured(host, services, settings):
            if one.measurement is None:
                missing.append(f"{host} {one.service}: {one.problem}")
            else:
                comparisons.save(one.measurement, self._of(one.service) / NEW)
        if missing:
            return Judged(False, ("it could not be measured again",), self._redacted(missing))
        return self.judge(services, settings)

    def judge(self, services: Sequence[str], settings: Settings) -> Judged:
        lines: list[str] = []
        misses: list[str] = []
        why: list[Explanation] = []
        written: dict[str, str] = {}
        for service in services:
            folder = self._of(service)
            old, new = (comparisons.load_file(folder / name) for name in (OLD, NEW))
            compared = comparisons.compare(old, new, rendering_only=settings.rendering_only, no_worse=settings.no_worse)
            self._write(folder, compared)
            self.seat.compared(service, compared)
            lines.append(f"{service}: {headline(compared.parity, compared.load)}")
            misses += [f"{service}: {miss}" for miss in _misses(compared, settings)]
            if compared.parity is not None:
                why += compared.parity.explanations
            written[service] = f"{COMPARISONS}/{service}"
        return Judged(not misses, tuple(lines), tuple(misses), tuple(dict.fromkeys(why)), written)

    def back(
        self, targets: Mapping[str, Mapping[str, str]], batches: Sequence[int | str], max_fail: int | str
    ) -> found.Changed:
        with self.seat.watching() as listeners:
            done = self.deployer.rollback(targets=targets, batches=batches, max_fail=max_fail, listeners=listeners)
        return _changed(done, _outcomes(done))

    def report(self, state: State) -> None:
        if self.folder is None:
            return
        try:
            write_migration(self.folder, state)
        except OSError as error:
            raise DeployError(f"{self.folder / REPORT} cannot be written: {error}", "make room there") from error

    def _redacted(self, lines: Sequence[str]) -> tuple[str, ...]:
        """Lines that are kept, without the secrets that the command was started with; those of runs are so already."""
        redacted = Redaction(known_secrets(self.deployer.arguments, os.environ, self.deployer.extra_vars))
        return tuple(map(str, map(redacted, lines)))

    def _measured(self, host: str, services: Sequence[str], settings: Settings) -> Sequence[Measured]:
        prompts = None
        if self.folder is not None and settings.prompts:
            prompts = read_prompts(self.folder / PROMPTS / settings.prompts)
        load = LoadSettings(rates=settings.rates, requests=settings.requests) if settings.load else None
        return replace(self.deployer, limit=host).measure(services=services, prompts=prompts, load=load)

    def _of(self, service: str) -> Path:
        """The folder of a service's measurements, which is there."""
        assert self.folder is not None
        folder = (self.folder / COMPARISONS / service).absolute()
        for one in (folder.parent, folder):
            one.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _write(self, folder: Path, compared: Comparison) -> None:
        text = json.dumps(compared.as_json, ensure_ascii=False, indent=2) + "\n"
        try:
            write_file(str(folder / COMPARED), text, mode=0o600)
            write_comparison(folder, compared.old, compared.new, compared.parity, compared.load)
        except OSError as error:
            raise DeployError(f"{folder} cannot be written: {error}", "make room there") from error


def _judged(plan: Plan, max_fail: int | str) -> tuple[bool, tuple[str, ...]]:
    """Whether no more hosts are lost than may be; and what is wrong with them."""
    lost = [host for host in plan.hosts.values() if host.exit_code == 2]
    problems = [f"{host.host}: {host.reason}" for host in lost if host.failure]
    problems += [f"{host}: {one.subject}: {one.message}. Fix: {one.fix}" for host, one in plan.errors]
    allowed = number_of(max_fail, len(plan.hosts)) or 0
    return len(lost) <= allowed, tuple(problems)


def _counted(plan: Plan) -> str:
    severities = [one.severity for host in plan.hosts.values() for one in host.findings]
    parts = [counted(len(plan.hosts), "host")]
    lost = sum(bool(host.failure) for host in plan.hosts.values())
    parts += [f"{lost} failed"] * bool(lost)
    parts += [counted(severities.count(kind), kind) for kind in ("error", "warning") if kind in severities]
    return ", ".join(parts)


def _outcomes(done: Rollout) -> str:
    outcomes = [one.outcome for host in done.hosts.values() for one in host.services]
    return ", ".join(f"{outcomes.count(one)} {one.replace('_', ' ')}" for one in dict.fromkeys(outcomes))


def _changed(done: Rollout, says: str) -> found.Changed:
    cuts = {
        host.host: {one.service: found.Cut(one.outcome, one.after, one.reason) for one in host.services}
        for host in done.hosts.values()
    }
    problems = [f"{host}: {reason}" for host, reason in done.failures.items()]
    if not problems and done.exit_code == 2:
        problems = list(done.messages[-1:])
    return found.Changed(done.exit_code, done.meaning or says, done.run, cuts, tuple(problems))


def _misses(compared: Comparison, settings: Settings) -> list[str]:
    """What keeps a comparison from passing."""
    parity, load = compared.parity, compared.load
    misses = []
    if parity is not None and parity.differing and not settings.accept_differences:
        what = "rendered" if settings.rendering_only else "answered"
        misses.append(f"{len(parity.differing)} of {counted(len(parity.pairs), 'prompt')} are {what} differently")
    if load is not None:
        misses += load.misses or (["the load could not be made"] if load.exit_code else [])
    return misses
