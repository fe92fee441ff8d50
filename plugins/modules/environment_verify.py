#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Whether the environments of a host are what was built."""

from __future__ import annotations

DOCUMENTATION = r"""
module: environment_verify
short_description: Compare environments with what was built, or what installers recorded
version_added: "0.2.0"
description:
  - Looks at every environment that was built below O(root), and at O(prefixes). Changes nothing and never fails for a
    difference; RV(environments) has what was found.
options:
  prefixes:
    description: Existing environments on the host to look at as well.
    type: list
    elements: path
    default: []
  deep:
    description:
      - Hash every file. A built environment is compared with the listing that its build left, which covers byte code
        and symbolic links, too; an existing prefix with C(conda-meta) and C(RECORD).
      - Without it the interpreter is run once, and the versions of packages are compared.
    type: bool
    default: false
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.read_only
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Hash every file of every environment
  deployer.sglang.environment_verify:
    root: /opt/inference
    deep: true
"""

RETURN = r"""
environments:
  description: What was found, one entry an environment.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: The prefix.
      type: str
    name:
      description: Its name in the inventory; empty for an existing prefix.
      type: str
    digest:
      description: Digest of its content.
      type: str
    built:
      description: Whether it was built from a lock.
      type: bool
    files:
      description: How many files were hashed.
      type: int
    differences:
      description: What differs, a line each; the first 50.
      type: list
      elements: str
    count:
      description: How many differences there are.
      type: int
    problem:
      description: Why it cannot be used; empty when it can.
      type: str
    fix:
      description: What to do; empty when nothing is wrong.
      type: str
    sound:
      description: Whether nothing is wrong with it.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.environments.check import (
    built_environments,
    check_environment,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "prefixes": {"type": "list", "elements": "path", "default": []},
            "deep": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    given = module.params
    paths = dict.fromkeys([*built_environments(given["root"]), *given["prefixes"]])
    found = [check_environment(path, given["deep"]).as_dict() for path in paths]
    module.exit_json(changed=False, environments=found)


if __name__ == "__main__":
    main()
