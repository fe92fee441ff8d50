#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The lock of a rollout on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_lock
short_description: Say on a host who is rolling out to it, and keep others from doing so
version_added: "0.1.0"
description:
  - Keeps C(rollout.json) in the deployment's root folder. It says who is at work, since when, from where and on what.
  - The lock is advisory. It is held by a run, whose id follows from the process of ansible-playbook, unless O(run) says
    another. A run on the same controller whose processes are gone is no holder, and its lock is taken over.
  - With an action plugin of the same name. In check mode nothing is locked, and a holder is warned of.
options:
  state:
    description:
      - V(acquired) fails where another run holds the lock, V(released) gives back what this run holds.
      - V(read) only says who holds it.
    type: str
    choices: [acquired, released, read]
    default: read
  initiator:
    description: Who asks for it.
    type: str
    default: ""
  what:
    description: What is done under it, for people, as C(rollout of code2sql).
    type: str
    default: rollout
  run:
    description: Id of the run, where several playbooks belong to it.
    type: str
    default: ""
  pid:
    description: Id of a further process on the controller which carries the run.
    type: int
    default: 0
  force:
    description: With O(state=released), give it back whoever holds it.
    type: bool
    default: false
  holder:
    description: Set by the action plugin, what the lock is to say.
    type: dict
    default: {}
  replaces:
    description: Set by the action plugin, the run of a holder that is known to be gone.
    type: str
    default: ""
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Nothing is locked; who holds it is said.
  diff_mode:
    support: none
    description: The lock is no part of what is deployed.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure nobody else rolls out to the host
  deployer.sglang.rollout_lock:
    root: /opt/inference
    state: acquired
    initiator: mia@ops1
    what: rollout of code2sql

- name: Give the lock back
  deployer.sglang.rollout_lock:
    root: /opt/inference
    state: released
"""

RETURN = r"""
held:
  description: Whether another run holds the lock.
  type: bool
  returned: success
holder:
  description: Who holds it, or held it when it was given back; empty for nobody.
  type: dict
  returned: success
text:
  description: The same for people.
  type: str
  returned: from the action plugin
took_over:
  description: Whose lock was taken over, for people.
  type: str
  returned: when it was
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils import rollout_lock
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["acquired", "released", "read"], "default": "read"},
            "initiator": {"type": "str", "default": ""},
            "what": {"type": "str", "default": "rollout"},
            "run": {"type": "str", "default": ""},
            "pid": {"type": "int", "default": 0},
            "force": {"type": "bool", "default": False},
            "holder": {"type": "dict", "default": {}},
            "replaces": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    wanted = rollout_lock.Holder.from_dict(given["holder"])
    try:
        if given["state"] == "acquired" and not module.check_mode:
            if not wanted.run:
                module.fail_json(msg="rollout_lock: no holder was given. Fix: use it with its action plugin")
            holder = rollout_lock.acquire(given["root"], wanted, given["replaces"])
        elif given["state"] == "released" and not module.check_mode:
            holder = rollout_lock.release(given["root"], given["run"], given["initiator"], given["force"])
        else:
            holder = rollout_lock.holder_of(given["root"])
    except (DeployError, OSError) as error:
        module.fail_json(msg=str(error))
    own = holder is not None and holder.run in (wanted.run, given["run"]) and bool(holder.run)
    held = holder is not None and given["state"] != "released" and not own
    changed = given["state"] == "released" and given["force"] and holder is not None
    module.exit_json(changed=changed, held=held, holder=holder.as_dict() if holder else {})


if __name__ == "__main__":
    main()
