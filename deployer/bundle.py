"""Bundles: everything that a host without network and without conda needs to build a locked environment.

The controller fetches each file once; the fleet gets the folder. Layout:

    bundle/
      bundle.json                            what is in it, written last
      conda-linux-64.lock  requirements.lock
      conda/linux-64/  conda/noarch/         a conda channel with its repodata.json
      wheels/
      installer/                             py-rattler and uv, which install the rest
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.environment_lock import (
    CONDA_LOCK,
    INSTALLERS,
    REQUIREMENTS_LOCK,
    SUBDIRS,
    CondaPackage,
    Lock,
    LockedWheel,
    bundle_problems,
    expected_files,
    load_lock,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file

Progress = Callable[[str], None]

STAMP = "bundle.json"
CONNECTIONS = 8
# Few enough that an interrupted run loses little, many enough that pip's own start does not count.
WHEELS_PER_DOWNLOAD = 12
# Lowest glibc first: of several wheels that the lock allows, the one that runs on the most hosts.
PLATFORMS = (
    "linux_x86_64",
    *("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"),
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 44)),
)

# In a process of its own that leaves by os._exit: py-rattler's threads may still run when the interpreter shuts down,
# and crashed 6 of 30 exits.
INDEX_CHANNEL = """
import asyncio, os, sys
from pathlib import Path
from rattler.index import index_fs

asyncio.run(index_fs(Path(sys.argv[1]), write_zst=False, write_shards=False, force=True))
os._exit(0)
"""


def make_bundle(
    lock: Path, bundle: Path, *, wheel_sources: Sequence[Path] = (), progress: Progress = lambda line: None
) -> None:
    """Bring `bundle` to hold exactly what the lock in `lock` names; does nothing when it does already.

    An interrupted run is continued by the next one. Two runs for one bundle wait for each other.

    Args:
        lock: folder with the two lock files.
        bundle: folder of the bundle; made when missing. Files in it that the lock does not name are removed.
        wheel_sources: folders with wheels to take in place of a download, by sha256.
        progress: called with one line per step.

    Raises:
        DeployError: the lock is unreadable, a file cannot be fetched, or what was fetched is not what is locked.
    """
    locked = load_lock(lock)
    bundle.mkdir(parents=True, exist_ok=True)
    with _exclusive(bundle):
        if _stamp_holds(bundle, locked):
            return
        for name in (CONDA_LOCK, REQUIREMENTS_LOCK):
            shutil.copyfile(lock / name, bundle / name)
        _remove_strays(bundle, locked)
        _fetch_conda(bundle, locked.conda, progress)
        _collect_wheels(bundle / "wheels", locked.wheels, locked.python_version, wheel_sources, progress)
        tools = [LockedWheel(tool.name, tool.version, frozenset({tool.sha256})) for tool in INSTALLERS]
        _collect_wheels(bundle / "installer", tools, "3.9", wheel_sources, progress)
        _index_channel(bundle / "conda")
        if problems := bundle_problems(bundle):
            raise DeployError(f"{bundle} is incomplete: {problems[0]}", detail="\n".join(problems[1:]))
        _stamp(bundle, locked)
    progress(f"bundle {bundle}: {len(locked.conda)} conda packages, {len(locked.wheels)} wheels")


def _fetch_conda(bundle: Path, packages: Sequence[CondaPackage], progress: Progress) -> None:
    for subdir in SUBDIRS:
        (bundle / "conda" / subdir).mkdir(parents=True, exist_ok=True)
    missing = [p for p in packages if not (bundle / p.path).is_file() or hash_file(bundle / p.path) != p.sha256]
    if not missing:
        return
    progress(f"fetching {len(missing)} conda packages")
    with (
        httpx.Client(follow_redirects=True, timeout=60, transport=httpx.HTTPTransport(retries=3)) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        for package in pool.map(lambda package: _fetch_package(client, bundle, package), missing):
            progress(f"fetched {package.file_name}")


def _fetch_package(client: httpx.Client, bundle: Path, package: CondaPackage) -> CondaPackage:
    target = bundle / package.path
    part = target.with_name(target.name + ".part")
    url = urlsplit(package.url)
    try:
        if url.scheme == "file":
            _place(Path(unquote(url.path)), part)
        else:
            with client.stream("GET", package.url) as answer, part.open("wb") as stream:
                answer.raise_for_status()
                for chunk in answer.iter_bytes(1 << 20):
                    stream.write(chunk)
    except (httpx.HTTPError, OSError) as error:
        raise DeployError(
            f"{package.url} cannot be fetched: {error}",
            fix="check that the controller reaches the channel, or its proxy",
        ) from error
    if (got := hash_file(part)) != package.sha256:
        part.unlink()
        raise DeployError(
            f"{package.url} is not the locked file: sha256 wanted {package.sha256}, got {got}",
            fix="the channel replaced the package, or the download was changed on its way: lock again",
        )
    part.replace(target)
    return package


def _collect_wheels(
    folder: Path, wheels: Iterable[LockedWheel], python: str, sources: Sequence[Path], progress: Progress
) -> None:
    """Bring one file for each of `wheels` into `folder`: from `sources` when one is there, else by pip."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = missing_wheels(folder, wheels)
    if missing and sources:
        for wheel, path in _found_in(sources, missing).items():
            _place(path, folder / path.name)
            missing.remove(wheel)
    if missing:
        progress(f"downloading {len(missing)} wheels")
    for start in range(0, len(missing), WHEELS_PER_DOWNLOAD):
        part = missing[start : start + WHEELS_PER_DOWNLOAD]
        _download(folder, part, python)
        progress(f"downloaded {start + len(part)} of {len(missing)} wheels")


def missing_wheels(folder: Path, wheels: Iterable[LockedWheel]) -> list[LockedWheel]:
    """Those of `wheels` of which `folder` has no file with a locked sha256."""
    wheels = list(wheels)
    present = _found_in([folder], wheels)
    return [wheel for wheel in wheels if wheel not in present]


def _found_in(folders: Iterable[Path], wheels: Iterable[LockedWheel]) -> dict[LockedWheel, Path]:
    wanted = {(wheel.name, wheel.version): wheel for wheel in wheels}
    found: dict[LockedWheel, Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.whl"))):
        wheel = wanted.get(wheel_identity(path.name))
        if wheel is not None and wheel not in found and hash_file(path) in wheel.sha256:
            found[wheel] = path
    return found


def _download(folder: Path, wheels: Sequence[LockedWheel], python: str) -> None:
    """Download `wheels` with pip, which knows this machine's indexes, mirrors and certificates."""
    if importlib.util.find_spec("pip") is None:
        raise DeployError(
            "the controller's python has no pip", fix=f"install it: uv pip install --python {sys.prefix} pip"
        )
    # In the bundle's own folder: the same file system, so that a finished wheel is only renamed.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        requirements = Path(temporary, "requirements.txt")
        requirements.write_text("".join(_requirement_line(wheel) for wheel in wheels), encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", temporary),
            *("--implementation", "cp", "--python-version", ".".join(python.split(".")[:2])),
            *(option for platform in PLATFORMS for option in ("--platform", platform)),
            *("--requirement", str(requirements)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DeployError(
                f"pip could not download the locked wheels for python {python}",
                fix="check pip's index settings; build what has no wheel with `pip wheel` and lock it by its hash",
                detail=done.stderr.strip()[-3000:],
            )
        for path in Path(temporary).glob("*.whl"):
            path.replace(folder / path.name)


def _requirement_line(wheel: LockedWheel) -> str:
    return f"{wheel.name}=={wheel.version} " + " ".join(f"--hash=sha256:{d}" for d in sorted(wheel.sha256)) + "\n"


def _index_channel(channel: Path) -> None:
    for leftover in channel.glob("*/*.part"):
        leftover.unlink()
    done = subprocess.run(
        [sys.executable, "-c", INDEX_CHANNEL, str(channel)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DeployError(
            f"the channel {channel} could not be indexed (exit {done.returncode})",
            fix="check that its packages are conda packages",
            detail=done.stderr.strip()[-3000:],
        )
    shutil.rmtree(channel / ".tmp", ignore_errors=True)


def _remove_strays(bundle: Path, lock: Lock) -> None:
    """Remove what an earlier lock needed and this one does not."""
    keep = {path for path, _ in expected_files(bundle, lock)}
    for pattern in ("conda/*/*.conda", "conda/*/*.tar.bz2", "wheels/*.whl", "installer/*.whl"):
        for path in bundle.glob(pattern):
            if path not in keep:
                path.unlink()
    for leftover in bundle.glob("*/.download-*"):
        shutil.rmtree(leftover)


def _stamp(bundle: Path, lock: Lock) -> None:
    content = {"schema": 1, "digest": lock.digest, "files": _sizes(bundle)}
    part = bundle / f"{STAMP}.part"
    part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(bundle / STAMP)


def _stamp_holds(bundle: Path, lock: Lock) -> bool:
    """Whether the bundle was finished for this lock and no file of it was changed since: by size and time, unread."""
    stamp = bundle / STAMP
    try:
        content: Mapping[str, object] = json.loads(stamp.read_text(encoding="utf-8"))
        written = stamp.stat().st_mtime_ns
    except (OSError, ValueError):
        return False
    if content.get("digest") != lock.digest or content.get("files") != _sizes(bundle):
        return False
    return all(path.stat().st_mtime_ns <= written for path in _files(bundle))


def _sizes(bundle: Path) -> dict[str, int]:
    return {str(path.relative_to(bundle)): path.stat().st_size for path in _files(bundle)}


def _files(bundle: Path) -> Iterator[Path]:
    return (path for path in sorted(bundle.rglob("*")) if path.is_file() and path.name != STAMP)


def _place(source: Path, target: Path) -> None:
    """Hardlink `source` as `target` where the file system allows it, else copy it; `target` appears whole."""
    part = target.with_name(target.name + ".placing")
    part.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder itself, so that no lock file stays behind in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
