"""`make demo` as a first user runs it: in a fresh clone, without root, without systemd, with Debian's own Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.inputs import default_cache, make_inputs

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
PORT = "18011"


@dataclass(frozen=True)
class Newcomer:
    """A user without rights, with a home and a clone of the repository."""

    home: Path

    def run(self, *command: str, timeout: int = 1200) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, with an environment of its own."""
        passed = ("LANG", "PIP_", "SSL_", "REQUESTS_CA", "CURL_CA", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
        environment = {name: value for name, value in os.environ.items() if name.upper().startswith(passed)}
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(
            command,
            cwd=self.home / "clone",
            env={**environment, **self._environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
            **user,
        )
        print(f"$ {' '.join(command)}\n{done.stdout}\n[exit {done.returncode}]")
        return done

    def _environment(self) -> dict[str, str]:
        # The user `nobody` has no home in /etc/passwd, where Ansible looks for it.
        remote_tmp = str(self.home / ".ansible" / "tmp")
        own = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "ANSIBLE_REMOTE_TMP": remote_tmp}
        return {**own, "DEMO_PORT": PORT, "COLUMNS": "120"}


@pytest.fixture
def newcomer() -> Iterator[Newcomer]:
    # Not pytest's own folder: every session that starts closes that one to other users.
    with tempfile.TemporaryDirectory(prefix="sglang-deployer-newcomer-") as folder:
        Path(folder).chmod(0o755)
        user = _move_in(Path(folder) / "home")
        yield user
        user.run("make", "demo-clean")


def _move_in(home: Path) -> Newcomer:
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, home / "clone"], check=True)
    # Only the downloads are shared with the lab tests; all else is made anew.
    make_inputs(default_cache())
    target = home / ".cache" / "sglang-deployer" / "demo"
    target.mkdir(parents=True)
    for wheels in default_cache().glob("wheels-*"):
        shutil.copytree(wheels, target / wheels.name)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", home], check=True)
    return Newcomer(home)


def test_one_command_serves_and_another_goes_back(newcomer: Newcomer) -> None:
    demo = newcomer.run("make", "demo")
    assert demo.returncode == 0
    assert f"GET http://127.0.0.1:{PORT}/v1/models: tiny" in demo.stdout
    assert '"role": "assistant"' in demo.stdout
    assert "What to try next" in demo.stdout

    deployer = (".venv/bin/python", "-m", "deployer")
    inventory = ("-i", "inventory/local/hosts.yml")
    again = newcomer.run(*deployer, "rollout", *inventory, "--yes")
    assert again.returncode == 0
    assert "unchanged" in again.stdout
    assert newcomer.run(*deployer, "status", *inventory).returncode == 0

    back = newcomer.run(*deployer, "rollback", *inventory, "--yes")
    assert back.returncode == 0
    assert "llamafactory" in newcomer.run(*deployer, "status", *inventory).stdout

    assert newcomer.run("make", "demo-clean").returncode == 0
    assert not (newcomer.home / "clone" / ".demo").exists()
    assert newcomer.run(*deployer, "status", *inventory).returncode == 1
