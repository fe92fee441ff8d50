"""A host that nobody asked: GPUs of a kind that is known by name, for a plan before there is any host."""

from __future__ import annotations

import difflib
import re

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, HostFacts

MIB, GIB = 2**20, 2**30
# Published memory in GB as the data sheets have it, whether ECC takes a sixteenth of it (GDDR6 with ECC on, as servers
# have it; HBM brings its own), and the compute capability (developer.nvidia.com/cuda-gpus).
PUBLISHED = {
    "T4": (16, True, "7.5"),
    "V100": (32, False, "7.0"),
    "A10": (24, True, "8.6"),
    "A10G": (24, True, "8.6"),
    "A30": (24, False, "8.0"),
    "A40": (48, True, "8.6"),
    "A100": (80, False, "8.0"),
    "A100-40GB": (40, False, "8.0"),
    "A800": (80, False, "8.0"),
    "RTX-A6000": (48, True, "8.6"),
    "RTX-3090": (24, False, "8.6"),
    "RTX-4090": (24, False, "8.9"),
    "RTX-5090": (32, False, "12.0"),
    "RTX-6000-ADA": (48, True, "8.9"),
    "L4": (24, True, "8.9"),
    "L20": (48, True, "8.9"),
    "L40": (48, True, "8.9"),
    "L40S": (48, True, "8.9"),
    "H20": (96, False, "9.0"),
    "H100": (80, False, "9.0"),
    "H800": (80, False, "9.0"),
    "H200": (141, False, "9.0"),
    "B200": (180, False, "10.0"),
    "B300": (288, False, "10.3"),
}
# Of what the data sheet says, nvidia-smi shows 99.6 % on an H100 (81559 MiB) and 99.6 % on an H200 (143771 MiB).
SHOWN = 0.996
# What the driver keeps for itself: 480 MiB of an H100 and 616 MiB of an H200, measured with driver 580.
DRIVER = 512 * MIB


def assumed_host(text: str) -> HostFacts:
    """A host with the GPUs that `text` names, all of them free, and nothing else to find fault with.

    Args:
        text: a kind of GPU and how many, `H200x8`; `H200` for one.
    Raises:
        DeployError: no such kind is known.
    """
    match = re.fullmatch(r"\s*(?:([0-9]{1,3})\s*[x*]\s*)?(.+?)\s*(?:[x*]\s*([0-9]{1,3}))?\s*", text, re.IGNORECASE)
    kind = re.sub(r"[\s_-]+", "-", match.group(2)).upper() if match else ""
    count = int(match.group(1) or match.group(3) or 1) if match else 0
    if kind not in PUBLISHED or not 1 <= count <= 64:
        near = difflib.get_close_matches(kind, PUBLISHED, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(PUBLISHED)}"
        if kind in PUBLISHED:
            hint = "give 1 to 64 of them"
        raise DeployError(f"{text!r} names no known GPU and how many", f"{hint} (H200x8 are eight of the kind H200)")
    published, ecc, capability = PUBLISHED[kind]
    total = int(published * GIB * (15 / 16 if ecc else SHOWN))
    gpus = tuple(_gpu(index, kind, total, capability) for index in range(count))
    return HostFacts(
        python="3.11.0",
        system="Linux",
        machine="x86_64",
        glibc="",
        uid=0,
        systemd=True,
        name="",
        address="",
        root_folder="/",
        root_writable=True,
        disk_free=0,
        memory=0,
        shm=0,
        nofile=UNLIMITED,
        nr_open=UNLIMITED,
        memlock=UNLIMITED,
        ephemeral=(32768, 60999),  # the kernel's default
        gpus=GpuFacts("", "", gpus, {}, ""),
    )


def _gpu(index: int, kind: str, total: int, capability: str) -> Gpu:
    free = total - DRIVER
    return Gpu(
        index,
        f"GPU-{index}",
        kind,
        total,
        DRIVER,
        0,
        free,
        capability,
        False,
        0,
        (),
        (),
        f"0000:{index:02x}:00.0",
        index,
    )
