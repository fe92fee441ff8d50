"""Say whether an environment on a host is still what was built, or what its installers recorded.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    RECORD,
    EnvironmentFacts,
    inspect_prefix,
    installed_packages,
    interpreter_version,
    load_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.verify import (
    REBUILD,
    listed_differences,
    open_files,
    read_content,
    read_listing,
    recorded_differences,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store

SHOWN = 50  # differences of an environment in a result


@dataclass(frozen=True)
class Checked:
    """What was found of one environment.

    Attributes:
        path: its prefix.
        name: as the inventory calls it; '' for an existing prefix.
        digest: of its content.
        built: it was built from a lock; an existing prefix is only compared with what installers recorded.
        files: how many were hashed; 0 for a check that is not deep.
        differences: a line each, the first 50; and how many there are in all.
        problem: why it cannot be used, with the fix; '' when it can.
    """

    path: str
    name: str = ""
    digest: str = ""
    built: bool = True
    files: int = 0
    differences: tuple[str, ...] = ()
    count: int = 0
    problem: str = ""
    fix: str = ""

    @property
    def sound(self) -> bool:
        """Nothing is wrong with it."""
        return not self.count and not self.problem

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON holds it."""
        return {**asdict(self), "differences": list(self.differences), "sound": self.sound}


def built_environments(root: str) -> Iterator[str]:
    """The finished environments below the deployment's root, sorted."""
    folder = os.path.dirname(Store(root).environment("x", ""))
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if not name.startswith(".") and os.path.isfile(os.path.join(path, RECORD)):
            yield path


def check_environment(path: str, deep: bool) -> Checked:
    """Look whether an environment is what was built or recorded; nothing is changed.

    Args:
        path: the prefix.
        deep: hash every file; else only its interpreter and the versions of its packages are looked at.
    """
    facts = None
    try:
        facts = load_environment(path)
        if facts is None:
            return _check_prefix(path, deep)
        return _check_built(facts, deep)
    except DeployError as error:
        name, digest = (facts.name, facts.digest) if facts else ("", "")
        built = os.path.isfile(os.path.join(path, RECORD))
        return Checked(path, name, digest, built, problem=error.problem, fix=REBUILD if built else error.fix)
    except OSError as error:
        return Checked(path, problem=f"{path} cannot be read: {error}", fix="see the host's disk")


def _check_built(facts: EnvironmentFacts, deep: bool) -> Checked:
    prefix = facts.prefix
    python = interpreter_version(Path(prefix))
    now = {"python": python, **installed_packages(Path(prefix), python)}
    then = {"python": facts.python, **facts.packages}
    found = [
        f"{name}: built as {then.get(name, 'nothing')}, is {now.get(name, 'missing')}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    files = 0
    if deep:
        content = read_content(prefix)
        listed = read_listing(prefix, facts.listing)
        if listed is None:
            found.append("environment.json names no listing (0.1 left none): byte code and links were not compared")
        wrong = listed_differences(prefix, content, listed) if listed else recorded_differences(prefix, content)
        found += [str(one) for one in [*wrong, *open_files(prefix)]]
        files = len(content.files)
    fix = REBUILD if found else ""
    return Checked(prefix, facts.name, facts.digest, True, files, tuple(found[:SHOWN]), len(found), fix=fix)


def _check_prefix(prefix: str, deep: bool) -> Checked:
    facts = inspect_prefix(prefix)
    if not deep:
        return Checked(prefix, digest=facts.digest, built=False)
    content = read_content(prefix)
    wrong = [str(one) for one in recorded_differences(prefix, content)]
    fix = "install the packages again that the files are of: the deployment never changes this environment"
    return Checked(
        prefix, "", facts.digest, False, len(content.files), tuple(wrong[:SHOWN]), len(wrong), fix=fix if wrong else ""
    )
