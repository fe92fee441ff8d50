"""Where a page's commands are typed: the operator's machine, which knows the lab's hosts by their names."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost
from tests.documented.blocks import Command
from tests.lab.fleet import Running

WHO, WHERE = "alice", "bastion"  # the operator, and the machine that the commands are typed on
WIDTH = 88  # columns of a page
TIMEOUT = 900  # seconds that a command may take


@dataclass(frozen=True)
class Terminal:
    """A terminal that is nobody's: what is printed on either stream is kept.

    Args:
        folder: that the commands are typed in.
        files: what stands there in place of this machine's files, such as /etc/hosts, for the commands alone.
        variables: of the shell, which a command may name.
    """

    folder: Path
    files: Mapping[str, Path] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, line: str) -> Command:
        """Type a command, and see what it prints."""
        done = subprocess.run(
            self._shell(line),
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
        printed = "\n".join(text.rstrip() for text in done.stdout.strip("\n").splitlines())
        return Command(line, printed.replace(str(self.folder), "…"), done.returncode)

    def begin(self, line: str) -> Running:
        """Type a command that goes on meanwhile."""
        printed = self.folder / "printed.txt"
        with printed.open("wb") as out:
            process = subprocess.Popen(
                self._shell(line),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return Running(process, printed)

    def _shell(self, line: str) -> list[str]:
        """A command as it is typed on the operator's machine."""
        mounts = [shlex.join(["mount", "--bind", str(path), target]) for target, path in self.files.items()]
        script = "\n".join(["set -e", f"hostname {WHERE}", *mounts, "set +e", line])
        return ["unshare", "--uts", "--mount", "bash", "-c", script]

    def _environment(self) -> dict[str, str]:
        """What is installed in the folder's own .venv comes first, then what the tests run from."""
        beside = [self.folder / ".venv" / "bin", Path(sys.executable).parent]
        return {
            **os.environ,
            **self.variables,
            "PATH": os.pathsep.join([*map(str, beside), os.environ["PATH"]]),
            "COLUMNS": str(WIDTH),
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
            "LOGNAME": WHO,
        }


@dataclass(frozen=True)
class Remote:
    """A terminal on a host of the lab."""

    host: LabHost
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, line: str) -> Command:
        """Type a command in the home there, and see what it prints."""
        exported = "".join(f"export {name}={shlex.quote(value)}; " for name, value in self.variables.items())
        shown = f"export COLUMNS={WIDTH} NO_COLOR=1 ANSIBLE_NOCOLOR=1; {exported}"
        done = self.host.ssh(f"{shown}{{ {line}\n}} 2>&1", timeout=TIMEOUT)
        return Command(line, "\n".join(one.rstrip() for one in done.stdout.strip("\n").splitlines()), done.returncode)
