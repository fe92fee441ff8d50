#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The hooks around one host; what there is to do is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_hook
short_description: Run the hooks of a rollout on the controller
version_added: "0.1.0"
description:
  - Runs commands, and playbooks with the inventory of this run, one after the other, and fails with the first of them.
  - They are told by C(DEPLOYER_HOOK), C(DEPLOYER_HOSTS), C(DEPLOYER_INITIATOR) and C(DEPLOYER_OUTCOME) in their
    environment.
  - An action plugin; nothing runs on the host.
options:
  hooks:
    description: A command each, as a list of words, or a mapping of V(playbook) to a path.
    type: list
    elements: raw
    required: true
  point:
    description: Which hook it is.
    type: str
    choices: [before_batch, after_batch, before_host, after_host]
    required: true
  initiator:
    description: Who asked for the rollout.
    type: str
    default: ""
  outcome:
    description: What the host came to, for V(after_host).
    type: str
    default: ""
  timeout:
    description: Seconds for each hook.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Nothing is run; what would be is said.
  diff_mode:
    support: none
    description: There is nothing to differ.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Take the host out of the gateway
  deployer.sglang.rollout_hook:
    point: before_host
    hooks:
      - [/usr/local/bin/gateway, drain]
      - playbook: silence-alerts.yml
"""

RETURN = r"""
would_run:
  description: The command lines that would run.
  type: list
  elements: str
  returned: in check mode
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, bypass_checks=True, supports_check_mode=True)
    module.fail_json(
        msg="rollout_hook is an action plugin, and none was found. Fix: use it as deployer.sglang.rollout_hook"
    )


if __name__ == "__main__":
    main()
