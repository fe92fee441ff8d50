"""The parsers of what nvidia-smi and the kernel log say about GPUs. Pure.

Names are those of nvsmi_device_v10.dtd to nvsmi_device_v13.dtd (drivers 418 to 595); `nvidia-smi -q -x --dtd` prints a
driver's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import short_command

MIB = 1024 * 1024
_UNITS = {"B": 1, "KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB}
# What stands where there is no value: the text of the reason (nvmlErrorString), in CSV within brackets.
_LOST = ("gpu is lost", "gpu requires reset", "gpu access blocked by the operating system")
_NO_VALUE = frozenset(
    {
        "n/a",
        "none",
        "not found",
        "not supported",
        "not available",
        "insufficient permissions",
        "requested functionality has been deprecated",
        "unknown error",
        "err!",
        *_LOST,
    }
)
# Xids that a program's own mistake causes and that say nothing of the GPU; the list of NVIDIA's k8s-device-plugin
# (internal/rm/health.go): 13 graphics engine exception, 31 page fault, 43 stopped processing, 45 preemptive cleanup,
# 68 video processor exception, 109 context switch timeout.
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})

_COUNTERS = {  # under ecc_errors/volatile: counted since the driver was loaded
    "double_bit/total": "double bit",  # up to Volta
    "sram_uncorrectable": "SRAM",  # from Turing on
    "sram_uncorrectable_parity": "SRAM parity",  # in its place, in newer drivers
    "sram_uncorrectable_secded": "SRAM SECDED",
    "dram_uncorrectable": "DRAM",
}
_FLAGS = {  # Yes or No
    "remapped_rows/remapped_row_pending": "a row remapping is pending: reset the GPU",
    "remapped_rows/remapped_row_failure": "a row remapping has failed",
    "retired_pages/pending_retirement": "a page retirement is pending: reset the GPU",
    "retired_pages/pending_blacklist": "a page retirement is pending: reset the GPU",
    "ecc_errors/channel_repair_pending": "a channel repair is pending: reset the GPU",
    "ecc_errors/tpc_repair_pending": "a TPC repair is pending: reset the GPU",
    "ecc_errors/unrepairable_memory": "memory is broken beyond repair",
    "ecc_errors/aggregate/sram_threshold_exceeded": "uncorrectable SRAM errors exceed the threshold",
    "gpu_reset_status/reset_required": "a reset is required",  # before there was gpu_recovery_action
    "gpu_reset_status/drain_and_reset_recommended": "drain and reset are recommended",
}
# Compute capabilities (developer.nvidia.com/cuda-gpus): the first line of which both expressions match the architecture
# and the product. Drivers before 495 do not name the architecture: there it is ''.
_CAPABILITIES = (
    ("Volta|^$", r"V100|TITAN V\b|GV100", "7.0"),
    ("Volta", "", "7.0"),
    ("Turing", "", "7.5"),
    ("^$", r"\bT4\b|RTX 20|GTX 16|TITAN RTX|Quadro RTX", "7.5"),
    ("Ampere|^$", r"\bA(100|800|30)X?\b", "8.0"),
    ("Ampere", "", "8.6"),
    ("^$", r"\bA(10|10G|16|2|40)\b|RTX A\d|RTX 30", "8.6"),
    ("Ada", "", "8.9"),
    ("Hopper", "", "9.0"),
    ("Blackwell", r"\bG?B300\b", "10.3"),
    ("Blackwell", r"\bG?B[12]00\b", "10.0"),
    ("Blackwell", r"\bGB10\b", "12.1"),
    ("Blackwell", "", "12.0"),
)


def parse_query(xml: str) -> GpuFacts:
    """What `nvidia-smi -q -x` printed, without links; capabilities where architecture or product tells them.

    Raises:
        DeployError: it is no such document, or a field of it cannot be understood.
    """
    root = _tree(xml)
    if root.tag != "nvidia_smi_log":
        raise _malformed("the document", "its root", root.tag)
    gpus = tuple(_gpu(index, element) for index, element in enumerate(root.iterfind("gpu")))
    for field in ("uuid", "pci"):
        values = [getattr(gpu, field) for gpu in gpus]
        if len(set(values)) < len(values):
            raise _malformed("two GPUs", field, max(values, key=values.count))
    where = "the host"
    attached = _number(root, "attached_gpus", where)
    problem = _clipped(_value(root, "error_string") or "")
    if not problem and not gpus:
        problem = "no devices were found"
    if not problem and attached and attached != len(gpus):
        problem = f"nvidia-smi describes {len(gpus)} of {attached} attached GPUs"
    return GpuFacts(_version(root, "driver_version", where), _version(root, "cuda_version", where), gpus, {}, problem)


def parse_capabilities(csv: str) -> dict[str, str]:
    """Compute capabilities by UUID, of `nvidia-smi --query-gpu=uuid,compute_cap --format=csv,noheader`.

    GPUs for which it gives no value are left out.

    Raises:
        DeployError: a line is something else, such as the complaint of a driver that does not know the query.
    """
    found = {}
    for line in filter(str.strip, csv.splitlines()):
        uuid, _, capability = (part.strip() for part in line.partition(","))
        if not re.fullmatch(r"GPU-[0-9A-Za-z-]+", uuid) or not _is_value(capability, r"[0-9]{1,2}\.[0-9]{1,2}"):
            raise DeployError(f"nvidia-smi --query-gpu=uuid,compute_cap: {_clipped(line)!r} is not understood", _FIX)
        if not _is_absent(capability):
            found[uuid] = capability
    return found


def capability_of(architecture: str, product: str) -> str:
    """A compute capability, from the names that nvidia-smi gives; '' when they do not tell.

    Args:
        architecture: `product_architecture`, '' where the driver does not say.
        product: `product_name`.
    """
    for generation, products, capability in _CAPABILITIES:
        if re.search(generation, architecture) and re.search(products, product):
            return capability
    return ""


def parse_topology(text: str) -> dict[str, str]:
    """Links between GPUs, as `GpuFacts.links` holds them, of `nvidia-smi topo -m`.

    Raises:
        DeployError: there is no matrix in it, or the matrix is not whole.
    """
    # The header is underlined by ANSI escapes.
    rows = [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in text.splitlines()]
    header = next((row for row in rows if row[:1] == ["GPU0"] and row[1:2] != ["X"]), None)
    if header is None:
        raise DeployError("nvidia-smi topo -m: it shows no matrix", _FIX)
    columns = [name for name in header if re.fullmatch(r"GPU[0-9]{1,4}", name)]
    cells = {row[0]: row[1 : len(columns) + 1] for row in rows if row and row[0] in columns and row is not header}
    links = {}
    for a, row in enumerate(columns):
        for b, column in enumerate(columns[a + 1 :], a + 1):
            link = cells[row][b] if len(cells.get(row, ())) == len(columns) else ""
            if not re.fullmatch(r"NV[0-9]{1,3}|[A-Z]{2,4}", link):
                raise DeployError(f"nvidia-smi topo -m: between {row} and {column} it says {_clipped(link)!r}", _FIX)
            links[f"{row[3:]}-{column[3:]}"] = link
    return links


def parse_xids(kernel_log_lines: Iterable[str], ignored: Iterable[int] = APPLICATION_XIDS) -> dict[str, list[str]]:
    """The driver's error reports by GPU: one line for people for each Xid code, the newest last.

    Args:
        kernel_log_lines: oldest first.
        ignored: Xid codes that are left out.

    Returns:
        Lists keyed by the GPU's PCI address, as `Gpu.pci` has it.
    """
    skipped = frozenset(ignored)
    counts: dict[str, dict[int, tuple[int, str]]] = {}
    for line in kernel_log_lines:
        # A MIG device adds its instances: (PCI:0000:3b:00 GPU-I:01 GPU-CI:02). Old drivers leave out "PCI:".
        match = re.search(r"NVRM: Xid \((?:PCI:)?([0-9A-Fa-f:.]+)[^)]{0,80}\): ([0-9]{1,5})(?:,\s*(.*))?", line)
        address = normal_pci(match.group(1)) if match else ""
        if not match or not address or int(match.group(2)) in skipped:
            continue
        code = int(match.group(2))
        said = re.sub(r"^(pid=[^,]*,\s*)?(name=[^,]*,\s*)?", "", match.group(3) or "").strip(" .")
        of_gpu = counts.setdefault(address, {})
        count, _ = of_gpu.pop(code, (0, ""))
        of_gpu[code] = count + 1, _clipped(said)
    return {
        address: [
            f"Xid {code}{f' ({count} times)' if count > 1 else ''}{f': {said}' if said else ''}"
            for code, (count, said) in of_gpu.items()
        ]
        for address, of_gpu in counts.items()
    }


def normal_pci(address: str) -> str:
    """A PCI address as /sys/bus/pci/devices has it: 0000:3b:00.0 for 00000000:3B:00.0 and 0000:3b:00.

    Returns:
        '' when it is no PCI address.
    """
    match = re.fullmatch(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})(?:\.([0-7]))?", address.strip().lower())
    if match is None:
        return ""
    domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


_FIX = "run it on that host: when it looks in order there, report it with the driver's version"


def _tree(xml: str) -> Element:
    # ElementTree's own parser expands entities, exponentially if told to. Expat says so beforehand: documents of
    # nvidia-smi declare none. Their DOCTYPE only names a file, which expat does not open.
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = parser.SkippedEntityHandler = _refuse_entity
    try:
        parser.Parse(xml.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise DeployError(f"nvidia-smi -q -x: it is no XML: {error}", _FIX, _clipped(xml)) from None
    tree: Element = builder.close()
    return tree


def _refuse_entity(name: str, *_: object) -> None:
    raise DeployError(f"nvidia-smi -q -x: it has the XML entity {_clipped(name)!r}, which it never does", _FIX)


def _gpu(index: int, element: Element) -> Gpu:
    address = element.get("id") or _value(element, "pci/pci_bus_id") or ""
    pci = normal_pci(address)
    if not pci:
        raise _malformed(f"GPU {index}", "its PCI address", address)
    where = f"GPU {index} at {pci}"
    product = _required(element, "product_name", where)
    uuid = _required(element, "uuid", where)
    if not re.fullmatch(r"GPU-[0-9A-Za-z-]+", uuid):
        raise _malformed(where, "uuid", uuid)
    mode = _value(element, "mig_mode/current_mig")
    if mode is not None and not _is_value(mode, "Enabled|Disabled"):
        raise _malformed(where, "current_mig", mode)
    return Gpu(
        index=index,
        uuid=uuid,
        product="" if _is_absent(product) else product,
        memory_total=_size(element, "fb_memory_usage/total", where),
        # Before driver 510 it was counted as used.
        memory_reserved=_size(element, "fb_memory_usage/reserved", where, default=0),
        memory_used=_size(element, "fb_memory_usage/used", where),
        memory_free=_size(element, "fb_memory_usage/free", where),
        compute_capability=capability_of(_value(element, "product_architecture") or "", product),
        mig=mode == "Enabled",
        mig_devices=len(element.findall("mig_devices/mig_device")),
        trouble=tuple(_trouble(element, where)),
        processes=_processes(element, where),
        pci=pci,
        minor=_number(element, "minor_number", where),
    )


def _trouble(element: Element, where: str) -> list[str]:
    lines = [
        f"uncorrectable ECC errors since the driver was loaded: {count} ({memory})"
        for field, memory in _COUNTERS.items()
        if (count := _number(element, f"ecc_errors/volatile/{field}", where))
    ]
    for field, line in _FLAGS.items():
        value = _value(element, field) or "No"
        if value != "No" and not _is_absent(value):
            # Some word of a driver to come is no reason to read nothing.
            lines.append(line if value == "Yes" else f"{field.rpartition('/')[2]} is {_clipped(value)!r}")
    fabric = _value(element, "fabric/state") or "None"
    if fabric != "Completed" and not _is_absent(fabric):
        # CUDA does not start on such a host (error 802, "system not yet initialized").
        lines.append(f"the NVLink fabric is {_clipped(fabric)!r}: start nvidia-fabricmanager")
    action = _value(element, "gpu_recovery_action") or "None"
    if not _is_absent(action):
        lines.append(f"the driver asks for: {_clipped(action)}")
    texts = {(part.text or "").strip(" []\t\n").lower() for part in element.iter()}
    lines += [f"the driver says: {state}" for state in _LOST if state in texts]
    return list(dict.fromkeys(lines))


def _processes(element: Element, where: str) -> tuple[GpuProcess, ...]:
    found: dict[int, GpuProcess] = {}
    for info in element.iterfind("processes/process_info"):
        kind = _required(info, "type", where)
        if not _is_value(kind, r"[A-Z](\+[A-Z])*"):
            raise _malformed(where, "the type of a process", kind)
        if "C" not in kind.split("+") and not _is_absent(kind):
            continue  # a display server or the like
        pid = _number(info, "pid", where)
        if not pid:
            raise _malformed(where, "the pid of a process", _value(info, "pid"))
        name = _value(info, "process_name") or ""
        command = "" if _is_absent(name) else short_command(name.split())
        memory = _size(info, "used_memory", where, default=0)
        # In MIG mode a process is listed once for each instance that it uses.
        memory += found[pid].memory if pid in found else 0
        found[pid] = GpuProcess(pid, "", command, memory)
    return tuple(found.values())


def _value(element: Element, path: str) -> str | None:
    """The text of an element, on one line; None when it is not there or empty."""
    return " ".join((element.findtext(path) or "").split()) or None


def _required(element: Element, path: str, where: str) -> str:
    value = _value(element, path)
    if value is None:
        raise _malformed(where, path, None)
    return value


def _is_absent(value: str) -> bool:
    return value.strip("[]").lower() in _NO_VALUE


def _is_value(value: str, pattern: str) -> bool:
    return _is_absent(value) or re.fullmatch(pattern, value) is not None


def _number(element: Element, path: str, where: str) -> int | None:
    """A whole number; None where there is no value."""
    value = _value(element, path)
    if value is None or _is_absent(value):
        return None
    if not re.fullmatch("[0-9]{1,18}", value):
        raise _malformed(where, path, value)
    return int(value)


def _size(element: Element, path: str, where: str, default: int | None = None) -> int:
    """A size in bytes; 0 where there is no value. Without a default the element has to be there."""
    value = _value(element, path)
    if value is None and default is not None:
        return default
    if value is not None and _is_absent(value):
        return 0
    match = re.fullmatch("([0-9]{1,15}) ?([KMG]?i?B)", value or "")
    if match is None or match.group(2) not in _UNITS:
        raise _malformed(where, path, value)
    return int(match.group(1)) * _UNITS[match.group(2)]


def _version(element: Element, path: str, where: str) -> str:
    value = _value(element, path)
    if value is None or _is_absent(value):
        return ""
    if not re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,30}", value):
        raise _malformed(where, path, value)
    return value


def _clipped(text: str, length: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _malformed(where: str, field: str, value: str | None) -> DeployError:
    seen = "is missing" if value is None else f"is {_clipped(value)!r}"
    return DeployError(f"nvidia-smi -q -x: of {where}, {field} {seen}", _FIX)
