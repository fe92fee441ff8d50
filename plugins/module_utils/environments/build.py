"""Build a locked environment on a host, from a bundle alone: no network, no conda, no root needed.

Nothing of the build is visible until `environment.json` is written, which is the last thing that happens; before that,
every file that was installed has been compared with what its package recorded of it.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.bytecode import (
    ARCHIVE,
    drop_shared_bytecode,
    share_bytecode,
    unpack_bytecode,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    UNFINISHED,
    EnvironmentFacts,
    inspect_prefix,
    installed_packages,
    interpreter_version,
    load_environment,
    record_environment,
    site_packages,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import (
    RATTLER,
    Backend,
    Log,
    Tools,
    compile_bytecode,
    find_backend,
    install_conda_packages,
    install_wheels,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    Lock,
    bundle_problems,
    damaged_files,
    load_lock,
    normalize_version,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.place import (
    exclusive,
    fresh_prefix,
    is_recorded,
    put_aside,
    tidy,
    workspace,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.proof import prove
from ansible_collections.deployer.sglang.plugins.module_utils.environments.verify import (
    Content,
    read_content,
    recorded_differences,
    write_listing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    nearest,
    sync_filesystem,
)

# What every engine needs from the interpreter itself; a shared library that the host lacks shows here.
BASIC_IMPORTS = "bz2, ctypes, hashlib, json, lzma, sqlite3, ssl, zlib"
# Byte code beside the sources, measured: 1.2 times the size of the unpacked wheels of both engines is enough.
BYTECODE_FACTOR = 1.25
CONDA_FACTOR = 6

# The content of a prefix, in which every file of a package is what the package recorded; what the engines' checks said.
Installed = tuple[Content, dict[str, str]]


class DoesNotWork(DeployError):
    """The environment is exactly what was locked, and does not work on this host."""


@dataclass(frozen=True)
class Order:
    """What is to be built where.

    Args:
        bundle: folder made by `deployer.environments.bundle.make_bundle`.
        prefix: where the environment is to live, its final path; its parent folder is made when missing.
        digest: digest of the lock that is wanted, as `lock_digest` gives it.
        name: the environment's name, for the record.
        backend: what installs the conda packages, one of BACKENDS.
        caches: what builds on this host share.
        rebuild: also where a finished environment is there; that one is put aside, and back when the build fails.
        log: called with one line per step, and with the lines of the installers.
    """

    bundle: Path
    prefix: Path
    digest: str
    name: str
    caches: Caches
    backend: str = RATTLER
    rebuild: bool = False
    log: Log = field(default=lambda line: None, repr=False)


def build_environment(order: Order) -> EnvironmentFacts:
    """Build an environment as ordered; does nothing when it is there already and no rebuild is asked for.

    A build that was interrupted is removed and made again. Two builds of one prefix wait for each other.
    The result is readable by every user of the host.

    Returns:
        Facts of the environment, as `load_environment(prefix)` gives them from now on.

    Raises:
        DeployError: the bundle is another lock's, incomplete or damaged; no room; something else is at the prefix, or
            the environment to rebuild is in use; an installer failed; the result is not what is locked, or fails.
    """
    prefix, log = order.prefix, order.log
    with (
        _os_errors_explained(prefix.parent),
        exclusive(prefix, lambda: log(f"another build of {prefix} is under way: waiting")) as lock_fd,
    ):
        tidy(prefix)
        if is_recorded(prefix) and not order.rebuild:
            finished = load_environment(prefix)
            assert finished is not None
            if finished.digest != order.digest:
                raise DeployError(
                    f"{prefix} holds environment {finished.digest[:12]}, wanted {order.digest[:12]}",
                    fix="build at another path: a finished environment is never changed",
                )
            return finished
        backend = find_backend(order.backend)
        lock = _checked_lock(order.bundle, order.digest, log)
        _check_room(order.bundle, lock, prefix.parent)
        with workspace(prefix) as work, put_aside(prefix, work):
            content, proof = _install_verified(order, work, lock_fd, backend, lock)
            facts = replace(inspect_prefix(prefix), digest=order.digest, name=order.name)
            facts = replace(facts, listing=write_listing(prefix, content))
            sync_filesystem(str(prefix))
            built_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
            record_environment(facts, built_at, backend.name, proof)
            (prefix / UNFINISHED).unlink()
    log(
        f"environment ready: python {facts.python}, {len(facts.packages)} packages, {len(content.files)} files verified"
    )
    return facts


def _install_verified(order: Order, work: Path, lock_fd: int, backend: Backend, lock: Lock) -> Installed:
    """Install by way of the host's caches; where these turn out to be damaged, without them."""
    if order.caches.filled():
        try:
            return _install(order, work, lock_fd, backend, lock, order.caches)
        except DoesNotWork:
            raise
        except DeployError as error:
            order.log(f"{error.problem}: discarding what is cached on this host, and once more")
        order.caches.discard()
    return _install(order, work, lock_fd, backend, lock, order.caches)


def _install(order: Order, work: Path, lock_fd: int, backend: Backend, lock: Lock, caches: Caches) -> Installed:
    prefix = order.prefix
    with caches.in_use(lambda: order.log("another environment is being built on this host: waiting")) as caches_fd:
        tools = Tools(work, (lock_fd, caches_fd), order.log)
        fresh_prefix(prefix, work)
        install_conda_packages(tools, backend, order.bundle, lock, prefix, caches.conda(backend.name))
        python = interpreter_version(prefix, BASIC_IMPORTS)
        before = installed_packages(prefix, python)
        packages = site_packages(prefix, python)
        if lock.wheels:
            order.log(f"installing {len(lock.wheels)} wheels")
            install_wheels(tools, order.bundle, prefix, caches)
            order.log("bringing byte code")
            if order.rebuild:
                drop_shared_bytecode(packages)  # a package's record does not say what its byte code was
            unpack_bytecode(order.bundle / ARCHIVE, packages)
        compile_bytecode(tools, prefix, python)
        facts = inspect_prefix(prefix)
        _check_packages(facts, lock, before)
        _open_to_all(prefix)
        order.log("comparing every file with what its package recorded, importing what the engines are started from")
        with ThreadPoolExecutor(1) as pool:
            proof = pool.submit(prove, prefix, facts.packages)
            content = read_content(prefix)
            # A changed file is the better reason where an import fails as well.
            _refuse_differences(prefix, content)
            try:
                said = proof.result()
            except DeployError as error:
                raise DoesNotWork(error.problem, error.fix, error.detail) from error
        share_bytecode(packages, caches.wheels)
    return content, said


def _refuse_differences(prefix: Path, content: Content) -> None:
    if wrong := recorded_differences(prefix, content):
        raise DeployError(
            f"{prefix}: {wrong[0]}",
            fix="see the host's disk and memory; the bundle itself was verified",
            detail="\n".join(map(str, wrong[1:20])),
        )


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


def package_differences(installed: Mapping[str, str], lock: Lock, from_conda: Mapping[str, str]) -> list[str]:
    """How installed packages differ from the lock, one line each; `from_conda` were there before the wheels."""
    wanted = {wheel.name: wheel.version for wheel in lock.wheels}
    wrong = [
        f"{name}: wanted {version}, got {installed.get(name, 'nothing')}"
        for name, version in wanted.items()
        if normalize_version(installed.get(name, "")) != version
    ]
    return wrong + [f"{name}: not locked" for name in installed if name not in wanted and name not in from_conda]


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


def _check_room(bundle: Path, lock: Lock, folder: Path) -> None:
    needed, free = installed_bytes(bundle), shutil.disk_usage(folder).free
    if free < needed:
        raise DeployError(
            f"{folder} has {free / 1e9:.1f} GB free, the environment needs {needed / 1e9:.1f} GB",
            fix="free some space (python -m deployer prune), or put the root of the deployment on a larger disk",
            detail=f"{len(lock.conda)} conda packages and {len(lock.wheels)} wheels",
        )


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


@contextmanager
def _os_errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DeployError(
                f"disk full under {folder} while the environment was built: "
                f"{shutil.disk_usage(nearest(str(folder))).free / 1e9:.1f} GB free",
                fix="free some space (python -m deployer prune) and run again: it starts over by itself",
            ) from error
        where = error.filename or folder
        if error.errno == errno.EROFS:
            raise DeployError(
                f"{where} is on a read-only file system",
                fix="mount it writable (a disk with errors is remounted read-only: see dmesg), or set inference_root",
            ) from error
        raise DeployError(
            f"{where}: {error.strerror} while the environment was built",
            fix=f"make {folder} writable for the user that the deployment runs as",
        ) from error
