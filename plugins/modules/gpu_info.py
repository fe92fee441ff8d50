#!/usr/bin/python
# Copyright: the sglang-deployer maintainers
# Apache License 2.0 (see LICENSE)
"""The GPUs of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Say which GPUs a host has and what they are at
version_added: "0.2.0"
description:
  - Asks C(nvidia-smi), C(/proc) and, as root, the kernel log.
  - A host without GPU or driver is no failure, C(problem) says why there are none.
  - Changes nothing.
extends_documentation_fragment:
  - deployer.sglang.host.read_only
author:
  - The sglang-deployer maintainers
"""

EXAMPLES = r"""
- name: Read the GPUs
  deployer.sglang.gpu_info:
  register: host_gpus

- name: Say how much memory is free
  ansible.builtin.debug:
    msg: "GPU {{ item.index }} has {{ item.memory_free | human_readable }} free"
  loop: "{{ host_gpus.gpus }}"
  loop_control:
    label: "{{ item.uuid }}"
"""

RETURN = r"""
driver:
  description: Version of the driver, empty when unknown.
  type: str
  returned: success
  sample: 580.159.04
cuda:
  description: Newest CUDA version that the driver supports, empty when unknown.
  type: str
  returned: success
  sample: "13.0"
gpus:
  description: The GPUs in the order of the PCI bus, which is CUDA's with C(CUDA_DEVICE_ORDER=PCI_BUS_ID).
  type: list
  elements: dict
  returned: success
  contains:
    index:
      description: Position in the list.
      type: int
    uuid:
      description: The UUID, V(GPU-…).
      type: str
    product:
      description: Name of the product.
      type: str
    memory_total:
      description: Memory in bytes, 0 when unknown; likewise the other sizes.
      type: int
    memory_reserved:
      description: Bytes that driver and firmware keep for themselves; drivers before 510 count them as used.
      type: int
    memory_used:
      description: Bytes in use.
      type: int
    memory_free:
      description: Bytes that are free.
      type: int
    compute_capability:
      description: Such as V(9.0), empty when unknown.
      type: str
    mig:
      description: Whether the GPU is partitioned.
      type: bool
    mig_devices:
      description: How many MIG devices there are.
      type: int
    trouble:
      description:
        - What is wrong with it, one line each, empty when it is well. Uncorrectable memory errors, pending repairs and
          resets, and the driver's error reports (Xid) since boot, without those that programs cause.
      type: list
      elements: str
    processes:
      description:
        - The processes that compute on it, with C(pid), C(user), C(command), C(memory) in bytes (0 when unknown) and
          C(service), empty here.
      type: list
      elements: dict
    pci:
      description: PCI address as in C(/sys/bus/pci/devices).
      type: str
    minor:
      description: N of C(/dev/nvidiaN), null when unknown.
      type: int
links:
  description:
    - How two GPUs reach each other, V(NV18), V(PIX), V(PXB), V(PHB), V(NODE) or V(SYS), by their indices as V(0-1).
    - Empty when unknown, and with fewer than two GPUs.
  type: dict
  returned: success
  sample: {"0-1": NV18}
problem:
  description: Why there are no GPUs, or what could not be read of them; empty when there is nothing to say.
  type: str
  returned: success
  sample: nvidia-smi is not installed
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_gpus


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, **read_gpus().as_dict())


if __name__ == "__main__":
    main()
