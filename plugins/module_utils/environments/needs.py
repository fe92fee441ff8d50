"""What an environment needs of a host: glibc and CUDA, told from the names and versions of its packages.

Standard library only, Python 3.9+: hosts read it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LEGACY_TAGS = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}  # PEP 600
_TAG = re.compile(r"(manylinux(?:1|2010|2014))_x86_64|manylinux_(\d+)_(\d+)_x86_64")


def needed_glibc(tags: Iterable[str]) -> str:
    """The glibc that a set of wheels needs: of each wheel the lowest that its tags offer, of all the highest.

    Args:
        tags: the platform tags of each wheel, in one text a wheel.
    """
    return highest_version(".".join(map(str, min(found))) for text in tags if (found := glibc_versions(text)))


def glibc_versions(text: str) -> list[tuple[int, int]]:
    """The glibc versions that the platform tags in a text stand for."""
    found = _TAG.finditer(text)
    return [LEGACY_TAGS[m.group(1)] if m.group(1) else (int(m.group(2)), int(m.group(3))) for m in found]


def highest_version(versions: Iterable[str]) -> str:
    """The highest of versions like `2.34`; '' when there is none."""
    return max((v for v in versions if v), key=lambda v: [int(n) for n in re.findall(r"\d+", v)], default="")


def cuda_runtime(versions: Mapping[str, str]) -> str:
    """The CUDA version that an environment brings, `12.8`: its runtime package's, else the one in torch's version."""
    for package in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12"):
        if package in versions:
            return ".".join(versions[package].split(".")[:2])
    local = re.search(r"\+cu(\d{2})(\d)$", versions.get("torch", ""))
    return f"{local.group(1)}.{local.group(2)}" if local else ""
