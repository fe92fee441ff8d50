"""Which hosts are to be looked at: as they were given, or as the operator's ssh configuration lists them."""

from __future__ import annotations

import glob
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

LOCAL = ("localhost", "127.0.0.1", "::1")
FORM = "HOST, USER@HOST, HOST:PORT or USER@HOST:PORT, with an IPv6 address in brackets"
MOST_FILES = 256  # of a configuration with all that it includes
_SPEC = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class Target:
    """A host to be looked at.

    Attributes:
        name: in the inventory.
        user, port: as they were given; '' and 0 leave them to ssh.
        connect: what ssh is to be given where that is not the name; ''.
        address: what the name stands for in ssh's configuration; '' where it is the same.
    """

    name: str
    user: str = ""
    port: int = 0
    connect: str = ""
    address: str = ""

    @property
    def is_local(self) -> bool:
        """This machine itself, without ssh."""
        return self.name in LOCAL and not (self.user or self.port)

    @property
    def reached_at(self) -> str:
        """Its address, as known_hosts has it."""
        return self.address or self.connect or self.name

    @property
    def port_words(self) -> str:
        """The port as ssh and ssh-keyscan take it; '' without one."""
        return f" -p {self.port}" if self.port else ""

    @property
    def login(self) -> str:
        """What is to follow ssh on a command line."""
        whom = f"{self.user}@" if self.user else ""
        return f"{self.port_words.lstrip()} {whom}{self.connect or self.name}".lstrip()

    @property
    def variables(self) -> dict[str, Any]:
        """By what Ansible reaches it."""
        if self.is_local:
            return {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            }
        named = {"ansible_host": self.connect, "ansible_user": self.user, "ansible_port": self.port}
        return {name: value for name, value in named.items() if value}


def parse_targets(words: Sequence[str]) -> tuple[Target, ...]:
    """The hosts of a command line, each once; two ports of one machine are two hosts.

    Raises:
        DeployError: a word names none, or one host is given twice.
    """
    parsed = [_parse(word) for word in words]
    again = {name for name, count in Counter(one.name for one in parsed).items() if count > 1}
    named = [
        replace(one, name=f"{one.name}-{one.port or 22}", connect=one.name) if one.name in again else one
        for one in parsed
    ]
    twice = [name for name, count in Counter(one.name for one in named).items() if count > 1]
    if twice:
        raise DeployError(f"{twice[0]} is given twice", "name every host once")
    return tuple(named)


def _parse(word: str) -> Target:
    found = _SPEC.fullmatch(word)
    port = int(found["port"] or 0) if found else 0
    if found is None or port > 65535 or (found["port"] and not port):
        raise DeployError(f"{word!r} names no host", f"give {FORM}")
    return Target(found["six"] or found["host"], found["user"] or "", port)


def configured_hosts(path: Path) -> list[str]:
    """The hosts that an ssh configuration has entries for, in its order: those without wildcards, Include followed."""
    return list(dict.fromkeys(_names(path, path.parent, set())))


def _names(path: Path, folder: Path, seen: set[Path]) -> Iterator[str]:
    if path.resolve() in seen or len(seen) >= MOST_FILES:  # ssh refuses a file that includes itself
        return
    seen.add(path.resolve())
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        keyword, words = _words(line)
        if keyword == "host":
            for word in words:
                if _SPEC.fullmatch(word) and "@" not in word and ":" not in word:
                    yield word
        elif keyword == "include":
            for word in words:
                pattern = Path(word).expanduser()
                for name in sorted(glob.glob(str(pattern if pattern.is_absolute() else folder / pattern))):
                    yield from _names(Path(name), folder, seen)


def _words(line: str) -> tuple[str, list[str]]:
    """The keyword of a line, in lower case, and its arguments; `Host=a` is as good as `Host a`."""
    try:
        words = shlex.split(re.sub(r"^(\s*\w+)\s*=\s*", r"\1 ", line), comments=True)
    except ValueError:  # an open quote: ssh will say so
        return "", []
    return (words[0].lower(), words[1:]) if words else ("", [])


def resolved(target: Target, config: Path | None) -> Target:
    """The same with the address that ssh's configuration gives it, which the hosts know each other by.

    Args:
        target: the host.
        config: another configuration than the user's own.
    """
    if target.is_local:
        return target
    name = target.connect or target.name
    command = ["ssh", "-G", *(["-F", str(config)] if config else []), "--", name]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # the survey will say what is wrong with it
        return target
    found = dict(line.partition(" ")[::2] for line in done.stdout.splitlines()).get("hostname", "")
    # It comes to stand in a file that Ansible takes for templates.
    usable = found and found != name and re.fullmatch(r"[A-Za-z0-9._:-]{1,253}", found)
    return replace(target, address=found) if usable else target


def ssh_variables(config: Path) -> dict[str, str]:
    """What lets Ansible reach hosts by another ssh configuration than the user's own."""
    return {"ansible_ssh_common_args": f"-F {shlex.quote(str(config))}"}
