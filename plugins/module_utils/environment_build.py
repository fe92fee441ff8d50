"""Build a locked environment on a host, from a bundle alone: no network, no conda, no root needed.

py-rattler installs the conda packages, uv the wheels; both come with the bundle. Nothing of the build is visible until
`environment.json` is written, which is the last thing that happens.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environment import (
    EnvironmentFacts,
    inspect_prefix,
    installed_packages,
    interpreter_version,
    load_environment,
    record_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environment_lock import (
    INSTALLERS,
    REQUIREMENTS_LOCK,
    Lock,
    bundle_problems,
    damaged_files,
    load_lock,
    normalize_version,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock

Log = Callable[[str], None]

UNFINISHED = ".building"
# What every engine needs from the interpreter itself; a shared library that the host lacks shows here.
BASIC_IMPORTS = "bz2, ctypes, hashlib, json, lzma, sqlite3, ssl, zlib"
# Byte code beside the sources, measured: 1.2 times the size of the unpacked wheels of both engines is enough.
BYTECODE_FACTOR = 1.25
CONDA_FACTOR = 6

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
missing = [path for path in job["packages"] if path not in records]
if missing:
    sys.exit("repodata.json does not list " + ", ".join(missing))
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


def build_environment(
    bundle: str | Path, prefix: str | Path, digest: str, log: Log = lambda line: None, name: str = ""
) -> EnvironmentFacts:
    """Build the environment that `bundle` locks at `prefix`, its final path; does nothing when it is there already.

    A build that was interrupted is removed and made again. Two builds of one prefix wait for each other.
    The result is readable by every user of the host.

    Args:
        bundle: folder made by `deployer.bundle.make_bundle`.
        prefix: where the environment is to live; its parent folder is made when missing.
        digest: digest of the lock that is wanted, as `lock_digest` gives it.
        log: called with one line per step, and with the lines of the installers.
        name: the environment's name, for the record.

    Returns:
        Facts of the environment, as `load_environment(prefix)` gives them from now on.

    Raises:
        DeployError: the bundle is another lock's, incomplete or damaged; no room; something else is at `prefix`; an
            installer failed; the result is not what the lock names.
    """
    bundle, prefix = Path(bundle).absolute(), Path(prefix).absolute()
    with _os_errors_explained(prefix.parent), _exclusive(prefix, log) as lock_fd:
        if (finished := load_environment(prefix)) is not None:
            if finished.digest != digest:
                raise DeployError(
                    f"{prefix} holds environment {finished.digest[:12]}, wanted {digest[:12]}",
                    fix="build at another path: a finished environment is never changed",
                )
            return finished
        lock = _checked_lock(bundle, digest, log)
        work = _fresh_workspace(prefix)
        try:
            _check_room(bundle, lock, prefix.parent)
            tools = _Tools(work, lock_fd, log)
            _install_conda(tools, bundle, lock, prefix)
            python = interpreter_version(prefix, BASIC_IMPORTS)
            before = installed_packages(prefix, python)
            _install_wheels(tools, bundle, lock, prefix)
            facts = replace(inspect_prefix(prefix), digest=digest, name=name)
            _check_packages(facts, lock, before)
            _open_to_all(prefix)
            record_environment(facts, datetime.now(timezone.utc).isoformat(timespec="seconds"))
            (prefix / UNFINISHED).unlink()
        except BaseException:
            # Half an environment is of no use, and may be what fills the disk.
            if load_environment(prefix) is None:
                shutil.rmtree(prefix, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    log(f"environment ready: python {facts.python}, {len(facts.packages)} packages")
    return facts


def installed_bytes(bundle: str | Path) -> int:
    """Upper estimate of what the environment of a complete bundle takes on disk, in bytes."""
    bundle = Path(bundle)
    lock = load_lock(bundle)
    wanted = {(wheel.name, wheel.version) for wheel in lock.wheels}
    unpacked = 0
    for path in bundle.glob("wheels/*.whl"):
        if wheel_identity(path.name) in wanted:
            with zipfile.ZipFile(path) as wheel:
                unpacked += sum(entry.file_size for entry in wheel.infolist())
    packed = sum((bundle / package.path).stat().st_size for package in lock.conda)
    return int(unpacked * BYTECODE_FACTOR + packed * CONDA_FACTOR)


@dataclass(frozen=True)
class _Tools:
    """Runs the installers in a workspace beside the prefix, with nothing of the caller's environment."""

    work: Path
    lock_fd: int
    log: Log

    def run(self, argv: Sequence[str], failed: str) -> None:
        """Run a command, passing its lines on.

        Raises:
            DeployError: `failed`, with the last lines, when it exits with another code than 0.
        """
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.work), "TMPDIR": str(self.work), "LC_ALL": "C.UTF-8"}
        lines: list[str] = []
        # The lock goes down to the installers: one that outlives a killed build still keeps the next build waiting.
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            cwd=self.work,
            umask=0o022,
            pass_fds=(self.lock_fd,),
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
            raise DeployError(f"{failed} (exit {process.returncode})", fix="the last lines below say why", detail=said)


def _checked_lock(bundle: Path, digest: str, log: Log) -> Lock:
    lock = load_lock(bundle)
    remake = "make the bundle again on the controller"
    if lock.digest != digest:
        raise DeployError(f"{bundle} is the bundle of lock {lock.digest[:12]}, wanted {digest[:12]}", fix=remake)
    if problems := bundle_problems(bundle):
        raise DeployError(f"{bundle} is incomplete: {problems[0]}", fix=remake, detail="\n".join(problems[1:]))
    log(f"checking {len(lock.conda)} conda packages and {len(lock.wheels)} wheels against the lock")
    if damaged := damaged_files(bundle):
        raise DeployError(f"{bundle} is damaged: {damaged[0]}", fix=remake, detail="\n".join(damaged[1:]))
    if not lock.python_version:
        raise DeployError(f"{bundle} locks no python", fix="add python to the conda lock")
    return lock


def _workspace(prefix: Path) -> Path:
    return prefix.parent / f".{prefix.name}.build"


def _fresh_workspace(prefix: Path) -> Path:
    """An empty workspace and an empty prefix that is marked as unfinished; what an interrupted build left is removed.

    Raises:
        DeployError: something that no build of ours made is at `prefix`.
    """
    work = _workspace(prefix)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o755)
    if os.path.lexists(prefix):
        ours = (prefix / UNFINISHED).is_file() or (prefix.is_dir() and not any(prefix.iterdir()))
        if not ours:
            raise DeployError(
                f"{prefix} exists and is no environment of the deployer's",
                fix="move it away, or use it as it is with `prefix:` in inference_environments",
            )
        prefix.rename(work / "leftover")
        shutil.rmtree(work / "leftover")
    # Marked before it gets its name: there is no moment at which a leftover could not be told from a user's folder.
    (work / "prefix").mkdir(mode=0o755)
    (work / "prefix" / UNFINISHED).touch()
    (work / "prefix").rename(prefix)
    return work


def _check_room(bundle: Path, lock: Lock, folder: Path) -> None:
    needed, free = installed_bytes(bundle), shutil.disk_usage(folder).free
    if free < needed:
        raise DeployError(
            f"{folder} has {free / 1e9:.1f} GB free, the environment needs {needed / 1e9:.1f} GB",
            fix="free some space, or put the root of the deployment on a larger disk",
            detail=f"{len(lock.conda)} conda packages and {len(lock.wheels)} wheels",
        )


def _install_conda(tools: _Tools, bundle: Path, lock: Lock, prefix: Path) -> None:
    tools.log(f"installing python {lock.python_version}: {len(lock.conda)} conda packages")
    library = tools.work / "py-rattler"
    with zipfile.ZipFile(_installer(bundle, "py-rattler")) as wheel:
        wheel.extractall(library)
    job = {
        "library": str(library),
        "channel": str(bundle / "conda"),
        "subdirs": sorted({package.subdir for package in lock.conda}),
        "packages": [f"{package.subdir}/{package.file_name}" for package in lock.conda],
        "prefix": str(prefix),
        "cache": str(tools.work / "conda-cache"),
    }
    job_file = tools.work / "conda.json"
    job_file.write_text(json.dumps(job), encoding="utf-8")
    tools.run(
        [sys.executable, "-I", "-c", INSTALL_CONDA, str(job_file)],
        f"py-rattler could not install the conda packages into {prefix}",
    )


def _install_wheels(tools: _Tools, bundle: Path, lock: Lock, prefix: Path) -> None:
    python = str(prefix / "bin" / "python")
    version = ".".join(lock.python_version.split(".")[:2])
    stdlib = str(prefix / "lib" / f"python{version}")
    # A service user cannot write byte code later: what conda packages did not bring compiled is compiled now.
    tools.run(
        [python, "-I", "-m", "compileall", "-q", "-j", "0", "-x", "site-packages", stdlib],
        f"the standard library of {prefix} could not be compiled",
    )
    if not lock.wheels:
        return
    tools.log(f"installing {len(lock.wheels)} wheels")
    uv = tools.work / "uv"
    with zipfile.ZipFile(_installer(bundle, "uv")) as wheel:
        member = next(entry for entry in wheel.namelist() if entry.endswith(".data/scripts/uv"))
        with wheel.open(member) as source, uv.open("wb") as target:
            shutil.copyfileobj(source, target)
    uv.chmod(0o755)
    options = ["--offline", "--no-config", "--no-python-downloads", "--no-progress", "--color", "never"]
    exactly = ["--no-deps", "--no-index", "--no-build", "--require-hashes", "--compile-bytecode"]
    tools.run(
        [
            str(uv), "pip", "install", *options, *exactly,
            "--python", python,
            "--cache-dir", str(tools.work / "uv-cache"),
            "--find-links", str(bundle / "wheels"),
            "--requirements", str(bundle / REQUIREMENTS_LOCK),
        ],
        f"uv could not install the wheels into {prefix}",
    )  # fmt: skip


def _installer(bundle: Path, name: str) -> Path:
    wanted = next((tool.name, tool.version) for tool in INSTALLERS if tool.name == name)
    return next(path for path in sorted(bundle.glob("installer/*.whl")) if wheel_identity(path.name) == wanted)


def package_differences(installed: Mapping[str, str], lock: Lock, from_conda: Mapping[str, str]) -> list[str]:
    """How installed packages differ from the lock, one line each; `from_conda` were there before the wheels."""
    wanted = {wheel.name: wheel.version for wheel in lock.wheels}
    wrong = [
        f"{name}: wanted {version}, got {installed.get(name, 'nothing')}"
        for name, version in wanted.items()
        if normalize_version(installed.get(name, "")) != version
    ]
    return wrong + [f"{name}: not locked" for name in installed if name not in wanted and name not in from_conda]


def _check_packages(facts: EnvironmentFacts, lock: Lock, from_conda: Mapping[str, str]) -> None:
    differences = package_differences(facts.packages, lock, from_conda)
    if normalize_version(facts.python) != normalize_version(lock.python_version):
        differences.insert(0, f"python: wanted {lock.python_version}, got {facts.python}")
    if differences:
        raise DeployError(
            f"{facts.prefix} is not what the lock names: {differences[0]}",
            fix="check the lock: a wheel's own metadata may state another version than its file name",
            detail="\n".join(differences[1:]),
        )


def _open_to_all(prefix: Path) -> None:
    """Readable for every user, whatever the archives or the umask said: the service may run as another user."""
    for folder, _, files in os.walk(prefix):
        for path in (Path(folder), *(Path(folder, file) for file in files)):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            executable = stat.S_ISDIR(mode) or mode & stat.S_IXUSR
            wanted = stat.S_IMODE(mode) & ~0o022 | (0o755 if executable else 0o644)
            if wanted != stat.S_IMODE(mode):
                path.chmod(wanted)


def _make_folders(folder: Path) -> None:
    """`mkdir -p` with mode 0755, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


@contextmanager
def _exclusive(prefix: Path, log: Log) -> Iterator[int]:
    """Hold the build lock of `prefix`; yields its file descriptor. Waits while another build holds it."""
    _make_folders(prefix.parent)
    path = prefix.parent / f".{prefix.name}.lock"
    with exclusive_lock(str(path), on_wait=lambda: log(f"another build of {prefix} is under way: waiting")) as fd:
        yield fd


@contextmanager
def _os_errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DeployError(
                f"disk full under {folder} while the environment was built: "
                f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free",
                fix="free some space and run again: it starts over by itself",
            ) from error
        raise DeployError(
            f"{error.filename or folder}: {error.strerror} while the environment was built",
            fix=f"make {folder} writable for the user that the deployment runs as",
        ) from error
