"""What the walk through a migration is made of: the verbs that it uses, what they answer, and who is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployer.migration.state import Judged, Settings, State


@dataclass(frozen=True)
class Looked:
    """What looking at hosts, or recording what is there, came to.

    Args:
        good: the migration can go on.
        says: the same in a line.
        problems: what is wrong, a line each, with what to do about it.
    """

    good: bool
    says: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Serving:
    """The release that serves a service's port, with its engine; '' where none does."""

    release: str = ""
    engine: str = ""


@dataclass(frozen=True)
class Adopted(Looked):
    """What serves now: host -> service -> release."""

    serving: Mapping[str, Mapping[str, Serving]] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedService:
    """A service of a host; `stays` where it runs already what is described."""

    host: str
    service: str
    stays: bool


@dataclass(frozen=True)
class Planned(Looked):
    """What would be switched.

    Args:
        services: of all hosts that could be planned, in the order of the inventory.
        lost: hosts that could not be, and may be left out.
    """

    services: tuple[PlannedService, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """What was measured of the old services: those that were, and why others were not."""

    services: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cut:
    """What a cut-over came to: its outcome, the release that is committed now, why it failed."""

    outcome: str
    after: str
    reason: str = ""


@dataclass(frozen=True)
class Changed:
    """What staging, a rollout or a rollback came to.

    Args:
        code: its exit code.
        says: the same in a line.
        run: its id.
        cuts: host -> service -> what became of it.
        problems: why hosts failed, a line each.
        interrupted: Ctrl-C was typed meanwhile, also where it came to its end all the same.
    """

    code: int
    says: str
    run: str = ""
    cuts: Mapping[str, Mapping[str, Cut]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    interrupted: bool = False


class Verbs(Protocol):
    """What can be done with the hosts of a migration. All may raise DeployError where they are not even begun."""

    def inventory(self) -> str:
        """The digest of the inventory's files."""

    def doctor(self, max_fail: int | str) -> Looked:
        """Check the hosts; so many may fail."""

    def adopt(self, services: Sequence[str], max_fail: int | str) -> Adopted:
        """Record what serves."""

    def serves_now(self) -> Mapping[str, Mapping[str, Serving]]:
        """What serves now, with an engine only where nobody has recorded it yet; nothing is changed.

        A host that is not reached has no services; one that the inventory does not have is not there.
        """

    def plan(self, services: Sequence[str], max_fail: int | str) -> Planned:
        """Plan, and show the plan."""

    def stage(self, max_fail: int | str) -> Changed:
        """Put on the hosts what they need."""

    def record(self, host: str, services: Sequence[str], settings: Settings) -> Recorded:
        """Measure the old services of a host, and keep that."""

    def rollout(
        self, hosts: Sequence[str], services: Sequence[str], batches: Sequence[int | str], max_fail: int | str
    ) -> Changed:
        """Switch hosts to what is described."""

    def compare(self, host: str, services: Sequence[str], settings: Settings) -> Judged:
        """Measure the new services of a host as the old ones were, keep that, and compare."""

    def judge(self, services: Sequence[str], settings: Settings) -> Judged:
        """Compare what was kept of both once more, contacting nobody."""

    def back(
        self, targets: Mapping[str, Mapping[str, str]], batches: Sequence[int | str], max_fail: int | str
    ) -> Changed:
        """Go back: host -> service -> release."""

    def report(self, state: State) -> None:
        """Write the report."""


@dataclass(frozen=True)
class Question:
    """What somebody is asked.

    Args:
        about: CANARY or CONFIRM of steps, or BACK of state.
        text: in a sentence.
        hosts: that it is about.
    """

    about: str
    text: str
    hosts: tuple[str, ...]


class Seat(Protocol):
    """Who sits there, or nobody."""

    @property
    def asks(self) -> bool:
        """True where somebody is asked; otherwise what passed goes on, and what did not goes back."""

    def agrees(self, question: Question, state: State) -> bool:
        """Whether they say yes."""

    def tell(self, kind: str, **data: Any) -> None:
        """Told what happens: kinds and keys as docs/migration.md has them."""
