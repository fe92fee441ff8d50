#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The chain transfer of model weights between hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_relay
short_description: Pass model weights on from host to host
version_added: "0.2.0"
description:
  - Brings what M(deployer.sglang.model) found missing. Every host serves what it has while it is still receiving, and
    pulls from the host before it; where that one dies, stalls or is too slow, from the next one up the chain.
  - Everything travels over TLS between the hosts of one run, which know its certificate and its token, and nobody else
    does. Nothing listens once the run has ended.
  - Every byte is hashed as it is written; a model appears in its place in one step, when all of it is verified.
options:
  state:
    description:
      - V(opened) makes the run on the controller, and starts the seed there. To be run once.
      - V(seeding) starts the seed on a host that has a model's folder.
      - V(started) starts the relay on a host; what its earlier run left running is ended.
      - V(finished) waits until the host has everything, and shows how far all of them are.
      - V(closed) ends the relay on the host, and the run on the controller.
    type: str
    choices: [opened, seeding, started, finished, closed]
    required: true
  run:
    description: Folder of the run on the controller, as V(opened) returned it.
    type: path
  run_id:
    description: The run's name, as V(opened) returned it in C(id). For V(finished) and V(closed).
    type: str
  host:
    description: Name of the host that V(seeding) is for; without it, the host of the task.
    type: str
  results:
    description: Results of M(deployer.sglang.model) by host, in the order of the chain. For V(opened).
    type: dict
  port:
    description: TCP port that every host serves on. A seed takes one above it.
    type: int
    default: 18515
  controller_address:
    description: Address at which hosts reach this controller; without it, the one that they are reached from.
    type: str
  streams:
    description: Files that a host receives at the same time. More than two are seldom quicker.
    type: int
    default: 2
  rate:
    description: The most bytes a second that a host receives, and the most that it sends; V(0) for no limit.
    type: int
    default: 0
  floor:
    description: A source that gives fewer bytes a second is left for the next one up the chain.
    type: int
    default: 1000000
  patience:
    description: Seconds without a byte from any source after which a host gives up.
    type: int
    default: 90
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: none
    description: M(deployer.sglang.model) says in check mode what would be sent.
  diff_mode:
    support: none
    description: M(deployer.sglang.model) names the files.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
# The role deployer.sglang.model has the whole of it.
- name: Open the transfer
  deployer.sglang.model_relay:
    state: opened
    results: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'model_results'))) }}"
    root: /opt/inference
  run_once: true
  register: model_relay_run

- name: Ensure the relays receive
  deployer.sglang.model_relay:
    state: started
    run: "{{ model_relay_run.folder }}"
    root: /opt/inference
"""

RETURN = r"""
folder:
  description: Folder of the run, which holds its secrets.
  type: str
  returned: for V(opened)
id:
  description: The run's name.
  type: str
  returned: for V(opened)
hosts:
  description: Hosts that receive, in the order of the chain.
  type: list
  elements: str
  returned: for V(opened)
seeds:
  description: Hosts on which a seed has to be started.
  type: list
  elements: str
  returned: for V(opened)
received:
  description: Bytes that came over the network.
  type: int
  returned: for V(finished)
resumed:
  description: Bytes that an earlier run had left.
  type: int
  returned: for V(finished)
linked:
  description: Files that the host had in another model.
  type: int
  returned: for V(finished)
lost:
  description: Sources that were left for another, with the reason.
  type: dict
  returned: for V(finished)
started:
  description: When the host began to receive, in seconds since the epoch.
  type: float
  returned: for V(finished)
landed:
  description: When the last model was in its place, in seconds since the epoch.
  type: float
  returned: for V(finished)
peak_memory:
  description: The most memory that the relay held, in bytes.
  type: int
  returned: for V(finished)
"""

import os
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import detached
from ansible_collections.deployer.sglang.plugins.module_utils.relay.job import run_relay
from ansible_collections.deployer.sglang.plugins.module_utils.relay.offers import offer_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import RelayOrder
from ansible_collections.deployer.sglang.plugins.module_utils.relay.records import close, make_way
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import model_rules


def start_receiving(store: Store, order: RelayOrder) -> dict:
    """Start the relay of this host; one that an earlier run left gives way."""
    make_way(store, order.run)
    return detached(lambda say: run_relay(order, say))


def start_seeding(store: Store, order: RelayOrder, folders: list) -> dict:
    """Start to serve folders of this host."""
    offers = tuple(
        offer_of(str(one["folder"]), Manifest.from_dict(one["manifest"]), model_rules(one["exclude"], one["include"]))
        for one in folders
    )
    started = detached(lambda say: run_relay(replace(order, root="", offers=offers), say))
    path = store.seed(order.run)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_file(path, pretty_json(started), 0o600)
    return started


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["seeding", "started", "closed"], "required": True},
            "root": {"type": "path", "required": True},
            "order": {"type": "dict"},
            "token": {"type": "str", "no_log": True},
            "key": {"type": "str", "no_log": True},
            "run_id": {"type": "str"},
            "folders": {"type": "list", "elements": "dict", "default": []},
        },
        required_if=[("state", state, ["order", "token", "key"]) for state in ("seeding", "started")],
    )
    given = module.params
    store = Store(given["root"])
    try:
        if given["state"] == "closed":
            module.exit_json(changed=close(store, given["run_id"]))
        order = RelayOrder.from_dict({**given["order"], "token": given["token"], "key": given["key"]})
        if given["state"] == "started":
            started = start_receiving(store, order)
        else:
            started = start_seeding(store, order, given["folders"])
    except DeployError as error:
        module.fail_json(msg=f"model relay: {error}")
    except OSError as error:
        module.fail_json(msg=f"model relay: {error}. Fix: see the disk and the rights of {given['root']}")
    module.exit_json(changed=True, **started)


if __name__ == "__main__":
    main()
