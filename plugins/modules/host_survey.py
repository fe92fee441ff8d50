#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""A first look at a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_survey
short_description: Say what a host is and what serves there, before anything is described for it
version_added: "0.5.0"
description:
  - Reads GPUs, disks, Python, systemd, the environments that have an engine in them, and what serves on which port,
    with engine, model, served name, GPUs and options.
  - Secrets of a process do not leave the host; that there are some does.
  - Changes nothing. C(python -m deployer init) makes an inventory of it.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
options:
  root:
    description: Root folder of a deployment on the host, which need not exist.
    type: path
    default: /opt/inference
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Look at the host
  deployer.sglang.host_survey:
  become: true
  register: survey

- name: Say what serves
  ansible.builtin.debug:
    msg: "{{ item.engine }} serves {{ item.served_name }} on port {{ item.port }}"
  loop: "{{ survey.survey.servers }}"
  loop_control:
    label: "{{ item.port }}"
"""

RETURN = r"""
survey:
  description:
    - C(host), its facts; C(login), C(home), C(by_sudo); C(disks), C(environments), C(servers), C(unseen_ports).
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.probe import read_survey


def main() -> None:
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/opt/inference"}}, supports_check_mode=True
    )
    try:
        survey = read_survey(module.params["root"])
    except DeployError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"this host cannot be read: {error}. Fix: look at it as root (sudo)")
    module.exit_json(changed=False, survey=survey.as_dict())


if __name__ == "__main__":
    main()
