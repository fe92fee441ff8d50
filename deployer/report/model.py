"""What a report tells of a run, as plain data: times are seconds since the epoch, durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# What a service or a host came to, beside the outcomes of a cut-over.
TAKEN_BACK = "taken back"  # it had been committed, and the whole rollout was restored
UNREACHABLE = "unreachable"
FAILED = "failed"
NOT_BEGUN = "not begun"
UNKNOWN = "unknown"

# How a phase ended on a host.
DONE, LOST, UNSEEN = "done", "failed", "unseen"


@dataclass(frozen=True)
class Head:
    """What the run was asked to do, by whom, and with what.

    Args:
        run: its id.
        verb: rollout, rollback or stage.
        options: those that were given, by name.
        versions: of the programs that took part, by name.
        sources: the inventory's files.
        digest: of their content.
    """

    run: str
    verb: str
    playbook: str = ""
    limit: str = ""
    check: bool = False
    initiator: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Phase:
    """One phase on one host.

    Args:
        name: preflight, lock, environment, model, release, cutover or other.
        ending: DONE, LOST, or UNSEEN when nothing says that it ended.
        amount: how far it was at last, for people; '' where it did not say.
    """

    name: str
    start: float
    end: float
    ending: str = DONE
    amount: str = ""


@dataclass(frozen=True)
class State:
    """One state of a cut-over."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Outage:
    """From the stop of what served until something has passed its gate; `open` when that was not seen."""

    start: float
    end: float
    open: bool = False

    @property
    def seconds(self) -> float:
        """How long it was, at least."""
        return self.end - self.start


@dataclass(frozen=True)
class Cutover:
    """One cut-over of one service on one host.

    Args:
        outcome: as the host reported it; '' when its end was not seen.
        before: the release before, '' for none; `after` and `target` alike.
        adopted: the release that was made of what somebody else had started; '' for none.
        states: in the order in which they were entered.
        outage: None where nothing that served was stopped.
        taken_back: True when it was part of restoring the whole rollout.
    """

    host: str
    service: str
    outcome: str
    before: str
    after: str
    target: str
    adopted: str
    states: tuple[State, ...]
    outage: Outage | None
    taken_back: bool = False


@dataclass(frozen=True)
class Failure:
    """Why something failed on a host.

    Args:
        where: service, phase or task.
        outcome: what it came to there.
        kind: of the failure, as `failures.classify` has it, or the probe; '' where it has none.
        reason: what the host or Ansible said.
        evidence: the lines that prove it.
        log: the last lines of the failed release's log.
    """

    host: str
    where: str
    outcome: str
    kind: str
    reason: str
    evidence: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True)
class Row:
    """A service on a host, before and after the run.

    Args:
        outcome: of a cut-over, or one of the constants above.
        before: release and engine before, each '' where there was none or it is not known.
        outage: seconds in all; None where nothing that served was stopped.
        outage_open: True when it was not seen to end.
    """

    host: str
    service: str
    outcome: str
    before: str = ""
    before_engine: str = ""
    after: str = ""
    after_engine: str = ""
    outage: float | None = None
    outage_open: bool = False


@dataclass(frozen=True)
class Host:
    """One host, in the order in which it was met."""

    name: str
    batch: int
    phases: tuple[Phase, ...]
    cutovers: tuple[Cutover, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Batch:
    """One batch, as it was begun.

    Args:
        done: how many hosts were through by then.
        lost: the hosts that had failed by then.
    """

    number: int
    of: int
    start: float
    hosts: tuple[str, ...]
    done: int
    lost: tuple[str, ...]


@dataclass(frozen=True)
class PlanFinding:
    """A finding of the plan, and the hosts that have it."""

    severity: str
    id: str
    subject: str
    message: str
    fix: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """Something that was said to people, or done by them; `level` is info, warning or error."""

    time: float
    level: str
    text: str


@dataclass(frozen=True)
class Timeline:
    """A whole run.

    Args:
        end: when it ended, or was last heard of.
        exit_code: None when it was not seen to end.
        meaning: of the exit code, for people.
        stopped: why no further batch was begun; '' where all were.
        unread: lines of the journal that could not be read.
    """

    head: Head
    start: float
    end: float
    exit_code: int | None
    meaning: str
    stopped: str
    hosts: tuple[Host, ...]
    failures: tuple[Failure, ...]
    findings: tuple[PlanFinding, ...]
    batches: tuple[Batch, ...]
    notes: tuple[Note, ...]
    unread: int = 0

    @property
    def rows(self) -> tuple[Row, ...]:
        """Of all hosts."""
        return tuple(row for host in self.hosts for row in host.rows)
