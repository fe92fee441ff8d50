"""What lies on the controller: where a path of the description leads, and whether what is there is whole."""

from __future__ import annotations

import os
import re

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import bundle_problems, lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

HUB_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/[A-Za-z0-9._-]+")


def controller_path(path: str, inventory_folder: str | None) -> str:
    """A path on the controller: `~` is the user's home, and a relative path is one beside the inventory."""
    return os.path.normpath(os.path.join(inventory_folder or os.getcwd(), os.path.expanduser(path)))


def model_path(path: str, inventory_folder: str | None) -> str:
    """The folder of a model on the controller; a hub's name that was written like a path is told from one.

    Raises:
        DeployError: it is such a name.
    """
    folder = controller_path(path, inventory_folder)
    if not os.path.exists(folder) and HUB_NAME.fullmatch(path):
        raise DeployError(f"{folder} is no folder", f"correct the path; of a model on a hub, write hf://{path}")
    return folder


def check_bundle(lock: str) -> None:
    """The lock's bundle is there, whole, and of this state of the lock.

    Raises:
        DeployError: it is not.
    """
    bundle = os.path.join(lock, "bundle")
    fix = f"make it: python -m deployer bundle {lock}"
    digest = lock_digest(lock)  # a lock that is missing or malformed is the first thing to hear of
    if not os.path.isdir(bundle):
        raise DeployError(f"there is no bundle at {bundle}", fix)
    if lock_digest(bundle) != digest:
        raise DeployError(f"{bundle} was made from another state of the lock", fix)
    problems = bundle_problems(bundle)
    if problems:
        raise DeployError(f"{bundle} is incomplete: {problems[0]}", fix, "\n".join(problems[1:]))
