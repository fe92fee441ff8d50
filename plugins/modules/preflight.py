#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Checks of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check what has to be true of a host before anything is staged on it
version_added: "0.1.0"
description:
  - Looks at Python, platform, supervisor, the root folder and its free disk, the host's own name, and the
    services' ports.
  - Changes nothing. Fails when a check fails, naming each with its fix.
options:
  supervisor:
    description: What is to keep services alive.
    type: str
    choices: [systemd, process]
    required: true
  gpus:
    description: Indices and UUIDs of the GPUs that the services are to use.
    type: list
    elements: str
    default: []
  min_free_gib:
    description: GiB that have to be free at O(root).
    type: float
    default: 5
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.services
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: There is nothing to differ.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the host is fit
  deployer.sglang.preflight:
    root: /opt/inference
    supervisor: systemd
    services:
      - {name: code2sql, port: 8001}
"""

RETURN = r"""
checks:
  description: Every check with id, ok, detail and fix.
  type: list
  elements: dict
  returned: always
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.host_checks import check_host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "required": True},
            "gpus": {"type": "list", "elements": "str", "default": []},
            "min_free_gib": {"type": "float", "default": 5},
            "services": SERVICES,
        },
        supports_check_mode=True,
    )
    given = module.params
    ports = [(service["name"], service["port"]) for service in given["services"]]
    checks = check_host(given["root"], given["supervisor"], given["min_free_gib"], given["gpus"], ports)
    result = {"changed": False, "checks": [dataclasses.asdict(check) for check in checks]}
    failed = [check for check in checks if not check.ok]
    if failed:
        lines = [f"{check.id}: {check.detail}. Fix: {check.fix}" for check in failed]
        module.fail_json(msg="this host is not fit:\n" + "\n".join(lines), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
