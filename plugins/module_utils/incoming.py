"""Receiving an artifact's files on a host: they arrive in a folder of their own, are verified there, and then land."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tarfile
from collections.abc import Mapping

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    nearest,
    sync_directory,
    sync_filesystem,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, damaged_files, missing_files

# Small files travel together in one tar of this name.
PACK = ".pack.tar"
SYNCED_ALONE = 1024 * 1024  # bytes; smaller files are synced together


def check_room(folder: str, needed: int, what: str) -> None:
    """Refuse before the first byte when `needed` bytes do not fit below `folder`.

    Raises:
        DeployError: they do not.
    """
    existing = nearest(folder)
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DeployError(
            f"{what} needs {needed / 1e9:.2f} GB and {existing} has {free / 1e9:.2f} GB free",
            "free space there, or set inference_root to a larger disk",
        )


def claim(folder: str) -> None:
    """Make the folder that a relay receives in, or take back one that another transfer left.

    Raises:
        DeployError: it holds what is neither a plain file nor a folder.
    """
    os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _own(folder, os.geteuid())
    _refuse_writers(folder)
    _take_back(f"{folder}.landing", folder)


def _take_back(landing: str, folder: str) -> None:
    """Bring back what a landing that was cut off had moved, or it would be sent again. Links can be made again."""
    for parent, _, names in os.walk(landing):
        for name in names:
            path = os.path.join(parent, name)
            arrived = os.path.join(folder, os.path.relpath(path, landing))
            if os.lstat(path).st_nlink == 1 and not os.path.lexists(arrived):
                os.makedirs(os.path.dirname(arrived), exist_ok=True)
                os.rename(path, arrived)
    if os.path.isdir(landing):
        shutil.rmtree(landing)


def hand_over(folder: str, user: int) -> None:
    """Let a user fill the folder; `claim` takes it back.

    Args:
        folder: that `claim` made.
        user: numeric id.
    """
    _own(folder, user)


def prepare(folder: str, manifest: Manifest, uploader: int) -> list[str]:
    """Make the folder that files arrive in, for the user who logs in to bring them.

    Args:
        folder: Store.incoming of the artifact.
        manifest: what has to arrive.
        uploader: numeric id of the login user.
    Returns:
        Paths of the files that are still missing.
    Raises:
        DeployError: the rest does not fit on the disk.
    """
    if os.path.lexists(folder):
        _own(folder, os.geteuid())  # before anything in it is followed
    missing = missing_files(manifest, folder)
    sizes = {entry.path: entry.size for entry in manifest.files}
    check_room(folder, sum(sizes[path] for path in missing), "the transfer")
    os.makedirs(os.path.dirname(folder), mode=0o755, exist_ok=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    folders = {os.path.dirname(path) for path in missing}
    for below in sorted(folders - {""}):
        os.makedirs(os.path.join(folder, below), exist_ok=True)
    _own(folder, uploader)
    return missing


def verify(folder: str, manifest: Manifest) -> None:
    """Take the folder back from the uploader, unpack what came together, and compare every byte.

    Raises:
        DeployError: a file is missing or differs; a file that differs is removed, so that the next run sends it again.
    """
    _own(folder, os.geteuid())
    _unpack(folder, manifest)
    _refuse_writers(folder)
    missing = missing_files(manifest, folder)
    if missing:
        raise DeployError(f"{len(missing)} files did not arrive, the first is {missing[0]}", "run again: it resumes")
    damaged = damaged_files(manifest, folder)
    for entry, _ in damaged:
        os.unlink(os.path.join(folder, entry.path))
    if damaged:
        entry, found = damaged[0]
        raise DeployError(
            f"{entry.path} differs from its manifest: sha256 wanted {entry.sha256}, got {found}",
            "the file changed at its source, or on the way; run again: only what differs is sent",
            "\n".join(other.path for other, _ in damaged[1:]),
        )


def land(folder: str, target: str, manifest: Manifest, texts: Mapping[str, str]) -> None:
    """Move verified files to their place, on disk and readable for everyone.

    A new artifact appears in one step. Into one that lost files, they are put back one by one.

    Args:
        folder: where the files arrived; it is gone afterwards.
        target: the artifact's place.
        manifest: the files that arrived.
        texts: files of the deployment's own to write beside them, name -> text.
    """
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    landing = landing_place(folder, target)
    for entry in manifest.files:
        arrived = os.path.join(folder, entry.path)
        os.chmod(arrived, 0o644)
        if entry.size >= SYNCED_ALONE:
            _sync(arrived)
    if any(entry.size < SYNCED_ALONE for entry in manifest.files):
        sync_filesystem(folder)  # one commit of the journal, not one a file
    for entry in manifest.files:
        path = os.path.join(landing, entry.path)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.rename(os.path.join(folder, entry.path), path)
    for name, text in texts.items():
        write_file(os.path.join(landing, name), text)
    if landing != target:
        os.rename(landing, target)
    sync_directory(os.path.dirname(target))
    shutil.rmtree(folder)


def landing_place(folder: str, target: str) -> str:
    """Where `land` moves files to; arguments as there."""
    return target if os.path.isdir(target) else f"{folder}.landing"


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own(folder: str, user: int) -> None:
    """Give the folder and all in it to `user`, having seen that it holds plain files and folders and nothing else.

    The user whom files arrive as could have put links there, for root to follow. The top folder is taken away from them
    first; then everything is reached by descriptors, not by paths. Taking it back ends their modes and access lists as
    well: a folder that they stand in is closed to them before what is in it is looked at.

    Raises:
        DeployError: there is a link, a device, or a file that has a second name elsewhere.
    """
    acting = os.geteuid()
    if acting == 0:
        os.chown(folder, 0, -1, follow_symlinks=False)
        os.chmod(folder, 0o700)
    for parent, folders, names, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in folders + names:
            found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
            if not plain and not stat.S_ISDIR(found.st_mode):
                raise DeployError(
                    f"{os.path.join(parent, name)} is neither a plain file nor a folder",
                    f"remove {folder} on the host and run again",
                )
            if acting == 0:
                os.chown(name, user, -1, dir_fd=descriptor, follow_symlinks=False)
            if acting == 0 and user == 0:
                os.chmod(name, 0o600 if plain else 0o700, dir_fd=descriptor)
    if acting == 0:
        os.chown(folder, user, -1, follow_symlinks=False)


def _refuse_writers(folder: str) -> None:
    """Refuse files that somebody still has open for writing: they could change behind their hash.

    The kernel gives a lease for reading on files only that nobody writes (fcntl(2)); a file system without leases is
    taken at its word.

    Raises:
        DeployError: there is such a file.
    """
    if os.geteuid() != 0:
        return
    for parent, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(parent, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
                fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    raise DeployError(
                        f"{os.path.join(parent, name)} is still open for writing",
                        "see who on the host has it open (fuser), and run again when they have ended",
                    ) from None
            finally:
                os.close(descriptor)


def _unpack(folder: str, manifest: Manifest) -> None:
    """Take the manifest's files out of the pack; whatever else it holds is left in it."""
    pack = os.path.join(folder, PACK)
    if not os.path.exists(pack):
        return
    wanted = {entry.path for entry in manifest.files}
    try:
        with tarfile.open(pack) as archive:
            for member in archive:
                source = archive.extractfile(member) if member.isfile() and member.name in wanted else None
                if source is None:
                    continue
                path = os.path.join(folder, member.name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{path}.part")
                with open(f"{path}.part", "xb") as out:  # x: made here, not a link that was put there
                    shutil.copyfileobj(source, out, 1 << 20)
                os.replace(f"{path}.part", path)
    except (tarfile.TarError, EOFError):
        raise DeployError("the pack of small files arrived damaged", "run again: it resumes") from None
    finally:
        os.unlink(pack)
