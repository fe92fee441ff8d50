"""Options that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Named parts, as `extends_documentation_fragment: deployer.sglang.host.PART`."""

    ROOT = r"""
options:
  root:
    description: Root folder of the deployment on the host.
    type: path
    required: true
"""

    READ_ONLY = r"""
attributes:
  check_mode:
    support: full
    description: It never changes anything.
  diff_mode:
    support: none
    description: There is nothing to differ.
"""

    SERVICES = r"""
options:
  services:
    description: The services of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the service.
        type: str
        required: true
      port:
        description: Port that it serves on.
        type: int
        required: true
"""

    PUSH = r"""
options:
  phase:
    description: Set by the action plugin, which step of the transfer this is.
    type: str
    choices: [query, prepare, land]
    default: query
  uploader:
    description: Set by the action plugin, numeric id of the user who logs in.
    type: int
    default: 0
"""
