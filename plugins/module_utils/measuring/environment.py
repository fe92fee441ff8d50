"""The environment of a release that makes a load on its host: as the user who runs the service, never as root."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import Release
from ansible_collections.deployer.sglang.plugins.module_utils.wording import printable

NOBODY = "nobody"
FIX = "use an environment with sglang.benchmark.serving (SGLang 0.5.23) that {who} may read"


@dataclass(frozen=True)
class Environment:
    """An environment on this host that has SGLang.

    Args:
        prefix: its folder.
        user: who runs it; nobody where that is root, or '' and root measures. One who is not root runs it as itself.
    """

    prefix: str
    user: str

    @classmethod
    def of(cls, release: Release) -> Environment:
        """The one of a release, for the user who runs it."""
        return cls(release.environment.path, release.user)

    def argv(self, program: Sequence[str]) -> list[str]:
        """Its Python, with these words."""
        return [os.path.join(self.prefix, "bin", "python"), *program]

    def variables(self, folder: str) -> Mapping[str, str]:
        """Nothing of who measures."""
        return {
            "PATH": f"{self.prefix}/bin:/usr/bin:/bin",
            "HOME": folder,
            "TMPDIR": folder,
            "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def identity(self) -> Mapping[str, Any]:
        """Popen's arguments to run without rights; nothing where that is so already.

        Raises:
            DeployError: there is no such user.
        """
        if os.geteuid() != 0:
            return {}
        name = self.user or NOBODY
        try:
            entry = pwd.getpwnam(name)
            entry = pwd.getpwnam(NOBODY) if entry.pw_uid == 0 else entry
        except KeyError:
            raise DeployError(f"there is no user {name} on this host", "let the release role create it") from None
        groups = [] if entry.pw_name == NOBODY else os.getgrouplist(entry.pw_name, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}

    def cannot_run(self, why: str, detail: str = "") -> DeployError:
        """What is said when it does not work."""
        who = self.user or (NOBODY if os.geteuid() == 0 else "who measures")
        problem = f"the benchmark of SGLang cannot be run by {self.prefix}: {printable(why)}"
        return DeployError(problem, FIX.format(who=who), detail)

    def ended(self, status: int, said: str) -> DeployError:
        """What is said when it ended before its time."""
        return self.cannot_run(f"it ended with {status}", said)
