"""Fetches files whose sha256 is known: several at once, going on where an earlier run stopped.

What is under way is `<file>.part`. Its name or size proves nothing: it is hashed before it is continued, and becomes
the file only when the whole of it has the wanted sha256. So nothing of the server has to be remembered to go on (ETag).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

import httpx
from rich.filesize import decimal

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import BLOCK, hash_file, nearest
from deployer.environments.http_client import Busy, Patience, Stopped, check_status, in_parallel, unreachable
from deployer.environments.sources import without_credentials
from deployer.progress import Progress, Silent

CONNECTIONS = 8
PART = ".part"
PLACING = ".placing"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True)
class Origin:
    """Where a file can be had, and where it is to lie when it comes from there.

    Attributes:
        url: http, https or file; with credentials if any.
        target: path of the finished file.
    """

    url: str
    target: Path


@dataclass(frozen=True)
class Wanted:
    """A file to fetch.

    Attributes:
        name: what messages call it.
        origins: tried in this order until one gives a file with a wanted digest.
        sha256: hex digests, one of which the file must have.
        size: bytes, where known before.
    """

    name: str
    origins: tuple[Origin, ...]
    sha256: frozenset[str]
    size: int | None = None


@dataclass(frozen=True)
class Fetched:
    """What a download brought: files, and bytes that came over the network."""

    files: int
    size: int


def download_all(
    wanted: Sequence[Wanted], client: httpx.Client, *, connections: int = CONNECTIONS, progress: Progress | None = None
) -> Fetched:
    """Fetch every file, verified; the folders of their targets must be there.

    The first failure ends it; what was fetched so far stays, half files as parts that the next call continues.

    Args:
        wanted: the files.
        client: as `http_client.open_client` gives it.
        connections: files at once.
        progress: told how far it is.

    Raises:
        DeployError: a file is missing, refused, another one than wanted, or its server unreachable; no room.
    """
    _check_room(wanted)
    run = _Run(client, progress or Silent(), wanted)
    # The largest first, so that none is left alone at the end.
    order = sorted(wanted, key=lambda one: -(one.size or 0))
    in_parallel(order, run.fetch, connections, lambda one, _: run.progress.done(one.name))
    return Fetched(len(wanted), run.received)


class _Run:
    """One call of `download_all`: what its threads share."""

    def __init__(self, client: httpx.Client, progress: Progress, wanted: Sequence[Wanted]) -> None:
        self.client = client
        self.progress = progress
        self.received = 0
        self._lock = threading.Lock()
        self._files = len(wanted)
        self._sizes = {one: one.size for one in wanted if one.size is not None}
        progress.total(self._files, sum(self._sizes.values()))

    def fetch(self, wanted: Wanted, stopped: threading.Event) -> None:
        """Fetch one file from the first origin that has it."""
        problems: list[DeployError] = []
        for origin in wanted.origins:
            try:
                with disk_errors_explained(origin.target.parent):
                    if urlsplit(origin.url).scheme == "file":
                        self._take(wanted, origin)
                    else:
                        self._download(wanted, origin, stopped)
                return
            except DiskError:
                raise
            except DeployError as problem:
                problems.append(problem)
        first, *others = problems
        raise DeployError(first.problem, first.fix, "\n".join(other.problem for other in others))

    def _take(self, wanted: Wanted, origin: Origin) -> None:
        """Link or copy a file of this machine."""
        source = Path(unquote(urlsplit(origin.url).path))
        if not source.is_file():
            raise DeployError(f"{wanted.name}: there is no file {source}", fix="correct sources.yml, or lock again")
        # Never under the name of a part, which the next run may write to: that would be the source itself.
        placing = origin.target.with_name(origin.target.name + PLACING)
        placing.unlink(missing_ok=True)
        try:
            os.link(source.resolve(), placing)
        except OSError:
            shutil.copyfile(source, placing)
        self._learn(wanted, placing.stat().st_size)
        if (got := hash_file(placing)) not in wanted.sha256:
            placing.unlink()
            raise _not_the_locked_file(wanted, origin, got)
        self.progress.advance(placing.stat().st_size)
        placing.replace(origin.target)

    def _download(self, wanted: Wanted, origin: Origin, stopped: threading.Event) -> None:
        with _Part(origin.target) as part:
            self.progress.advance(part.size)
            # Once more from zero: the part may have been another file's, or damaged.
            for _ in range(2):
                if not part.size or part.digest not in wanted.sha256:
                    self._transfer(wanted, origin, part, stopped)
                if (got := part.digest) in wanted.sha256:
                    part.finish()
                    return
                self._restart(part)
        raise _not_the_locked_file(wanted, origin, got)

    def _transfer(self, wanted: Wanted, origin: Origin, part: _Part, stopped: threading.Event) -> None:
        """Bring the rest of a part, over as many connections as it takes."""
        patience = Patience(stopped)
        furthest = part.size
        while True:
            try:
                self._receive(wanted, origin, part, stopped)
                if part.size >= (wanted.size or 0) or part.digest in wanted.sha256:
                    return
                raise httpx.ReadError(f"the connection ended after {part.size} of {wanted.size} bytes")
            except (httpx.TransportError, Busy) as error:
                # Only bytes never had before count, or a server without Range would be asked for ever.
                if part.size > furthest:
                    furthest = part.size
                    patience.renew()
                if not patience.wait(error):
                    raise unreachable(wanted.name, origin.url, error) from None
            except (httpx.InvalidURL, httpx.RequestError) as error:
                raise unreachable(wanted.name, origin.url, error) from None

    def _receive(self, wanted: Wanted, origin: Origin, part: _Part, stopped: threading.Event) -> None:
        headers = {"Accept-Encoding": "identity"}
        if part.size:
            headers["Range"] = f"bytes={part.size}-"
        with self.client.stream("GET", origin.url, headers=headers) as answer:
            if part.size and not _continues(answer, part.size):
                refused = answer.status_code in (206, 416)
                if refused or answer.is_success:
                    self._restart(part)
                if refused:
                    raise Busy(answer.status_code, 0)
            check_status(answer, wanted.name, origin.url)
            coming = int(answer.headers.get("Content-Length", 0))
            self._learn(wanted, part.size + coming)
            check_free(origin.target.parent, coming)
            for block in answer.iter_raw():
                if stopped.is_set():
                    raise Stopped
                part.append(block)
                self.progress.advance(len(block))
                with self._lock:
                    self.received += len(block)

    def _restart(self, part: _Part) -> None:
        self.progress.advance(-part.size)
        part.restart()

    def _learn(self, wanted: Wanted, size: int) -> None:
        """A size that was not known before counts for the total from now on."""
        with self._lock:
            if wanted in self._sizes or not size:
                return
            self._sizes[wanted] = size
            total = sum(self._sizes.values())
        self.progress.total(self._files, total)


class _Part:
    """A file under way, open for writing: its size and digest are those of all that was written to it, ever."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = _part_of(target)

    def __enter__(self) -> _Part:
        self._stream = self.path.open("a+b")
        self._hash = hashlib.sha256()
        self.size = 0
        self._stream.seek(0)
        while block := self._stream.read(BLOCK):
            self._hash.update(block)
            self.size += len(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        if not self.size:
            self.path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        """sha256 (hex) of what is there so far."""
        return self._hash.hexdigest()

    def append(self, block: bytes) -> None:
        """Write more."""
        self._stream.write(block)
        self._hash.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Forget all that is there."""
        self._stream.seek(0)
        self._stream.truncate()
        self._hash = hashlib.sha256()
        self.size = 0

    def finish(self) -> None:
        """Let it be the file: on disk before its name, so that a power cut leaves no empty file under it."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.path.replace(self.target)


class DiskError(DeployError):
    """This machine's disk is the reason: no other origin helps."""


@contextmanager
def disk_errors_explained(folder: Path) -> Iterator[None]:
    """Turn an OSError of the block into a DiskError that says what to do.

    Raises:
        DiskError: instead of OSError.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        if error.errno in FULL:
            problem, fix = f"the disk of {folder} is full", "make room, then run it again: it goes on where it was"
        elif error.errno in DENIED:
            problem = f"{where} cannot be written: {error.strerror}"
            fix = "make the folder writable, or put the lock into a folder that is"
        else:
            problem, fix = f"{where}: {error.strerror or error}", "check that disk and that path"
        raise DiskError(problem, fix) from error


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + PART)


def _check_room(wanted: Sequence[Wanted]) -> None:
    """Refuse what cannot fit, as far as sizes are known.

    Raises:
        DiskError: less is free than is missing.
    """
    needed = 0
    for one in wanted:
        part = _part_of(one.origins[0].target)
        there = part.stat().st_size if part.is_file() else 0
        needed += max(0, (one.size or 0) - there)
    if wanted:
        # The folders of one download lie on one disk.
        check_free(Path(os.path.commonpath([one.origins[0].target.parent for one in wanted])), needed)


def check_free(folder: Path, needed: int) -> None:
    """Refuse to begin what does not fit.

    Raises:
        DiskError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(nearest(str(folder))).free
    if needed > free:
        raise DiskError(
            f"the disk of {folder} has {decimal(free)} free, {decimal(needed)} are still to be fetched",
            fix="make room, or put the lock into a folder on another disk",
        )


def _continues(answer: httpx.Response, size: int) -> bool:
    """Whether an answer brings the bytes from `size` on."""
    start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return answer.status_code == 206 and start is not None and int(start.group(1)) == size


def _not_the_locked_file(wanted: Wanted, origin: Origin, got: str) -> DeployError:
    return DeployError(
        f"{wanted.name} at {without_credentials(origin.url)} is not the locked file: sha256 wanted "
        f"{' or '.join(sorted(wanted.sha256))}, got {got}",
        fix="the file was replaced there, or changed on its way: look into it, then lock again",
    )
