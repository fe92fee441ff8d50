#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The client kits of services on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: client_kit
short_description: Read what the clients of services test and learn them by
version_added: "0.1.0"
description:
  - Reads the kit of each service's committed release, the folder C(client) that M(deployer.sglang.release) stages.
  - Follows no links, and reads at most 128 KiB of a file.
  - Changes nothing.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
options:
  services:
    description: Names of the services.
    type: list
    elements: str
    required: true
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read the kit of code2sql's clients
  deployer.sglang.client_kit:
    root: /opt/inference
    services: [code2sql]
"""

RETURN = r"""
kits:
  description: One entry a service.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Its name.
      type: str
    release:
      description: Id of the committed release; empty for none.
      type: str
    engine:
      description: Of the release.
      type: str
    files:
      description: Name of each file -> its text; empty where there is a problem.
      type: dict
    problem:
      description: Why there is no kit, such as that the release was adopted; empty where there is one.
      type: str
    fix:
      description: What to do about that.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import read_kit


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    kits = [read_kit(module.params["root"], service).as_dict() for service in module.params["services"]]
    module.exit_json(changed=False, kits=kits)


if __name__ == "__main__":
    main()
