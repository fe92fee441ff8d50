"""Events of runs as a rollout writes them, for tests of the report: pure, and the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployer.runs.events import Event

START = 1795919657.0  # 2026-11-29 02:34:17 UTC
RUN = "20261129T023417Z-rollout"
OLD, NEW, ADOPTED = "a1f0c2d4e6b8", "7c3e9d5b1f24", "0d9e8f7a6b5c"
LOG = """[2026-11-29 02:47:41 TP0] Load weight begin. avail mem=78.90 GB
[2026-11-29 02:47:55 TP0] \x1b[31mException\x1b[0m in ModelRunner
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.52 GiB. GPU 6 has 79.11 GiB of which 0.94 GiB is free.
[2026-11-29 02:47:56] Received sigquit from a child process. It usually means the child failed."""
WARNING = {
    "id": "kv-pool-shared",
    "severity": "warning",
    "subject": "inference_services[code2sql].options.max_running_requests",
    "message": "100 requests share 8192 tokens of KV cache: 82 tokens each, while one may have 32768",
    "fix": "remove max_total_tokens, or lower max_running_requests to 4",
}
ERROR = {
    "id": "weights-do-not-fit",
    "severity": "error",
    "subject": "inference_services[code2sql].model",
    "message": "a GPU holds 13.8 GiB of weights and has 11.2 GiB free",
    "fix": "raise tensor_parallel_size to 4, or name GPUs with more memory",
}


def event(at: float, kind: str, /, **data: Any) -> Event:
    """An event `at` seconds after the start."""
    return Event(kind, data, START + at, RUN)


def started(**changed: Any) -> Event:
    """The first event of a run."""
    data = {
        "verb": "rollout",
        "version": "0.1.0",
        "playbook": "deploy",
        "limit": "gpu-nodes",
        "check": False,
        "initiator": "alice@bastion",
        "options": {"batches": [1, "50%", "100%"], "max_fail": 1, "on_failure": "restore-host", "services": []},
        "versions": {"deployer": "0.1.0", "ansible-core": "2.18.6", "ansible-runner": "2.4.1", "python": "3.11.7"},
        "inventory": {"sources": ["inventory/hosts.yml"], "digest": "5f2c9e" * 10 + "abcd"},
    }
    return event(0, "run.started", **{**data, **changed})


def plan_of(
    before: str = OLD, findings: Sequence[Mapping[str, Any]] = (), services: Sequence[str] = ("code2sql",)
) -> dict[str, Any]:
    """A host's plan, as `plan --json` has it, in what the report reads of it."""
    current = {"release": before, "engine": "llamafactory" if before == ADOPTED else "sglang", "runs": True}
    return {
        "reachable": True,
        "failure": "",
        "services": [
            {
                "service": name,
                "role": role,
                "engine": "sglang",
                "version": "0.5.3",
                "current": current if before else None,
                "next": NEW if role == "service" else "",
            }
            for name in services
            for role in ("service", "predecessor")
        ],
        "findings": list(findings),
        "exit_code": 1 if findings else 0,
    }


def unreachable_plan(reason: str) -> dict[str, Any]:
    """The plan of a host that did not answer."""
    return {"reachable": False, "failure": reason, "services": [], "findings": [], "exit_code": 2}


def staging(hosts: Sequence[str], begun: float = 1.0, total: int = 27_600_000_000, seconds: float = 600) -> list[Event]:
    """What is staged on hosts that have the environment already: weights, and a release."""
    found = [event(begun, "task", phase="preflight", task="Plan the launch")]
    found += [_step(begun + 3 + number * 0.2, host, "preflight", 3.0) for number, host in enumerate(hosts)]
    found.append(event(begun + 5, "task", phase="lock", task="Take the lock of the rollout"))
    found += [_step(begun + 5.8, host, "lock", 0.7) for host in hosts]
    found.append(event(begun + 6, "task", phase="environment", task="Build the environment"))
    found += [_step(begun + 48 + number * 4, host, "environment", 40.0) for number, host in enumerate(hosts)]
    weights = begun + 52 + len(hosts) * 4
    found.append(event(weights, "task", phase="model", task="Pass the weights on"))
    for part in (1, 2):
        for host in hosts:
            how_far = {"done": total * part // 2, "total": total, "unit": "bytes", "text": "weights: on their way"}
            data = {"host": host, "phase": "model", "service": "", **how_far}
            found.append(event(weights + seconds * part / 2.1, "progress", **data))
    found += [_step(weights + seconds + number, host, "model", seconds) for number, host in enumerate(hosts)]
    ready = weights + seconds + len(hosts) + 1
    found.append(event(ready, "task", phase="release", task="Render the release"))
    return found + [_step(ready + 2, host, "release", 1.5) for host in hosts]


def batch(at: float, number: int, of: int, hosts: Sequence[str], done: Sequence[str], lost: Sequence[str]) -> Event:
    """A batch that is begun."""
    return event(at, "batch", batch=number, of=of, hosts=list(hosts), done=list(done), lost=list(lost), later=0)


def cutover(at: float, host: str, service: str = "code2sql", gate: float = 38.0, **changed: Any) -> list[Event]:
    """A cut-over that begins at `at`: what the controller saw of it, and its outcome."""
    seconds = {"drain": 1.4, "stop": 2.1, "prove": 0.9, "start": 0.3, "gate": gate, "commit": 0.2}
    data = {
        "host": host,
        "service": service,
        "outcome": "committed",
        "before": OLD,
        "after": NEW,
        "target": NEW,
        "adopted": "",
        "seconds": seconds,
        "probe": "",
        "reason": "",
        "failure": {},
        "log": "",
        **changed,
    }
    whole = sum(data["seconds"].values())
    found = [_state(at + 0.5, host, service, "drain", 0.5, "old" if data["before"] else "none")]
    if "stop" in data["seconds"]:
        found += [
            _state(at + 2.5, host, service, "stop", 2.5, "none"),
            _state(at + 5, host, service, "gate", 5, "none"),
        ]
        loading = {"phase": "cutover", "done": 2, "total": 8, "unit": "shards", "text": "loads 2 of 8 shards"}
        found.append(event(at + 8, "progress", host=host, service=service, **loading))
    return [*found, event(at + whole + 1, "cutover", **data)]


def restored(at: float, host: str, service: str = "code2sql", **changed: Any) -> list[Event]:
    """A cut-over whose release does not pass its gate."""
    failed = {
        "outcome": "restored",
        "after": OLD,
        "seconds": {"drain": 1.4, "stop": 2.1, "prove": 0.9, "start": 0.3, "gate": 16.2, "restore": 31.5},
        "probe": "process",
        "reason": "its process ended with exit status 1 while it was loading. "
        "Fix: lower mem_fraction_static, or give it GPUs with more memory",
        "failure": {"kind": "out-of-memory", "evidence": ["torch.OutOfMemoryError: CUDA out of memory."]},
        "log": LOG,
    }
    return cutover(at, host, service, **{**failed, **changed})


def ended(at: float, code: int, meaning: str, hosts: Mapping[str, Mapping[str, Any]], **changed: Any) -> Event:
    """The last event of a run."""
    data = {"exit_code": code, "meaning": meaning, "stopped": {}, "seconds": at, "hosts": dict(hosts)}
    return event(at, "run.ended", **{**data, **changed})


def six_hosts() -> list[Event]:
    """Six hosts in three batches: one is restored, one not reached, one adopted, and at last all are taken back."""
    up = ["gpu1", "gpu2", "gpu3", "gpu4", "gpu5"]
    no_route = "ssh: connect to host gpu6 port 22: No route to host. Fix: see whether it is up, and its address"
    plans = {host: plan_of(findings=[WARNING]) for host in up} | {"gpu6": unreachable_plan(no_route)}
    plans["gpu4"] = plan_of(ADOPTED)
    step = {"phase": "preflight", "task": "Plan the launch", "changed": False, "seconds": 3.1, "service": ""}
    lost = event(4.1, "step", host="gpu6", kind="unreachable", message=no_route, **step)
    targets = {host: {"code2sql": ADOPTED if host == "gpu4" else OLD} for host in ("gpu1", "gpu2", "gpu4")}
    outcomes: dict[str, dict[str, Any]] = {host: {"outcome": "committed", "failure": ""} for host in up}
    outcomes["gpu3"] = {"outcome": "restored", "failure": "its process ended"}
    outcomes["gpu5"] = {"outcome": "untouched", "failure": ""}
    outcomes["gpu6"] = {"outcome": "unreachable", "failure": no_route, "unreachable": True}
    taken_back = "failed; every host that had been cut over is back at what it served before"
    why = "no further batch is begun: 2 of 6 hosts failed or were not reached, 1 may: gpu3, gpu6"
    return [
        started(options={"batches": [1, "50%", "100%"], "max_fail": 1, "on_failure": "restore-all"}),
        *staging(up),
        lost,
        event(6, "plan", hosts=plans),
        event(60, "message", level="warning", text="the weights' hub answered slowly; it was asked again"),
        event(700, "task", phase="cutover", task="Cut over"),
        batch(700, 1, 3, ["gpu1"], [], ["gpu6"]),
        *cutover(701, "gpu1"),
        batch(760, 2, 3, ["gpu2", "gpu3", "gpu4"], ["gpu1"], ["gpu6"]),
        event(761, "task", phase="cutover", task="Cut over"),
        *cutover(762, "gpu2", gate=44.0),
        *restored(762.2, "gpu3"),
        *cutover(762.1, "gpu4", gate=52.5, before=ADOPTED, adopted=ADOPTED),
        event(830, "restoring", targets=targets, without=[]),
        event(831, "task", phase="cutover", task="Cut over"),
        *[one for host in targets for one in _back(832, host, targets[host]["code2sql"])],
        ended(890, 1, taken_back, outcomes, stopped={"kind": "failures", "why": why}),
    ]


def nothing_to_do(hosts: int = 3) -> list[Event]:
    """A run that finds everything as it should be."""
    names = [f"gpu{number + 1}" for number in range(hosts)]
    same = {"outcome": "unchanged", "before": NEW, "seconds": {"gate": 0.4}}
    done = [one for name in names for one in cutover(8, name, **same) if one.kind == "cutover"]
    return [
        started(),
        event(1, "task", phase="preflight", task="Plan the launch"),
        *[_step(3, name, "preflight", 2.0) for name in names],
        event(4, "plan", hosts={name: plan_of(NEW) for name in names}),
        batch(7, 1, 1, names, [], []),
        event(7, "task", phase="cutover", task="Cut over"),
        *done,
        ended(11, 0, "every host is where it should be", {name: {"outcome": "unchanged"} for name in names}),
    ]


def refused() -> list[Event]:
    """A run that its plan refuses."""
    hosts = ["gpu1", "gpu2"]
    message = "the plan has 1 error: weights-do-not-fit. Fix: see below"
    step = {"phase": "preflight", "task": "Refuse what cannot work", "changed": False, "seconds": 0.1, "service": ""}
    return [
        started(),
        event(1, "task", phase="preflight", task="Plan the launch"),
        event(4, "plan", hosts={host: plan_of(findings=[ERROR, WARNING]) for host in hosts}),
        *[event(4.5, "step", host=host, kind="failed", message=message, **step) for host in hosts],
        ended(5, 2, "refused; nothing that serves was changed", {host: {"failure": message} for host in hosts}),
    ]


def killed() -> list[Event]:
    """A run that was killed while the first host was dark."""
    hosts = ["gpu1", "gpu2"]
    return [
        started(),
        *staging(hosts, seconds=120),
        event(6, "plan", hosts={host: plan_of() for host in hosts}),
        batch(200, 1, 2, ["gpu1"], [], []),
        event(200, "task", phase="cutover", task="Cut over"),
        *[one for one in cutover(201, "gpu1") if one.kind != "cutover"],
        event(215, "interrupted", count=1, text="interrupted: no further batch is begun"),
    ]


def many(hosts: int = 100) -> list[Event]:
    """A fleet in three batches, one host of the last restored, each with two services."""
    names = [f"gpu-node-{number:03d}.rack{number // 20}.example" for number in range(1, hosts + 1)]
    services = ("code2sql", "embeddings")
    found = [started(), *staging(names, seconds=900), event(6, "plan", hosts={one: plan_of() for one in names})]
    at, done = 1500.0, 0
    for number, size in enumerate((1, hosts // 4, hosts - 1 - hosts // 4), start=1):
        of_batch = names[done : done + size]
        found += [batch(at, number, 3, of_batch, names[:done], []), event(at, "task", phase="cutover", task="Cut over")]
        for index, host in enumerate(of_batch):
            for place, service in enumerate(services):
                begin = at + 1 + place * 60 + index % 7
                bad = host == names[-1] and place == 1
                found += restored(begin, host, service) if bad else cutover(begin, host, service, 30.0 + index % 11)
        at, done = at + 150, done + size
    return [*found, ended(at, 1, "failed; what served before serves again where a release did not pass", {})]


def long_names() -> list[Event]:
    """The six hosts, where a host, the service, a release and a line of the log are long and have nowhere to break."""
    long = {"gpu3": "g" * 240, "code2sql": "code2sql_" * 12, OLD: OLD * 5, "sigquit": "x" * 400}
    found = []
    for one in six_hosts():
        text = json.dumps(one.data)
        for name, instead in long.items():
            text = text.replace(name, instead)
        found.append(Event(one.kind, json.loads(text), one.time, one.run))
    return found


def write(folder: Path, events: Iterable[Event], torn: str = "", ending: Mapping[str, Any] | None = None) -> Path:
    """The folder of a run with these events.

    Args:
        torn: the beginning of a last line.
        ending: run.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [one.as_json() + "\n" for one in sorted(events, key=lambda one: one.time)]
    (folder / "events.jsonl").write_text("".join(lines) + torn, encoding="utf-8")
    if ending is not None:
        (folder / "run.json").write_text(json.dumps(ending), encoding="utf-8")
    return folder


def _back(at: float, host: str, target: str) -> list[Event]:
    return cutover(at, host, gate=22.0, before=NEW, after=target, target=target)


def _step(at: float, host: str, phase: str, seconds: float) -> Event:
    said = {"task": f"End of {phase}", "kind": "ok", "changed": True, "seconds": seconds, "message": "", "service": ""}
    return event(at, "step", host=host, phase=phase, **said)


def _state(at: float, host: str, service: str, state: str, seconds: float, serving: str) -> Event:
    said = {"state": state, "seconds": seconds, "expected": None, "serving": serving}
    return event(at, "state", host=host, service=service, **said)
