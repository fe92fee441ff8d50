#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Checks of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Plan the launch of the services of a host
version_added: "0.1.0"
description:
  - Asks the host for what it is - Python, platform, limits, disk, ports, GPUs, environments, what is deployed - and
    plans on the controller from that, from the models' folders and from the services' descriptions.
  - Changes nothing, and does not fail for what it finds; C(docs/findings.md) has every finding.
options:
  services:
    description: The services as the inventory describes them (C(inference_services)).
    type: list
    elements: raw
    required: true
  environments:
    description: C(inference_environments).
    type: raw
    required: true
  findings:
    description: What the inventory makes of findings, by id (C(inference_findings)).
    type: dict
  models:
    description: Results of M(deployer.sglang.model_source), for models that are on hosts.
    type: list
    elements: dict
    default: []
  variables:
    description: Environment variables for asking hubs, such as C(HF_TOKEN).
    type: dict
    default: {}
  supervisor:
    description: What is to keep services alive.
    type: str
    choices: [systemd, process]
  user:
    description: User who runs the services.
    type: str
  address:
    description: The host's own address.
    type: str
  min_free_gib:
    description: GiB that have to be free at O(root) beside what is to be brought there.
    type: float
  scope:
    description: Plan everything, or check the host alone.
    type: str
    choices: [all, host]
    default: all
  assume_gpus:
    description: Ask no host, and plan for one that has these GPUs, such as V(H200x8).
    type: str
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Plan the launch
  deployer.sglang.preflight:
    services: "{{ inference_services }}"
    environments: "{{ inference_environments }}"
    root: /opt/inference
    supervisor: systemd
    user: inference
    address: 10.0.0.5
    min_free_gib: 5
  register: preflight_results
"""

RETURN = r"""
plan:
  description:
    - C(services), one entry a service and predecessor, with C(gpus), C(parallelism), C(memory), C(kv_bytes_per_token),
      C(kv_tokens), C(ports), C(argv) and C(variables).
    - C(findings), each with C(id), C(severity), C(subject), C(message) and C(fix), worst first.
    - C(checks) of the host, each with C(name), C(detail) and the id of its C(finding), empty where it passed.
    - C(exit_code), 0 clean, 1 warnings, 2 errors.
  type: dict
  returned: when the description can be read
errors:
  description: The findings that are errors, a line each with key and fix.
  type: list
  elements: str
  returned: with C(plan)
gpus:
  description: Service -> the GPUs that it gets, with C(gpus=auto) the chosen ones.
  type: dict
  returned: with C(plan)
facts:
  description: What the host said of itself; the action plugin keeps it to itself.
  type: dict
  returned: when called without its action plugin
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_probe import read_host


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": {"type": "list", "elements": "raw", "required": True},
            "environments": {"type": "raw", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "findings": {"type": "dict"},
            "models": {"type": "list", "elements": "dict", "default": []},
            "variables": {"type": "dict", "default": {}, "no_log": True},
            "supervisor": {"type": "str", "choices": ["systemd", "process"]},
            "user": {"type": "str"},
            "address": {"type": "str"},
            "min_free_gib": {"type": "float"},
            "scope": {"type": "str", "choices": ["all", "host"], "default": "all"},
            "assume_gpus": {"type": "str"},
        },
        supports_check_mode=True,
    )
    # The action plugin sends names of services, and of environments those by prefix.
    given = module.params
    try:
        facts = read_host(given["root"], given["services"], given["environments"], given["ports"])
    except DeployError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"this host cannot be read: {error}. Fix: see the rights of {given['root']}")
    module.exit_json(changed=False, facts=facts.as_dict())


if __name__ == "__main__":
    main()
