#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Adoption of what serves already."""

from __future__ import annotations

DOCUMENTATION = r"""
module: adopt
short_description: Take over what somebody else started on a service's port
version_added: "0.3.0"
description:
  - Finds in C(/proc) who serves a service's port, and writes down as a release what it takes to start the same again,
    which is the command line, environment variables, working folder, user, log file and limits.
  - That release becomes the service's current one. What runs is not touched.
  - Secrets are in one file that only the user who runs the service can read, and in no result.
  - A port that nobody serves, or that a release of the deployment serves, is left alone.
options:
  supervisor:
    description: What is to keep the service alive once a rollback has started it. A systemd unit keeps itself.
    type: str
    choices: [systemd, process]
    default: systemd
  initiator:
    description: Who asked for it, for the journal on the host.
    type: str
    default: ""
  any_command:
    description: Also adopt what is no known engine and does not list models at C(/v1/models).
    type: bool
    default: false
extends_documentation_fragment:
  - deployer.sglang.host.root
  - deployer.sglang.host.services
attributes:
  check_mode:
    support: full
    description: Says what would be adopted.
  diff_mode:
    support: full
    description: Shows each service's release before and after, and what it was made of.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure what serves code2sql can be restored
  deployer.sglang.adopt:
    root: /opt/inference
    services:
      - {name: code2sql, port: 8001}
    initiator: mia

- name: Ensure a server of our own making can be restored
  deployer.sglang.adopt:
    root: /opt/inference
    services:
      - {name: embeddings, port: 8002}
    any_command: true
"""

RETURN = r"""
services:
  description: One entry a service.
  type: list
  elements: dict
  returned: always
  contains:
    service:
      description: Name of the service.
      type: str
    release:
      description: Id of the release that serves now; empty where nothing does, and in check mode where it has none yet.
      type: str
    engine:
      description: V(llamafactory), V(sglang), V(vllm) or V(unknown); empty where nothing was found.
      type: str
    who:
      description: Pid, user and the beginning of the command.
      type: str
    user:
      description: User who runs it.
      type: str
    started:
      description: When it was started, in UTC.
      type: str
    log:
      description: The file that it writes to, or what its output is instead, such as V(pipe).
      type: str
    gpus:
      description: The GPUs that it was given.
      type: list
      elements: str
    supervision:
      description: V(hand), V(refused), or C(unit) with the name of the systemd unit.
      type: str
    changed:
      description: Whether it was adopted now, or would be.
      type: bool
    problem:
      description: Why it cannot be adopted; empty where it can.
      type: str
    fix:
      description: What to do about that.
      type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import Adoptable, adopt, look
from ansible_collections.deployer.sglang.plugins.module_utils.arguments import SERVICES
from ansible_collections.deployer.sglang.plugins.module_utils.audit import record
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for


def own_pids(folder: ServiceFolder, service: str, supervisor: str) -> frozenset:
    """The processes of what the deployment keeps of the service.

    Raises:
        DeployError: the current release cannot be read.
    """
    kinds = {supervisor}
    current = folder.release_of("current")
    if current is not None:
        kinds.add(load_release(folder.release(current)).release.supervisor)
    return frozenset(pid for kind in kinds for pid in supervisor_for(kind, service, folder).state().pids)


def entry(service: str, release: str, found: Adoptable | None, any_command: bool) -> dict[str, Any]:
    """What the result says of one service."""
    if found is None:
        about = dict.fromkeys(("engine", "who", "user", "started", "log", "supervision", "problem", "fix"), "")
        return {"service": service, "release": release, "changed": False, "gpus": [], **about}
    problem, fix = found.problem, found.fix
    if not problem and not found.automatic and not any_command:
        problem = "it is no engine that is known, and does not list models at /v1/models"
        fix = "set adopt_any_command if it is what the service is to replace; otherwise end it"
    return {
        "service": service,
        "release": release,
        "engine": found.engine,
        "who": found.who,
        "user": found.user,
        "started": found.started,
        "log": found.log,
        "gpus": list(found.gpus),
        "supervision": found.supervision,
        "changed": not problem,
        "problem": problem,
        "fix": fix,
    }


def adopted(given: dict[str, Any], service: str, port: int, check: bool) -> dict[str, Any]:
    """Adopt what serves one port, under the service's lock; the entry of the result.

    Raises:
        DeployError: it does not answer, or another cut-over is under way.
    """
    folder = Store(given["root"]).service(service)
    if check:
        found = look(port, own_pids(folder, service, given["supervisor"]))
        return entry(service, folder.release_of("current") or "", found, given["any_command"])
    if look(port, own_pids(folder, service, given["supervisor"])) is None:
        return entry(service, folder.release_of("current") or "", None, False)
    os.makedirs(folder.path, mode=0o755, exist_ok=True)
    busy = f"a cut-over of {service} is under way on this host"
    with exclusive_lock(folder.lock, patience=2, busy=busy):
        found = look(port, own_pids(folder, service, given["supervisor"]))
        result = entry(service, folder.release_of("current") or "", found, given["any_command"])
        if result["changed"]:
            order = (given["root"], given["supervisor"], given["initiator"], given["any_command"])
            result["release"] = adopt(folder, service, port, *order)
            record(
                given["root"],
                what="adopt",
                service=service,
                release=result["release"],
                who=result["who"],
                initiator=given["initiator"],
            )
    return result


def difference(before: dict[str, str], entries: list[dict[str, Any]]) -> dict[str, str]:
    """The services' releases before and after, as Ansible shows a difference."""
    old = "".join(f"{name}: {release or 'none'}\n" for name, release in before.items())
    new = "".join(
        f"{one['service']}: {one['release'] if one['release'] != before[one['service']] else ''} {one['who']}\n"
        if one["changed"]
        else f"{one['service']}: {before[one['service']] or 'none'}\n"
        for one in entries
    )
    return {"before": old, "after": new}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": SERVICES,
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
            "initiator": {"type": "str", "default": ""},
            "any_command": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # releases have to be readable for the services' users, also on a host with a stricter default
    given = module.params
    entries: list[dict[str, Any]] = []
    failures = []
    before = {}
    for service in given["services"]:
        name, port = service["name"], service["port"]
        before[name] = Store(given["root"]).service(name).release_of("current") or ""
        try:
            entries.append(adopted(given, name, port, module.check_mode))
            if entries[-1]["problem"]:
                problem = DeployError(entries[-1]["problem"], entries[-1]["fix"])
                failures.append(f"{name}: port {port} is held by {entries[-1]['who']}; {problem}")
        except DeployError as error:
            entries.append({**entry(name, before[name], None, False), "problem": error.problem, "fix": error.fix})
            failures.append(str(error) if name in str(error) else f"{name}: {error}")
        except OSError as error:
            entries.append({**entry(name, before[name], None, False), "problem": str(error)})
            failures.append(f"{name}: {error}. Fix: see the disk and the rights of {given['root']}")
    result = {"changed": any(one["changed"] for one in entries), "services": entries}
    if result["changed"]:
        result["diff"] = difference(before, entries)
    if failures:
        module.fail_json(msg="\n".join(failures), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
