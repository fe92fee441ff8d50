"""What nvidia-smi says, and how it is made fit to be kept: of this machine nothing but the kind of its GPUs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import parse_query

# Elements that name one GPU, board or machine, and what stands there afterwards: of the same form, and invented.
INVENTED = {
    "serial": "1000000000002",
    "pdi": "0x0000000000000002",
    "board_id": "0x1",
    "board_part_number": "000-00000-0000-000",
    "gpu_part_number": "0000-000-A0",
    "gpu_fru_part_number": "000-00000-0000-000",
    "chassis_serial_number": "0000000000000",
    "host_id": "1",
    "gpu_fabric_guid": "0x0000000000000002",
    "cluster_uuid": "00000000-0000-0000-0000-000000000000",
    "img_version": "G000.0000.00.00",  # it repeats the part number
}
UUID = r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def record(folder: Path, name: str, names: Mapping[str, str]) -> GpuFacts:
    """Keep what nvidia-smi says now as `NAME.xml`, made anonymous.

    Args:
        folder: to keep it in.
        name: of the file.
        names: as `without_names` takes them.
    Returns:
        What it said.
    """
    said = _nvidia_smi("-q", "-x")
    (folder / f"{name}.xml").write_text(without_names(anonymous(said), names), encoding="utf-8")
    return parse_query(said)


def record_topology(folder: Path, name: str) -> None:
    """Keep the matrix of links as `NAME.txt`."""
    (folder / f"{name}.txt").write_text(_nvidia_smi("topo", "-m"), encoding="utf-8")


def anonymous(document: str) -> str:
    """`nvidia-smi -q -x` without what tells one machine from another, as well-formed as it was.

    Each UUID gives way to one of its own, `supported_clocks` is cut to two of its several hundred lines; all else is as
    it came.
    """
    for number, one in enumerate(dict.fromkeys(re.findall(UUID, document)), 2):
        document = document.replace(one, f"GPU-{number:08d}-aaaa-bbbb-cccc-{number:012d}")
    for tag, invented in INVENTED.items():
        document = re.sub(rf"(<{tag}>)(?!N/A|\s*<)[^<]+(</{tag}>)", rf"\g<1>{invented}\g<2>", document)
    return re.sub(r"<supported_clocks>.*?</supported_clocks>", _two_clocks, document, flags=re.DOTALL)


def without_names(text: str, names: Mapping[str, str]) -> str:
    """A text with some names, such as of folders and of the machine, replaced; the longest first."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def _two_clocks(found: re.Match[str]) -> str:
    """The first memory clock with its first two graphics clocks."""
    lines = found.group().splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if "</supported_mem_clock>" in line), None)
    return found.group() if end is None else "".join([*lines[: min(5, end)], lines[end], lines[-1]])


def _nvidia_smi(*words: str) -> str:
    return subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, check=True, timeout=120).stdout
