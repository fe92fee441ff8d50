#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""Model weights on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model
short_description: Bring model weights to a host and verify every byte
version_added: "0.1.0"
description:
  - Says, for all models of a host in one round trip, which files it misses; and brings them, where O(transport) is not
    V(relay). With V(relay), M(deployer.sglang.model_relay) brings what was found missing on all hosts at once.
  - The files are hashed at their source, hashed again on the host, and land under the digest of their manifest in one
    step. A transfer that broke is resumed; a model that is there is not sent again; a file that the host has in
    another model is linked.
options:
  models:
    description: The models.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model's folder on the host, before the digest.
        type: str
        required: true
      source:
        description:
          - Where it comes from, a folder on the controller, C(HOST:/PATH), C(hosts:/PATH), C(hf://ORG/NAME@REVISION),
            C(modelscope://ORG/NAME@REVISION) or C(https://SERVER/FOLDER/).
        type: str
        required: true
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
        description: Host that fetches from a hub or a web server; empty for the controller.
        type: str
        default: ""
      manifest:
        description: Set by the action plugin, the files with sizes and sha256.
        type: dict
      folder:
        description: Set by the action plugin, the folder of a model that is on the host already.
        type: path
  sources:
    description: Results of M(deployer.sglang.model_source), for models whose source is on one host.
    type: list
    elements: dict
    default: []
  variables:
    description: Environment variables for fetching on the controller, such as C(HF_TOKEN).
    type: dict
    default: {}
  transport:
    description:
      - V(relay) leaves it to M(deployer.sglang.model_relay), V(rsync) runs rsync over SSH from the controller to each
        host, and V(connection) uses Ansible's own connection, whatever that is. The last two take a folder on the
        controller alone.
    type: str
    choices: [relay, rsync, connection]
    default: connection
  relay_address:
    description: Address that the host serves on in a transfer, or the name of the interface that has it.
    type: str
    default: ""
  relay_rack:
    description: Where the host stands; hosts of one rack follow each other in a transfer.
    type: str
    default: ""
  rate:
    description: With O(transport=rsync), the most bytes a second to each host; V(0) for no limit.
    type: int
    default: 0
extends_documentation_fragment:
  - deployer.sglang.host.push
  - deployer.sglang.host.root
attributes:
  check_mode:
    support: full
    description: Says whether files would be sent, and where they would lie.
  diff_mode:
    support: full
    description: Names the files that would be sent.
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Ensure the weights are on the host
  deployer.sglang.model:
    models:
      - name: code2sql
        source: /data/saves/qwen3-14b-ft
    root: /opt/inference
"""

RETURN = r"""
models:
  description: What there is, in the order of O(models).
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: As given.
      type: str
    source:
      description: As given.
      type: str
    digest:
      description: sha256 of the manifest, which names the content.
      type: str
    path:
      description: Folder of the model on the host.
      type: str
    bytes:
      description: Size of the model in bytes.
      type: int
    missing:
      description: Files that are not in the folder; with O(transport=relay) they have still to be brought.
      type: list
      elements: str
    linked:
      description: Those of them that the host has in another model.
      type: list
      elements: str
    to_send:
      description: Bytes that have to travel.
      type: int
    in_place:
      description: Whether it is used where it lies.
      type: bool
relay:
  description: What a transfer has to know of the host.
  type: dict
  returned: when files are missing and O(transport=relay)
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils import incoming
from ansible_collections.deployer.sglang.plugins.module_utils.arguments import PUSH
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.relay.interfaces import address_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.records import make_way
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hash_cache import HashCache
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import check_source, manifest_record
from ansible_collections.deployer.sglang.plugins.module_utils.weights.on_host import Bringing, bringing, give_links
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE, model_rules


def query(store: Store, given: dict[str, Any], keep: bool) -> dict[str, Any]:
    """What the host has of every model, and what it misses.

    Args:
        store: of the host.
        given: the module's parameters.
        keep: whether hashes may be written to the host's cache.
    Raises:
        DeployError: what is missing does not fit on the disk, or a model is not what it should be.
    """
    answers = [in_place(store, one, keep) if one["folder"] else wanted(store, one)[1] for one in given["models"]]
    needed = sum(answer["to_send"] for answer in answers)
    if needed:
        incoming.check_room(store.root, needed, "the models' transfer")
    result: dict[str, Any] = {"models": answers}
    if any(answer["missing"] for answer in answers) and given["transport"] == "relay":
        result["relay"] = {"address": address_of(given["relay_address"]), "rack": given["relay_rack"]}
    return result


def wanted(store: Store, model: dict[str, Any]) -> tuple[Bringing, dict[str, Any]]:
    """A model that has to be in the deployment's own folder: what has to be done for that, and what is said of it."""
    manifest = Manifest.from_dict(model["manifest"])
    found = bringing(store, model["name"], manifest)
    return found, {
        **about(model, manifest, store.model(model["name"], manifest.digest)),
        "missing": [entry.path for entry in found.needed.files],
        "linked": sorted(found.links),
        "to_send": found.bytes_to_send,
        "incoming": store.incoming(manifest.digest),
        "in_place": False,
    }


def in_place(store: Store, model: dict[str, Any], keep: bool) -> dict[str, Any]:
    """A model that every host has already: complete, and hashed."""
    rules = model_rules(model["exclude"], model["include"])
    check_source(list_files(model["folder"], rules), model["folder"])
    manifest = HashCache(store.root).manifest(model["folder"], rules, keep=keep)
    nothing = {"missing": [], "linked": [], "to_send": 0}
    return {**about(model, manifest, model["folder"]), **nothing, "in_place": True}


def about(model: dict[str, Any], manifest: Manifest, path: str) -> dict[str, Any]:
    """What every answer has."""
    return {
        "name": model["name"],
        "source": model["source"],
        "digest": manifest.digest,
        "path": path,
        "bytes": manifest.size,
    }


def bring(store: Store, model: dict[str, Any], phase: str, uploader: int) -> dict[str, Any]:
    """One step of bringing one model over another way than the relay."""
    manifest = Manifest.from_dict(model["manifest"])
    found, answer = wanted(store, model)
    arriving = answer["incoming"]
    if phase == "prepare":
        make_way(store)
        return {**answer, "missing": incoming.prepare(arriving, found.to_send, uploader)}
    incoming.verify(arriving, found.to_send)
    give_links(store, model["name"], manifest, found.links, found.states)
    landing = incoming.landing_place(arriving, answer["path"])
    record = manifest_record(manifest, arriving, landing, answer["path"])
    incoming.land(arriving, answer["path"], found.to_send, {MANIFEST_FILE: record})
    return answer


def main() -> None:
    model = {
        "name": {"type": "str", "required": True},
        "source": {"type": "str", "required": True},
        "exclude": {"type": "list", "elements": "str", "default": []},
        "include": {"type": "list", "elements": "str", "default": []},
        "fetch_on": {"type": "str", "default": ""},
        "manifest": {"type": "dict"},
        "folder": {"type": "path"},
    }
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "dict", "required": True, "options": model},
            "sources": {"type": "list", "elements": "dict", "default": []},
            "variables": {"type": "dict", "default": {}, "no_log": True},
            "transport": {"type": "str", "choices": ["relay", "rsync", "connection"], "default": "connection"},
            "relay_address": {"type": "str", "default": ""},
            "relay_rack": {"type": "str", "default": ""},
            "rate": {"type": "int", "default": 0},
            "root": {"type": "path", "required": True},
            **PUSH,
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # what is staged has to be readable for the services' user, also on a host with a stricter default
    given = module.params
    store = Store(given["root"])
    names = ", ".join(one["name"] for one in given["models"])
    try:
        if any(one["manifest"] is None and one["folder"] is None for one in given["models"]):
            raise DeployError("model was called without its action plugin", "use it as a task: deployer.sglang.model")
        if given["phase"] == "query":
            result = query(store, given, keep=not module.check_mode)
        else:
            result = {"models": [bring(store, one, given["phase"], given["uploader"]) for one in given["models"]]}
    except DeployError as error:
        module.fail_json(msg=f"model {names}: {error}")
    except OSError as error:
        module.fail_json(msg=f"model {names}: {error}. Fix: see the disk and the rights of {given['root']}")
    module.exit_json(changed=given["phase"] == "land", **result)


if __name__ == "__main__":
    main()
