#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""A model's weights where a host has them, or fetches them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_source
short_description: Look at a model's weights on the host that has them
version_added: "0.2.0"
description:
  - Reads what a launch plan has to know of a model from a folder on the host, or hashes the folder, so that
    M(deployer.sglang.model) and M(deployer.sglang.model_relay) can bring it to other hosts.
  - With O(fetch_on), fetches the weights from a hub or a web server first, once for the whole fleet. They land verified
    in the deployment's own folder, and other hosts have them from there.
  - Asked once a run of Ansible, however many hosts need the answer.
options:
  name:
    description: Name of the model's folder on hosts, before the digest.
    type: str
    required: true
  source:
    description: Where the weights are, as M(deployer.sglang.model) takes it.
    type: str
    required: true
  state:
    description: V(described) reads what a plan needs, V(hashed) hashes every file, and fetches what has to be fetched.
    type: str
    choices: [described, hashed]
    default: hashed
  exclude:
    description: Patterns of files that are left out beside those that never belong to a model.
    type: list
    elements: str
    default: []
  include:
    description: Patterns of files that are kept in spite of the rules.
    type: list
    elements: str
    default: []
  fetch_on:
    description: Host that fetches, which is the one of the task; empty where nothing is fetched.
    type: str
    default: ""
  prefixes:
    description: Prefixes of environments on the host, of which the first that has the hub's library fetches.
    type: list
    elements: path
    default: []
  variables:
    description: Environment variables for fetching, such as C(HF_TOKEN) and C(HF_ENDPOINT).
    type: dict
    default: {}
  secrets:
    description: Set by the action plugin, those of O(variables) that are secrets.
    type: dict
    default: {}
  relay_address:
    description: Address that the host serves on in a transfer, or the name of the interface that has it.
    type: str
    default: ""
extends_documentation_fragment:
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: partial
    description: Hashes, and fetches nothing.
  diff_mode:
    support: none
    description: There is nothing to differ.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Hash the weights on the host that has them
  deployer.sglang.model_source:
    name: code2sql
    source: gpu1:/data/saves/qwen3-14b-ft
    root: /opt/inference
  delegate_to: gpu1
"""

RETURN = r"""
source:
  description: As given.
  type: str
  returned: success
digest:
  description: sha256 of the manifest, which names the content.
  type: str
  returned: for V(hashed)
host:
  description: The host that has the folder.
  type: str
  returned: for V(hashed)
folder:
  description: The folder there.
  type: str
  returned: for V(hashed)
address:
  description: Address that the host serves on in a transfer.
  type: str
  returned: for V(hashed)
facts:
  description: What a launch plan needs.
  type: dict
  returned: for V(described)
listing:
  description: Names the files by path and size.
  type: str
  returned: for V(described)
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files, listing_digest
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import read_model
from ansible_collections.deployer.sglang.plugins.module_utils.relay.interfaces import address_of
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetched import fetched_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hash_cache import HashCache
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import check_source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import model_rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import parse_source


def look(store: Store, given: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """What is asked for.

    Raises:
        DeployError: the folder is missing or incomplete, or cannot be fetched.
    """
    source, rules = parse_source(given["source"]), model_rules(given["exclude"], given["include"])
    result = {"source": given["source"], "changed": False}
    if given["state"] == "described":
        files = list_files(source.path, rules)
        listing = listing_digest((name, os.path.getsize(real)) for name, real in files.items())
        return {**result, "facts": read_model(source.path, files).as_dict(), "listing": listing}
    result["address"] = address_of(given["relay_address"])
    if source.is_fetched:
        if check_mode:
            return {**result, "digest": ""}
        variables = {**given["variables"], **given["secrets"]}
        model = fetched_model(store, given["name"], source, rules, given["prefixes"], variables)
        found = {"changed": model.changed, "folder": model.folder}
        manifest = model.manifest
    else:
        check_source(list_files(source.path, rules), source.path)
        manifest = HashCache(store.root).manifest(source.path, rules, keep=not check_mode)
        found = {"folder": source.path}
    return {**result, **found, "digest": manifest.digest, "manifest": manifest.as_dict()}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["described", "hashed"], "default": "hashed"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "include": {"type": "list", "elements": "str", "default": []},
            "fetch_on": {"type": "str", "default": ""},
            "prefixes": {"type": "list", "elements": "path", "default": []},
            "variables": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "relay_address": {"type": "str", "default": ""},
            "root": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is fetched has to be readable for the services' user
    given = module.params
    try:
        result = look(Store(given["root"]), given, module.check_mode)
    except DeployError as error:
        module.fail_json(msg=f"model {given['name']}: {error}")
    except OSError as error:
        module.fail_json(msg=f"model {given['name']}: {error}. Fix: see the disk and the rights of {given['root']}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
