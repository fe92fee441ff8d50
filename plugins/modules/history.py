#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""What a host keeps of its services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: history
short_description: Say which releases a host keeps, and what happened to its services
version_added: "0.1.0"
description:
  - Reads the releases of each service and its journal.
  - Changes nothing.
options:
  last:
    description: How many events of each service, the latest.
    type: int
    default: 10
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
  - deployer.sglang.host.services
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read what happened to code2sql
  deployer.sglang.history:
    root: /opt/inference
    services:
      - {name: code2sql, port: 8001}
"""

RETURN = r"""
history:
  description: One entry a service.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Name of the service.
      type: str
    releases:
      description:
        - Every release that is kept, in the order in which they were staged, with C(id), C(marks) (of V(current),
          V(previous), V(adopted), V(predecessor)), C(engine), C(environment), C(model), C(staged) (seconds since the
          epoch), C(committed) (when it last came to serve, empty for never), C(readable) (whether it can be used).
      type: list
      elements: dict
    events:
      description:
        - The last events, with C(time), C(event), C(initiator), C(from), C(to), C(outcome), C(seconds) and C(reason).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.history import service_history


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": SERVICES,
            "last": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    root, last = module.params["root"], module.params["last"]
    try:
        found = [service_history(root, service["name"], last) for service in module.params["services"]]
    except OSError as error:
        module.fail_json(msg=f"{error}. Fix: run it as the user who deploys")
    module.exit_json(changed=False, history=found)


if __name__ == "__main__":
    main()
