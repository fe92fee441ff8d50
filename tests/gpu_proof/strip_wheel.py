"""Copies a wheel without some of its files: `python -m tests.gpu_proof.strip_wheel WHEEL FOLDER PREFIX…`.

For hosts that reach no registry: sglang-kernel has 600 MB, of which a Hopper GPU with Triton's attention needs 17.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path


def strip_wheel(wheel: Path, folder: Path, prefixes: Sequence[str]) -> list[str]:
    """Copy `wheel` into `folder` without the members that begin with one of `prefixes`; its RECORD follows.

    Returns:
        What was left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(folder / wheel.name, "w", zipfile.ZIP_DEFLATED) as target:
        left_out = {name for name in source.namelist() if name.startswith(tuple(prefixes))}
        for member in source.infolist():
            if member.filename in left_out:
                continue
            content = source.read(member)
            if member.filename.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines(keepends=True)
                content = "".join(line for line in lines if line.rsplit(",", 2)[0].strip('"') not in left_out).encode()
            target.writestr(member, content, zipfile.ZIP_DEFLATED)
    return sorted(left_out)


if __name__ == "__main__":
    print("\n".join(strip_wheel(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
