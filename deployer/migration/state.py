"""What is known of a migration: what was asked for, how far every step and every host is. Frozen, and kept as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, TypedDict

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.parity import Explanation
from deployer.migration.steps import CANARY, DESCRIBED, MEASURE, NAMES

SCHEMA: Literal[1] = 1
PENDING, RUNNING, DONE, SKIPPED = "pending", "running", "done", "skipped"
FAILED, STOPPED, TAKEN_BACK = "failed", "stopped", "taken back"
OVER = (DONE, SKIPPED)
EVERY = (PENDING, RUNNING, DONE, SKIPPED, FAILED, STOPPED, TAKEN_BACK)
# What a service on a host came to, beside the outcomes of a cut-over.
BEGUN, COMMITTED, UNCHANGED, NOT_RESTORED, BACK = "begun", "committed", "unchanged", "not_restored", "back"
LEFT = "left"  # as somebody else has switched it since, or it is not in the inventory any more
REPLACED = "replaced"  # by a new migration of the same hosts
# What may be asked for anew at any time: it decides about what is still to come, and nothing else.
CHANGEABLE = ("compare", "rendering_only", "accept_differences", "no_worse", "batches", "max_fail")
CALLED = {"prompts_sha256": "prompts"}


class Given(TypedDict, total=False):
    """What a call of `migrate` asks for; the rest is as it was, or by default. `Settings` says what each is."""

    services: Sequence[str]
    canary: str
    prompts: str | os.PathLike[str]
    compare: bool
    load: bool
    rates: Sequence[float]
    requests: int
    rendering_only: bool
    accept_differences: bool
    no_worse: float
    batches: Sequence[int | str]
    max_fail: int | str


@dataclass(frozen=True)
class Settings:
    """What was asked for.

    Args:
        services: only these are migrated; all where none is named.
        canary: the host that is switched first; '' for one that is chosen.
        prompts: the file that they come from; '' for the built-in questions.
        prompts_sha256: of what is asked.
        compare: measure the canary before and after, and compare.
        load: measure under load, too.
        rates: requests in a second, one step each; infinity for all at once.
        requests: at each rate.
        rendering_only: that prompts are rendered alike is enough; texts may differ.
        accept_differences: answers are compared and shown, and decide nothing.
        no_worse: how many times the old p99 latency the new one may be; None where the load decides nothing.
        batches: of the other hosts; what the inventory says where empty.
        max_fail: how many hosts may fail: 2, or '10%'.
    """

    services: tuple[str, ...] = ()
    canary: str = ""
    prompts: str = ""
    prompts_sha256: str = ""
    compare: bool = True
    load: bool = False
    rates: tuple[float, ...] = (1.0, 2.0, 4.0)
    requests: int = 40
    rendering_only: bool = False
    accept_differences: bool = False
    no_worse: float | None = None
    batches: tuple[int | str, ...] = ()
    max_fail: int | str = 0

    def with_given(self, given: Mapping[str, Any], measured: bool) -> Settings:
        """These settings, for a migration that goes on.

        Args:
            given: what is asked for now, by name; what is left out stays.
            measured: the canary was measured by them, or its measuring was begun.

        Raises:
            DeployError: it contradicts what was measured by.
        """
        if not measured:
            return replace(self, **given)
        for name, value in given.items():
            known = getattr(self, name)
            if name not in (*CHANGEABLE, "prompts") and value != known:
                key = CALLED.get(name, name)
                raise DeployError(
                    f"--{key} was {_typed(known)} when the canary was measured, and is {_typed(value)} now",
                    f"leave --{key} out to go on, or --restart to begin a new migration",
                )
        return replace(self, **{name: value for name, value in given.items() if name in CHANGEABLE})


@dataclass(frozen=True)
class StepState:
    """How far a step is.

    Args:
        state: PENDING, RUNNING (or not seen to end), DONE, SKIPPED, FAILED, STOPPED or TAKEN_BACK.
        started, ended: seconds since the epoch; 0 where it was not.
        says: what came of it, in a line.
        problems: what is wrong, a line each, with what to do about it.
        runs: ids of the runs that it was done by.
        inventory: digest of the inventory that it was done with.
    """

    state: str = PENDING
    started: float = 0.0
    ended: float = 0.0
    says: str = ""
    problems: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    inventory: str = ""

    @property
    def over(self) -> bool:
        """It is not to be done again."""
        return self.state in OVER


@dataclass(frozen=True)
class Switched:
    """What a service on a host came to.

    Args:
        before: id of the release that served before the migration; '' where none did.
        engine: of that.
        after: id of the release that is committed now, as far as it was seen.
        outcome: of its last cut-over; BEGUN where the end was not seen, BACK after going back, LEFT where that left it
            as it was, '' before any.
        reason: why it failed; '' where it did not.
    """

    before: str = ""
    engine: str = ""
    after: str = ""
    outcome: str = ""
    reason: str = ""

    @property
    def switched(self) -> bool:
        """This migration has switched it, or may have."""
        return self.outcome in (COMMITTED, BEGUN, NOT_RESTORED)

    def as_found(self, release: str, engine: str) -> Switched:
        """The same with what was found to serve it now.

        What this migration has not brought is what served before it, also where it had brought something earlier.

        Args:
            release: that serves; '' where none does.
            engine: of that; '' where it is known already.
        """
        if not release or (self.switched and (self.outcome != COMMITTED or release == self.after)):
            return self
        if release == self.before and not self.switched:
            return replace(self, engine=engine or self.engine)
        return Switched(release, engine or (self.engine if release == self.before else ""))

    def after_cutover(self, outcome: str, after: str, reason: str) -> Switched:
        """The same with what its cut-over came to.

        A cut-over that changed nothing ends one whose end was not seen; one that restored what an earlier cut-over of
        this migration had brought leaves that one standing.
        """
        if outcome in (COMMITTED, NOT_RESTORED):
            return replace(self, outcome=outcome, after=after, reason=reason)
        ours = self.switched and after != self.before
        return replace(self, outcome=COMMITTED if ours else outcome, after=after, reason=reason)


Hosts = Mapping[str, Mapping[str, Switched]]


@dataclass(frozen=True)
class Judged:
    """What comparing the canary before and after came to.

    Args:
        passed: as was asked for.
        lines: what it came to, one a service.
        misses: what kept it from passing, a line each.
        explanations: why answers differ.
        folders: that hold measurements and reports, by service, relative to the migration's.
    """

    passed: bool
    lines: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Return:
    """Going back.

    Args:
        hosts: that go back.
        whole: the migration is given up; otherwise the canary alone goes back, as its comparison did not pass.
        step: how far it is.
    """

    hosts: tuple[str, ...]
    whole: bool
    step: StepState


@with_config(ConfigDict(ser_json_inf_nan="strings"))
@dataclass(frozen=True)
class State:
    """A migration.

    Args:
        id: of it, and the name of its folder.
        created: seconds since the epoch.
        initiator: who began it.
        given: the inventory as it was given, which what to type next repeats.
        sources: where the inventory comes from.
        limit: the host pattern.
        settings: what was asked for.
        steps: by name; those that are left out are PENDING.
        canary: the host that was chosen.
        hosts: host -> service -> what it came to.
        compared: services whose old measurement is there.
        comparison: of the canary; None before it, and where there was nothing to compare.
        back: going back, begun or done; None where nobody went.
        ended: DONE, BACK or REPLACED; '' while it goes on.
        exit_code: of the last call.
        meaning: the same in words.
        schema: of the file.
    """

    id: str
    created: float
    initiator: str = ""
    given: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    limit: str = ""
    settings: Settings = field(default_factory=Settings)
    steps: Mapping[str, StepState] = field(default_factory=dict)
    canary: str = ""
    hosts: Hosts = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    comparison: Judged | None = None
    back: Return | None = None
    ended: str = ""
    exit_code: int = 0
    meaning: str = ""
    schema: Literal[1] = SCHEMA

    def step(self, name: str) -> StepState:
        """How far a step is."""
        return self.steps.get(name, StepState())

    def with_step(self, name: str, **changes: Any) -> State:
        """The same with a step changed."""
        return replace(self, steps={**self.steps, name: replace(self.step(name), **changes)})

    def without(self, *names: str) -> State:
        """The same with some steps to be done again; what they were done by stays known."""
        again = {name: StepState(runs=self.step(name).runs) for name in names}
        return replace(self, steps={**self.steps, **again})

    def described_by(self, inventory: str) -> State:
        """The same, with what was done with another inventory to be done again.

        Args:
            inventory: digest of the one that is there now.
        """
        stale = [name for name in DESCRIBED if self.step(name).state != PENDING]
        changed = any(self.step(name).inventory not in ("", inventory) for name in stale)
        if not changed:
            return self
        # That there was nothing to measure may be said of the earlier description alone.
        return self.without(*stale, *((MEASURE,) if self.step(MEASURE).state == SKIPPED else ()))

    @property
    def measured(self) -> bool:
        """The canary was measured before its switch, or that was begun."""
        return self.step(MEASURE).state not in (PENDING, SKIPPED) or bool(self.switched)

    @property
    def next_step(self) -> str:
        """The first step that is not over; '' where all are."""
        return next((name for name in NAMES if not self.step(name).over), "")

    @property
    def returned(self) -> Return | None:
        """Going back, as far as it is not overtaken: a canary that went back may have been switched once more since."""
        back = self.back
        if back is None or back.whole or back.step.state != DONE or self.step(CANARY).state == TAKEN_BACK:
            return back
        return None

    @property
    def others(self) -> tuple[str, ...]:
        """All hosts but the canary."""
        return tuple(host for host in self.hosts if host != self.canary)

    @property
    def switched(self) -> tuple[str, ...]:
        """The hosts that this migration has switched, or may have."""
        return tuple(host for host, services in self.hosts.items() if any(one.switched for one in services.values()))

    def with_hosts(self, changed: Mapping[str, Mapping[str, Switched]]) -> State:
        """The same with what some services came to."""
        hosts = {host: dict(services) for host, services in self.hosts.items()}
        for host, services in changed.items():
            hosts.setdefault(host, {}).update(services)
        return replace(self, hosts=hosts)


def fleet_id(sources: Sequence[str], limit: str) -> str:
    """What tells the hosts of one migration from those of another: where the inventory is, and the limit."""
    where = [one if "," in one else os.path.realpath(os.path.expanduser(one)) for one in sources]
    return hashlib.sha256(json.dumps([where, limit]).encode()).hexdigest()[:12]


def dumped(state: State) -> str:
    """The state as its file has it."""
    return _adapter().dump_json(state, indent=1).decode() + "\n"


def loaded(content: bytes, where: str) -> State:
    """The state that a file has.

    Raises:
        DeployError: it is none that this version wrote.
    """
    try:
        state = _adapter().validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"])) or "it"
        raise _no_state(where, f"{at}: {first['msg']}") from None
    steps = [*state.steps.items(), *([("back", state.back.step)] if state.back else [])]
    for name, step in steps:
        if step.state not in EVERY:
            raise _no_state(where, f"{name}: no step is at {step.state!r}")
    return state


def _no_state(where: str, why: str) -> DeployError:
    return DeployError(
        f"{where} is no state of a migration that this version knows: {why}",
        "read it with the version that wrote it; or move its folder away, and begin a new migration: what hosts serve, "
        "python -m deployer status says, and what they served before, history",
    )


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value) or "not given"
    if isinstance(value, bool):
        return "given" if value else "not given"
    return str(value) or "not given"


@cache
def _adapter() -> TypeAdapter[State]:
    return TypeAdapter(State)
