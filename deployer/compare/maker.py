"""Where the controller has a load made: by an environment here, or by one on a host that ssh reaches."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.wording import printable

# What of the operator's own environment variables the benchmark is given: it runs foreign code.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSH_AUTH_SOCK")
ON_HOST = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.@-]*):(?P<path>/.*)")
SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
NO_LOGIN = 255  # ssh's own exit code


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

    def argv(self, program: Sequence[str]) -> list[str]:
        """What is started here.

        Args:
            program: Python's words for the program.

        Raises:
            DeployError: there is no such Python here.
        """
        found = ON_HOST.fullmatch(self.place)
        if found is None:
            return [self._python_here(), *program]
        path = found["path"].rstrip("/")
        python = path if path.rpartition("/")[2].startswith("python") else f"{path}/bin/python"
        config = ["-F", str(Path(self.ssh_config).expanduser().absolute())] if self.ssh_config else []
        return [*SSH, *config, found["host"], shlex.join(["exec", python, *program])]

    def variables(self, folder: str) -> Mapping[str, str]:
        """What is kept of the operator's own variables; temporary files lie in `folder`."""
        return {**{name: os.environ[name] for name in KEPT if name in os.environ}, "TMPDIR": folder}

    def identity(self) -> Mapping[str, Any]:
        """As the operator."""
        return {}

    def tokenizer_at(self, folder: str) -> str:
        """The folder of a tokenizer, as the program takes it.

        Raises:
            DeployError: none is named, or there is no such folder here.
        """
        # Never the folder that the server names: a tokenizer's own code runs.
        if not folder or not (self.host or Path(folder).expanduser().is_dir()):
            fix = "give --tokenizer the folder of the model, or of its tokenizer files alone"
            raise DeployError(f"a load needs the tokenizer of the model: no folder {folder or 'is named'}", fix)
        return folder if self.host else str(Path(folder).expanduser().absolute())

    def check(self) -> None:
        """Refuse what is not there, as far as that can be seen from here.

        Raises:
            DeployError: there is no such Python here.
        """
        if not self.host:
            self._python_here()

    def cannot_run(self, why: str, detail: str = "") -> DeployError:
        """What is said when it does not work."""
        fix = "give --python an environment with sglang.benchmark.serving (SGLang 0.5.23), such as the service's own"
        return DeployError(f"the benchmark of SGLang cannot be run by {self.place}: {printable(why)}", fix, detail)

    def ended(self, status: int, said: str) -> DeployError:
        """What is said when it ended before its time."""
        if self.host and status == NO_LOGIN:
            last = (said.strip().splitlines() or ["no reason"])[-1]
            return DeployError(f"ssh {self.host}: {last}", f"log in once by: ssh {self.host}", said)
        return self.cannot_run(f"it ended with {status}", said)

    def _python_here(self) -> str:
        python = Path(self.place).expanduser()
        python = python / "bin" / "python" if python.is_dir() else python
        if not os.access(python, os.X_OK):
            fix = "give --python the folder of a conda or virtual environment that has SGLang, or HOST:/FOLDER"
            raise DeployError(f"there is no Python in {self.place}", fix)
        return str(python.absolute())
