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
  - Reads each service's releases, process, unit, metrics and GPUs, probes it as the gate of a cut-over does, and
    compares what is there with what was committed.
  - All services are looked at beside each other. What hangs is failing after 30 seconds, and given up after a minute.
  - Changes nothing.
options:
  address:
    description: The host's own address, as a monitor on another machine reaches it.
    type: str
    default: ""
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
  description: One entry a service; docs/status.md has every key. What is not known is left out or null.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Its name.
      type: str
    state:
      description: V(serving), V(failing), V(stopped), V(changing), V(interrupted) or V(absent).
      type: str
    detail:
      description: What is to be said of the state, for people.
      type: str
    current:
      description: Id of the committed release; likewise C(previous), C(predecessor) and C(adopted).
      type: str
    uptime:
      description: Seconds since the process started; C(since) is that moment in UTC.
      type: int
    gate:
      description: Whether the gate's probes pass (C(passes)), and why not (C(detail)).
      type: dict
    unit:
      description: What its supervisor says of it, C(kind), C(name), C(healthy), C(state), C(restarts).
      type: dict
    load:
      description:
        - C(running) and C(queued) requests, C(tokens_per_second), C(kv_usage) from 0 to 1; null for what was not
          measured, of which C(note) says why.
      type: dict
    metrics:
      description:
        - C(target), the address and port where a monitor reads the service's metrics, empty where it cannot, of which
          C(problem) says why.
      type: dict
    gpu_memory:
      description: For each GPU of the service C(gpu), C(uuid), and in bytes C(total), C(used), and C(service)'s part.
      type: list
      elements: dict
    drift:
      description: What differs from the release, each with C(what), C(detail) and C(fix).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.status import host_status


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": SERVICES,
            "address": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    states = host_status(given["root"], given["services"], address=given["address"])
    module.exit_json(changed=False, services=states)


if __name__ == "__main__":
    main()
