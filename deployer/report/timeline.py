"""The whole run, folded from its events: pure functions from what was written down to what a report tells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from deployer.report.cutovers import cutovers
from deployer.report.failures import failures
from deployer.report.findings import findings
from deployer.report.model import (
    FAILED,
    NOT_BEGUN,
    TAKEN_BACK,
    UNKNOWN,
    UNREACHABLE,
    Batch,
    Cutover,
    Failure,
    Head,
    Host,
    Note,
    Row,
    Timeline,
)
from deployer.report.phases import phases
from deployer.report.reading import Data, Record, mapping, number, objects, text, texts
from deployer.report.words import some
from deployer.runs.events import Event

UNTOUCHED = "untouched"  # what `run.ended` says of a host that was not cut over
LEVELS = ("info", "warning", "error")


def timeline(record: Record) -> Timeline:
    """What happened in a run, as far as it was written down."""
    events = record.events
    times = [event.time for event in events] or [0.0]
    start, end = min(times), max(times)
    begun, planned, ended = (_last(events, kind) for kind in ("run.started", "plan", "run.ended"))
    ended = ended or record.ending
    plans = mapping(planned, "hosts")
    found = cutovers(events, end)
    stopped = text(mapping(ended, "stopped"), "why")
    failed = failures(events, plans, mapping(ended, "hosts"), stopped)
    batches = tuple(_batches(events))
    code = ended.get("exit_code")
    in_batches = {host for batch in batches for host in batch.hosts}
    context = _Context(plans, ended, found, failed, texts(mapping(begun, "options"), "services"), in_batches)
    return Timeline(
        head=_head(record, begun),
        start=start,
        end=end,
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        meaning=text(ended, "meaning"),
        stopped=stopped,
        hosts=tuple(_hosts(events, batches, context, end)),
        failures=failed,
        findings=findings(plans),
        batches=batches,
        notes=tuple(_notes(events)),
        unread=record.unread,
    )


class _Context:
    """What rows are made from."""

    def __init__(
        self,
        plans: Data,
        ended: Data,
        found: Sequence[Cutover],
        failed: Sequence[Failure],
        services: Sequence[str],
        in_batches: Collection[str],
    ) -> None:
        self.plans, self.failed, self.services, self.in_batches = plans, failed, services, in_batches
        self.over = "exit_code" in ended
        self.endings = mapping(ended, "hosts")
        self.cutovers: dict[str, list[Cutover]] = {}
        for one in found:
            self.cutovers.setdefault(one.host, []).append(one)

    def rows(self, host: str) -> list[Row]:
        """One for every service that was cut over or was to be; one for a host of which no service is known."""
        done = {one.service: self._cut_over(host, one.service) for one in self.cutovers.get(host, [])}
        wanted = [text(one, "service") for one in self._planned(host)]
        names = [*done, *(name for name in wanted if name not in done and name in (self.services or wanted))]
        return [done.get(name) or self._not_cut_over(host, name) for name in names or [""]]

    def _cut_over(self, host: str, service: str) -> Row:
        every = [one for one in self.cutovers[host] if one.service == service]
        first, last = every[0], every[-1]
        outcome = last.outcome or UNKNOWN
        if last.taken_back and len(every) > 1 and outcome == "committed":
            outcome = TAKEN_BACK
        windows = [one.outage for one in every if one.outage is not None]
        plan = self._of(host, service)
        before = first.before or first.adopted or text(mapping(plan, "current"), "release")
        after = last.after if last.outcome else ""
        return Row(
            host=host,
            service=service,
            outcome=outcome,
            before=before,
            before_engine=_engine(plan, before),
            after=after,
            after_engine=_engine(plan, after),
            outage=sum(one.seconds for one in windows) if windows else None,
            outage_open=any(one.open for one in windows),
        )

    def _not_cut_over(self, host: str, service: str) -> Row:
        plan = self._of(host, service)
        now = text(mapping(plan, "current"), "release")
        return Row(host, service, self._outcome(host), now, _engine(plan, now), now, _engine(plan, now))

    def _outcome(self, host: str) -> str:
        """What a host came to that cut nothing over."""
        ending = mapping(self.endings, host)
        mine = [one for one in self.failed if one.host == host]
        if ending.get("unreachable") is True or any(one.outcome == UNREACHABLE for one in mine):
            return UNREACHABLE
        if mine and not self.cutovers.get(host):
            return FAILED
        outcome = "" if self.cutovers.get(host) else text(ending, "outcome")
        if outcome not in ("", UNTOUCHED):
            return outcome
        return NOT_BEGUN if self.over or host not in self.in_batches else UNKNOWN

    def _planned(self, host: str) -> list[Data]:
        return [one for one in objects(mapping(self.plans, host), "services") if text(one, "role") != "predecessor"]

    def _of(self, host: str, service: str) -> Data:
        return next((one for one in self._planned(host) if text(one, "service") == service), {})


def _engine(plan: Data, release: str) -> str:
    """Engine and version of a release, as far as the plan knows it: before the weights are hashed, not by its id."""
    now = mapping(plan, "current")
    if release and release == text(now, "release"):
        return text(now, "engine")
    if release and text(plan, "next") in ("", release):
        return f"{text(plan, 'engine')} {text(plan, 'version')}".strip()
    return ""


def _head(record: Record, begun: Data) -> Head:
    """From the first event; from run.json where that line was lost."""
    said = {**record.ending, **begun}
    inventory = mapping(said, "inventory")
    return Head(
        run=record.run,
        verb=text(said, "verb") or "run",
        playbook=text(said, "playbook"),
        limit=text(said, "limit"),
        check=said.get("check") is True,
        initiator=text(said, "initiator"),
        options={name: _said(value) for name, value in mapping(said, "options").items()},
        versions={name: _said(value) for name, value in mapping(said, "versions").items()},
        sources=texts(inventory, "sources"),
        digest=text(inventory, "digest") or text(said, "inventory_digest"),
    )


def _said(value: Any) -> str:
    """An option's value as people write it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_said(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    words = {"True": "yes", "False": "no", "None": "none"}
    return str(value) if isinstance(value, str) else words.get(str(value), str(value))


def _hosts(events: Sequence[Event], batches: Sequence[Batch], context: _Context, end: float) -> Iterable[Host]:
    """Every host that anything names, in the order of the batches and then of the plan."""
    of_batch = {host: batch.number for batch in reversed(batches) for host in batch.hosts}
    by_phase = phases(events, end)
    names = [host for batch in batches for host in batch.hosts]
    names += [*context.plans, *by_phase, *context.cutovers, *context.endings]
    for name in dict.fromkeys(names):
        yield Host(
            name=name,
            batch=of_batch.get(name, 0),
            phases=by_phase.get(name, ()),
            cutovers=tuple(context.cutovers.get(name, ())),
            rows=tuple(context.rows(name)),
        )


def _batches(events: Iterable[Event]) -> Iterable[Batch]:
    for event in events:
        if event.kind == "batch":
            data = event.data
            yield Batch(
                number=int(number(data, "batch")),
                of=int(number(data, "of")),
                start=event.time,
                hosts=texts(data, "hosts"),
                done=len(texts(data, "done")),
                lost=texts(data, "lost"),
            )


def _notes(events: Iterable[Event]) -> Iterable[Note]:
    """What was said to people on the way, and what they did."""
    for event in events:
        data = event.data
        if event.kind == "message":
            level = text(data, "level")
            yield Note(event.time, level if level in LEVELS else LEVELS[0], text(data, "text"))
        elif event.kind == "cutover" and text(data, "warning"):
            yield Note(event.time, "warning", f"{text(data, 'host')} {text(data, 'service')}: {text(data, 'warning')}")
        elif event.kind == "interrupted":
            yield Note(event.time, "warning", text(data, "text") or "interrupted by the operator")
            for host, what in mapping(data, "hosts").items():
                yield Note(event.time, "warning", f"{host}: {what}")
        elif event.kind == "restoring":
            targets = list(mapping(data, "targets"))
            yield Note(event.time, "warning", f"the whole rollout is taken back: {some(targets) or 'on no host'}")


def _last(events: Iterable[Event], kind: str) -> Data:
    return next((event.data for event in reversed([*events]) if event.kind == kind), {})
