"""Runs the collection's playbooks through ansible-runner: a thin façade that hands every event on."""

from __future__ import annotations

import locale
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]

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


def run_playbook(name: str, invocation: Invocation, on_event: Callable[[Event], None]) -> Run:
    """Run `deployer.sglang.NAME` and call `on_event` for everything that happens.

    Nothing of the run stays on the controller: ansible-runner's own artifacts hold every variable, secrets included.
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
        )
        output = runner.stdout.read() if runner.stdout else ""
        return Run(int(runner.rc), output)


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
