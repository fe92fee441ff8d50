"""What a cut-over came to, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNCHANGED = "unchanged"  # the release serves already
COMMITTED = "committed"  # it serves now
RESTORED = "restored"  # it did not pass; what served before serves again, or nothing did before
NOT_RESTORED = "not_restored"  # it did not pass, and neither did what served before: look at this host
REFUSED = "refused"  # nothing was touched
PLANNED = "planned"  # check mode: it would be switched


@dataclass(frozen=True)
class Outcome:
    """What a cut-over came to.

    Args:
        outcome: one of the constants above.
        before: the release that was committed before, None when there was none.
        after: the release that is committed now.
        target: the release that was asked for.
        probe: what the target failed on; '' when it did not fail.
        reason: one line; '' when nothing failed.
        log: the last lines of the failed release's log.
        failure: kind of the failure, and the lines that prove it (`failures.classify`); empty when nothing failed.
        seconds: how long each state took.
        adopted: the release that was made of what somebody else had started; '' for none.
        warning: what went wrong without a release failing; '' for nothing.
        measured: what gate.parity and gate.load came to, in one line; '' where they were not asked.
    """

    outcome: str
    before: str | None
    after: str | None
    target: str
    probe: str = ""
    reason: str = ""
    log: str = ""
    failure: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    adopted: str = ""
    warning: str = ""
    measured: str = ""

    @property
    def failed(self) -> bool:
        """True when the target does not serve."""
        return self.outcome in (RESTORED, NOT_RESTORED)

    def with_warning(self, warning: str) -> Outcome:
        """The same, with what went wrong without a release failing."""
        return dataclasses.replace(self, warning=warning)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as JSON holds it."""
        return dataclasses.asdict(self)
