#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The logs of services."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_log
short_description: Read what services on a host have logged
version_added: "0.1.0"
description:
  - Reads the host's journal, or the log file that the supervisor or the one who started a service by hand has it write.
  - Lines are chosen on the host, and secrets of adopted releases are replaced there, before anything is sent.
  - An answer holds 1 MiB a service; of more the newest lines.
  - Changes nothing.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
  - deployer.sglang.host.root
options:
  services:
    description: Names of the services.
    type: list
    elements: str
    required: true
  supervisor:
    description: What keeps the services that the deployment starts.
    type: str
    choices: [systemd, process]
    default: systemd
  lines:
    description: How many lines of each service, the newest. V(0) for all that one answer holds.
    type: int
    default: 50
  since:
    description: Only lines since then. An age such as C(10m), or a time in ISO 8601, in UTC unless it says otherwise.
    type: str
    default: ''
  level:
    description:
      - Only lines of this level and graver ones. SGLang writes none into its own lines, which are judged by how they
        begin; all lines of a traceback are errors.
    type: str
    choices: [info, warning, error]
    default: info
  holding:
    description: Only lines that hold this text, upper and lower case alike.
    type: str
    default: ''
  cursors:
    description: What an earlier answer has as C(cursor), by service. Then, lines that were logged since.
    type: dict
    default: {}
  follow:
    description:
      - Go on and on, and tell each line as it is logged - the command that started the run, or else Ansible's output -
        until the run is ended.
    type: bool
    default: false
  socket:
    description: Set by the role, where the command that started the run listens.
    type: str
    default: ''
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read the errors of the last hour
  deployer.sglang.service_log:
    root: /opt/inference
    services: [code2sql]
    since: 1h
    level: error
"""

RETURN = r"""
logs:
  description: One entry a service.
  type: list
  elements: dict
  returned: success
  contains:
    service:
      description: Its name.
      type: str
    lines:
      description: Each with C(time) (ISO 8601 in UTC, empty where nothing tells), C(level) and C(text); oldest first.
      type: list
      elements: dict
    left_out:
      description: How many older lines did not fit into the answer.
      type: int
    problem:
      description: What could not be read; empty where all could.
      type: str
    cursor:
      description: Where O(cursors) goes on.
      type: dict
    source:
      description: Where the log is, C(units) and C(files).
      type: dict
    current:
      description: The committed release.
      type: str
interpreter:
  description: The Python that ran this.
  type: str
  returned: success
"""

import sys
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import Wanted, since_epoch
from ansible_collections.deployer.sglang.plugins.module_utils.service_log import read_logs


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "supervisor": {"type": "str", "choices": ["systemd", "process"], "default": "systemd"},
            "lines": {"type": "int", "default": 50},
            "since": {"type": "str", "default": ""},
            "level": {"type": "str", "choices": ["info", "warning", "error"], "default": "info"},
            "holding": {"type": "str", "default": ""},
            "cursors": {"type": "dict", "default": {}},
            "follow": {"type": "bool", "default": False},
            "socket": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        since = since_epoch(given["since"], time.time()) if given["since"] else 0.0
        wanted = Wanted(given["level"], given["holding"], since, max(0, given["lines"]))
        logs = read_logs(given["root"], given["services"], given["supervisor"], wanted, given["cursors"])
    except (DeployError, ValueError, OSError) as error:
        module.fail_json(msg=f"the log cannot be read: {error}")
    module.exit_json(changed=False, logs=logs, interpreter=sys.executable)


if __name__ == "__main__":
    main()
