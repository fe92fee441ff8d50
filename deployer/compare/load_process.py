"""The process that makes a load: by the Python of an environment with SGLang, here or on a host that ssh reaches."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare import load_child
from deployer.compare.asking import API_KEY, api_key
from deployer.compare.exchange import parsed
from deployer.wording import printable

# What of the operator's own environment variables the benchmark is given: it runs foreign code.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSH_AUTH_SOCK")
VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "NO_PROXY": "*", "no_proxy": "*"}
ON_HOST = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.@-]*):(?P<path>/.*)")
SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
LOG = 4000  # bytes of what went wrong
NO_LOGIN = 255  # ssh's own exit code
ENDING = 10  # seconds for what is left of a process that was ended
ANSWERS = {"problem", "generator", "step"}

Answers = Callable[[float, float], Iterator[Mapping[str, Any]]]


@dataclass(frozen=True)
class Maker:
    """Where a load is made.

    Args:
        place: folder of an environment, or its Python; HOST:/PATH for one on a host.
        ssh_config: another configuration of ssh than the operator's own; '' for that.
    """

    place: str
    ssh_config: str = ""

    @property
    def host(self) -> str:
        """Where it is; '' for here."""
        found = ON_HOST.fullmatch(self.place)
        return found["host"] if found else ""

    @property
    def argv(self) -> list[str]:
        """What is started here.

        Raises:
            DeployError: there is no such Python here.
        """
        command = ["-I", "-c", Path(load_child.__file__).read_text(encoding="utf-8")]
        found = ON_HOST.fullmatch(self.place)
        if found is None:
            return [self._python_here(), *command]
        path = found["path"].rstrip("/")
        python = path if path.rpartition("/")[2].startswith("python") else f"{path}/bin/python"
        config = ["-F", str(Path(self.ssh_config).expanduser().absolute())] if self.ssh_config else []
        return [*SSH, *config, found["host"], shlex.join(["exec", python, *command])]

    def check(self) -> None:
        """Refuse what is not there, as far as that can be seen from here.

        Raises:
            DeployError: there is no such Python here.
        """
        if not self.host:
            self._python_here()

    def _python_here(self) -> str:
        python = Path(self.place).expanduser()
        python = python / "bin" / "python" if python.is_dir() else python
        if not os.access(python, os.X_OK):
            fix = "give --python the folder of a conda or virtual environment that has SGLang, or HOST:/FOLDER"
            raise DeployError(f"there is no Python in {self.place}", fix)
        return str(python.absolute())

    def cannot_run(self, why: str, detail: str = "") -> DeployError:
        """What is said when it does not work."""
        fix = "give --python an environment with sglang.benchmark.serving (SGLang 0.5.23), such as the service's own"
        return DeployError(f"the benchmark of SGLang cannot be run by {self.place}: {printable(why)}", fix, detail)


@contextmanager
def making(maker: Maker, order: Mapping[str, Any]) -> Iterator[Answers]:
    """The benchmark, in a session of its own and a folder of its own; it ends with the block.

    Args:
        maker: where.
        order: what it is told.

    Raises:
        DeployError: it cannot be started, or the API key is none.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    variables = {**VARIABLES, API_KEY: api_key()}
    told = json.dumps({**order, "variables": variables}).encode() + b"\n"
    argv = maker.argv
    with tempfile.TemporaryDirectory(prefix="deployer-load-") as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv,
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
        over = threading.Event()
        # By a thread: an order is longer than a pipe is, and who does not read it would be waited for without end.
        writer = threading.Thread(target=_tell, args=(process.stdin, told, over), daemon=True)
        writer.start()

        def answers(starting: float, longest: float) -> Iterator[Mapping[str, Any]]:
            patience, silent = starting, True
            while line := _next(lines, patience):
                answer = _answer(line)
                if answer is not None:
                    yield answer
                    patience, silent = longest, False
            if process.wait() != 0 or silent:
                raise _ended(maker, process.returncode, log)

        try:
            yield answers
        finally:
            over.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            writer.join(ENDING)
            reader.join()


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


def _read(stream: Any, lines: queue.Queue[bytes]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")


def _next(lines: queue.Queue[bytes], patience: float) -> bytes:
    """The next line; empty at the end."""
    try:
        return lines.get(timeout=patience)
    except queue.Empty:
        fix = "look at the server's log; deployer logs"
        raise DeployError(f"the load has said nothing for {patience:.0f} s", fix) from None


def _ended(maker: Maker, status: int, log: Any) -> DeployError:
    log.seek(max(0, log.seek(0, os.SEEK_END) - LOG))
    said = printable(log.read().decode(errors="replace"))
    if maker.host and status == NO_LOGIN:
        last = (said.strip().splitlines() or ["no reason"])[-1]
        return DeployError(f"ssh {maker.host}: {last}", f"log in once by: ssh {maker.host}", said)
    return maker.cannot_run(f"it ended with {status}", said)
