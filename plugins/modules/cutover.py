#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The cut-over of one service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cutover
short_description: Switch a service to a staged release, or put back what served before
version_added: "0.1.0"
description:
  - Stops the old release and proves that it stopped, starts the new one, waits until it has passed its gate, and
    commits it.
    Where it does not pass, the old release is started and gated again, and the module fails.
  - The whole transaction runs on the host. Run as an C(async) task it goes on when the controller is gone.
  - A service that runs the release and answers is left alone.
options:
  service:
    description: Name of the service.
    type: str
    required: true
  release:
    description:
      - Id of a staged release, or V(previous), the release that served before the current one.
      - V(previous) falls back to the predecessor of the service where there is no other release to go back to.
    type: str
    required: true
  initiator:
    description: Who asked for it, for the journal on the host.
    type: str
    default: ""
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Says whether the service would be switched.
  diff_mode:
    support: full
    description: Shows the release before and after.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure code2sql serves this release
  deployer.sglang.cutover:
    root: /opt/inference
    service: code2sql
    release: 3f9a1c07b2de
  async: 3600
  poll: 2

- name: Ensure code2sql is back at what served before
  deployer.sglang.cutover:
    root: /opt/inference
    service: code2sql
    release: previous
"""

RETURN = r"""
outcome:
  description:
    - V(unchanged), V(committed), V(restored) (the release did not pass; what served before serves), V(not_restored)
      (nothing is known to serve), V(refused) (nothing was touched), V(planned) (check mode, it would be switched).
  type: str
  returned: always
before:
  description: Id of the release that was committed before.
  type: str
  returned: always
after:
  description: Id of the release that is committed now.
  type: str
  returned: always
target:
  description: Id of the release that was asked for.
  type: str
  returned: always
probe:
  description: What the release failed on.
  type: str
  returned: on failure
reason:
  description: Why, in one line.
  type: str
  returned: on failure
log:
  description: The last lines of the failed release's log.
  type: str
  returned: on failure
seconds:
  description: How long each state of the transaction took.
  type: dict
  returned: when something was changed
"""

import contextlib
import dataclasses
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.transaction import (
    NOT_RESTORED,
    PLANNED,
    REFUSED,
    UNCHANGED,
    Outcome,
    cut_over,
    resolve,
    would_change,
)


def message(service: str, outcome: Outcome) -> str:
    """The failure for people: what failed, what serves now, and the log's last lines."""
    now = f"release {outcome.after} serves again" if outcome.after else "nothing serves, as before"
    if outcome.outcome == NOT_RESTORED:
        now = f"NOTHING IS KNOWN TO SERVE on this host; by hand: services/{service}/current/launch.sh"
    text = f"{service}: release {outcome.target} did not pass its gate ({outcome.reason}); {now}"
    return f"{text}\nlast lines of its log:\n{outcome.log}" if outcome.log else text


def predicted(root: str, service: str, target: str) -> tuple:
    """Check mode: the release now, the one afterwards, and whether they differ; a release may not be staged yet."""
    folder = Store(root).service(service)
    current = folder.release_of("current")
    release = resolve(folder, target)
    return current, release, current != release or would_change(root, service, release)


def detach() -> None:
    """Leave the process group: Ansible ends the group of a task at its time limit, and a terminal at Ctrl-C."""
    with contextlib.suppress(PermissionError):  # it leads its own group already
        os.setsid()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "service": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "initiator": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    root, service, target = (module.params[key] for key in ("root", "service", "release"))
    try:
        if module.check_mode:
            before, after, change = predicted(root, service, target)
            outcome = Outcome(PLANNED if change else UNCHANGED, before, after, after)
        else:
            detach()
            release = resolve(Store(root).service(service), target)
            outcome = cut_over(root, service, release, module.params["initiator"])
            change = outcome.outcome != UNCHANGED
    except DeployError as error:
        current = Store(root).service(service).release_of("current")
        refused = Outcome(REFUSED, current, current, target, reason=str(error))
        module.fail_json(msg=f"{service}: {error}", service=service, **dataclasses.asdict(refused))
    result = {"service": service, "changed": change, **dataclasses.asdict(outcome)}
    if change:
        result["diff"] = {
            "before": f"{service}: {outcome.before or 'none'}\n",
            "after": f"{service}: {outcome.after or 'none'}\n",
        }
    if outcome.failed:
        module.fail_json(msg=message(service, outcome), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
