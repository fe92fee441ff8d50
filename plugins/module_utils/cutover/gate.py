"""The gate: the evidence that a release serves, and that it is this release's process which does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ansible_collections.deployer.sglang.plugins.module_utils import probes, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.deadline import (
    Deadline,
    first_timeout,
    weight_bytes,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.failures import CRASH, PORT, classify, clean
from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named, readiness_of
from ansible_collections.deployer.sglang.plugins.module_utils.redaction import redacted, secrets_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, Generation
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor

PAUSE = 0.5  # seconds between two looks while the engine loads
LOG_PAUSE = 2.0  # seconds between two looks at its log; with systemd each is a process or two
LOG_LINES = 15  # that are shown
LOG_LINES_READ = 200  # that causes and progress are looked for in
FAILURES_IN_A_ROW = 3  # SGLang's /health gives a false 503 under a long prefill (sglang issue 22511): one says nothing
STRANGER_PATIENCE = 5  # seconds after which whoever else listens on the port is there to stay
SHOWN = 120  # characters of an answer


class GateFailure(Exception):
    """A release did not pass.

    Args:
        probe: what it failed on.
        reason: what was seen, in one line.
        log: the end of its log, as long as it is at hand.
        exit_status: how its process ended; '' while it runs, or when nothing is known.

    Attributes:
        log: the last lines, for people.
        failure: its kind, and what proves it.
    """

    def __init__(self, probe: str, reason: str, log: str, exit_status: str = "") -> None:
        self.probe = probe
        self.reason = reason
        self.log = "\n".join(clean(line) for line in log.splitlines()[-LOG_LINES:])
        self.failure = classify(probe, reason, exit_status, log)
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

    @property
    def log(self) -> str:
        """The end of what its process has logged."""
        return self.log_tail(LOG_LINES_READ)

    def log_tail(self, lines: int) -> str:
        """The last lines of it, without the secrets that are known of the release."""
        release = self.staged.release
        folder = Store(release.root).service(release.service).release(self.staged.id)
        return redacted(self.supervisor.log_tail(lines), secrets_of(folder))


Noted = Callable[[str], None]  # takes a line that shows that a release loads


def pass_gate(subject: Subject, gate: Gate, noted: Noted = lambda line: None) -> RunState:
    """Wait until the release serves, and see that it goes on serving for `min_healthy_time`.

    Args:
        subject: the release that was just started, and its supervisor.
        gate: deadlines and what to ask.
        noted: told each line that shows progress, as it is seen.
    Returns:
        The process that passed.
    Raises:
        GateFailure: it does not serve, or not as this release, or not for long.
    """
    try:
        started = _started(subject)
        _await_readiness(subject, started, gate, noted)
        if subject.staged.release.served_name:  # of an adopted program of no known engine, nothing is promised
            _identity(subject, gate)
            _generations(subject, gate)
        _hold(subject, started, gate.min_healthy_time)
        return started
    except probes.ProbeError as error:
        time.sleep(PAUSE)  # a process that dies of the probe's request is the better reason
        now = subject.supervisor.state()
        dead = death(now, started)
        reason = f"{error}; {dead}" if dead else str(error)
        raise GateFailure(error.probe, reason, subject.log, now.exit if dead else "") from None


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
        raise _died(subject, state, death(state, state))
    return state


def _await_readiness(subject: Subject, started: RunState, gate: Gate, noted: Noted) -> None:
    """Until the readiness path answers from a process of this release.

    Ends at once when that process dies, soon when somebody else has its port, and otherwise when the deadline is over.
    """
    loading = _Loading(subject, gate, noted)
    while True:
        _still_alive(subject, started)
        try:
            _ready_and_own(subject)
            return
        except probes.ProbeError as error:
            loading.give_up_in_time(error)
        time.sleep(PAUSE)


@dataclass
class _Loading:
    """What is known of a release that is not ready yet."""

    subject: Subject
    gate: Gate
    noted: Noted
    deadline: Deadline = field(init=False)
    log_seen: float = field(init=False, default=float("-inf"))
    stranger_since: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        release = self.subject.staged.release
        timeout = first_timeout(self.gate.ready_timeout, weight_bytes(release.model.path))
        progress = engine_named(release.engine).progress if release.engine in ENGINES else ()
        self.deadline = Deadline(time.monotonic(), timeout, self.gate.progress_timeout, progress)

    def give_up_in_time(self, error: probes.ProbeError) -> None:
        """Raise when there is nothing left to wait for.

        Args:
            error: what the last look has seen.
        Raises:
            probes.ProbeError: the deadline is over, or the port is somebody else's.
        """
        now = time.monotonic()
        if not isinstance(error, HeldByOther):
            self.stranger_since = None
        elif self.stranger_since is None:
            self.stranger_since = now
        elif now - self.stranger_since >= STRANGER_PATIENCE:
            raise error
        if now - self.log_seen >= LOG_PAUSE or self.deadline.over(now):
            self.log_seen = now
            before = self.deadline.last
            self.deadline.feed(now, self.subject.log)
            if self.deadline.last != before:
                self.noted(clean(self.deadline.last))
        if self.deadline.over(now):
            last = f"; its last progress was: {clean(self.deadline.last)[:SHOWN]}" if self.deadline.last else ""
            waited = self.deadline.waited(now)
            raise probes.ProbeError(error.probe, f"not ready after {waited} s; {error}{last}") from None


class HeldByOther(probes.ProbeError):
    """Somebody else listens on the port."""


def _ready_and_own(subject: Subject) -> None:
    _owns_port(subject)
    probes.ready(subject.url, readiness_of(subject.staged.release.engine))


def _owns_port(subject: Subject) -> None:
    """The listening socket belongs to a process of this service.

    An SGLang that finds its port held by another SGLang logs that it is ready: its warm-up reached the other one. So
    an answer on the port proves nothing by itself.
    """
    port = subject.staged.release.port
    inodes = procfs.listening_inodes(port)
    if not inodes:
        raise probes.ProbeError("readiness", f"nothing listens on port {port} yet")
    if not procfs.holders(inodes, subject.supervisor.state().pids):
        raise HeldByOther("process", f"port {port} is held by {procfs.describe_listeners(port)}")


def _identity(subject: Subject, gate: Gate) -> None:
    """It serves under the promised name; and where the engine was told the release's id, it tells it."""
    release = subject.staged.release
    probes.serves_model(subject.url, release.served_name, gate.request_timeout)
    if not release.identity_option:
        return
    engine = engine_named(release.engine)
    told = probes.identity(subject.url, engine.identity_paths, engine.identity_key, gate.request_timeout)
    if told is not None and told != subject.staged.id:
        seen = f"{engine.identity_key} is {clean(told)[:SHOWN]}, started was release {subject.staged.id}"
        raise probes.ProbeError("identity", seen)


def _generations(subject: Subject, gate: Gate) -> None:
    """A chat, a stream, and what the service description lists."""
    name, timeout = subject.staged.release.served_name, gate.request_timeout
    probes.chat(subject.url, name, gate.prompt, gate.max_tokens, timeout)
    probes.chat_stream(subject.url, name, gate.prompt, gate.max_tokens, timeout)
    for number, wanted in enumerate(gate.generations, 1):
        try:
            _generates(subject, wanted, timeout)
        except probes.ProbeError as error:
            raise probes.ProbeError("generation", f"{number} of {len(gate.generations)}: {error}") from None


def _generates(subject: Subject, wanted: Generation, timeout: int) -> None:
    """The answer holds the pattern, and comes in time: the first may compile kernels, so one that is late is repeated.

    Raises:
        probes.ProbeError: it does not.
    """
    took = 0.0
    for _ in range(2):
        begun = time.monotonic()
        name = subject.staged.release.served_name
        text = probes.chat(subject.url, name, wanted.prompt, wanted.max_tokens, max(timeout, wanted.max_latency))
        took = time.monotonic() - begun
        if wanted.pattern and not re.search(wanted.pattern, text):
            seen = f"{wanted.pattern!r} is not in the answer {clean(text)[:SHOWN]!r}"
            raise probes.ProbeError("pattern", seen)
        if not wanted.max_latency or took <= wanted.max_latency:
            return
    seen = f"the second answer took {took:.1f} s as well, max_latency is {wanted.max_latency:g} s"
    raise probes.ProbeError("latency", seen)


def _still_alive(subject: Subject, started: RunState) -> None:
    now = subject.supervisor.state()
    dead = death(now, started)
    if dead:
        raise _died(subject, now, dead)


def _died(subject: Subject, now: RunState, why: str) -> GateFailure:
    """That its process is gone; where its log proves no other cause, with who has its port instead."""
    log = subject.log
    failed = GateFailure("process", why, log, now.exit)
    port = subject.staged.release.port
    others = procfs.foreign_listeners(port, now.pids) if failed.failure.kind in (PORT, CRASH) else ""
    return GateFailure("process", f"{why}; port {port} is held by {others}", log, now.exit) if others else failed


def death(now: RunState, started: RunState) -> str:
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
