"""Whether a new release answers as what served before it, and is as fast: gate.parity and gate.load.

What served before is measured while it still serves, before anything is kept from it or stopped: that costs no outage.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.recognise import key_of
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.failures import LOAD, PARITY, clean
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import PAUSE, GateFailure, Subject, death
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, read_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import asking
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.environment import Environment
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import (
    Figures,
    figures,
    rate_words,
    slower,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import try_out
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    LoadSettings,
    Measurement,
    Reply,
    plain,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.on_host import (
    Order,
    by_name,
    hardware,
    measured,
    shown_url,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import (
    FINISH,
    REFUSAL,
    TOKENS,
    Pair,
    differing,
    evidence,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts, built_in
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.service import MAX_RATE, RENDERING, TEXT, Gate, LoadGate
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState
from ansible_collections.deployer.sglang.plugins.module_utils.wording import counted

MEASURED_FILE = "measured.json"  # in the folder of the release that was judged
GATE_PROMPTS = "prompts of the gate"
SCHEMA = 1
SHOWN_PROMPTS = 3  # of those that differ, in a reason
SHOWN = 40  # characters of a prompt or an answer
NOTHING_BEFORE = "nothing served before"
LEAVE_OUT = "see what its log says, or leave parity and load out of its gate for this cut-over"


class Judge:
    """What two releases show beyond the gate's own probes.

    Args:
        gate: what is asked; parity or load of it.
        new: the release that is to be judged; its environment makes the load of both.
        say: told how far it is.
    """

    def __init__(self, gate: Gate, new: StagedRelease, say: Callable[[str], None] = lambda text: None) -> None:
        self.gate, self.new, self.say = gate, new, say
        self.skipped = ""  # why there is nothing to compare with
        self.said: list[str] = []
        self._before: Measurement | None = None
        self._after: Measurement | None = None
        self._old_id: str | None = None

    @property
    def words(self) -> str:
        """What it came to, in one line."""
        return "; ".join(self.said)

    def look_at_old(self, old: Subject | None, serves: bool) -> None:
        """Measure what serves before; and see that a load can be made, where one is to be.

        Args:
            old: the committed release; None for none.
            serves: it answers. One that does not is no reason to keep the new one out.

        Raises:
            DeployError: it cannot be measured, or no load can be made.
        """
        parity, load = self.gate.parity, self.gate.load
        if old is None:
            self.skipped = NOTHING_BEFORE
        elif not serves:
            self.skipped = "what served before does not answer"
        elif not old.staged.release.served_name:
            self.skipped = "what served before lists no models"
        under_load = load is not None and load.no_worse is not None and not self.skipped
        if old is not None and not self.skipped and (parity or under_load):
            self._old_id = old.staged.id
            try:
                self._before = self._measured(old, bool(parity), under_load)
            except DeployError as error:
                problem = f"the gate compares with release {old.staged.id}, which cannot be measured: {error.problem}"
                raise DeployError(problem, LEAVE_OUT, error.detail) from None
            _refuse_unmeasured(self._before, parity is not None and parity.compare == RENDERING)
        if load is not None and not under_load:
            release = self.new.release
            try_out(old.url if old else "", Environment.of(release), release.model.path)

    def judge(self, subject: Subject, passed: RunState) -> None:
        """Measure the new release, which has passed the probes of its gate, and compare.

        Args:
            subject: the new release.
            passed: its process.

        Raises:
            GateFailure: it answers otherwise, or is slower, than is allowed.
        """
        try:
            if self.gate.parity is not None:
                self._judge_parity(subject, passed)
            if self.gate.load is not None:
                self._judge_load(self.gate.load, subject, passed)
        finally:
            self._write()

    def _judge_parity(self, subject: Subject, passed: RunState) -> None:
        if self._before is None:
            self.said.append(f"{PARITY}: not judged, {self.skipped}")
            return
        self._after = self._of_new(PARITY, subject, passed, ask=True)
        pairs = evidence(self._before, self._after).pairs
        assert self.gate.parity is not None
        rendering = self.gate.parity.compare == RENDERING
        different = differing(pairs, rendering)
        if different:
            reason = difference_words(pairs, different, rendering)
            raise _failed(PARITY, f"{PARITY}: {reason}; {self._path} has all of them", subject, passed)
        self.said.append(f"{PARITY}: {counted(len(pairs), 'prompt')} {'rendered' if rendering else 'answered'} alike")

    def _judge_load(self, load: LoadGate, subject: Subject, passed: RunState) -> None:
        measured = self._of_new(LOAD, subject, passed, ask=False)
        answers = self._after.answers if self._after else None
        self._after = dataclasses.replace(measured, answers=answers)
        old = _figures(self._before)
        new = _figures(self._after)
        misses = list(load_misses(load, new, old))
        if misses:
            raise _failed(LOAD, f"{LOAD}: {'; '.join(misses)}; {self._path} has every request", subject, passed)
        self.said.append(f"{LOAD}: {load_words(new, old)}")
        if load.no_worse is not None and not old:
            self.said[-1] += f" (not compared, {self.skipped})"

    def _of_new(self, probe: str, subject: Subject, passed: RunState, ask: bool) -> Measurement:
        try:
            return self._measured(subject, ask, not ask, lambda: _refuse_dead(probe, subject, passed))
        except DeployError as error:
            raise _failed(probe, f"{probe}: {error.problem}", subject, passed, subject.log) from None

    def _measured(
        self, subject: Subject, ask: bool, under_load: bool, watch: Callable[[], None] = lambda: None
    ) -> Measurement:
        release = subject.staged.release
        order = Order(
            prompts_of(self.gate),
            self.gate.parity.max_tokens if self.gate.parity else 1,
            ask,
            settings_of(self.gate.load) if self.gate.load and under_load else None,
            asking.usable_key(key_of_release(subject.staged)),
            self.gate.request_timeout,
        )
        http = Client(order.key)
        server = by_name(asking.identify(http, subject.url, about=hardware()), release.served_name)
        shown = shown_url(platform.node(), release.port)
        return measured(server, shown, http, order, self.new.release, self.say, watch)

    @property
    def _path(self) -> str:
        folder = Store(self.new.release.root).service(self.new.release.service)
        return os.path.join(folder.release(self.new.id), MEASURED_FILE)

    def _write(self) -> None:
        """Keep what was measured: prompts and answers are in it, and it is for who acts on this host alone."""
        if self._after is None:
            return
        value = {
            "schema": SCHEMA,
            "from": self._old_id,
            "to": self.new.id,
            "old": plain(self._before),
            "new": plain(self._after),
        }
        with contextlib.suppress(OSError):  # a full disk does not make a release worse
            write_file(self._path, pretty_json(value), mode=0o600)


def prompts_of(gate: Gate) -> Prompts:
    """What is asked: the gate's own prompts, or the built-in questions."""
    own = gate.parity.prompts if gate.parity else ()
    if not own:
        return built_in()
    return Prompts(
        GATE_PROMPTS, tuple(({"role": "user", "content": one},) if isinstance(one, str) else tuple(one) for one in own)
    )


def settings_of(load: LoadGate) -> LoadSettings:
    """What the load of a gate is."""
    rates = tuple(math.inf if one == MAX_RATE else float(one) for one in load.rates)
    return LoadSettings(rates, load.requests, load.max_tokens, load.timeout, load.seed)


def difference_words(pairs: Sequence[Pair], different: Sequence[Pair], rendering: bool) -> str:
    """What differs, for people.

    Args:
        pairs: both answers to all prompts.
        different: those that count.
        rendering: that prompts are rendered alike would have been enough.
    """
    how = "rendered" if rendering else "answered"
    shown = [f"{_question(one)}: {_difference(one)}" for one in different[:SHOWN_PROMPTS]]
    more = [f"{len(different) - SHOWN_PROMPTS} more"] if len(different) > SHOWN_PROMPTS else []
    are = "is" if len(different) == 1 else "are"
    return f"{len(different)} of {counted(len(pairs), 'prompt')} {are} {how} otherwise: {'; '.join([*shown, *more])}"


def load_misses(load: LoadGate, new: Sequence[Figures], old: Sequence[Figures]) -> Iterator[str]:
    """What is worse under load than is allowed, for people.

    Args:
        load: what is allowed.
        new: figures of the new release, one a rate.
        old: of what served before; none where it was not put under the load.
    """
    for number, one in enumerate(new):
        at = rate_words(one.rate)
        before = old[number] if old else None
        allowed = load.max_failures
        if allowed is None:
            allowed = before.failed if before else 0
        if one.problem:
            yield f"{at}: not measured: {clean(one.problem)}"
        elif one.failed > allowed:
            yield f"{at}: {one.failed} of {one.sent} requests fail, allowed are {allowed}: {clean(one.errors[0])}"
        elif one.latency is None:
            yield f"{at}: no answer has a text"
        else:
            if load.max_latency and one.latency.p99 > load.max_latency:
                yield f"{at}: p99 is {one.latency.p99:.2f} s, max_latency is {load.max_latency:g} s"
            if load.no_worse is not None and before and slower(before, one, load.no_worse):
                yield f"{at}: {slower(before, one, load.no_worse)}, no_worse is {load.no_worse:g}"


def load_words(new: Sequence[Figures], old: Sequence[Figures]) -> str:
    """What the new release is like under load, in a few words: of the rate at which it is slowest."""
    slowest = max((one.latency.p99, number) for number, one in enumerate(new) if one.latency)
    p99, number = slowest
    said = f"p99 {p99:.2f} s at {rate_words(new[number].rate)}"
    before = old[number].latency if old else None
    return f"{said}, {p99 / before.p99:.2f} times" if before and before.p99 else said


def _failed(probe: str, reason: str, subject: Subject, passed: RunState, log: str = "") -> GateFailure:
    """What a release failed on; of one that died meanwhile, with what its log proves."""
    time.sleep(PAUSE)  # it may be about to
    return _died(f"{reason}; ", subject, passed) or GateFailure(probe, reason, log)


def _refuse_dead(probe: str, subject: Subject, passed: RunState) -> None:
    died = _died(f"{probe}: ", subject, passed)
    if died is not None:
        raise died


def _died(before: str, subject: Subject, passed: RunState) -> GateFailure | None:
    """That the process which passed is no more, said behind these words; None while it lives."""
    now = subject.supervisor.state()
    dead = death(now, passed)
    return GateFailure("process", f"{before}{dead}", subject.log, now.exit) if dead else None


def _refuse_unmeasured(old: Measurement, rendering: bool) -> None:
    """Refuse what nothing can be compared with: a new release that is no better would be found alike."""
    replies = old.answers.replies if old.answers else ()
    if replies and all(one.error for one in replies):
        raise DeployError(f"what serves refuses all prompts of the gate: {clean(replies[0].error)}", LEAVE_OUT)
    if rendering and any(one.prompt_tokens is None and not one.error for one in replies):
        fix = f"ask for parity: {TEXT}, or leave it out of its gate for this cut-over"
        raise DeployError("what serves does not say how long prompts are once they are rendered", fix)
    steps = old.load.steps if old.load else ()
    problem = next((one.problem for one in steps if one.problem), "")
    if problem:
        raise DeployError(f"the load of what serves cannot be made: {clean(problem)}", LEAVE_OUT)


def _figures(measurement: Measurement | None) -> list[Figures]:
    return [figures(one) for one in measurement.load.steps] if measurement and measurement.load else []


def _question(pair: Pair) -> str:
    asked = next((str(one.get("content") or "") for one in reversed(pair.messages) if one.get("role") == "user"), "")
    return repr(_short(asked))


def _difference(pair: Pair) -> str:
    found = pair.differences
    if REFUSAL in found:
        who, error = ("new", pair.new.error) if pair.new.error else ("old", pair.old.error)
        return f"the {who} one refuses it, {_short(error)}"
    if TOKENS in found:
        return f"prompt tokens {_known(pair.old)} -> {_known(pair.new)}"
    if FINISH in found:
        ends = [_short(one.finish_reason) or "nothing" for one in (pair.old, pair.new)]
        return f"it ends by {' -> '.join(ends)}"
    return f"{_short(pair.old.text)!r} -> {_short(pair.new.text)!r}"


def _known(reply: Reply) -> str:
    return "unknown" if reply.prompt_tokens is None else str(reply.prompt_tokens)


def _short(text: str) -> str:
    line = clean(" ".join(text.split()))
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def key_of_release(staged: StagedRelease) -> str:
    """The API key that an adopted server asks its clients for; a described one has none."""
    release = staged.release
    if not release.adopted:
        return ""
    folder = Store(release.root).service(release.service).release(staged.id)
    private: Any = read_json(os.path.join(folder, PRIVATE_FILE))
    words, variables = (_part(private, name) for name in ("argv", "variables"))
    argv = [words.get(str(at), word) for at, word in enumerate(release.argv)]
    return key_of(argv, {**release.variables, **variables})


def _part(private: Any, name: str) -> dict[str, str]:
    """A part of a file that the service's user may write to."""
    part = private.get(name) if isinstance(private, dict) else None
    return {key: str(value) for key, value in part.items()} if isinstance(part, dict) else {}
