#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Model weights on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model
short_description: Bring model weights to a host and verify every byte
version_added: "0.1.0"
description:
  - Copies a folder with a model from the controller to the host, over Ansible's own connection.
  - The files are hashed at their source, arrive in a folder of their own, are hashed again on the host, and land
    under the
    digest of their manifest in one step. A transfer that broke is resumed; a model that is there is not sent again.
options:
  name:
    description: Name of the model's folder on the host, before the digest.
    type: str
    required: true
  source:
    description: Folder on the controller. Optimizer states, checkpoints, C(.git) and partial files in it are left out.
    type: path
    required: true
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.push
attributes:
  check_mode:
    support: full
    description: Says whether the model would be sent, and where it would lie.
  diff_mode:
    support: full
    description: Names the files that would be sent.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the weights are on the host
  deployer.sglang.model:
    name: code2sql
    source: /data/saves/qwen3-14b-ft
    root: /opt/inference
"""

RETURN = r"""
digest:
  description: sha256 of the manifest, which names the content.
  type: str
  returned: success
path:
  description: Folder of the model on the host.
  type: str
  returned: success
missing:
  description: Files that were, or would be, sent.
  type: list
  elements: str
  returned: success
bytes:
  description: Size of the model in bytes.
  type: int
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.arguments import PUSH
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
from ansible_collections.deployer.sglang.plugins.module_utils.models import (
    MANIFEST_FILE,
    manifest_record,
    missing_from_model,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store


def step(phase: str, store: Store, name: str, manifest: Manifest, uploader: int) -> dict:
    """One step of bringing the model to this host; `missing` in its answer is what has still to be sent."""
    target = store.model(name, manifest.digest)
    arriving = store.incoming(manifest.digest)
    needed = missing_from_model(target, manifest)
    result = {"path": target, "digest": manifest.digest, "bytes": manifest.size, "incoming": arriving}
    if phase == "prepare":
        return {**result, "missing": incoming.prepare(arriving, needed, uploader)}
    if phase == "land":
        incoming.verify(arriving, needed)
        record = manifest_record(manifest, arriving, target)
        incoming.land(arriving, target, needed, {MANIFEST_FILE: record})
    return {**result, "missing": [entry.path for entry in needed.files]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "source": {"type": "path", "required": True},
            "root": {"type": "path", "required": True},
            **PUSH,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    try:
        if given["manifest"] is None:
            raise DeployError("model was called without its action plugin", "use it as a task: deployer.sglang.model")
        manifest = Manifest.from_dict(given["manifest"])
        result = step(given["phase"], Store(given["root"]), given["name"], manifest, given["uploader"])
    except DeployError as error:
        module.fail_json(msg=f"model {given['name']}: {error}")
    except OSError as error:
        module.fail_json(msg=f"model {given['name']}: {error}. Fix: see the disk and the rights of {given['root']}")
    module.exit_json(changed=given["phase"] == "land", **result)


if __name__ == "__main__":
    main()
