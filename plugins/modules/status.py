#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The state of services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Say what services on a host are at
version_added: "0.1.0"
description:
  - Reads each service's releases and process, and probes it.
  - Changes nothing.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
  - deployer.sglang.host.services
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read the state of code2sql
  deployer.sglang.status:
    root: /opt/inference
    services:
      - {name: code2sql, port: 8001}
"""

RETURN = r"""
services:
  description:
    - One entry a service, with C(state) (V(serving), V(failing), V(stopped), V(changing), V(interrupted), V(absent)),
      C(detail), C(current), C(previous), C(predecessor), and what is known of the running release.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.status import service_status


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": SERVICES,
        },
        supports_check_mode=True,
    )
    root = module.params["root"]
    try:
        states = [service_status(root, service["name"], service["port"]) for service in module.params["services"]]
    except DeployError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, services=states)


if __name__ == "__main__":
    main()
