"""The verbs of a migration without any host: what they answer is said beforehand, and what they were asked is noted."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.migration.state import Judged, Settings, State
from deployer.migration.verbs import (
    Adopted,
    Changed,
    Cut,
    Looked,
    Planned,
    PlannedService,
    Question,
    Recorded,
    Serving,
)
from deployer.migration.walk import go_back, walk

OLD, NEW = "old-release", "new-release"
PASSED = Judged(True, ("s: the same answers",), folders={"s": "compared/s"})
DIFFERS = Judged(False, ("s: answers differ",), ("s: 6 of 8 prompts are answered differently",))


class Killed(BaseException):
    """SIGKILL: nothing is done any more, not even what follows an error."""


@dataclass
class Fleet:
    """Hosts with one service, `s`, and what becomes of it.

    Args:
        serving: the release that serves, by host; '' for none.
        described: the release that is described.
        fails: what a rollout comes to on a host, by host: restored, not_restored.
        answers: what is returned instead of doing it, by verb, once; an error is raised.
        judged: what comparing comes to.
    """

    serving: dict[str, str]
    described: str = NEW
    fails: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    judged: Judged = PASSED
    digest: str = "first"
    did: list[str] = field(default_factory=list)

    def inventory(self) -> str:
        return self.digest

    def doctor(self, max_fail: int | str) -> Looked:
        return self._did("doctor") or Looked(True, "fine")

    def adopt(self, services: Sequence[str], max_fail: int | str) -> Adopted:
        serving = {host: {"s": Serving(one, "llamafactory" if one else "")} for host, one in self.serving.items()}
        return self._did("adopt") or Adopted(True, "recorded", serving=serving)

    def serves_now(self) -> Mapping[str, Mapping[str, Serving]]:
        return {host: {"s": Serving(one)} for host, one in self.serving.items()}

    def plan(self, services: Sequence[str], max_fail: int | str) -> Planned:
        planned = tuple(PlannedService(host, "s", one == self.described) for host, one in self.serving.items())
        return self._did("plan") or Planned(True, "planned", services=planned)

    def stage(self, max_fail: int | str) -> Changed:
        return self._did("stage") or Changed(0, "staged", "run-stage")

    def record(self, host: str, services: Sequence[str], settings: Settings) -> Recorded:
        return self._did(f"record {host}") or Recorded(tuple(services))

    def rollout(
        self, hosts: Sequence[str], services: Sequence[str], batches: Sequence[int | str], max_fail: int | str
    ) -> Changed:
        return self._did(f"rollout {' '.join(hosts)}") or self._switch(dict.fromkeys(hosts, self.described))

    def compare(self, host: str, services: Sequence[str], settings: Settings) -> Judged:
        return self._did(f"compare {host}") or self.judged

    def judge(self, services: Sequence[str], settings: Settings) -> Judged:
        return replace(self.judged, passed=self.judged.passed or settings.accept_differences)

    def back(
        self, targets: Mapping[str, Mapping[str, str]], batches: Sequence[int | str], max_fail: int | str
    ) -> Changed:
        wanted = {host: services["s"] for host, services in targets.items()}
        return self._did(f"back {' '.join(wanted)}") or self._switch(wanted)

    def report(self, state: State) -> None:
        self._did("report")

    def _switch(self, wanted: Mapping[str, str]) -> Changed:
        cuts = {}
        codes = [0]
        for host, release in wanted.items():
            outcome = self.fails.get(host, "unchanged" if self.serving[host] == release else "committed")
            if outcome in ("committed", "unchanged"):
                self.serving[host] = release
            else:
                codes.append(3 if outcome == "not_restored" else 1)
            cuts[host] = {"s": Cut(outcome, self.serving[host], "" if outcome == "committed" else "its reason")}
            if codes[-1]:
                break
        return Changed(max(codes), "done" if not max(codes) else "it failed", "run", cuts)

    def _did(self, what: str) -> Any:
        self.did.append(what)
        answer = self.answers.pop(what.split()[0], None)
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


@dataclass
class Person:
    """Somebody, or nobody, who says yes or no to each question in turn."""

    says: list[bool] = field(default_factory=list)
    asks: bool = True
    asked: list[Question] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def agrees(self, question: Question, state: State) -> bool:
        self.asked.append(question)
        return self.says.pop(0)

    def tell(self, kind: str, **data: Any) -> None:
        self.told.append((kind, data))


@dataclass
class Walker:
    """Walks, is killed, and walks on from what was kept; `full_at` says which states the disk has no room for."""

    fleet: Fleet
    state: State = field(default_factory=lambda: State("20261129T000000Z-migration", 0.0))
    kept: list[State] = field(default_factory=list)
    person: Person = field(default_factory=lambda: Person(asks=False))
    full_at: Callable[[State], bool] = lambda state: False

    def go(self, until: str = "", says: Sequence[bool] | None = None, **settings: Any) -> State:
        """A call of `migrate`, by somebody who answers, or with --yes."""
        self.person = Person(list(says or ()), asks=says is not None)
        state = replace(self.state, settings=replace(self.state.settings, **settings))
        return self._keeping(walk, state, until=until)

    def back(self, says: Sequence[bool] | None = None) -> State:
        """A call of `migrate --back`."""
        self.person = Person(list(says or ()), asks=says is not None)
        return self._keeping(go_back, self.state)

    def killed_in(self, verb: str, before: Callable[[], object] = lambda: None) -> None:
        """A call that is killed while a verb is done, which has done so much."""

        def die() -> None:
            before()
            raise Killed

        self.fleet.answers[verb] = die
        try:
            self.go()
        except Killed:
            return
        raise AssertionError(f"{verb} was not done")

    def steps(self) -> dict[str, str]:
        """What each step is at."""
        return {name: one.state for name, one in self.state.steps.items()}

    def _keeping(self, what: Callable[..., State], state: State, **more: Any) -> State:
        clock = itertools.count(1.0).__next__

        def keep(kept: State) -> None:
            if self.full_at(kept):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.state = kept
            self.kept.append(kept)

        return what(state, self.fleet, self.person, keep, clock=clock, **more)


REFUSED = DeployError("no room", "make room")
