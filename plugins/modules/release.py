#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Releases on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Stage releases on a host, without touching what runs
version_added: "0.1.0"
description:
  - The action plugin computes each service's release, its id, its launch script and its systemd unit on the controller.
  - On the host, the installed engine's own parser reads the arguments, as the user who will run them; then the
    release is
    written to its folder in one step. A release that is there is left alone.
  - With it comes the kit of its clients, in the folder C(client); it is no part of the release, and a change of it
    restarts nothing.
options:
  services:
    description: The services as the inventory describes them (C(inference_services)).
    type: list
    elements: dict
    required: true
  environments:
    description: C(inference_environments).
    type: dict
    required: true
  environment_results:
    description: Results of M(deployer.sglang.environment), one an environment, each with C(name), C(digest), C(path),
      and C(packages) where it is built.
    type: list
    elements: dict
    required: true
  model_results:
    description: Results of M(deployer.sglang.model), each with C(source), C(name), C(digest), C(path).
    type: list
    elements: dict
    required: true
  supervisor:
    description: What is to keep services alive.
    type: str
    choices: [systemd, process]
    required: true
  user:
    description: User who runs the services.
    type: str
    required: true
  address:
    description: The host's own address, which requests from itself must not take a proxy to.
    type: str
    required: true
  gpus:
    description:
      - For each service with C(gpus=auto), the GPUs that M(deployer.sglang.preflight) chose; those of its predecessor
        under C(NAME.predecessor).
    type: dict
  planned:
    description:
      - C(services) of the plan that M(deployer.sglang.preflight) made. What clients are told of GPUs and of the context
        comes from there; without it, they are told less.
    type: list
    elements: dict
  releases:
    description: Set by the action plugin, the computed releases.
    type: list
    elements: dict
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Says what would be written. The engine's parser reads the options where the environment is there.
  diff_mode:
    support: full
    description: Shows the launch scripts and units that would be written; of a new client kit how long its files are.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the releases are staged
  deployer.sglang.release:
    services: "{{ inference_services }}"
    environments: "{{ inference_environments }}"
    environment_results: "{{ environment_results }}"
    model_results: "{{ model_results }}"
    root: /opt/inference
    supervisor: systemd
    user: inference
    address: 10.0.0.5
"""

RETURN = r"""
staged:
  description: The release of every service and predecessor.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Name of the service.
      type: str
    role:
      description: V(service), or V(predecessor).
      type: str
    id:
      description: Id of the release.
      type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import Release, StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.staging import (
    Settings,
    changes,
    check_options,
    shown_change,
    stage,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "services": {"type": "list", "elements": "dict", "required": True},
            "environments": {"type": "dict", "required": True},
            "environment_results": {"type": "list", "elements": "dict", "required": True},
            "model_results": {"type": "list", "elements": "dict", "required": True},
            "root": {"type": "path", "required": True},
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "required": True},
            "user": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "gpus": {"type": "dict"},
            "planned": {"type": "list", "elements": "dict"},
            "releases": {"type": "list", "elements": "dict"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    if given["releases"] is None:
        module.fail_json(
            msg="release was called without its action plugin. Fix: use it as a task: deployer.sglang.release"
        )
    different = {}
    try:
        for item in given["releases"]:
            staged = StagedRelease(item["id"], Release.from_dict(item["release"]), item["launch"], item["unit"])
            settings = Settings(item["gate"], item["handover"], item["kit"])
            would_write = changes(staged, settings, item["role"])
            different.update(would_write)
            if not module.check_mode:
                stage(staged, settings, item["role"])
            elif would_write and os.path.exists(staged.release.argv[0]):
                check_options(staged.release)
    except DeployError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error}. Fix: see the disk and the rights of {given['root']}")
    diff = [
        {"before": shown.before, "after": shown.after, "before_header": path, "after_header": path}
        for path, shown in ((path, shown_change(path, change)) for path, change in sorted(different.items()))
    ]
    staged_ids = [{"service": i["release"]["service"], "role": i["role"], "id": i["id"]} for i in given["releases"]]
    module.exit_json(changed=bool(different), staged=staged_ids, diff=diff)


if __name__ == "__main__":
    main()
