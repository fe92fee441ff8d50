"""Events reach all who listen; one that fails does not end a rollout."""

from __future__ import annotations

from deployer.runs.broadcast import Broadcast
from deployer.runs.events import Event
from deployer.runs.redaction import Redaction


class Full:
    """A journal whose disk is full."""

    name = "the journal"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def __call__(self, event: Event) -> None:
        """Fail."""
        self.asked += 1
        raise self.error


def test_a_listener_that_fails_is_left_out_and_the_others_are_told() -> None:
    for error in (OSError(28, "No space left on device"), KeyError("a defect")):
        told: list[Event] = []
        full = Full(error)
        emit = Broadcast("run", [full, told.append], Redaction())
        emit("task", phase="model", task="x")
        emit("task", phase="model", task="y")
        assert full.asked == 1
        assert [event.kind for event in told] == ["task", "message", "task"]
        assert told[1].data["level"] == "error" and "the journal takes no events any more" in told[1].data["text"]
        assert emit.lost == [told[1].data["text"]]


def test_an_event_has_its_run_its_time_and_no_secret() -> None:
    told: list[Event] = []
    emit = Broadcast("run", [told.append], Redaction(["canary-value"]))
    emit.tell("message", {"text": "it is canary-value", "more": [{"x": ("canary-value",)}], "number": 1}, 12.5)
    assert told == [Event("message", {"text": "it is ***", "more": [{"x": ["***"]}], "number": 1}, 12.5, "run")]


def test_a_library_that_wants_to_leave_when_nobody_reads_does_not_end_the_run() -> None:
    told: list[Event] = []

    def leaves(event: Event) -> None:
        raise SystemExit(1)

    emit = Broadcast("run", [leaves, told.append], Redaction())
    emit("task", phase="model", task="x")
    assert [event.kind for event in told] == ["task", "message"]
