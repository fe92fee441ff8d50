#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Room on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prune
short_description: Remove from a host what no kept release needs
version_added: "0.2.0"
description:
  - Removes old releases, and the environments, models and compile caches that no kept release uses, what broken
    transfers and builds left, and unpacked wheels of which no environment has a file.
  - A release is kept when C(current), C(previous) or C(predecessor) names it, when a cut-over that is under way or was
    interrupted names it, when a process runs it, when it is the newest that was staged after the current one was
    committed, and when it is one of the O(keep) newest of the others.
  - Nothing is removed that a running process uses, whose lock is held, or that is younger than O(min_age).
  - Where it cannot be known what a service uses, nothing is removed and the module fails.
  - Neither a service's folder nor anything outside of O(root) is removed. Symbolic links are not followed.
options:
  keep:
    description: How many releases of a service are kept beside those that something names.
    type: int
    default: 2
  min_age:
    description: Seconds; what is younger may belong to a staging that is under way, and is kept.
    type: int
    default: 86400
  services:
    description:
      - Names of the services that the inventory describes.
      - The releases of others are kept by the same rules; C(notes) says how such a service is retired.
    type: list
    elements: str
  prefixes:
    description: Prefixes of existing environments that the inventory names; they are kept wherever they lie.
    type: list
    elements: path
    default: []
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Lists the same and removes nothing.
  diff_mode:
    support: full
    description: Lists the paths before and after.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure nothing is kept that no release needs
  deployer.sglang.prune:
    root: /opt/inference
    services: [code2sql]

- name: Ensure only what serves and what it can go back to are kept
  deployer.sglang.prune:
    root: /opt/inference
    keep: 0
    min_age: 3600
"""

RETURN = r"""
removed:
  description: What was removed, or would be in check mode.
  type: list
  elements: dict
  returned: always
  contains: &row
    path:
      description: Where it is.
      type: str
    kind:
      description:
        - V(release), V(environment), V(model), V(compile cache), V(incoming), V(unfinished build),
          V(unfinished release), V(unfinished removal), V(wheel cache) or V(conda cache).
      type: str
    bytes:
      description:
        - Bytes on the disk. For what is removed, those that this gives back. A file with several names counts where
          the last of them goes.
      type: int
    why:
      description: Why it is removed or kept.
      type: str
    used_by:
      description: The releases and processes that use it.
      type: list
      elements: str
kept:
  description: What is kept.
  type: list
  elements: dict
  returned: always
  contains: *row
left_alone:
  description: What is there and none of the deployment's, each with C(path) and C(why).
  type: list
  elements: dict
  returned: always
freed:
  description: Bytes that the removal gave back, or would in check mode.
  type: int
  returned: always
notes:
  description: What the operator should know beside the lists, one text each.
  type: list
  elements: str
  returned: always
failed_paths:
  description: What could not be removed, each with C(path) and C(why); the next run goes on with it.
  type: list
  elements: dict
  returned: always
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.prune import prune
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import Rules


def difference(result: dict[str, Any]) -> dict[str, str]:
    """The paths before and after, as Ansible shows a difference; of the wheel cache, a part goes."""
    kept = [row["path"] for row in result["kept"]]
    gone = [row["path"] + (" (unused wheels)" if row["path"] in kept else "") for row in result["removed"]]
    lists = {"before": kept + gone, "after": kept}
    return {when: "".join(f"{path}\n" for path in sorted(paths)) for when, paths in lists.items()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 2},
            "min_age": {"type": "int", "default": 86400},
            "services": {"type": "list", "elements": "str"},
            "prefixes": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)
    given = module.params
    for name in ("keep", "min_age"):
        if given[name] < 0:
            module.fail_json(msg=f"{name} is {given[name]}. Fix: give 0 or more")
    rules = Rules(given["keep"], given["min_age"], tuple(given["prefixes"]))
    try:
        result = prune(given["root"], rules, given["services"], module.check_mode)
    except DeployError as error:
        module.fail_json(msg=str(error))
    failed = result["failed_paths"]
    if result["changed"]:
        result["diff"] = difference(result)
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        module.fail_json(
            msg=f"{failed[0]['path']}{more} could not be removed: {failed[0]['why']}. "
            "Fix: prune as the user who deploys to this host, or as root",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
