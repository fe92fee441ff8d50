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

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.filesize import decimal

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    CONDA_LOCK,
    INSTALLERS,
    REQUIREMENTS_LOCK,
    SUBDIRS,
    Lock,
    LockedWheel,
    bundle_problems,
    expected_files,
    load_lock,
    wheel_identity,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file
from deployer.environments.bytecode import compile_bundle
from deployer.environments.downloads import (
    CONNECTIONS,
    PART,
    PLACING,
    Fetched,
    Origin,
    Wanted,
    check_free,
    disk_errors_explained,
    download_all,
)
from deployer.environments.http_client import open_client
from deployer.environments.pages import Candidate
from deployer.environments.sources import PackageSources, read_sources, redacted
from deployer.environments.wheel_index import locate_wheels
from deployer.progress import Progress, Silent, as_progress
from deployer.wording import counted

STAMP = "bundle.json"
HASHING = 4
FOLDERS = (*(f"conda/{subdir}" for subdir in SUBDIRS), "wheels", "installer")

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
    lock: Path,
    bundle: Path,
    *,
    sources: PackageSources | None = None,
    wheel_sources: Sequence[Path] = (),
    progress: Progress | Callable[[str], None] | None = None,
) -> None:
    """Bring `bundle` to hold exactly what the lock in `lock` names; does nothing when it does already.

    An interrupted run is continued by the next one. Two runs for one bundle wait for each other.

    Args:
        lock: folder with the two lock files.
        bundle: folder of the bundle; made when missing. Files in it that the lock does not name are removed.
        sources: where packages come from; by default as `read_sources` finds it for `lock`.
        wheel_sources: folders with wheels to take in place of a download, by sha256.
        progress: told how far it is; a function is called with lines.

    Raises:
        DeployError: the lock is unreadable, a file cannot be fetched, what was fetched is not what is locked, the disk
            is full or cannot be written, Ctrl-C was pressed. One line without credentials.
    """
    told = Silent() if progress is None else as_progress(progress)
    locked = load_lock(lock)
    if locked.edited:
        raise DeployError(
            f"{lock}: the lock was edited since it was written",
            fix=f"change environment.yml and lock again: python -m deployer lock {lock}",
        )
    with _interruption_explained(), disk_errors_explained(bundle):
        bundle.mkdir(parents=True, exist_ok=True)
        with _exclusive(bundle, told):
            if _stamp_holds(bundle, locked):
                told.line(f"bundle {bundle}: complete, nothing to fetch")
                return
            sources = sources or read_sources(lock)
            for name in (CONDA_LOCK, REQUIREMENTS_LOCK):
                shutil.copyfile(lock / name, bundle / name)
            with _without_credentials(sources):
                fetched = _fetch(bundle, locked, sources, wheel_sources, told)
            _remove_unfinished(bundle)
            _index_channel(bundle / "conda")
            if problems := bundle_problems(bundle):
                raise DeployError(f"{bundle} is incomplete: {problems[0]}", detail="\n".join(problems[1:]))
            compile_bundle(bundle, locked, told.line)
            _stamp(bundle, locked)
            size = decimal(sum(_sizes(bundle).values()))
    kinds = ((locked.conda, "conda package"), (locked.wheels, "wheel"), (INSTALLERS, "installer"))
    holds = ", ".join(counted(len(files), word) for files, word in kinds)
    told.line(
        f"bundle {bundle}: {holds}, {size}, verified; of that {counted(fetched.files, 'file')} new, "
        f"{decimal(fetched.size)} by network"
    )


def _fetch(
    bundle: Path, lock: Lock, sources: PackageSources, wheel_sources: Sequence[Path], progress: Progress
) -> Fetched:
    """Bring every file that the lock names and the bundle lacks; what lies there already is hashed first."""
    _remove_strays(bundle, lock)
    for folder in FOLDERS:
        (bundle / folder).mkdir(parents=True, exist_ok=True)
    wanted = [
        Wanted(p.file_name, (Origin(sources.fetch_url(p.url), bundle / p.path),), frozenset({p.sha256}))
        for p in lock.conda
        if not (bundle / p.path).is_file()
    ]
    missing = {
        folder: missing_wheels(folder, wheels)
        for folder, wheels in ((bundle / "wheels", lock.wheels), (bundle / "installer", tool_wheels()))
    }
    count = sum(map(len, missing.values()))
    with open_client(sources, CONNECTIONS) as client:
        if count:
            progress.line(f"looking for {counted(count, 'wheel')}")
        asked = list(dict.fromkeys(wheel for wheels in missing.values() for wheel in wheels))
        found = locate_wheels(asked, lock.python_version, sources, client, wheel_sources, CONNECTIONS)
        wanted += [_wanted(folder, wheel, found[wheel]) for folder, wheels in missing.items() for wheel in wheels]
        if not wanted:
            return Fetched(0, 0)
        # Sizes of conda packages are in no URL and on no page, but a lock's header may have the sum.
        check_free(bundle, lock.needs.download - _bytes_there(bundle, wanted))
        progress.line(f"fetching {counted(len(wanted), 'file')}")
        return download_all(wanted, client, progress=progress)


def _bytes_there(bundle: Path, wanted: Sequence[Wanted]) -> int:
    """Bytes of what is in the bundle, parts included, and of what it takes from this machine's folders."""
    local = [urlsplit(origin.url) for one in wanted for origin in one.origins[:1]]
    files = [Path(unquote(url.path)) for url in local if url.scheme == "file"]
    return sum(_sizes(bundle).values()) + sum(path.stat().st_size for path in files if path.is_file())


def _wanted(folder: Path, wheel: LockedWheel, candidates: Sequence[Candidate]) -> Wanted:
    origins = tuple(Origin(candidate.url, folder / candidate.file_name) for candidate in candidates)
    return Wanted(f"{wheel.name}=={wheel.version}", origins, wheel.sha256, candidates[0].size)


def missing_wheels(folder: Path, wheels: Sequence[LockedWheel]) -> list[LockedWheel]:
    """Those of `wheels` of which `folder` has no file, by name and version."""
    present = {wheel_identity(path.name) for path in folder.glob("*.whl")}
    return [wheel for wheel in wheels if (wheel.name, wheel.version) not in present]


def _remove_strays(bundle: Path, lock: Lock) -> None:
    """Remove what an earlier lock needed and this one does not, and what is not what it names."""
    expected = dict(expected_files(bundle, lock))
    for pattern in ("conda/*/*.conda", "conda/*/*.tar.bz2", "wheels/*.whl", "installer/*.whl"):
        for path in bundle.glob(pattern):
            if path not in expected:
                path.unlink()
    present = [path for path in expected if path.is_file()]
    with ThreadPoolExecutor(HASHING) as pool:
        for path, digest in zip(present, pool.map(hash_file, present), strict=True):
            if digest not in expected[path]:
                path.unlink()
    # An earlier version of this program left these when it was killed.
    for leftover in bundle.glob("*/.download-*"):
        shutil.rmtree(leftover)
    for path in _unfinished(bundle):
        if path.suffix == PLACING or not _is_locked(path.with_suffix(""), bundle, lock):
            path.unlink()


def _is_locked(file: Path, bundle: Path, lock: Lock) -> bool:
    """Whether the lock names the file of a part."""
    if file.suffix != ".whl":
        return any(bundle / package.path == file for package in lock.conda)
    with suppress(DeployError):
        return wheel_identity(file.name) in {(one.name, one.version) for one in (*lock.wheels, *tool_wheels())}
    return False


def tool_wheels() -> list[LockedWheel]:
    """The installers, as a lock would name them."""
    return [LockedWheel(tool.name, tool.version, frozenset({tool.sha256})) for tool in INSTALLERS]


def _remove_unfinished(bundle: Path) -> None:
    """Remove parts of files that were then taken from elsewhere."""
    for path in _unfinished(bundle):
        path.unlink()


def _unfinished(bundle: Path) -> list[Path]:
    return [path for folder in FOLDERS for end in (PART, PLACING) for path in (bundle / folder).glob(f"*{end}")]


def _index_channel(channel: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INDEX_CHANNEL, str(channel)], capture_output=True, text=True, check=False
    )
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode != 0:
        raise DeployError(
            f"the channel {channel} could not be indexed (exit {done.returncode})",
            fix="check that its packages are conda packages",
            detail=done.stderr.strip()[-3000:],
        )
    shutil.rmtree(channel / ".tmp", ignore_errors=True)


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


@contextmanager
def _exclusive(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold an advisory lock on the folder itself, so that no lock file stays behind in it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.line(f"another run is making {folder}: waiting for it")
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def _interruption_explained() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise DeployError("interrupted", fix="run it again: it goes on where it was") from None


@contextmanager
def _without_credentials(sources: PackageSources) -> Iterator[None]:
    """Errors of the block, with no login in them whatever they quote."""
    try:
        yield
    except DeployError as error:
        raise DeployError(
            redacted(error.problem, sources), redacted(error.fix, sources), redacted(error.detail, sources)
        ) from None
