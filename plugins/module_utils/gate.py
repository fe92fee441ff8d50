"""The gate: the evidence that a release serves, and that it is this release's process which does."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils import probes, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor

PAUSE = 0.5  # seconds between two looks while the engine loads
LOG_LINES = 15
FAILURES_IN_A_ROW = 3  # SGLang's /health gives a false 503 under a long prefill (sglang issue 22511): one says nothing


class GateFailure(Exception):
    """A release did not pass: `probe` names what it failed on, `reason` what was seen, `log` its last lines."""

    def __init__(self, probe: str, reason: str, log: str) -> None:
        self.probe = probe
        self.reason = reason
        self.log = log
        super().__init__(reason)


@dataclass(frozen=True)
class Subject:
    """What stands at the gate."""

    staged: StagedRelease
    supervisor: Supervisor

    @property
    def url(self) -> str:
        """How this host reaches the service."""
        return probes.base_url(self.staged.release.host, self.staged.release.port)


def pass_gate(subject: Subject, gate: Gate) -> RunState:
    """Wait until the release serves, and see that it goes on serving for `min_healthy_time`.

    Args:
        subject: the release that was just started, and its supervisor.
        gate: deadlines and what to ask.
    Returns:
        The process that passed.
    Raises:
        GateFailure: it does not serve, or not as this release, or not for long.
    """
    release = subject.staged.release
    try:
        started = _started(subject)
        _await_readiness(subject, started, gate.ready_timeout)
        probes.serves_model(subject.url, release.served_name, gate.request_timeout)
        ask = (subject.url, release.served_name, gate.prompt, gate.max_tokens, gate.request_timeout)
        probes.chat(*ask)
        probes.chat_stream(*ask)
        _hold(subject, started, gate.min_healthy_time)
        return started
    except probes.ProbeError as error:
        time.sleep(PAUSE)  # a process that dies of the probe's request is the better reason
        dead = _death(subject.supervisor.state(), started)
        reason = f"{error}; {dead}" if dead else str(error)
        raise GateFailure(error.probe, reason, subject.supervisor.log_tail(LOG_LINES)) from None


def answers(subject: Subject, tries: int = FAILURES_IN_A_ROW) -> bool:
    """True when the release's own process answers its readiness path: one pass in `tries`."""
    for _ in range(tries):
        state = subject.supervisor.state()
        if not state.running or state.release != subject.staged.id:
            return False
        try:
            _ready_and_own(subject)
            return True
        except probes.ProbeError:
            time.sleep(PAUSE)
    return False


def _started(subject: Subject) -> RunState:
    state = subject.supervisor.state()
    if not state.running:
        raise GateFailure("process", _death(state, state), subject.supervisor.log_tail(LOG_LINES))
    return state


def _await_readiness(subject: Subject, started: RunState, timeout: int) -> None:
    """Until the readiness path answers from a process of this release; ends at once when that process dies."""
    deadline = time.monotonic() + timeout
    while True:
        _still_alive(subject, started)
        try:
            _ready_and_own(subject)
            return
        except probes.ProbeError as error:
            if time.monotonic() >= deadline:
                raise probes.ProbeError(error.probe, f"not ready after {timeout} s; {error}") from None
        time.sleep(PAUSE)


def _ready_and_own(subject: Subject) -> None:
    _owns_port(subject)
    path = engine_named(subject.staged.release.engine).readiness
    probes.ready(subject.url, path)


def _owns_port(subject: Subject) -> None:
    """The listening socket belongs to a process of this service.

    An SGLang that finds its port held by another SGLang logs that it is ready: its warm-up reached the other one. So
    an answer on the port proves nothing by itself.
    """
    port = subject.staged.release.port
    inodes = procfs.listening_inodes(port)
    if not inodes:
        raise probes.ProbeError("process", f"nothing listens on port {port} yet")
    if not procfs.holders(inodes, subject.supervisor.state().pids):
        raise probes.ProbeError("process", f"port {port} is held by {procfs.describe_listeners(port)}")


def _still_alive(subject: Subject, started: RunState) -> None:
    dead = _death(subject.supervisor.state(), started)
    if dead:
        raise GateFailure("process", dead, subject.supervisor.log_tail(LOG_LINES))


def _death(now: RunState, started: RunState) -> str:
    """Why the process that was started is not the one that runs now; '' when it is."""
    if not now.running:
        return f"the service's process ended{f' with {now.exit}' if now.exit else ''}"
    if (now.main_pid, now.start_time) != (started.main_pid, started.start_time):
        return "the service's process was started again by someone else"
    return ""


def _hold(subject: Subject, started: RunState, seconds: int) -> None:
    """The same process answers until `seconds` have passed and at their end; one failure between passes is forgiven."""
    deadline = time.monotonic() + seconds
    failures = 0
    while True:
        _still_alive(subject, started)
        try:
            _ready_and_own(subject)
            failures = 0
        except probes.ProbeError as error:
            failures += 1
            if failures == FAILURES_IN_A_ROW:
                raise probes.ProbeError(error.probe, f"lost within min_healthy_time ({seconds} s); {error}") from None
        if failures == 0 and time.monotonic() >= deadline:
            return
        time.sleep(min(1.0, max(PAUSE, deadline - time.monotonic())))
