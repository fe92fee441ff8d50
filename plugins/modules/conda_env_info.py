#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The conda environments of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: conda_env_info
short_description: Say which conda environments a host has and what is in them
version_added: "0.2.0"
description:
  - Lists the environments of conda, mamba, micromamba and pixi, those that the deployment built, and venvs that
    something runs from or that have an engine in them, with the versions that tell what they can serve.
  - Looks at what those tools wrote down (C(~/.conda/environments.txt), C(envs_dirs) of C(.condarc), pixi's registered
    workspaces), at their usual places, at the programs of running processes, at the deployment's own folder, and into
    the upper folders of homes.
  - Everything is read from files. Nothing of an environment is run, also not its Python.
  - As root it sees the environments of all users, else those that can be read.
  - Changes nothing.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
options:
  root:
    description: Root folder of the deployment on the host, which need not exist.
    type: path
    default: /opt/inference
  users:
    description:
      - Into whose homes it looks, V(all) as far as they can be read, V(own) only that of the user it runs as.
      - What processes and services use is listed in any case.
    type: str
    choices: [all, own]
    default: all
  sizes:
    description:
      - Measure what the environments take of the disk, which reads the state of every file in them.
      - Measured, 66,000 files take 0.5 s where the host has their state in memory.
    type: bool
    default: true
  budget:
    description:
      - Seconds for all of it. What is not measured by then has no size, and C(truncated) says so.
      - It does not end the wait for a filesystem that does not answer.
    type: int
    default: 60
  prefixes:
    description: Environments that are listed in any case, as the inventory names them.
    type: list
    elements: path
    default: []
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read what environments there are
  deployer.sglang.conda_env_info:
  become: true
  register: host_environments

- name: Say where SGLang is
  ansible.builtin.debug:
    msg: "{{ item.path }} has SGLang {{ item.versions.sglang }}"
  loop: "{{ host_environments.environments | selectattr('suits', 'contains', 'sglang') }}"
  loop_control:
    label: "{{ item.path }}"

- name: Read the own ones alone, without their sizes
  deployer.sglang.conda_env_info:
    users: own
    sizes: false
"""

RETURN = r"""
environments:
  description: The environments, by path.
  type: list
  elements: dict
  returned: success
  contains:
    path:
      description: The real path, which can be named as C(prefix) in C(inference_environments).
      type: str
    short_path:
      description: The same for people, V(~me/miniconda3/envs/sglang) in a home.
      type: str
    aliases:
      description: Other paths that lead to it.
      type: list
      elements: str
    kind:
      description:
        - By whom it was made, V(conda), V(mamba), V(micromamba), V(pixi), V(venv) or V(deployer); empty where its files
          do not tell.
      type: str
    owner:
      description: The user whose it is.
      type: str
    name:
      description: As its tool or the deployment calls it, V(base) for a root prefix.
      type: str
    digest:
      description: Of the lock that the deployment built it from; empty for any other.
      type: str
    finished:
      description: False for one of the deployment whose build has not ended.
      type: bool
    python:
      description: Version of its Python, empty without one.
      type: str
    versions:
      description:
        - Versions of those among C(sglang), C(llamafactory), C(sglang-kernel), C(sgl-kernel), C(torch),
          C(flashinfer-python), C(transformers) and C(vllm) that are installed; empty where one states none.
      type: dict
    editable:
      description: Those of them that run from a folder of sources, with that folder.
      type: dict
    cuda:
      description: The CUDA runtime that it brings, V(12.8); empty for none.
      type: str
    packages:
      description: How many Python packages there are in it.
      type: int
    conda_packages:
      description: How many packages conda installed.
      type: int
    suits:
      description: The engines that are installed in it, V(sglang), V(llamafactory).
      type: list
      elements: str
    open_to_all:
      description: Whether every user can read it; the one who runs the services may be another than its owner.
      type: bool
    size:
      description:
        - Bytes of the disk, each inode once; null where it was not measured.
        - Without the other environments and the package cache in a root prefix.
      type: int
    shared_bytes:
      description: Part of C(size) that is hard-linked into others of these environments as well.
      type: int
    used_by:
      description: What uses it.
      type: dict
      contains:
        services:
          description: Releases, with C(service), C(release), and C(as) V(current), V(previous) or V(predecessor).
          type: list
          elements: dict
        processes:
          description: The first ten processes that run from it, with C(pid), C(user) and C(command).
          type: list
          elements: dict
        process_count:
          description: How many there are.
          type: int
    problem:
      description: What is wrong with it, empty when nothing is.
      type: str
total_bytes:
  description: What all of them take together, each inode once; null without O(sizes).
  type: int
  returned: success
user:
  description: As whom it looked.
  type: str
  returned: success
truncated:
  description: What was not looked at, a line each; empty when nothing was left out.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.survey import read_environments


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/inference"},
            "users": {"type": "str", "choices": ["all", "own"], "default": "all"},
            "sizes": {"type": "bool", "default": True},
            "budget": {"type": "int", "default": 60},
            "prefixes": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    everyone = given["users"] == "all"
    found = read_environments(given["root"], everyone, given["sizes"], given["budget"], given["prefixes"])
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
