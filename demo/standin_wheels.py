"""The lab stand-ins of `demo/standins` as real wheels, made by hand so that the same sources give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

SOURCES = Path(__file__).parent / "standins"
VERSION = "0.0.0"
WHEEL = "Wheel-Version: 1.0\nGenerator: sglang-deployer demo\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def distribution(standin: str) -> str:
    """Name of a stand-in's wheel, which says what it is."""
    return f"lab-standin-{standin.replace('_', '-')}"


def build_standin(standin: str, folder: Path) -> Path:
    """Build the wheel of `demo/standins/<standin>` into `folder`; returns its path.

    A folder with an `__init__.py` becomes a package of its own name; any other's files go to site-packages as they are.
    """
    source = SOURCES / standin
    inside = f"{standin}/" if (source / "__init__.py").is_file() else ""
    stem = f"{distribution(standin).replace('-', '_')}-{VERSION}"
    summary = f"Metadata-Version: 2.1\nName: {distribution(standin)}\nVersion: {VERSION}\n"
    files = {f"{inside}{path.name}": path.read_bytes() for path in sorted(source.glob("*.p*")) if path.is_file()}
    files |= {
        f"{stem}.dist-info/METADATA": f"{summary}Summary: Lab stand-in, for CPU environments only\n".encode(),
        f"{stem}.dist-info/WHEEL": WHEEL.encode(),
    }
    files[f"{stem}.dist-info/RECORD"] = record(files, f"{stem}.dist-info/RECORD").encode()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}-py3-none-any.whl"
    if target.is_file() and target.stat().st_mtime >= max(path.stat().st_mtime for path in source.iterdir()):
        return target
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.external_attr = 0o644 << 16
            wheel.writestr(entry, content)
    part.replace(target)
    return target


def record(files: dict[str, bytes], own_name: str) -> str:
    """The RECORD file of a wheel: a line per file with its hash and size, itself without."""
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own_name},,\n"])
