"""Who uses an environment: the deployment's releases, and processes that run from it.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import entries_or_nothing
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store

ROLES = ("current", "previous", "predecessor", "adopted")
LARGEST_MAPS = 8 * 2**20  # bytes
_GONE = " (deleted)"  # what /proc adds to the path of a program that was replaced or removed
_PACKAGES = re.compile(rb"(/\S.*?)/lib(?:64)?/python\d+\.\d+t?/site-packages/")


@dataclass(frozen=True)
class Use:
    """A release that uses an environment: of which service, and whether as current, previous or predecessor."""

    service: str
    release: str
    role: str
    path: str

    def as_dict(self) -> dict[str, str]:
        """The use as a module's result has it."""
        return {"service": self.service, "release": self.release, "as": self.role}


@dataclass(frozen=True)
class Program:
    """A process and the program that it runs.

    Attributes:
        path: the program's, as the kernel has it.
        venv: the venv that it runs from, where its program is that of another installation; else ''.
    """

    pid: int
    path: str
    venv: str = ""

    @property
    def prefix(self) -> str:
        """The prefix that the program would belong to as the Python of an environment."""
        return self.venv or os.path.dirname(os.path.dirname(self.path))


def releases(root: str) -> list[Use]:
    """The releases that services serve, served or go back to, with the environment that each uses.

    Args:
        root: the deployment's root folder, which need not exist.
    """
    found = []
    for service in entries_or_nothing(os.path.join(root, "services")):
        folder = Store(root).service(service)
        for role in ROLES:
            try:
                release = folder.release_of(role)
                if release is None:
                    continue
                value = read_json(os.path.join(folder.release(release), RELEASE_FILE))
                path = str(value["environment"]["path"])
            except (DeployError, OSError, ValueError, KeyError, TypeError):  # staging mends what is damaged
                continue
            found.append(Use(service, release, role, path))
    return found


def programs() -> list[Program]:
    """The processes of this host, other than this one, whose program can be told."""
    found = []
    for pid in (int(name) for name in entries_or_nothing("/proc") if name.isdigit()):
        path = _program(pid)
        if path and pid != os.getpid():
            is_python = os.path.basename(path).startswith("python")
            found.append(Program(pid, path, _venv(pid, path) if is_python else ""))
    return sorted(found, key=lambda one: one.pid)


def _program(pid: int) -> str:
    """The path of a process's program on this host; '' where that is not known, as inside a container."""
    link = f"/proc/{pid}/exe"
    try:
        path = os.readlink(link)
        if path.endswith(_GONE):
            same_view = os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
            return path[: -len(_GONE)] if same_view else ""
        return path if os.path.samestat(os.stat(link), os.stat(path)) else ""
    except (OSError, ValueError):  # a thread of the kernel, another user's, ended meanwhile
        return ""


def _venv(pid: int, program: str) -> str:
    """The venv that a Python runs from: its bin/python is a link to a program that lies elsewhere."""
    for prefix in _named_prefixes(pid):
        python = os.path.join(prefix, "bin", "python")
        if os.path.isfile(os.path.join(prefix, "pyvenv.cfg")) and os.path.realpath(python) == program:
            return prefix
    return ""


def _named_prefixes(pid: int) -> Iterator[str]:
    """Prefixes that a process names: by its command, its environment, and the libraries that it loaded."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            first = os.fsdecode(stream.read(4096).split(b"\0")[0])
        if "/" in first:
            command = os.path.join(os.readlink(f"/proc/{pid}/cwd"), first)
            yield os.path.dirname(os.path.dirname(os.path.normpath(command)))
    except OSError:
        pass
    yield from filter(None, [procfs.variable_of(pid, "VIRTUAL_ENV")])
    # SGLang's processes rename themselves, which overwrites both.
    try:
        with open(f"/proc/{pid}/maps", "rb") as stream:
            text = stream.read(LARGEST_MAPS)
    except OSError:
        return
    prefixes = (_PACKAGES.search(line) for line in text.splitlines() if b"site-packages" in line)
    yield from dict.fromkeys(os.fsdecode(found.group(1)) for found in prefixes if found)


def users_of(prefixes: Collection[str], found: Sequence[Program]) -> dict[str, list[int]]:
    """The processes that run from each prefix, by the venv or the nearest folder above their program.

    Args:
        prefixes: real paths.
        found: the processes.
    """
    users: dict[str, list[int]] = {}
    for program in found:
        path = os.path.realpath(program.venv) if program.venv else program.path
        while path not in prefixes and path != "/":
            path = os.path.dirname(path) or "/"
        if path in prefixes:
            users.setdefault(path, []).append(program.pid)
    return users


def shown_process(pid: int) -> dict[str, Any]:
    """A process for people: `pid`, `user`, and the beginning of its command; both '' once it has ended."""
    user, _, command = procfs.describe(pid).partition(" of ")[2].partition(": ")
    return {"pid": pid, "user": user, "command": command}
