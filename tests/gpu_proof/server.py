"""A running server, as a client sees it, and one that is started by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until

PAUSE = 0.1  # seconds between two questions to a server that does not answer yet
PATIENCE = 900  # seconds for a server to answer, a process to end
QUESTION = "Say hello."


@dataclass(frozen=True)
class Server:
    """A server on this host.

    Args:
        port: it listens on.
        name: of its model.
    """

    port: int
    name: str

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        """What it answers to a GET; raises httpx.HTTPError."""
        with httpx.Client(timeout=60, trust_env=False) as client:
            return client.get(self.url + path).raise_for_status().json()

    def chat(self) -> str:
        """An answer of at least one token; raises httpx.HTTPError, or DeployError where there is none."""
        body = {"model": self.name, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16}
        with httpx.Client(timeout=120, trust_env=False) as client:
            answer = client.post(f"{self.url}/v1/chat/completions", json=body).raise_for_status().json()
        if not answer["usage"]["completion_tokens"]:
            raise DeployError(f"{self.url} answered a chat without a token")
        return str(answer["choices"][0]["message"]["content"])

    def ready(self) -> bool:
        """Whether its readiness path answers 200."""
        try:
            return httpx.get(f"{self.url}/health", timeout=30, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@dataclass
class FirstChat:
    """Asks a server until it has answered a chat.

    Attributes:
        at: seconds since the machine was booted; None while there was no answer.
    """

    server: Server
    at: float | None = None
    _given_up: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """Ask again and again."""
        deadline = time.monotonic() + PATIENCE
        while not self._given_up.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if self.server.ready():
                    self.server.chat()
                    self.at = time.clock_gettime(time.CLOCK_BOOTTIME)
                    return
            time.sleep(PAUSE)

    @contextmanager
    def meanwhile(self) -> Iterator[FirstChat]:
        """Ask while something else goes on; at its end there is an answer or there will be none."""
        thread = threading.Thread(target=self.ask, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            if not self.server.ready():
                self._given_up.set()
            thread.join(PATIENCE)

    def seconds_of(self, pid: int) -> float:
        """From the start of a process to the answer.

        Raises:
            DeployError: there is no such process, or was no answer.
        """
        process = procfs.read_process(pid)
        if process is None or self.at is None:
            raise DeployError(f"{self.server.url}: no chat was answered by process {pid}", "see its log")
        return self.at - process.start_time / os.sysconf("SC_CLK_TCK")


@contextmanager
def by_hand(launch: Path, log: Path) -> Iterator[int]:
    """A release's launch.sh, run as somebody at a terminal would; it is ended afterwards, with all of its session."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [launch], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.poll() is not None, 60)
        for pid in _session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(60)
        if not wait_until(lambda: not _session(process.pid), 60):
            raise DeployError(f"processes of {launch} do not end", "look for a hung driver call (dmesg)")


def _session(leader: int) -> set[int]:
    return {process.pid for process in procfs.all_processes() if process.session == leader and process.state != "Z"}
