"""Why what failed did so: a pure function of events. Each reason is told once, by whoever knows most of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deployer.report.model import FAILED, UNREACHABLE, Failure
from deployer.report.reading import Data, mapping, text, texts
from deployer.runs.events import Event

OF_CUTOVERS = ("restored", "not_restored", "refused")
SUM = "One or more items failed"  # what Ansible says of a loop, after every item has said it better


def failures(events: Sequence[Event], plans: Data, endings: Data, stopped: str = "") -> tuple[Failure, ...]:
    """Every failure, in the order in which they were seen.

    Args:
        events: of the whole run.
        plans: host -> its plan.
        endings: host -> what `run.ended` has of it.
        stopped: why no further batch was begun: Ansible says it as a failure of whichever host comes first.
    """
    found = [one for one in _seen(events) if not stopped or one.reason not in stopped]
    named = {one.host for one in found}
    for host, ending in endings.items():
        one = ending if isinstance(ending, dict) else {}
        reason = text(one, "failure")
        if host not in named and (reason or one.get("unreachable") is True):
            outcome = UNREACHABLE if one.get("unreachable") is True else FAILED
            found.append(Failure(host, "", outcome, "", reason or "it could not be reached"))
            named.add(host)
    for host in plans:
        reason = text(mapping(plans, host), "failure")
        if host not in named and reason:
            reachable = mapping(plans, host).get("reachable") is not False
            found.append(Failure(host, "preflight", FAILED if reachable else UNREACHABLE, "", reason))
    return tuple(found)


def _seen(events: Sequence[Event]) -> Iterator[Failure]:
    told = {_place(event) for event in events if _failed_cutover(event)}
    said: set[tuple[str, str]] = set()  # a plan that was looked at first fails once more when it is made anew
    for event in events:
        data = event.data
        host = text(data, "host")
        if _failed_cutover(event):
            failure, by_hand = mapping(data, "failure"), text(data, "by_hand")
            reason = text(data, "reason") or "it did not say why"
            yield Failure(
                host=host,
                where=text(data, "service"),
                outcome=text(data, "outcome"),
                kind=text(failure, "kind") or text(data, "probe"),
                reason=f"{reason}. Fix: by hand: {by_hand}" if by_hand else reason,
                evidence=texts(failure, "evidence"),
                log=text(data, "log"),
            )
        elif event.kind == "step" and text(data, "kind") in (FAILED, UNREACHABLE):
            message, phase = text(data, "message"), text(data, "phase")
            # The sum of a loop says nothing that its rounds have not said.
            if not message or message.startswith(SUM) or _place(event) in told or (host, message) in said:
                continue
            said.add((host, message))
            where = ": ".join(filter(None, (phase, text(data, "task"))))
            detail = tuple(text(data, "detail").splitlines())
            yield Failure(host, where, text(data, "kind"), "", message, detail)


def _place(event: Event) -> tuple[str, str]:
    return text(event.data, "host"), text(event.data, "service")


def _failed_cutover(event: Event) -> bool:
    return event.kind == "cutover" and text(event.data, "outcome") in OF_CUTOVERS
