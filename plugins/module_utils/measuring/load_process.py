"""The process that makes a load: by the Python of an environment with SGLang, wherever a maker has it run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import load_child
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.asking import API_KEY, usable_key
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import parsed
from ansible_collections.deployer.sglang.plugins.module_utils.program_text import source_of
from ansible_collections.deployer.sglang.plugins.module_utils.wording import printable

VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_PROXY": "*", "no_proxy": "*"}
LOG = 4000  # bytes of what went wrong
MOST_SAID = 32 * 1024 * 1024  # bytes, several times what 10,000 requests come to
LOOK = 2  # seconds between two looks at what is put under the load
ENDING = 10  # seconds for what is left of a process that was ended
ANSWERS = {"problem", "generator", "step"}

Answers = Callable[[float, float], Iterator[Mapping[str, Any]]]


class Maker(Protocol):
    """Where a load is made, and as whom."""

    def argv(self, program: Sequence[str]) -> list[str]:
        """What is started here.

        Args:
            program: Python's words for the program.

        Raises:
            DeployError: there is no such Python.
        """

    def variables(self, folder: str) -> Mapping[str, str]:
        """The environment of what is started here; `folder` is its own, and goes with it."""

    def identity(self) -> Mapping[str, Any]:
        """Popen's arguments to run as another user; none for the same."""

    def cannot_run(self, why: str, detail: str = "") -> DeployError:
        """What is said when it does not work."""

    def ended(self, status: int, said: str) -> DeployError:
        """What is said when it ended before its time: with this status, having written `said` to standard error."""


def program() -> list[str]:
    """Python's words for the program that makes a load; it is told what to do by its standard input."""
    return ["-I", "-c", source_of(load_child)]


@contextmanager
def making(
    maker: Maker, order: Mapping[str, Any], key: str = "", watch: Callable[[], None] = lambda: None
) -> Iterator[Answers]:
    """The benchmark, in a session of its own and a folder of its own; both end with the block.

    Args:
        maker: where.
        order: what it is told.
        key: that the server wants; '' for none.
        watch: called again and again while nothing is said; what it raises ends the benchmark.

    Raises:
        DeployError: it cannot be started, or the API key is none.
    """
    told = json.dumps({**order, "variables": {**VARIABLES, API_KEY: usable_key(key)}}).encode() + b"\n"
    argv = maker.argv(program())
    identity = maker.identity()
    with _folder(identity) as folder, tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=maker.variables(folder),
                start_new_session=True,
                **identity,
            )
        except OSError as error:
            raise maker.cannot_run(f"{error.strerror}: {argv[0]}") from error
        assert process.stdin is not None and process.stdout is not None
        lines: queue.Queue[bytes | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
        reader.start()
        over = threading.Event()
        # By a thread: an order is longer than a pipe is, and who does not read it would be waited for without end.
        writer = threading.Thread(target=_tell, args=(process.stdin, told, over), daemon=True)
        writer.start()

        def answers(starting: float, longest: float) -> Iterator[Mapping[str, Any]]:
            patience, silent, since = starting, True, time.monotonic()
            while line := _next(maker, lines, patience, since, watch):
                answer = _answer(line)
                if answer is not None:
                    yield answer
                    patience, silent, since = longest, False, time.monotonic()
            if _status(process, patience, since) != 0 or silent:
                raise maker.ended(process.returncode, _end_of(log))

        try:
            yield answers
        finally:
            over.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            writer.join(ENDING)
            reader.join(ENDING)


@contextmanager
def _folder(identity: Mapping[str, Any]) -> Iterator[str]:
    """A folder for whoever runs it; links in it are not followed when it goes."""
    folder = tempfile.mkdtemp(prefix="deployer-load-")
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        yield folder
    finally:
        with contextlib.suppress(OSError, RecursionError):  # folders may be nested without end
            shutil.rmtree(folder)


def _tell(stream: Any, order: bytes, over: threading.Event) -> None:
    """Say what is wanted; that the stream is closed then ends the process on a host, too."""
    with suppress(BrokenPipeError), stream:
        stream.write(order)
        stream.flush()
        over.wait()


def _answer(line: bytes) -> Mapping[str, Any] | None:
    """What a line says; None where it is not the benchmark's, but a greeting of the host."""
    try:
        value = parsed(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and ANSWERS & value.keys() else None


def _read(stream: Any, lines: queue.Queue[bytes | None]) -> None:
    """Hand on what is said, a line each; None where it is too much."""
    left = MOST_SAID
    while line := stream.readline(left):
        left -= len(line)
        if left <= 0:
            lines.put(None)
            return
        lines.put(line)
    lines.put(b"")


def _next(
    maker: Maker, lines: queue.Queue[bytes | None], patience: float, since: float, watch: Callable[[], None]
) -> bytes:
    """The next line; empty at the end. What is no answer grants no more time."""
    while left := _left(patience, since):
        try:
            line = lines.get(timeout=min(left, LOOK))
        except queue.Empty:
            watch()
            continue
        if line is None:
            raise maker.cannot_run(f"it says more than {MOST_SAID // 2**20} MiB")
        return line
    raise _silent(patience)


def _status(process: subprocess.Popen[bytes], patience: float, since: float) -> int:
    """How a process ended that says no more."""
    try:
        return process.wait(_left(patience, since))
    except subprocess.TimeoutExpired:
        raise _silent(patience) from None


def _left(patience: float, since: float) -> float:
    return max(0.0, since + patience - time.monotonic())


def _silent(patience: float) -> DeployError:
    return DeployError(f"the load has said nothing for {patience:.0f} s", "look at the server's log; deployer logs")


def _end_of(log: Any) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG))
    return printable(log.read().decode(errors="replace"))
