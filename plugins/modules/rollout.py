#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The steps between the batches of a rollout; what there is to do is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Decide whether the next batch of a rollout is begun
version_added: "0.1.0"
description:
  - V(checked) names every mistake in the settings of a rollout, and refuses a confirmation that nobody could give.
  - V(judged) fails when too many hosts were lost.
  - V(begun) does so as well, and where the first batch did not pass; otherwise it pauses, has the batch confirmed, and
    runs its hooks.
  - V(ended) runs the hooks after a batch.
  - An action plugin; nothing runs on a host. To be run once for all hosts.
options:
  step:
    description: Which step it is.
    type: str
    choices: [checked, judged, begun, ended]
    required: true
  settings:
    description: With O(step=checked), the settings by their names, and V(services), the names of all services.
    type: dict
    default: {}
  hosts:
    description: All hosts of the rollout, in order.
    type: list
    elements: str
    default: []
  left:
    description: Those of them that were not lost.
    type: list
    elements: str
    default: []
  batch:
    description: The hosts of this batch.
    type: list
    elements: str
    default: []
  batches:
    description: Counts or percentages of hosts.
    type: raw
    default: 100%
  max_fail:
    description: How many hosts may be lost before no further batch is begun, a count or a percentage of all.
    type: raw
    default: 0
  pause:
    description: Seconds before each batch but the first.
    type: int
    default: 0
  confirm:
    description: Have each batch but the first confirmed.
    type: bool
    default: false
  socket:
    description: Path of a socket at which the command that started the run answers; without one, the terminal is asked.
    type: path
    default: ""
  terminal:
    description: Whether that command has a terminal.
    type: bool
    default: false
  hooks:
    description: With O(step=checked), a list of all C(rollout_hooks) there are; otherwise the hooks of this step.
    type: list
    elements: raw
    default: []
  initiator:
    description: Who asked for the rollout.
    type: str
    default: ""
  timeout:
    description: Seconds for each hook.
    type: int
    default: 600
attributes:
  check_mode:
    support: full
    description: Nothing is waited for, asked or run.
  diff_mode:
    support: none
    description: There is nothing to differ.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure this batch may be begun
  deployer.sglang.rollout:
    step: begun
    hosts: "{{ ansible_play_hosts_all }}"
    left: "{{ ansible_play_hosts }}"
    batch: "{{ ansible_play_batch }}"
    batches: [1, 25%, 100%]
  run_once: true
"""

RETURN = r"""
begun:
  description: Whether the batch was begun.
  type: bool
  returned: with O(step=begun)
stopped:
  description:
    - Why no further batch is begun, V(failures), V(request) (the operator said so), V(hook), V(alone) (nobody is there
      to be asked any more).
  type: str
  returned: when it was not begun
hosts:
  description: The hosts of the batch.
  type: list
  elements: str
  returned: with O(step=begun)
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, bypass_checks=True, supports_check_mode=True)
    module.fail_json(msg="rollout is an action plugin, and none was found. Fix: use it as deployer.sglang.rollout")


if __name__ == "__main__":
    main()
