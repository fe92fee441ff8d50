"""Runs the collection's playbooks through ansible-runner: a thin façade that hands every event on."""

from __future__ import annotations

import contextlib
import locale
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]
KILLED = 254  # as ansible-runner has it

# For a working directory without an ansible.cfg: what the collection's own says (see there).
DEFAULTS = {
    "ANSIBLE_FORCE_VALID_GROUP_NAMES": "ignore",
    "ANSIBLE_FORKS": "50",
    "ANSIBLE_INTERPRETER_PYTHON": "auto_silent",
    "ANSIBLE_PIPELINING": "True",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=300s"
    " -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
}


@dataclass(frozen=True)
class Invocation:
    """What a playbook is run with.

    Args:
        inventory: paths as `-i` takes them; empty for the one that ansible.cfg names.
        limit: a host pattern, or ''.
        check: change nothing, say what would change.
        extra_vars: variables of the highest precedence.
        arguments: further words for ansible-playbook, such as vault options.
    """

    inventory: Sequence[str] = ()
    limit: str = ""
    check: bool = False
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class Run:
    """How a playbook ended: ansible-playbook's exit status, and what it printed."""

    status: int
    output: str


def run_playbook(
    name: str,
    invocation: Invocation,
    on_event: Callable[[Event], None],
    cancelled: Callable[[], bool] | None = None,
) -> Run:
    """Run `deployer.sglang.NAME` and call `on_event` for everything that happens.

    Nothing of the run stays on the controller: ansible-runner's own artifacts hold every variable, secrets included.

    Args:
        name: of the playbook.
        invocation: what it is run with.
        on_event: called with each event of ansible-runner.
        cancelled: asked once a second, whether ansible-playbook is to be killed. It runs in a session of its own, so
            that Ctrl-C does not reach it. Without this, ansible-runner kills it at Ctrl-C.
    """
    import ansible_runner  # imports slowly, and --help does not need it

    def handle(event: Event) -> bool:
        on_event(event)
        return False  # the event is not written to disk

    with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as folder:
        runner = ansible_runner.run(
            private_data_dir=folder,
            project_dir=os.getcwd(),
            playbook=f"deployer.sglang.{name}",
            inventory=[_absolute(path) for path in invocation.inventory] or None,
            limit=invocation.limit or None,
            extravars=dict(invocation.extra_vars),
            cmdline=" ".join(_words(invocation)) or None,
            envvars=environment(os.environ, Path.cwd()),
            event_handler=handle,
            quiet=True,
            settings={"pexpect_timeout": 1},  # seconds between two looks at `cancelled`
            cancel_callback=_gently(cancelled) if cancelled else None,
        )
        output = runner.stdout.read() if runner.stdout else ""
        return Run(KILLED if runner.rc is None else int(runner.rc), output)


def _gently(cancelled: Callable[[], bool]) -> Callable[[], bool]:
    """`cancelled`, which says so a second after it had ansible-playbook end its workers.

    They have sessions of their own: killed with ansible-runner's SIGKILL, it would leave them waiting for their hosts.
    """
    told = False

    def check() -> bool:
        nonlocal told
        if not cancelled():
            return False
        if told:
            return True
        told = True
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == pid:  # as pexpect starts it, and nothing else of this process
                    os.kill(pid, signal.SIGTERM)
        return False

    return check


def _children() -> list[int]:
    """Ids of this process's children; none where the kernel does not say."""
    found: list[int] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(word) for word in listing.read_text().split()]
    return found


def environment(current: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Environment variables for ansible-playbook: defaults where neither the user nor an ansible.cfg says otherwise.

    ansible-runner turns host key checking off; it is turned on again, and an unknown key is refused instead of asked
    about, as nobody could answer.
    """
    configured = "ANSIBLE_CONFIG" in current or (folder / "ansible.cfg").exists()
    wanted = {} if configured else dict(DEFAULTS)
    chosen = {name: current.get(name, value) for name, value in wanted.items()}
    if "utf" not in locale.getpreferredencoding(False).lower():
        chosen["LC_ALL"] = "C.UTF-8"  # Ansible refuses to run in any other encoding
    chosen["ANSIBLE_HOST_KEY_CHECKING"] = "True"
    chosen["ANSIBLE_NOCOLOR"] = "True"  # what it prints is shown by us, and only where it failed
    extra = (current.get("ANSIBLE_SSH_EXTRA_ARGS", ""), "-o StrictHostKeyChecking=yes")
    chosen["ANSIBLE_SSH_EXTRA_ARGS"] = " ".join(filter(None, extra))
    # ansible-playbook is the one that was installed beside this package, also without an activated environment.
    beside = str(Path(sys.executable).parent)
    return {**chosen, "PATH": os.pathsep.join((beside, current.get("PATH", os.defpath)))}


def _words(invocation: Invocation) -> list[str]:
    return [*(["--check", "--diff"] if invocation.check else []), *(shlex.quote(word) for word in invocation.arguments)]


def _absolute(source: str) -> str:
    """An inventory path from anywhere; a host list (`a,b,`) as it is."""
    return source if "," in source else str(Path(source).expanduser().resolve())
