"""The seed on the controller: a process of its own that serves a folder while the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import background
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import RelayOrder

# A fresh interpreter: one forked from Ansible would hold all of Ansible's memory. The order comes by standard input.
# -I: what lies in the working directory is not taken for a module.
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import detached
from ansible_collections.deployer.sglang.plugins.module_utils.relay.job import run_relay
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import RelayOrder
order = RelayOrder.from_dict(json.load(sys.stdin))
try:
    print(json.dumps(detached(lambda say: run_relay(order, say))))
except DeployError as error:
    print(json.dumps({"problem": error.problem, "fix": error.fix}))
"""


def start_seed(order: RelayOrder) -> dict[str, Any]:
    """Start a seed.

    Args:
        order: with offers, and the process that it is to end with in `watch`.
    Returns:
        pid, start_time, address and port.
    Raises:
        DeployError: it cannot listen.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(_collections())],
        input=json.dumps(order.as_dict()),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise DeployError(f"the seed on the controller did not start: {last[0]}", "run again") from None
    if "problem" in answer:
        fix = "set model_relay_controller_address to an address of the controller's own, or model_transport: rsync"
        raise DeployError(f"the controller {answer['problem']}", fix)
    return answer


def _collections() -> Path:
    """The folder that holds `ansible_collections`, as this collection was found in it."""
    file = Path(background.__file__)
    return next(parent.parent for parent in file.parents if parent.name == "ansible_collections")
