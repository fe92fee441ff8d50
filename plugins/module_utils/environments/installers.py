"""The programs that build an environment: py-rattler and uv, which the bundle brings, or a conda that the host has.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    INSTALLERS,
    REQUIREMENTS_LOCK,
    Lock,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Log = Callable[[str], None]

RATTLER = "rattler"
# Backends that the host has to have; where they lie if they are not on the PATH of the user who logs in.
CONDAS = ("conda", "mamba", "micromamba")
BACKENDS = (RATTLER, *CONDAS)
HOMES = ("~", "/opt", "/usr/local")
SEARCHED = f"neither on the PATH nor under {', '.join(HOMES)}"
BRING_BACKEND = "install {} there, or remove `backend` from the environment: py-rattler comes with the bundle"
DISTRIBUTIONS = ("conda", "miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba")

# Runs under the host's python, which knows nothing but the standard library and the unpacked py-rattler.
# It leaves by os._exit: py-rattler's threads may still run when the interpreter shuts down, and crashed 12 of 30 exits.
INSTALL_CONDA = """
import asyncio, json, os, sys
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())
sys.path.insert(0, job["library"])
from rattler import Channel, RepoData, install

channel = Channel(Path(job["channel"]).as_uri())
records = {}
for subdir in job["subdirs"]:
    for record in RepoData.from_path(str(Path(job["channel"], subdir, "repodata.json"))).into_repo_data(channel):
        records[subdir + "/" + record.file_name] = record
for path, sha256 in job["packages"].items():
    if path not in records:
        sys.exit("repodata.json does not list " + path)
    # What repodata.json says is what would be fetched and installed: it has to be the locked file of this bundle.
    record, place = records[path], job["channel"] + "/" + path
    if record.sha256.hex() != sha256 or record.url != Path(place).as_uri():
        sys.exit("repodata.json has another file for " + path + " than the lock")
asyncio.run(
    install(
        [records[path] for path in job["packages"]],
        target_prefix=job["prefix"],
        cache_dir=Path(job["cache"]),
        installed_packages=[],
        show_progress=False,
    )
)
os._exit(0)
"""

# Runs under the environment's own python, as root where root builds: with -S, so that no .pth file of a wheel does.
# compileall hands every file to a worker by itself to see whether it has to be compiled, which takes five times as long
# as seeing it here.
COMPILE = """
import importlib.util, os, py_compile, sys
from concurrent.futures import ProcessPoolExecutor

def stale(path):
    found = os.stat(path)
    wanted = importlib.util.MAGIC_NUMBER + bytes(4)
    wanted += b"".join((int(n) & 0xFFFFFFFF).to_bytes(4, "little") for n in (found.st_mtime, found.st_size))
    try:
        with open(importlib.util.cache_from_source(path), "rb") as stream:
            return stream.read(16) != wanted
    except FileNotFoundError:
        return True

def compile_file(path):
    try:
        py_compile.compile(path, doraise=True)
    except Exception:
        pass  # a template, or a test of what is no Python of this version

if __name__ == "__main__":
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(sys.argv[1]) for name in names)
    todo = [path for path in paths if path.endswith(".py") and stale(path)]
    if todo:
        with ProcessPoolExecutor() as pool:
            list(pool.map(compile_file, todo, chunksize=16))
"""


@dataclass(frozen=True)
class Backend:
    """What installs the conda packages.

    Args:
        name: one of BACKENDS.
        executable: path of the host's conda; '' for py-rattler, which the bundle brings.
    """

    name: str = RATTLER
    executable: str = ""


def find_condas(path: str | None = None) -> dict[str, str]:
    """The backends that this host has by itself -> path of the program.

    Args:
        path: what PATH holds; None for that of the process.
    """
    usual = [
        os.path.join(home, folder, sub) for home in HOMES for folder in DISTRIBUTIONS for sub in ("bin", "condabin")
    ]
    searched = os.pathsep.join(
        [path if path is not None else os.environ.get("PATH", ""), *map(os.path.expanduser, usual)]
    )
    return {name: found for name in CONDAS if (found := shutil.which(name, path=searched)) is not None}


def find_backend(name: str) -> Backend:
    """The backend that the inventory asks for, as this host has it.

    Args:
        name: one of BACKENDS.

    Raises:
        DeployError: this host has no such program.
    """
    if name == RATTLER:
        return Backend()
    executable = find_condas().get(name)
    if executable is None:
        raise DeployError(f"backend {name}: this host has no {name}, {SEARCHED}", fix=BRING_BACKEND.format(name))
    return Backend(name, executable)


@dataclass(frozen=True)
class Tools:
    """Runs the installers in a workspace beside the prefix, with nothing of the caller's environment.

    Args:
        work: an empty folder for what they leave behind; HOME and TMPDIR are there.
        locks: descriptors of the build's locks, which go down to the installers: one that outlives a killed build
            still keeps the next build waiting.
        log: called with each of their lines.
    """

    work: Path
    locks: tuple[int, ...]
    log: Log = field(repr=False)

    def run(self, argv: Sequence[str], failed: str, variables: Mapping[str, str] | None = None, fix: str = "") -> None:
        """Run a command, passing its lines on.

        Raises:
            DeployError: `failed`, with the last lines, when it exits with another code than 0.
        """
        home = {"PATH": "/usr/bin:/bin", "HOME": str(self.work), "TMPDIR": str(self.work), "LC_ALL": "C.UTF-8"}
        lines: list[str] = []
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**home, **(variables or {})},
            cwd=self.work,
            umask=0o022,
            pass_fds=self.locks,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                # uv lists every package that it installed; the record has them.
                if not line.startswith(" + "):
                    self.log(lines[-1])
        if process.returncode != 0:
            said = "\n".join(lines[-20:])
            if os.strerror(errno.ENOSPC) in said:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise DeployError(
                f"{failed} (exit {process.returncode})", fix=fix or "the last lines below say why", detail=said
            )


def install_conda_packages(tools: Tools, backend: Backend, bundle: Path, lock: Lock, prefix: Path, cache: Path) -> None:
    """Install the lock's conda packages from the bundle into `prefix`, which exists and is empty but for our marker.

    Args:
        cache: folder for unpacked packages, on the file system of `prefix`; the next environment links from there.

    Raises:
        DeployError: the installer failed.
    """
    tools.log(f"installing python {lock.python_version}: {len(lock.conda)} conda packages by {backend.name}")
    if backend.name == RATTLER:
        _install_by_rattler(tools, bundle, lock, prefix, cache)
    else:
        _install_by_conda(tools, backend, bundle, lock, prefix, cache)


def _install_by_rattler(tools: Tools, bundle: Path, lock: Lock, prefix: Path, cache: Path) -> None:
    library = tools.work / "py-rattler"
    if not library.exists():
        with zipfile.ZipFile(_installer(bundle, "py-rattler")) as wheel:
            wheel.extractall(library)
    job = {
        "library": str(library),
        "channel": str(bundle / "conda"),
        "subdirs": sorted({package.subdir for package in lock.conda}),
        "packages": {f"{package.subdir}/{package.file_name}": package.sha256 for package in lock.conda},
        "prefix": str(prefix),
        "cache": str(cache),
    }
    job_file = tools.work / "conda.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    tools.run(
        [sys.executable, "-I", "-c", INSTALL_CONDA, str(job_file)],
        f"py-rattler could not install the conda packages into {prefix}",
    )


def _install_by_conda(tools: Tools, backend: Backend, bundle: Path, lock: Lock, prefix: Path, cache: Path) -> None:
    explicit = tools.work / "explicit.txt"
    lines = [f"{(bundle / package.path).as_uri()}#sha256:{package.sha256}" for package in lock.conda]
    explicit.write_text("\n".join(["@EXPLICIT", *lines, ""]), encoding="utf-8")
    # Both take a folder with this file for an environment, and install into it; `create` would remove what is there.
    (prefix / "conda-meta").mkdir(exist_ok=True)
    (prefix / "conda-meta" / "history").touch()
    # Their settings are the host's users': a default package in one would be one more than the lock has.
    settings = {
        "CONDA_PKGS_DIRS": str(cache),
        "CONDA_ENVS_DIRS": str(tools.work / "envs"),
        "CONDA_REGISTER_ENVS": "false",
        "MAMBA_NO_RC": "true",
        "MAMBA_ROOT_PREFIX": str(tools.work / "mamba"),
    }
    tools.run(
        [backend.executable, "install", "--yes", "--offline", "--prefix", str(prefix), "--file", str(explicit)],
        f"{backend.executable} could not install the conda packages into {prefix}",
        settings,
        fix=f"see {backend.name} on this host; or remove `backend` from the environment: py-rattler needs no conda",
    )


def compile_bytecode(tools: Tools, prefix: Path, python: str) -> None:
    """Compile what neither the conda packages nor the bundle brought compiled: a service's user cannot write it later.

    Sources that are no Python of this version, templates and tests of packages, are left alone.

    Args:
        python: version of the interpreter in `prefix`.

    Raises:
        DeployError: the interpreter died.
    """
    library = str(prefix / "lib" / f"python{'.'.join(python.split('.')[:2])}")
    tools.run([str(prefix / "bin" / "python"), "-I", "-S", "-c", COMPILE, library], f"{library} could not be compiled")


def install_wheels(tools: Tools, bundle: Path, prefix: Path, caches: Caches) -> None:
    """Install the lock's wheels from the bundle, linked from uv's cache where that is on the same file system.

    Args:
        caches: which this build has alone.

    Raises:
        DeployError: uv failed, a wheel with another sha256 than the lock's included.
    """
    uv = tools.work / "uv"
    if not uv.exists():
        with zipfile.ZipFile(_installer(bundle, "uv")) as wheel:
            member = next(entry for entry in wheel.namelist() if entry.endswith(".data/scripts/uv"))
            with wheel.open(member) as source, uv.open("wb") as target:
                shutil.copyfileobj(source, target)
        uv.chmod(0o755)
    options = ["--offline", "--no-config", "--no-python-downloads", "--no-progress", "--color", "never"]
    exactly = ["--no-deps", "--no-index", "--no-build", "--require-hashes"]
    caches.wheels.mkdir(mode=0o700, parents=True, exist_ok=True)
    with caches.wheelhouse(bundle.glob("wheels/*.whl")) as wheels:
        tools.run(
            [
                str(uv), "pip", "install", *options, *exactly,
                # Not a clone, where the file system has them: byte code is shared with what is the same file.
                "--link-mode", "hardlink",
                "--python", str(prefix / "bin" / "python"),
                "--cache-dir", str(caches.wheels),
                "--find-links", str(wheels),
                "--requirements", str(bundle / REQUIREMENTS_LOCK),
            ],
            f"uv could not install the wheels into {prefix}",
        )  # fmt: skip
    # uv makes its locks writable for everyone, so that users can share a cache. This one is not shared.
    for bucket in caches.wheels.iterdir():
        if not bucket.name.startswith("archive-"):  # there is what environments link to
            for lock in [bucket, *bucket.rglob("*")] if bucket.is_dir() else [bucket]:
                if lock.suffix == ".lock" or lock.name == ".lock":
                    lock.chmod(0o600)


def _installer(bundle: Path, name: str) -> Path:
    wanted = next((tool.name, tool.version) for tool in INSTALLERS if tool.name == name)
    return next(path for path in sorted(bundle.glob("installer/*.whl")) if wheel_identity(path.name) == wanted)
