"""Puts a server under load, by the serving benchmark of SGLang in an environment that has it."""

from __future__ import annotations

import json
import math
import os
import platform
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare import load_child
from deployer.compare.asking import API_KEY
from deployer.compare.measurement import Load, LoadSettings, Request, Server, Step
from deployer.compare.prompts import Prompts, spread

MOST_REQUESTS = 10_000  # of all steps
STARTING = 300  # seconds in which a cold environment imports SGLang
PATIENCE = 300  # seconds for what an overloaded server has to end
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "NO_PROXY": "*",
    "no_proxy": "*",
    "PYTHONUNBUFFERED": "1",
}
# What of the operator's own environment variables the benchmark is given: it runs foreign code.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", API_KEY)

Say = Callable[[str], None]


def put_under_load(
    server: Server, prompts: Prompts, settings: LoadSettings, prefix: Path, tokenizer: str, say: Say = lambda text: None
) -> Load:
    """Measure a server at each rate, one after the other.

    Args:
        server: who.
        prompts: that are asked.
        settings: of the load.
        prefix: of an environment that has SGLang, or its Python.
        tokenizer: folder of the model, whose tokenizer counts tokens; '' for the one that the server names.
        say: told how far it is.

    Raises:
        DeployError: the settings are beyond bounds, there is no such environment, or its benchmark cannot be run.
    """
    _bounded(settings)
    python, tokenizer = _python(prefix), _tokenizer(server, tokenizer)
    order = _order(server, prompts, settings, tokenizer)
    generator, steps = "", []
    with _child(python, order) as answers:
        for answer in answers(STARTING, settings):
            if "problem" in answer:
                raise _cannot_run(prefix, str(answer["problem"]))
            if "generator" in answer:
                generator = str(answer["generator"])
                say(f"{server.url}: {_rate_words(settings.rates[0])}")
                continue
            step = _step(answer["step"])
            steps.append(step)
            if not step.problem and len(steps) < len(settings.rates):
                say(f"{server.url}: {_rate_words(settings.rates[len(steps)])}")
    missing = "not measured, as the rate before was not"
    steps += [Step(rate, problem=missing) for rate in settings.rates[len(steps) :]]
    return Load(settings, prompts, tuple(steps), generator, _this_machine(), tokenizer)


def _bounded(settings: LoadSettings) -> None:
    fix = "give fewer --rates or --requests"
    if not settings.rates or len(settings.rates) * settings.requests > MOST_REQUESTS:
        raise DeployError(f"a load has 1 to {MOST_REQUESTS:,} requests in all", fix)
    for name, value in (("--requests", settings.requests), ("--max-tokens", settings.max_tokens)):
        if value < 1:
            raise DeployError(f"{name} is {value}", "give at least 1")
    if not all(rate > 0 for rate in settings.rates) or not 0 < settings.timeout < math.inf:
        raise DeployError(
            "a rate and the timeout of requests are above 0", "give --rates 1,4,max and a number of seconds"
        )


def _python(prefix: Path) -> Path:
    """The interpreter of an environment."""
    python = prefix.expanduser()
    python = python / "bin" / "python" if python.is_dir() else python
    if not os.access(python, os.X_OK):
        fix = "give --python the folder of a conda or virtual environment that has SGLang"
        raise DeployError(f"there is no Python in {prefix}", fix)
    return python.absolute()


def _tokenizer(server: Server, given: str) -> str:
    named = given or server.flags.get("tokenizer_path", "") or server.flags.get("model_path", "")
    if not named or not Path(named).expanduser().is_dir():
        there = f"no folder {named} here" if named else f"{server.url} does not say which it has"
        fix = "give --tokenizer the folder of the model, or of its tokenizer files alone"
        raise DeployError(f"a load needs the tokenizer of the model: {there}", fix)
    return str(Path(named).expanduser().absolute())


def _order(server: Server, prompts: Prompts, settings: LoadSettings, tokenizer: str) -> dict[str, Any]:
    """What the child is told."""
    every = spread(prompts, settings.requests * len(settings.rates), settings.seed)
    steps = []
    for number, rate in enumerate(settings.rates):
        chosen = every[number * settings.requests : (number + 1) * settings.requests]
        steps.append({"rate": "inf" if math.isinf(rate) else rate, "prompts": chosen})
    return {
        "url": server.url,
        "model": server.model,
        "tokenizer": tokenizer,
        "max_tokens": settings.max_tokens,
        "timeout": settings.timeout,
        "patience": PATIENCE,
        "seed": settings.seed,
        "steps": steps,
    }


def _longest(settings: LoadSettings) -> float:
    """Seconds that a step may take: all requests are sent, each is answered or given up."""
    slowest = min(settings.rates)
    sending = 0.0 if math.isinf(slowest) else 3 * settings.requests / slowest + 30
    return PATIENCE + sending + 2 * settings.timeout + 60


Answers = Callable[[float, LoadSettings], Iterator[Mapping[str, Any]]]


@contextmanager
def _child(python: Path, order: Mapping[str, Any]) -> Iterator[Answers]:
    """The benchmark, in a session of its own and a folder of its own; it ends with the block."""
    environment = {**{name: os.environ[name] for name in KEPT if name in os.environ}, **ENVIRONMENT}
    with tempfile.TemporaryDirectory(prefix="deployer-load-") as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(python), "-I", str(Path(load_child.__file__).absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None and process.stdout is not None
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()

        def answers(starting: float, settings: LoadSettings) -> Iterator[Mapping[str, Any]]:
            patience = starting
            while line := _next(lines, patience):
                yield json.loads(line)
                patience = _longest(settings)
            if process.wait() != 0:
                raise _cannot_run(python, f"it ended with {process.returncode}", _tail(log))

        try:
            with suppress(BrokenPipeError), process.stdin as stream:
                stream.write(json.dumps(order).encode())
            yield answers
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join()


def _read(stream: Any, lines: queue.Queue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _next(lines: queue.Queue[bytes], patience: float) -> bytes:
    """The next line; empty at the end."""
    began = time.monotonic()
    try:
        return lines.get(timeout=patience)
    except queue.Empty:
        waited = time.monotonic() - began
        raise DeployError(
            f"the load has said nothing for {waited:.0f} s", "look at the server's log; deployer logs"
        ) from None


def _tail(log: Any) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - 4000))
    return str(log.read().decode(errors="replace"))


def _cannot_run(python: Path, why: str, detail: str = "") -> DeployError:
    fix = (
        "give --python an environment whose SGLang has sglang.benchmark.serving (0.5.23 has), such as the service's own"
    )
    return DeployError(f"the benchmark of SGLang cannot be run by {python}: {why}", fix, detail)


def _step(value: Mapping[str, Any]) -> Step:
    requests = tuple(
        Request(float(one["first"]), float(one["latency"]), int(one["pieces"]), int(one["tokens"]), str(one["error"]))
        for one in value.get("requests", ())
    )
    return Step(float(value["rate"]), float(value.get("seconds", 0)), requests, str(value.get("problem", "")))


def _rate_words(rate: float) -> str:
    return "all requests at once" if math.isinf(rate) else f"{rate:g} requests a second"


def _this_machine() -> str:
    """The machine that makes the load, as a reader of its figures has to know it."""
    return f"{platform.node()}, {os.cpu_count()} CPUs, {platform.system()} {platform.machine()}"
