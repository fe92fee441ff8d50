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
  - The whole transaction runs on the host. Run as an C(async) task it goes on when the controller is gone. It runs in a
    process of its own, and when that is killed, the module's own process brings back what was committed.
  - A service that runs the release and answers is left alone.
  - With an action plugin of the same name. As an C(async) task with C(poll=0) it waits for the end all the same, looks
    at the host's transaction meanwhile, and says what state it is in.
options:
  service:
    description: Name of the service.
    type: str
    required: true
  release:
    description:
      - Id of a staged release, or the beginning of one; V(@previous), the release that served before the current one;
        V(@adopted), what somebody else had started and was taken over; V(@predecessor), as the service is described.
      - V(@previous) falls back to the predecessor of the service where there is no other release to go back to.
    type: str
    required: true
  adopt:
    description:
      - Take over what somebody else started on the service's port, so that it can be restored. A process that is
        neither a known engine nor lists models as one does is refused.
    type: bool
    default: true
  supervisor:
    description: What keeps an adopted service alive once it is restored.
    type: str
    choices: [systemd, process]
    default: systemd
  initiator:
    description: Who asked for it, for the journal on the host.
    type: str
    default: ""
  textfile_directory:
    description:
      - Folder of node_exporter's textfile collector. C(inference.prom) in it then tells Prometheus of this host's
        cut-overs and releases, counted from the journals. It must exist. That it cannot be written is a warning.
    type: str
    default: ""
  judged:
    description:
      - The release is new on this host, and has to pass C(gate.parity) and C(gate.load), too, where its description has
        them. What served before is measured first, while it serves; where it cannot be, nothing is touched. Never set
        it for a way back.
    type: bool
    default: false
  look_every:
    description: Seconds between two looks at the transaction. For the action plugin.
    type: float
    default: 2
  patience:
    description:
      - Seconds for which nothing may be heard of the host before it counts as unreachable; its outcome is not known
        then. A server with GPUs takes up to ten minutes to boot. For the action plugin.
    type: float
    default: 900
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
  poll: 0

- name: Ensure code2sql is back at what served before
  deployer.sglang.cutover:
    root: /opt/inference
    service: code2sql
    release: "@previous"
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
failure:
  description:
    - C(kind) of the failure, such as V(out-of-memory), V(port) or V(flag), and C(evidence), the lines that prove it.
  type: dict
  returned: on failure
by_hand:
  description: How to get the service back without this package.
  type: str
  returned: when what served before does not serve again
adopted:
  description: Id of the release that was made of what somebody else had started.
  type: str
  returned: when something was adopted
warning:
  description: What went wrong without a release failing.
  type: str
  returned: when there is something
engines:
  description: The engines of the releases before and after, by their ids.
  type: dict
  returned: in check mode
measured:
  description: What C(gate.parity) and C(gate.load) came to, in one line.
  type: str
  returned: always
seconds:
  description: How long each state of the transaction took.
  type: dict
  returned: when something was changed
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import (
    NOT_RESTORED,
    PLANNED,
    REFUSED,
    UNCHANGED,
    Outcome,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.run import Order, bring, engines_of, prediction
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import UNIT_KIND


def message(order: Order, outcome: Outcome) -> str:
    """The failure for people: what failed and what proves it, what serves now, and the log's last lines."""
    now = f"release {outcome.after} serves again" if outcome.after else "nothing serves, as before"
    if outcome.outcome == NOT_RESTORED:
        now = f"NOTHING IS KNOWN TO SERVE on this host; by hand: {by_hand(order, outcome)}"
    kind = f" [{outcome.failure['kind']}]" if outcome.failure.get("kind") else ""
    text = f"{order.service}: release {outcome.target} did not pass its gate ({outcome.reason}){kind}; {now}"
    evidence = [f"  {line}" for line in outcome.failure.get("evidence", ())]
    if evidence:
        text = "\n".join([text, "what proves it:", *evidence])
    return f"{text}\nlast lines of its log:\n{outcome.log}" if outcome.log else text


def by_hand(order: Order, outcome: Outcome) -> str:
    """How to get a service back without this package."""
    if outcome.before is None:
        return "nothing was committed before; correct the release and deploy again"
    folder = order.folder.release(outcome.before)
    launch = f"{folder}/launch.sh"
    supervisor = order.supervisor
    with contextlib.suppress(DeployError):  # what somebody else had made a unit for is kept by that
        supervisor = load_release(folder).release.supervisor
    unit = supervisor[len(UNIT_KIND) :] if supervisor.startswith(UNIT_KIND) else f"inference-{order.service}"
    start = launch if supervisor == "process" else f"systemctl restart {unit}; journalctl -u {unit}"
    runs = f" (it runs {launch})" if supervisor == "systemd" else ""
    return f"{start}{runs}; once it answers, run the deployment again"


def predicted(order: Order) -> tuple[Outcome, bool]:
    """Check mode: what a cut-over would come to, and whether it would change something."""
    before, after, change, adopted = prediction(order)
    return Outcome(PLANNED if change else UNCHANGED, before, after, after, adopted=adopted), change


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
            "look_every": {"type": "float", "default": 2},
            "patience": {"type": "float", "default": 900},
            "adopt": {"type": "bool", "default": True},
            "textfile_directory": {"type": "str", "default": ""},
            "judged": {"type": "bool", "default": False},
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    order = Order(
        given["root"],
        given["service"],
        given["release"],
        given["initiator"],
        given["supervisor"],
        given["adopt"],
        given["textfile_directory"],
        given["judged"],
    )
    service = order.service
    try:
        if module.check_mode:
            outcome, change = predicted(order)
        else:
            detach()
            outcome = bring(order)
            change = outcome.outcome != UNCHANGED
    except DeployError as error:
        current = order.folder.release_of("current")
        refused = Outcome(REFUSED, current, current, order.target, reason=str(error))
        module.fail_json(msg=f"{service}: {error}", service=service, **refused.as_dict())
    result = {"service": service, "changed": change, **outcome.as_dict()}
    if module.check_mode:
        result["engines"] = engines_of(order.folder, (outcome.before, outcome.after))
    if change:
        result["diff"] = {
            "before": f"{service}: {outcome.before or outcome.adopted or 'none'}\n",
            "after": f"{service}: {outcome.after or 'none'}\n",
        }
    if outcome.warning:
        module.warn(f"{service}: {outcome.warning}")
    if outcome.outcome == NOT_RESTORED:
        result["by_hand"] = by_hand(order, outcome)
    if outcome.failed:
        module.fail_json(msg=message(order, outcome), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
