"""What hosts answer when they are asked, beside plans: typed parts of what the modules return."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployer.api.base import Answer, HostAnswer, known_services
from deployer.runs import results
from deployer.runs.results import HostResult, Summary

SERVING = "serving"
NOT_ASKED = "was not asked"


@dataclass(frozen=True)
class ServiceStatus:
    """What a service is at.

    Args:
        service: its name.
        state: serving, failing, stopped, changing, interrupted or absent.
        release: id of the committed one; '' for none.
        engine: of it.
        port: that it is described with.
        uptime: seconds since its process was started; None while none runs.
        detail: what else is to be said of the state.
        raw: as `status --json` has it.
    """

    service: str
    state: str
    release: str
    engine: str
    port: int
    uptime: int | None
    detail: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def serves(self) -> bool:
        """True where it answers as what was committed."""
        return self.state == SERVING

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> ServiceStatus:
        """From JSON."""
        return cls(
            service=str(value["service"]),
            state=str(value["state"]),
            release=str(value.get("current") or ""),
            engine=str(value.get("engine") or ""),
            port=int(value.get("port") or 0),
            uptime=value.get("uptime"),
            detail=str(value.get("detail") or ""),
            raw=value,
        )


@dataclass(frozen=True)
class HostStatus(HostAnswer):
    """The services of a host."""

    services: tuple[ServiceStatus, ...] = ()


@dataclass(frozen=True)
class Status(Answer[HostStatus]):
    """The services of all hosts."""

    @property
    def exit_code(self) -> int:
        """0 all serve, 1 some do not, 2 not all hosts could be asked."""
        if not self.hosts or any(host.failure or not host.services for host in self.hosts.values()):
            return 2
        return 0 if all(one.serves for host in self.hosts.values() for one in host.services) else 1


def status_of(summary: Summary, output: str = "", services: Collection[str] = ()) -> Status:
    """What a run of the playbook `status` came to; `services` as in `plan_of`.

    Raises:
        DeployError: a service that is named is on no host.
    """
    found = {name: list(map(ServiceStatus.of, host.services)) for name, host in summary.hosts.items()}
    wanted = known_services(
        services if any(found.values()) else (), (o.service for ones in found.values() for o in ones)
    )
    hosts = {
        name: HostStatus(
            name,
            not host.unreachable,
            host.failure or ("" if found[name] else NOT_ASKED),
            services=tuple(one for one in found[name] if one.service in wanted),
        )
        for name, host in summary.hosts.items()
    }
    return Status(hosts, summary, output)


@dataclass(frozen=True)
class Release:
    """A release that a host keeps; `marks` are some of current, previous, adopted and predecessor."""

    id: str
    marks: tuple[str, ...]
    engine: str
    readable: bool
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class HistoryEvent:
    """Something that happened to a service on a host; '' for what is not known."""

    time: str
    event: str
    initiator: str
    before: str
    after: str
    outcome: str
    reason: str
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> HistoryEvent:
        """From JSON."""
        said = {key: str(value.get(key) or "") for key in ("time", "event", "initiator", "outcome", "reason")}
        return cls(**said, before=str(value.get("from") or ""), after=str(value.get("to") or ""), raw=value)


@dataclass(frozen=True)
class ServiceHistory:
    """What a host remembers of a service."""

    service: str
    releases: tuple[Release, ...]
    events: tuple[HistoryEvent, ...]
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> ServiceHistory:
        """From JSON."""
        releases = (
            Release(str(one["id"]), tuple(one["marks"]), str(one["engine"]), bool(one["readable"]), one)
            for one in value["releases"]
        )
        events = tuple(map(HistoryEvent.of, value["events"]))
        return cls(str(value["service"]), tuple(releases), events, value)


@dataclass(frozen=True)
class HostHistory(HostAnswer):
    """What a host remembers."""

    services: tuple[ServiceHistory, ...] = ()


@dataclass(frozen=True)
class HistoryOfHosts(Answer[HostHistory]):
    """What all hosts remember."""


@dataclass(frozen=True)
class Adopted:
    """What serves a service's port.

    Args:
        service: its name.
        release: id of the release that serves now; '' where nothing does, or it is none yet.
        engine: llamafactory, sglang, vllm or unknown; '' where nothing was found.
        who: pid, user and the beginning of the command.
        changed: it was adopted now, or would be.
        problem: why it cannot be adopted; '' where it can.
        fix: what to do about that.
        raw: as the module returned it.
    """

    service: str
    release: str
    engine: str
    who: str
    changed: bool
    problem: str
    fix: str
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Adopted:
        """From JSON."""
        service, release, engine, who = (str(value[key] or "") for key in ("service", "release", "engine", "who"))
        return cls(
            service, release, engine, who, bool(value["changed"]), str(value["problem"]), str(value["fix"]), value
        )


@dataclass(frozen=True)
class HostAdoption(HostAnswer):
    """What serves the ports of a host."""

    services: tuple[Adopted, ...] = ()


@dataclass(frozen=True)
class Adoption(Answer[HostAdoption]):
    """What serves the ports of all hosts, and what became of it."""

    @property
    def exit_code(self) -> int:
        """0 done or nothing to adopt, 2 something cannot be adopted, or not all hosts were asked."""
        return _asked_all(self)


@dataclass(frozen=True)
class EnvironmentFound:
    """A conda environment of a host; `size` in bytes, None where it was not measured."""

    path: str
    name: str
    kind: str
    python: str
    versions: Mapping[str, str]
    size: int | None
    problem: str
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> EnvironmentFound:
        """From JSON."""
        path, name, kind, python = (str(value[key]) for key in ("path", "name", "kind", "python"))
        return cls(path, name, kind, python, value["versions"], value["size"], str(value["problem"]), value)


@dataclass(frozen=True)
class HostEnvironments(HostAnswer):
    """The conda environments of a host."""

    environments: tuple[EnvironmentFound, ...] = ()


@dataclass(frozen=True)
class Environments(Answer[HostEnvironments]):
    """The conda environments of all hosts."""

    @property
    def exit_code(self) -> int:
        """0 asked all, 2 not all."""
        return _asked_all(self)


@dataclass(frozen=True)
class Verified:
    """An environment or a model that was compared with what was built or sent.

    Args:
        kind: environment or model.
        path: where it is.
        sound: nothing is wrong with it.
        count: how many differences there are.
        fix: what to do; '' when nothing is wrong.
        raw: as the module returned it.
    """

    kind: str
    path: str
    sound: bool
    count: int
    fix: str
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, kind: str, value: Mapping[str, Any]) -> Verified:
        """From JSON."""
        sound = bool(value["sound"] if kind == "environment" else value["ok"])
        return cls(kind, str(value["path"]), sound, int(value["count"]), str(value["fix"]), value)


@dataclass(frozen=True)
class HostVerification(HostAnswer):
    """What a host's environments and models are."""

    artifacts: tuple[Verified, ...] = ()


@dataclass(frozen=True)
class Verification(Answer[HostVerification]):
    """What the environments and models of all hosts are."""

    @property
    def exit_code(self) -> int:
        """0 all sound, 1 some are not, 2 not all hosts were asked."""
        sound = all(one.sound for host in self.hosts.values() for one in host.artifacts)
        return _asked_all(self) or (0 if sound else 1)


@dataclass(frozen=True)
class HostPruning(HostAnswer):
    """What was removed on a host, or would be; `freed` in bytes."""

    removed: tuple[str, ...] = ()
    freed: int = 0


@dataclass(frozen=True)
class Pruning(Answer[HostPruning]):
    """What was removed on all hosts, or would be."""

    @property
    def exit_code(self) -> int:
        """0 done, 2 refused or not all hosts were asked."""
        return _asked_all(self)


def adoption_of(summary: Summary, output: str = "") -> Adoption:
    """What a run of the playbook `adopt` came to."""
    hosts = {}
    for name, host in summary.hosts.items():
        raw = host.reports.get(results.ADOPT, {})
        services = tuple(map(Adopted.of, raw.get("services", ())))
        hosts[name] = HostAdoption(name, *_how(host, bool(raw), strict=True), raw, services)
    return Adoption(hosts, summary, output)


def environments_of(summary: Summary, output: str = "") -> Environments:
    """What a run of the playbook `environments` came to."""
    hosts = {}
    for name, host in summary.hosts.items():
        raw = host.reports.get(results.ENVIRONMENTS, {})
        found = tuple(map(EnvironmentFound.of, raw.get("environments", ())))
        hosts[name] = HostEnvironments(name, *_how(host, bool(raw)), raw, found)
    return Environments(hosts, summary, output)


def verification_of(summary: Summary, output: str = "") -> Verification:
    """What a run of the playbook `verify` came to."""
    hosts = {}
    for name, host in summary.hosts.items():
        raw = host.reports.get(results.VERIFY, {})
        models = host.reports.get(results.MODEL_VERIFY, {})
        found = [Verified.of("environment", one) for one in raw.get("environments", ())]
        found += [Verified.of("model", one) for one in models.get("models", ())]
        how = _how(host, bool(raw and models))
        hosts[name] = HostVerification(name, *how, {**raw, **models}, tuple(found))
    return Verification(hosts, summary, output)


def pruning_of(summary: Summary, output: str = "") -> Pruning:
    """What a run of the playbook `prune` came to."""
    hosts = {}
    for name, host in summary.hosts.items():
        raw = host.reports.get(results.PRUNE, {})
        removed = tuple(str(one["path"]) for one in raw.get("removed", ()))
        hosts[name] = HostPruning(name, *_how(host, bool(raw), strict=True), raw, removed, int(raw.get("freed") or 0))
    return Pruning(hosts, summary, output)


def history_of(summary: Summary, output: str = "", services: Collection[str] = ()) -> HistoryOfHosts:
    """What a run of the playbook `history` came to; `services` as in `plan_of`.

    Raises:
        DeployError: a service that is named is on no host.
    """
    raws = {name: host.reports.get(results.HISTORY, {}) for name, host in summary.hosts.items()}
    present = [str(one["service"]) for raw in raws.values() for one in raw.get("history", ())]
    wanted = known_services(services if present else (), present)
    hosts = {}
    for name, host in summary.hosts.items():
        found = (ServiceHistory.of(one) for one in raws[name].get("history", ()) if one["service"] in wanted)
        hosts[name] = HostHistory(name, *_how(host, bool(raws[name])), raws[name], tuple(found))
    return HistoryOfHosts(hosts, summary, output)


def _how(host: HostResult, answered: bool, strict: bool = False) -> tuple[bool, str]:
    """Whether a host was reached, and why it gave no answer.

    Args:
        host: what the run came to there.
        answered: the module returned what it was asked for; the playbook may fail on that, to say it.
        strict: what failed beside it counts, too.
    """
    if answered and not strict:
        return True, ""
    return not host.unreachable, host.failure or ("" if answered else NOT_ASKED)


def _asked_all(answer: Answer[Any]) -> int:
    return 2 if not answer.hosts or answer.failures else 0
