"""Servers that somebody started by hand: real processes, in every way in which people start them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server, find_server
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until

DOUBLE = Path(__file__).parents[5] / "tests" / "doubles" / "openai_server.py"
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
SERVICE = "code2sql"
UV = f"""#!{PYTHON}
import signal, subprocess, sys
child = subprocess.Popen(sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
sys.exit(child.wait())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Bench:
    """A folder that everybody may enter, with a double that is recognised as SGLang, and what was started in it."""

    path: Path
    port: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def root(self) -> str:
        return str(self.path / "inference")

    @property
    def folder(self) -> ServiceFolder:
        return Store(self.root).service(SERVICE)

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def command(self, *more: str, engine: bool = True) -> list[str]:
        """The double's command line."""
        script = str(self.path / ("sglang/launch_server.py" if engine else "server.py"))
        return [PYTHON, script, "--port", str(self.port), "--served-model-name", SERVICE, *more]

    def start(
        self,
        argv: Sequence[str],
        environ: dict[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
        own_session: bool = True,
        shell: str = "",
        **more: object,
    ) -> Server:
        """Start what a person would start, its output in the log, and wait until it listens."""
        words = ["/bin/bash", "-c", f"umask 0037; ulimit -Sn 512; {shell} exec {shlex.join(argv)}"]
        with open(self.log, "ab") as log:
            if user is not None:
                shutil.chown(self.log, user)
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath, **(environ or {})},
                cwd=cwd or self.path,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
                start_new_session=own_session,
                **more,  # type: ignore[call-overload]
            )
        self.started.append(child)
        assert wait_until(lambda: bool(procfs.listening_inodes(self.port)), 20), self.log.read_text()
        server = find_server(self.port)
        assert server is not None
        return server

    def close(self) -> None:
        """End what is left of everything."""
        for child in self.started:
            child.kill()
            child.wait(10)
        for process in procfs.all_processes():
            words = procfs.words_of(process.pid)
            if any(str(self.path) in word for word in (*words, procfs.link_of(process.pid, "cwd"))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def bench() -> Iterator[Bench]:
    path = Path(tempfile.mkdtemp(prefix="adoption-"))
    path.chmod(0o777)
    (path / "sglang").mkdir()
    for name in ("sglang/launch_server.py", "server.py"):
        shutil.copy(DOUBLE, path / name)
        (path / name).chmod(0o644)
    (path / "sglang").chmod(0o755)
    (path / "uv").write_text(UV)
    (path / "uv").chmod(0o755)
    made = Bench(path, free_port())
    yield made
    made.close()
    shutil.rmtree(path, ignore_errors=True)
