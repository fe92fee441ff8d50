"""What is proved of a deployment on this machine's GPUs, each from the beginning to an empty GPU."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_usage
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from tests.gpu_proof.deployment import Deployment, Finished
from tests.gpu_proof.evidence import Evidence
from tests.gpu_proof.figures import compare
from tests.gpu_proof.ratio import ratio_of
from tests.gpu_proof.recordings import record, without_names
from tests.gpu_proof.server import FirstChat, by_hand
from tests.gpu_proof.start_log import read_start_log

# An option that SGLang's parser takes and its loader cannot follow: the release fails after it has taken the GPU.
BROKEN = {"load_format": "sharded_state"}
CHANGED = {"max_running_requests": 64}
LIMIT = 1.02  # the start by the package, of the start by hand
SAME = 0.001  # a plan and the next: an idle GPU has a few MiB more or less in use
EMPTY = 64 * 2**20  # bytes beyond what an idle GPU has in use
PATIENCE = 30  # seconds in which the driver gives memory back


@dataclass(frozen=True)
class StartPair:
    """Seconds from the start of the process to the first chat's answer, each way.

    Attributes:
        hand: by hand.
        package: by the package.
        gate: start and gate, as the package's journal has it.
        hand_first: which came first.
    """

    hand: float
    package: float
    gate: float
    hand_first: bool

    def __str__(self) -> str:
        first = "by hand" if self.hand_first else "the package"
        return (
            f"by hand {self.hand:.2f} s, by the package {self.package:.2f} s, its gate {self.gate:.2f} s; {first} first"
        )


@dataclass
class Proof:
    """One service on so many GPUs.

    Args:
        deployment: of the service.
        evidence: where it is noted.
        idle: the GPUs before anything ran.
    """

    deployment: Deployment
    evidence: Evidence
    idle: tuple[Gpu, ...]

    def lifecycle(self) -> None:
        """Doctor, plan, rollout, again, a broken release, another, rollback, stop."""
        self.figures()
        first, pid = self.deployment.current(), self.deployment.pid()
        self._ended("a second rollout", self.deployment.run("rollout", "--yes"), 0)
        now = (self.deployment.current(), self.deployment.pid())
        self._check("a second rollout changes nothing", now == (first, pid), f"release and pid {now}")

        self._ended("a broken release", self.deployment.run("rollout", "--yes", **BROKEN), 1)
        self._keep_log("broken", newest=False)
        ended = self.deployment.last_cutover()
        self._check("a broken release gives way", ended.get("outcome") == "restored", _summary(ended))
        self._serves("what served before serves again", first)

        self._ended("another release", self.deployment.run("rollout", "--yes", **CHANGED), 0)
        second = self.deployment.current()
        self._serves("another release serves", second)
        self._check("another release is another", second != first, f"{first}, then {second}")
        self._ended("rollback", self.deployment.run("rollback", "--yes", **CHANGED), 0)
        self._serves("the release before serves after a rollback", first)
        self.empty()

    def figures(self) -> None:
        """Roll out and compare the plan's figures with the server's; the service goes on."""
        deployment, evidence = self.deployment, self.evidence
        done = deployment.run("doctor")
        self._check("doctor finds no error", done.code in (0, 1), f"exit code {done.code}")
        self._keep("doctor", done.output)
        planned = deployment.plan()
        self._check("plan finds no error", planned["exit_code"] in (0, 1), _findings(planned))
        self._ended("the first rollout", deployment.run("rollout", "--yes"), 0)
        self._serves("the release serves", deployment.current())
        gpus = record(evidence.folder, self._named("serving"), evidence.names).gpus[: deployment.gpus]
        info = deployment.server.get("/server_info")
        self._keep_log("start")
        log = read_start_log(deployment.log.read_text(errors="replace"))
        used = max(gpu.memory_used for gpu in gpus)
        evidence.compared(deployment.name, compare(planned, log, info, used))
        known = {"plan": _plan(planned), "log": vars(log), "used": used, "server": _server(info)}
        evidence.know(**{deployment.name: known})
        holders = {process.pid for gpu in gpus for process in gpu.processes}
        own = deployment.supervisor.state().pids
        self._check("the GPUs are the service's own", bool(holders) and holders <= own, f"{len(holders)} processes")
        again = deployment.plan()
        same = math.isclose(again["kv_tokens"], planned["kv_tokens"], rel_tol=SAME)
        self._check("a plan beside the running service says the same", same, f"{again['kv_tokens']:,} tokens")

    def empty(self) -> None:
        """Stop the service; nothing of it is left on a GPU."""
        self.deployment.stop()
        deadline = time.monotonic() + PATIENCE
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.5)
        record(self.evidence.folder, self._named("stopped"), self.evidence.names)
        self._check("after a stop the GPUs are empty", not left, left or "no process, no memory")

    def start_times(self, rounds: int, until: float = math.inf) -> None:
        """By hand and by the package in pairs, each way first in every other one: the second may find more in caches.

        Args:
            rounds: pairs at most.
            until: seconds of the whole run after which none is begun.
        """
        pairs: list[StartPair] = []
        for number in range(1, rounds + 1):
            if self.evidence.seconds > until:
                break
            hand_first = number % 2 == 1
            hand = self._start_by_hand(number) if hand_first else None
            package, gate = self._start_by_package(number)
            pairs.append(StartPair(hand or self._start_by_hand(number), package, gate, hand_first))
            self.evidence.note(f"round {number}: {pairs[-1]}")
            self.evidence.know(**{self._named("start"): [asdict(one) for one in pairs]})
        if not pairs:
            self.evidence.skip(f"{self.deployment.name}: the time to start, as the run's time was over")
            return
        ratio = ratio_of([one.package for one in pairs], [one.hand for one in pairs])
        self.evidence.know(**{self._named("start-ratio"): ratio.as_dict()})
        self._check(f"first chat of the package within {LIMIT:.2f} times by hand", ratio.within(LIMIT), ratio)

    def _start_by_hand(self, number: int) -> float:
        chat = FirstChat(self.deployment.server)
        log = self.deployment.folder / f"by-hand-{number}.log"
        with by_hand(self.deployment.launch, log) as pid:
            chat.ask()
            seconds = chat.seconds_of(pid)
        self._keep(f"by-hand-{number}", log.read_text(errors="replace"))
        self._wait_for_empty()
        return seconds

    def _start_by_package(self, number: int) -> tuple[float, float]:
        chat = FirstChat(self.deployment.server)
        with chat.meanwhile():
            self._ended("a rollout that starts the service", self.deployment.run("rollout", "--yes"), 0)
        seconds = chat.seconds_of(self.deployment.pid() or 0)
        states = self.deployment.last_cutover().get("seconds", {})
        self._keep_log(f"by-package-{number}")
        self.deployment.stop()
        self._wait_for_empty()
        return seconds, states.get("start", 0.0) + states.get("gate", 0.0)

    def _wait_for_empty(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._left() and time.monotonic() < deadline:
            time.sleep(0.5)

    def _left(self) -> str:
        """What is left on the GPUs beyond what an idle one has; '' for nothing."""
        before = {gpu.uuid: gpu.memory_used for gpu in self.idle}
        gpus = read_usage()[: self.deployment.gpus]
        return "; ".join(
            f"GPU {gpu.index}: {gpu.memory_used - before[gpu.uuid]:,} bytes, {len(gpu.processes)} processes"
            for gpu in gpus
            if gpu.processes or gpu.memory_used > before[gpu.uuid] + EMPTY
        )

    def _ended(self, what: str, done: Finished, code: int) -> None:
        ended = self.deployment.last_cutover()
        seen = f"exit code {done.code} after {done.seconds:.1f} s; {_summary(ended)}"
        if not self._check(f"{what} ends with {code}", done.code == code, seen):
            self._keep(what.replace(" ", "-"), done.output)

    def _serves(self, what: str, release: str | None) -> None:
        """The release that is current is the one, and says so, and answers."""
        try:
            told = self.deployment.server.get("/model_info").get("weight_version")
            text = self.deployment.server.chat()
        except httpx.HTTPError as error:
            self._check(what, False, error)
            raise DeployError(f"{self.deployment.name} does not answer", "see its log, and the checks above") from error
        current = self.deployment.current()
        holds = release is not None and current == release and told == release and bool(text)
        self._check(what, holds, f"release {current}, weight_version {told}, answer {text!r}")

    def _check(self, what: str, holds: bool | None, seen: object) -> bool:
        return self.evidence.check(f"{self.deployment.name}: {what}", holds, seen)

    def _named(self, what: str) -> str:
        return f"{self.deployment.name}-{what}"

    def _keep_log(self, what: str, newest: bool = True) -> None:
        """Keep the log of the newest process, or of the one before."""
        path = self.deployment.log if newest else Path(f"{self.deployment.log}.1")
        if path.exists():
            self._keep(what, path.read_text(errors="replace"))

    def _keep(self, what: str, text: str) -> None:
        path = self.evidence.folder / f"{self._named(what)}.log"
        path.write_text(without_names(text, self.evidence.names), encoding="utf-8")


def _summary(ended: Any) -> str:
    """A cut-over in one line."""
    seconds = ", ".join(f"{state} {value:g}" for state, value in ended.get("seconds", {}).items())
    reason = f"; {ended['reason']}" if ended.get("reason") else ""
    return f"{ended.get('outcome', 'no cut-over')} ({seconds} s){reason}"


def _findings(planned: Any) -> str:
    return ", ".join(f"{one['severity']} {one['id']}" for one in planned["findings"]) or "no findings"


def _plan(planned: Any) -> dict[str, Any]:
    kept = ("memory", "kv_bytes_per_token", "kv_tokens", "context", "requests", "longest_requests", "argv")
    return {name: planned[name] for name in kept}


def _server(info: Any) -> dict[str, Any]:
    kept = ("version", "mem_fraction_static", "attention_backend", "chunked_prefill_size", "max_running_requests")
    usage = info["internal_states"][0]["memory_usage"]
    return {**{name: info.get(name) for name in kept}, "memory_usage": usage}
