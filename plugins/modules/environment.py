#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""An engine's environment on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: environment
short_description: Build locked environments offline, or inspect ones that are there
version_added: "0.1.0"
description:
  - With C(lock), the bundle of that lock is sent from the controller and built on the host into a conda prefix that is
    named by the lock's digest. Neither network nor conda is needed there. A finished environment is never changed.
  - With C(prefix), an environment that exists on the host is used as it is; it is only looked at.
options:
  environments:
    description: The environments of the host. One round trip looks at all of them.
    type: list
    elements: dict
    required: true
    version_added: "0.2.0"
    suboptions:
      name:
        description: Name of the environment.
        type: str
        required: true
      lock:
        description:
          - Folder on the controller with C(conda-linux-64.lock), C(requirements.lock) and their C(bundle).
          - Mutually exclusive with C(prefix).
        type: path
      prefix:
        description: Prefix of an existing environment on the host.
        type: path
      backend:
        description:
          - What installs the conda packages. V(rattler) comes with the bundle; of the others, the host has to have the
            one that is asked for. The wheels are always installed by uv, which comes with the bundle, too.
        type: str
        choices: [rattler, conda, mamba, micromamba]
        default: rattler
      digest:
        description: Set by the action plugin, the lock's digest.
        type: str
      manifest:
        description: Set by the action plugin, the bundle's files with sizes and sha256.
        type: dict
  rebuild:
    description:
      - Hash the environments that were built from locks, and build those again whose files were changed. Refused while
        a process runs from one.
    type: bool
    default: false
    version_added: "0.2.0"
extends_documentation_fragment:
  - deployer.sglang.host.push
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Says which environments would be built, and where.
  diff_mode:
    support: full
    description: Names the prefixes that would be built.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the locked environment is built, and look at one that is there
  deployer.sglang.environment:
    environments:
      - name: sglang
        lock: environments/sglang
      - name: llamafactory
        prefix: /home/me/miniconda3/envs/llamafactory
    root: /opt/inference
"""

RETURN = r"""
environments:
  description: One entry an environment, in the order given.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
    path:
      description: Its prefix.
      type: str
    digest:
      description: The lock's digest; for an existing prefix, that of its Python, packages and what installers recorded.
      type: str
    python:
      description: Version of its interpreter; absent in check mode where it is not built yet.
      type: str
    packages:
      description: Versions of its Python packages by name; absent in check mode where it is not built yet.
      type: dict
"""

import os
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.arguments import PUSH
from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import (
    Order,
    build_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.check import check_environment
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
from ansible_collections.deployer.sglang.plugins.module_utils.environments.place import refuse_in_use
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


def step(environment: dict, given: dict, check_mode: bool) -> dict:
    """One step of bringing one environment's bundle here and building it; `missing` is what has still to be sent."""
    if environment["prefix"]:
        return known(inspect_prefix(environment["prefix"]))
    manifest = Manifest.from_dict(environment["manifest"])
    store = Store(given["root"])
    digest = environment["digest"]
    prefix = store.environment(environment["name"], digest)
    wanted = given["rebuild"] and (given["phase"] != "query" or not check_environment(prefix, deep=True).sound)
    # What is to be built again need not be readable any more.
    facts = None if wanted else load_environment(prefix)
    if facts is not None:
        if not check_mode:
            # Its age keeps it from being pruned while a staging that uses it has no release yet.
            os.utime(os.path.join(prefix, RECORD))
        return known(facts)
    # Before gigabytes are sent:
    find_backend(environment["backend"])
    if wanted:
        refuse_in_use(Path(prefix))
    arriving = store.incoming(digest)
    caches = Caches(Path(store.shared_caches))
    if given["phase"] != "query":
        caches.forget_interrupted()
    result = {"path": prefix, "digest": digest, "incoming": arriving}
    if given["phase"] == "prepare":
        return {**result, "missing": incoming.prepare(arriving, manifest, given["uploader"])}
    if given["phase"] == "land":
        incoming.verify(arriving, manifest)
        order = Order(
            bundle=Path(arriving),
            prefix=Path(prefix),
            digest=digest,
            name=environment["name"],
            caches=caches,
            backend=environment["backend"],
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
            "environments": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "lock": {"type": "path"},
                    "prefix": {"type": "path"},
                    "backend": {"type": "str", "choices": list(BACKENDS), "default": RATTLER},
                    "digest": {"type": "str"},
                    "manifest": {"type": "dict"},
                },
                "mutually_exclusive": [("lock", "prefix")],
                "required_one_of": [("lock", "prefix")],
                "required_by": {"lock": ("digest", "manifest")},
            },
            "root": {"type": "path", "required": True},
            "rebuild": {"type": "bool", "default": False},
            **PUSH,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    found = []
    for environment in given["environments"]:
        try:
            found.append({"name": environment["name"], **step(environment, given, module.check_mode)})
        except DeployError as error:
            module.fail_json(msg=f"environment {environment['name']}: {error}")
        except OSError as error:
            fix = f"see the disk and the rights of {given['root']}"
            module.fail_json(msg=f"environment {environment['name']}: {error}. Fix: {fix}")
    module.exit_json(changed=given["phase"] == "land", environments=found)


if __name__ == "__main__":
    main()
