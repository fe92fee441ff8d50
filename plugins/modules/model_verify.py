#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Whether the models of a host are what was brought there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_verify
short_description: Compare models with their manifests
version_added: "0.2.0"
description:
  - Looks at every model below O(root). Changes nothing and never fails for a difference; RV(models) has what was found.
  - Files that are missing, that were added, or that others than their owner could write are named in any case.
options:
  deep:
    description:
      - Read every file and compare its sha256.
      - Without it size, time and inode have to be those that the file had when it was verified.
    type: bool
    default: false
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.read_only
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Hash every file of every model
  deployer.sglang.model_verify:
    root: /opt/inference
    deep: true
"""

RETURN = r"""
models:
  description: What was found, one entry a model.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Its name, as its folder has it.
      type: str
    digest:
      description: Digest of its manifest; empty when that cannot be read.
      type: str
    path:
      description: Its folder.
      type: str
    ok:
      description: Whether nothing is wrong with it.
      type: bool
    problems:
      description: What is wrong, one entry a file; the first 50.
      type: list
      elements: dict
      contains:
        file:
          description: Path below the folder.
          type: str
        wanted:
          description: Size, state or sha256 that it had; empty for what was added.
          type: str
        got:
          description: What is there.
          type: str
    count:
      description: How many problems there are.
      type: int
    fix:
      description: What to do; empty when nothing is wrong.
      type: str
    files:
      description: How many files its manifest names.
      type: int
    bytes:
      description: How many bytes were hashed; without O(deep), how many there should be.
      type: int
    seconds:
      description: How long it took.
      type: float
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.weights.verify import check_model, model_paths


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "deep": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        found = [check_model(path, given["deep"]).as_dict() for path in model_paths(given["root"])]
    except OSError as error:
        module.fail_json(msg=f"{error}. Fix: see the disk and the rights of {given['root']}")
    module.exit_json(changed=False, models=found)


if __name__ == "__main__":
    main()
