"""A test double of nvidia-smi's output: hosts that no recording shows, derived from the recordings.

Each document starts as the recording of one idle H100 (tests/recordings/nvidia_smi) and is transformed: its GPU is
repeated with other identities, memory and processes are set, and elements are removed or renamed towards what older
drivers print. That follows NVIDIA's published DTDs as far as the project's parser looks, not to the last element:

- v13: as recorded.
- v12, driver 570 and later: no repairs pending, no `unrepairable_memory`; earlier: `sram_uncorrectable` in place of
  parity and SECDED, no `sram_threshold_exceeded`, `gpu_reset_status` in place of `gpu_recovery_action`.
- v11: as the earlier v12, with `clocks_throttle_reasons` and `power_readings`, without `fabric` and `gpu_reset_status`;
  before driver 510 no `reserved` memory (counted as used), before 495 no `product_architecture`.
- v10: as the earliest v11, without MIG, remapped rows and `pending_blacklist`.
- A V100 counts `single_bit` and `double_bit` errors, retires pages and remaps no rows, whatever the generation.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

RECORDINGS = Path(__file__).parents[1] / "recordings" / "nvidia_smi"
GENERATIONS = ("v10", "v11", "v12", "v13")
# The newest CUDA of each driver branch (CUDA Toolkit release notes).
CUDA = {
    418: "10.1",
    450: "11.0",
    470: "11.4",
    515: "11.7",
    525: "12.0",
    535: "12.2",
    550: "12.4",
    570: "12.8",
    580: "13.0",
}
ARCHITECTURES = {
    "V100": "Volta",
    "T4": "Turing",
    "A100": "Ampere",
    "A10": "Ampere",
    "L40S": "Ada Lovelace",
    "H100": "Hopper",
    "H200": "Hopper",
    "B200": "Blackwell",
    "RTX PRO 6000": "Blackwell",
}
# What `host(trouble=…)` can break: the elements that say so, of which a generation has at least one, and their text.
TROUBLES = {
    "uncorrectable": (
        ("ecc_errors/volatile/dram_uncorrectable", "ecc_errors/volatile/double_bit/total"),
        "2",
    ),
    "sram": (("ecc_errors/volatile/sram_uncorrectable_secded", "ecc_errors/volatile/sram_uncorrectable"), "1"),
    "parity": (("ecc_errors/volatile/sram_uncorrectable_parity",), "3"),
    "threshold": (("ecc_errors/aggregate/sram_threshold_exceeded",), "Yes"),
    "remapping pending": (("remapped_rows/remapped_row_pending",), "Yes"),
    "remapping failed": (("remapped_rows/remapped_row_failure",), "Yes"),
    "retirement pending": (("retired_pages/pending_retirement", "retired_pages/pending_blacklist"), "Yes"),
    "channel repair": (("ecc_errors/channel_repair_pending",), "Yes"),
    "tpc repair": (("ecc_errors/tpc_repair_pending",), "Yes"),
    "unrepairable": (("ecc_errors/unrepairable_memory",), "Yes"),
    "recovery": (("gpu_recovery_action",), "Drain and Reset"),
    "reset required": (("gpu_reset_status/reset_required",), "Yes"),
    "lost": (("temperature/gpu_temp",), "GPU is lost"),
}


@dataclass(frozen=True)
class Process:
    """A process on the GPU with index `gpu`; `mib` None where nvidia-smi does not say. `kind` as C, G, C+G or M+C."""

    gpu: int
    pid: int
    mib: int | None
    name: str = "python3"
    kind: str = "C"


def host(
    product: str = "NVIDIA H100 80GB HBM3",
    count: int = 8,
    memory_mib: int = 81559,
    driver: str = "580.159.04",
    generation: str = "v13",
    *,
    used: Mapping[int, int] | None = None,
    processes: Iterable[Process] = (),
    mig: Mapping[int, int] | None = None,
    trouble: Mapping[int, Iterable[str]] | None = None,
    name: str = "host",
) -> str:
    """What `nvidia-smi -q -x` would print on a host with `count` such GPUs.

    Args:
        product: as nvidia-smi names it; it decides the architecture.
        memory_mib: memory of each GPU, MiB.
        driver: version of the driver.
        generation: of GENERATIONS.
        used: MiB in use by GPU index; what its processes use where it is not named.
        processes: of all GPUs.
        mig: number of MIG devices by index of the GPUs in MIG mode.
        trouble: names of TROUBLES by GPU index.
        name: of the host; GPUs of different names have different UUIDs.

    Raises:
        ValueError: the generation has no such thing.
    """
    root = ElementTree.fromstring((RECORDINGS / "h100-driver580-idle.xml").read_text())
    template = root.find("gpu")
    assert template is not None
    root.remove(template)
    branch = int(driver.partition(".")[0])
    _set(root, "driver_version", driver)
    _set(root, "cuda_version", CUDA[max(known for known in CUDA if known <= branch)])
    _set(root, "attached_gpus", str(count))
    processes = list(processes)
    for index in range(count):
        gpu = copy.deepcopy(template)
        own = [process for process in processes if process.gpu == index]
        _identify(gpu, index, product, name)
        _fill(gpu, memory_mib, (used or {}).get(index, sum(process.mib or 0 for process in own)))
        _add_processes(gpu, own)
        if index in (mig or {}):
            _partition(gpu, (mig or {})[index], memory_mib)
        _age(gpu, generation, branch, "V100" in product)
        if index in (mig or {}) and gpu.find("mig_mode") is None:
            raise ValueError(f"{generation} has no MIG")
        for kind in (trouble or {}).get(index, ()):
            _break(gpu, kind, generation)
        root.append(gpu)
    ElementTree.indent(root, "\t")
    doctype = f'<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_{generation}.dtd">'
    return f'<?xml version="1.0" ?>\n{doctype}\n{ElementTree.tostring(root, encoding="unicode")}\n'


def uuid_of(name: str, index: int) -> str:
    """The UUID of a GPU of the host that `host` calls `name`."""
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_DNS, f'{index}.{name}')}"


def capabilities(count: int = 8, capability: str = "9.0", name: str = "host") -> str:
    """What `nvidia-smi --query-gpu=uuid,compute_cap --format=csv,noheader` would print there."""
    return "".join(f"{uuid_of(name, index)}, {capability}\n" for index in range(count))


def topology(count: int = 8, link: str | Mapping[str, str] = "NV18") -> str:
    """What `nvidia-smi topo -m` would print, with the header's escapes and the legend as recorded.

    Args:
        count: of GPUs.
        link: between any two, or by pair ('0-1') where the others are SYS.
    """
    recorded = (RECORDINGS / "h100-driver580-topology.txt").read_text()
    header, row, legend = recorded.split("\n", 2)
    names = [f"GPU{index}" for index in range(count)]
    lines = [header.replace("GPU0", "\t".join(names))]
    for index, name in enumerate(names):
        cells = [
            " X " if other == index else _link(link, min(index, other), max(index, other)) for other in range(count)
        ]
        lines.append(row.replace("GPU0", name).replace(" X ", "\t".join(cells)))
    return "\n".join([*lines, legend])


def _link(link: str | Mapping[str, str], a: int, b: int) -> str:
    return link if isinstance(link, str) else link.get(f"{a}-{b}", "SYS")


def _identify(gpu: Element, index: int, product: str, name: str) -> None:
    address = f"00000000:{0x0B + 0x0D * index:02X}:00.0"
    gpu.set("id", address)
    _set(gpu, "pci/pci_bus_id", address)
    _set(gpu, "pci/pci_bus", address[9:11])
    _set(gpu, "product_name", product)
    architecture = next((value for key, value in ARCHITECTURES.items() if key in product), None)
    if architecture is None:
        raise ValueError(f"ARCHITECTURES does not know {product}")
    _set(gpu, "product_architecture", architecture)
    _set(gpu, "uuid", uuid_of(name, index))
    _set(gpu, "minor_number", str(index))
    _set(gpu, "platformInfo/module_id", str(index + 1))


def _fill(gpu: Element, total: int, used: int) -> None:
    reserved = int(_at(gpu, "fb_memory_usage/reserved").text.partition(" ")[0])  # type: ignore[union-attr]
    for part, mib in (("total", total), ("used", used), ("free", total - reserved - used)):
        _set(gpu, f"fb_memory_usage/{part}", f"{mib} MiB")


def _add_processes(gpu: Element, processes: Iterable[Process]) -> None:
    for process in processes:
        info = SubElement(_at(gpu, "processes"), "process_info")
        for tag, text in (
            ("gpu_instance_id", "N/A"),
            ("compute_instance_id", "N/A"),
            ("pid", str(process.pid)),
            ("type", process.kind),
            ("process_name", process.name),
            ("used_memory", "N/A" if process.mib is None else f"{process.mib} MiB"),
        ):
            SubElement(info, tag).text = text


def _partition(gpu: Element, devices: int, memory_mib: int) -> None:
    _set(gpu, "mig_mode/current_mig", "Enabled")
    _set(gpu, "mig_mode/pending_mig", "Enabled")
    listing = _at(gpu, "mig_devices")
    listing.text = None
    for index in range(devices):
        device = SubElement(listing, "mig_device")
        SubElement(device, "index").text = str(index)
        SubElement(device, "gpu_instance_id").text = str(index + 3)
        SubElement(device, "compute_instance_id").text = "0"
        memory = SubElement(device, "fb_memory_usage")
        for part in ("total", "reserved", "used", "free"):
            mib = memory_mib // devices if part in ("total", "free") else 0
            SubElement(memory, part).text = f"{mib} MiB"


def _age(gpu: Element, generation: str, branch: int, bits: bool) -> None:
    """Towards an older driver: as the docstring of this module says."""
    level = GENERATIONS.index(generation)
    if level <= 2:
        for tag in ("channel_repair_pending", "tpc_repair_pending", "unrepairable_memory"):
            _remove(gpu, f"ecc_errors/{tag}")
    if level <= 1 or (level == 2 and branch < 570):
        for counts in ("volatile", "aggregate"):
            _remove(gpu, f"ecc_errors/{counts}/sram_uncorrectable_secded")
            _at(gpu, f"ecc_errors/{counts}/sram_uncorrectable_parity").tag = "sram_uncorrectable"
        _remove(gpu, "ecc_errors/aggregate/sram_threshold_exceeded")
        _remove(gpu, "ecc_errors/aggregate_uncorrectable_sram_sources")
        status = _at(gpu, "gpu_recovery_action")
        status.tag, status.text = "gpu_reset_status", None
        for tag in ("reset_required", "drain_and_reset_recommended"):
            SubElement(status, tag).text = "No"
    if level <= 1:
        _remove(gpu, "gpu_reset_status")
        _remove(gpu, "fabric")
        _at(gpu, "gpu_power_readings").tag = "power_readings"
        reasons = _at(gpu, "clocks_event_reasons")
        for element in reasons.iter():
            element.tag = element.tag.replace("event", "throttle")
        if branch < 510:
            reserved, used = _at(gpu, "fb_memory_usage/reserved"), _at(gpu, "fb_memory_usage/used")
            mib = sum(int((element.text or "").partition(" ")[0]) for element in (reserved, used))
            used.text = f"{mib} MiB"
            _remove(gpu, "fb_memory_usage/reserved")
        if branch < 495:
            _remove(gpu, "product_architecture")
    if level == 0:
        for path in ("mig_mode", "mig_devices", "remapped_rows", "retired_pages/pending_blacklist"):
            _remove(gpu, path)
        for info in gpu.iterfind("processes/process_info"):
            _remove(info, "gpu_instance_id")
            _remove(info, "compute_instance_id")
    if bits:
        _count_bits(gpu)


def _count_bits(gpu: Element) -> None:
    for counts in ("volatile", "aggregate"):
        element = _at(gpu, f"ecc_errors/{counts}")
        element.clear()
        for kind in ("single_bit", "double_bit"):
            bits = SubElement(element, kind)
            for tag in ("device_memory", "register_file", "l1_cache", "l2_cache", "texture_memory", "cbu", "total"):
                SubElement(bits, tag).text = "0"
    for path in ("pending_retirement", "pending_blacklist"):
        if gpu.find(f"retired_pages/{path}") is not None:
            _set(gpu, f"retired_pages/{path}", "No")
    rows = gpu.find("remapped_rows")
    if rows is not None:
        rows.clear()
        rows.text = "N/A"


def _break(gpu: Element, kind: str, generation: str) -> None:
    paths, text = TROUBLES[kind]
    found = [element for element in map(gpu.find, paths) if element is not None]
    if not found:
        raise ValueError(f"{generation} has no way to say {kind!r} of this product")
    found[0].text = text


def _at(element: Element, path: str) -> Element:
    found = element.find(path)
    if found is None:
        raise ValueError(f"the recording has no {path}")
    return found


def _set(element: Element, path: str, text: str) -> None:
    _at(element, path).text = text


def _remove(element: Element, path: str) -> None:
    folder, _, tag = path.rpartition("/")
    parent = element.find(folder) if folder else element
    child = parent.find(tag) if parent is not None else None
    if parent is not None and child is not None:
        parent.remove(child)
