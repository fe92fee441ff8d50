#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""An engine's environment on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: environment
short_description: Build a locked conda environment offline, or inspect one that is there
version_added: "0.1.0"
description:
  - With O(lock), the bundle of that lock is sent from the controller and built on the host into a conda prefix
    that is named
    by the lock's digest. Neither network nor conda is needed there. A finished environment is never changed.
  - With O(prefix), an environment that exists on the host is used as it is; it is only looked at.
options:
  name:
    description: Name of the environment.
    type: str
    required: true
  lock:
    description:
      - Folder on the controller with C(conda-linux-64.lock), C(requirements.lock) and their C(bundle).
      - Mutually exclusive with O(prefix).
    type: path
  prefix:
    description: Prefix of an existing environment on the host.
    type: path
  backend:
    description:
      - What installs the conda packages. V(rattler) comes with the bundle; of the others, the host has to have the one
        that is asked for. The wheels are always installed by uv, which comes with the bundle, too.
    type: str
    choices: [rattler, conda, mamba, micromamba]
    default: rattler
    version_added: "0.2.0"
  rebuild:
    description:
      - Build the environment again where it is there already, because its files were changed. Refused while a process
        runs from it.
    type: bool
    default: false
    version_added: "0.2.0"
  digest:
    description: Set by the action plugin, the lock's digest.
    type: str
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.push
attributes:
  check_mode:
    support: full
    description: Says whether the environment would be built, and where.
  diff_mode:
    support: full
    description: Names the prefix that would be built.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the locked environment is built
  deployer.sglang.environment:
    name: sglang
    lock: environments/sglang
    root: /opt/inference

- name: Look at an environment that is there
  deployer.sglang.environment:
    name: llamafactory
    prefix: /home/me/miniconda3/envs/llamafactory
    root: /opt/inference
"""

RETURN = r"""
path:
  description: Prefix of the environment.
  type: str
  returned: success
digest:
  description: The lock's digest; for an existing prefix, a digest of its Python, packages and what installers recorded.
  type: str
  returned: success
python:
  description: Version of its interpreter.
  type: str
  returned: when the environment exists
packages:
  description: Versions of its Python packages by name.
  type: dict
  returned: when the environment exists
"""

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.arguments import PUSH
from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import Order, build_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    RECORD,
    EnvironmentFacts,
    inspect_prefix,
    load_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import (
    BACKENDS,
    RATTLER,
    find_backend,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, missing_files
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store


def known(facts: EnvironmentFacts) -> dict:
    """A module's answer for an environment that is there."""
    return {
        "path": facts.prefix,
        "digest": facts.digest,
        "python": facts.python,
        "packages": dict(facts.packages),
        "missing": [],
    }


def step(given: dict, manifest: Manifest) -> dict:
    """One step of bringing the bundle here and building it; `missing` is what has still to be sent."""
    store = Store(given["root"])
    digest = given["digest"]
    prefix = store.environment(given["name"], digest)
    facts = load_environment(prefix)
    if facts is not None and not given["rebuild"]:
        return known(facts)
    find_backend(given["backend"])  # before gigabytes are sent
    arriving = store.incoming(digest)
    result = {"path": prefix, "digest": digest, "incoming": arriving}
    if given["phase"] == "prepare":
        return {**result, "missing": incoming.prepare(arriving, manifest, given["uploader"])}
    if given["phase"] == "land":
        incoming.verify(arriving, manifest)
        order = Order(
            bundle=Path(arriving),
            prefix=Path(prefix),
            digest=digest,
            name=given["name"],
            caches=Caches(Path(store.shared_caches)),
            backend=given["backend"],
            rebuild=given["rebuild"],
        )
        facts = build_environment(order)
        shutil.rmtree(arriving)
        return known(facts)
    # What arrived before and was not built yet still has to be verified and built: ask for the landing.
    return {**result, "missing": missing_files(manifest, arriving) or [manifest.files[0].path]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "lock": {"type": "path"},
            "prefix": {"type": "path"},
            "root": {"type": "path", "required": True},
            "backend": {"type": "str", "choices": list(BACKENDS), "default": RATTLER},
            "rebuild": {"type": "bool", "default": False},
            "digest": {"type": "str"},
            **PUSH,
        },
        mutually_exclusive=[("lock", "prefix")],
        required_one_of=[("lock", "prefix")],
        required_by={"lock": ("digest", "manifest")},
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    try:
        if given["prefix"]:
            result = known(inspect_prefix(given["prefix"]))
        else:
            result = step(given, Manifest.from_dict(given["manifest"]))
            if not module.check_mode and not result["missing"]:
                # Its age keeps it from being pruned while a staging that uses it has no release yet.
                os.utime(os.path.join(result["path"], RECORD))
    except DeployError as error:
        module.fail_json(msg=f"environment {given['name']}: {error}")
    except OSError as error:
        module.fail_json(
            msg=f"environment {given['name']}: {error}. Fix: see the disk and the rights of {given['root']}"
        )
    module.exit_json(changed=given["phase"] == "land", **result)


if __name__ == "__main__":
    main()
