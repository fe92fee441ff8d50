#!/usr/bin/python
"""Ansible module: create or destroy the hosts of a lab."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.labhosts.lab import Lab, open_lab

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

DOCUMENTATION = r"""
---
module: lab_hosts
short_description: Create or destroy the hosts of a lab
description:
  - Boots Debian systems with systemd and sshd by systemd-nspawn on the controller, each with its own address and disk.
  - Creating always begins with removing what an earlier run of the same lab left.
attributes:
  check_mode:
    description: Reports whether it would change something, and changes nothing.
    support: full
options:
  name:
    description: Name of the lab. Labs of different names live side by side.
    type: str
    required: true
  state:
    description: Whether the lab is to be there.
    type: str
    choices: [present, absent]
    default: present
  platforms:
    description: The hosts, as in the platforms of a Molecule scenario. Needed for O(state=present).
    type: list
    elements: dict
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the lab's hosts are up
  lab_hosts:
    name: demo
    platforms:
      - name: gpu1
        groups: [gpu-nodes]
      - name: gpu2
        groups: [gpu-nodes]
        base: bullseye
        bandwidth: 160mbit
        binds: ["/srv/wheels:/opt/wheels:ro"]

- name: Ensure nothing is left of the lab
  lab_hosts:
    name: demo
    state: absent
"""

RETURN = r"""
instances:
  description: Molecule's instance configuration.
  type: list
  elements: dict
  returned: when O(state=present), not in check mode
inventory:
  description: Path of an Ansible inventory of the hosts.
  type: str
  returned: when O(state=present), not in check mode
known_hosts:
  description: Path of the hosts' public SSH keys.
  type: str
  returned: when O(state=present), not in check mode
"""


def create(lab: Lab, platforms: list[dict[str, Any]], check_mode: bool) -> dict[str, Any]:
    if check_mode:
        return {"changed": True}
    lab.create(platforms)
    return {
        "changed": True,
        "instances": lab.molecule_instances,
        "inventory": str(lab.inventory),
        "known_hosts": str(lab.known_hosts),
    }


def destroy(lab: Lab, check_mode: bool) -> dict[str, Any]:
    existed = lab.exists
    if not check_mode:
        lab.destroy()
    return {"changed": existed}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "platforms": {"type": "list", "elements": "dict"},
        },
        required_if=[("state", "present", ["platforms"])],
        supports_check_mode=True,
    )
    try:
        lab = open_lab(module.params["name"])
        if module.params["state"] == "present":
            result = create(lab, module.params["platforms"], module.check_mode)
        else:
            result = destroy(lab, module.check_mode)
    except DeployError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
