"""download_all against a server with faults: what is asked for again, what is believed, what is said."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments import downloads, http_client
from deployer.environments.downloads import Fetched, Origin, Wanted, disk_errors_explained, download_all
from deployer.environments.http_client import Busy, Patience, open_client, retry_after
from tests.doubles.package_server import Fault, PackageServer
from tests.unit.deployer.environments.conftest import NO_SOURCES

CONTENT = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/files/one.bin"
SECRET = "s3cret-of-the-index"

CHILD = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
from pathlib import Path
from deployer.environments.downloads import Origin, Wanted, download_all
from deployer.environments.http_client import open_client
from deployer.environments.sources import PackageSources

class Told:
    def total(self, files, size): pass
    def done(self, file): pass
    def line(self, text): pass
    def advance(self, size):
        print(size, flush=True)

url, target, sha256 = sys.argv[1:]
with open_client(PackageSources(public_index=False), 8) as client:
    wanted = Wanted("one", (Origin(url, Path(target)),), frozenset({sha256}))
    try:
        download_all([wanted], client, progress=Told())
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


class Told:
    """Keeps what a download tells."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.totals: list[tuple[int, int]] = []
        self.bytes = 0
        self.files: list[str] = []

    def line(self, text: str) -> None: ...

    def total(self, files: int, size: int) -> None:
        self.totals.append((files, size))

    def advance(self, size: int) -> None:
        with self.lock:
            self.bytes += size

    def done(self, file: str) -> None:
        self.files.append(file)


def wanted(server: PackageServer, target: Path, *, size: int | None = None, url: str = "") -> Wanted:
    server.files.setdefault(PATH, CONTENT)
    return Wanted("one", (Origin(url or server.url + PATH, target),), frozenset({SHA256}), size)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def starts(server: PackageServer) -> list[int]:
    return [request.start for request in server.requests]


def test_a_file_comes_verified_and_counted(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    told = Told()
    fetched = download_all([wanted(server, tmp_path / "one.bin")], client, progress=told)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT
    assert left(tmp_path) == ["one.bin"]
    assert fetched == Fetched(1, len(CONTENT))
    assert told.totals == [(1, 0), (1, len(CONTENT))]
    assert (told.bytes, told.files) == (len(CONTENT), ["one"])


def test_a_size_that_is_known_is_the_total_from_the_start(
    tmp_path: Path, server: PackageServer, client: httpx.Client
) -> None:
    told = Told()
    download_all([wanted(server, tmp_path / "one.bin", size=len(CONTENT))], client, progress=told)
    assert told.totals == [(1, len(CONTENT))]


def test_eight_files_are_fetched_at_once(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.gate = threading.Barrier(8)
    server.files = {f"/files/{number}.bin": CONTENT for number in range(16)}
    many = [
        Wanted(path, (Origin(server.url + path, tmp_path / path.rsplit("/", 1)[-1]),), frozenset({SHA256}))
        for path in server.files
    ]
    download_all(many, client)
    assert server.most_at_once == 8
    assert len(server.requests) == 16


@pytest.mark.parametrize("size", [None, len(CONTENT)], ids=["size unknown", "size known"])
def test_a_connection_that_breaks_is_resumed(
    tmp_path: Path, server: PackageServer, client: httpx.Client, size: int | None
) -> None:
    server.faults[PATH] = [Fault(bytes=100_000), Fault(bytes=50_000)]
    told = Told()
    fetched = download_all([wanted(server, tmp_path / "one.bin", size=size)], client, progress=told)
    assert starts(server) == [0, 100_000, 150_000]
    assert fetched.size == told.bytes == len(CONTENT)
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


def test_a_connection_that_stalls_is_resumed(
    tmp_path: Path, server: PackageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "READ_TIMEOUT_S", 0.2)
    server.faults[PATH] = [Fault(bytes=100_000, stall=True)]
    with open_client(NO_SOURCES, 1) as client:
        download_all([wanted(server, tmp_path / "one.bin")], client)
    assert starts(server) == [0, 100_000]


def start_child(server: PackageServer, target: Path) -> subprocess.Popen[str]:
    """A process that downloads, and has got as far as the server lets it."""
    half = 10 * 16 * 1024
    server.files[PATH] = CONTENT
    server.faults[PATH] = [Fault(bytes=half, stall=True)]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url + PATH, str(target), SHA256],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    written = 0
    while written < half:
        written += int(child.stdout.readline() or pytest.fail("the child ended"))
    return child


def test_a_killed_run_is_continued_where_it_was(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    with start_child(server, tmp_path / "one.bin") as child:
        child.kill()
    there = (tmp_path / "one.bin.part").stat().st_size
    assert 0 < there < len(CONTENT)
    fetched = download_all([wanted(server, tmp_path / "one.bin")], client)
    assert starts(server) == [0, there]
    assert fetched.size == server.requests[-1].sent == len(CONTENT) - there
    assert (tmp_path / "one.bin").read_bytes() == CONTENT


def test_ctrl_c_does_not_wait_for_a_silent_connection(tmp_path: Path, server: PackageServer) -> None:
    with start_child(server, tmp_path / "one.bin") as child:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=http_client.READ_TIMEOUT_S / 2)
    assert (child.returncode, said.strip()) == (1, "interrupted")
    assert left(tmp_path) == ["one.bin.part"]


def test_a_server_without_range_starts_over(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.ranges = False
    (tmp_path / "one.bin.part").write_bytes(CONTENT[:1000])
    told = Told()
    download_all([wanted(server, tmp_path / "one.bin")], client, progress=told)
    assert [request.sent for request in server.requests] == [len(CONTENT)]
    assert told.bytes == len(CONTENT)


def test_a_server_without_range_that_always_breaks_is_given_up(
    tmp_path: Path, server: PackageServer, client: httpx.Client
) -> None:
    server.ranges = False
    server.faults[PATH], server.lasting = [Fault(bytes=1000)], {PATH}
    with pytest.raises(DeployError, match=f"one cannot be fetched from {server.url}{PATH}: "):
        download_all([wanted(server, tmp_path / "one.bin")], client)
    assert len(server.requests) == http_client.ATTEMPTS


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (CONTENT, []),
        (CONTENT[:100], [100]),
        (b"x" * 100, [100, 0]),
        (CONTENT + b"more", [0, 0]),
        (b"x" * len(CONTENT), [0, 0]),
        (b"", [0]),
    ],
    ids=["whole", "begun", "another file's", "too long", "of the right size but wrong", "empty"],
)
def test_a_part_is_believed_by_its_hash_alone(
    tmp_path: Path, server: PackageServer, client: httpx.Client, part: bytes, expected: list[int]
) -> None:
    (tmp_path / "one.bin.part").write_bytes(part)
    told = Told()
    download_all([wanted(server, tmp_path / "one.bin", size=len(CONTENT))], client, progress=told)
    assert starts(server) == expected
    assert (tmp_path / "one.bin").read_bytes() == CONTENT
    assert told.bytes == len(CONTENT)


def test_a_range_that_begins_elsewhere_is_not_taken(
    tmp_path: Path, server: PackageServer, client: httpx.Client
) -> None:
    (tmp_path / "one.bin.part").write_bytes(CONTENT[:100])
    server.faults[PATH] = [Fault(content_range="bytes 0-99/262144")]
    download_all([wanted(server, tmp_path / "one.bin")], client)
    assert starts(server) == [100, 0]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(tmp_path: Path, server: PackageServer, client: httpx.Client, status: int) -> None:
    server.faults[PATH] = [Fault(status, {"Retry-After": "0"}), Fault(status)]
    download_all([wanted(server, tmp_path / "one.bin")], client)
    assert [request.status for request in server.requests] == [status, status, 200]


def test_a_server_that_stays_busy_is_given_up(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.faults[PATH], server.lasting = [Fault(503)], {PATH}
    with pytest.raises(DeployError, match=r"one cannot be fetched from .*: HTTP 503") as error:
        download_all([wanted(server, tmp_path / "one.bin")], client)
    assert "goes on where it was" in error.value.fix
    assert len(server.requests) == http_client.ATTEMPTS


class Waits(threading.Event):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def test_how_long_is_waited() -> None:
    waits = Waits()
    patience = Patience(waits)
    assert all(patience.wait(httpx.ReadError("")) for _ in range(3))
    assert patience.wait(Busy(429, 7.0))
    assert not patience.wait(httpx.ReadError(""))
    assert waits.waits == [0.5, 1.0, 2.0, 7.0]
    assert not Patience(waits).wait(Busy(429, 3600.0))
    assert not Patience(waits).wait(httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"))


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("12") == 12.0
    assert retry_after(formatdate(0)) == 0.0
    assert retry_after("") is None
    assert retry_after("soon") is None


def test_a_wrong_file_is_tried_once_more(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.faults[PATH] = [Fault(content=b"a proxy's page")]
    told = Told()
    download_all([wanted(server, tmp_path / "one.bin")], client, progress=told)
    assert starts(server) == [0, 0]
    assert told.bytes == len(CONTENT)


def test_a_file_that_stays_wrong_is_named(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.files[PATH] = b"replaced"
    url = f"http://me:{SECRET}@{server.host}{PATH}"
    with pytest.raises(DeployError) as error:
        download_all([wanted(server, tmp_path / "one.bin", url=url)], client)
    got = hashlib.sha256(b"replaced").hexdigest()
    expected = f"one at {server.url}{PATH} is not the locked file: sha256 wanted {SHA256}, got {got}"
    assert error.value.problem == expected
    assert starts(server) == [0, 0]
    assert left(tmp_path) == []


def test_a_file_that_is_gone_is_named(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    with pytest.raises(DeployError, match=f"one is not at {server.url}/files/gone"):
        download_all([wanted(server, tmp_path / "one.bin", url=f"{server.url}/files/gone")], client)
    assert len(server.requests) == 1


def test_another_origin_is_asked_next(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.files[PATH] = CONTENT
    origins = (Origin(f"{server.url}/files/gone", tmp_path / "gone"), Origin(server.url + PATH, tmp_path / "one.bin"))
    download_all([Wanted("one", origins, frozenset({SHA256}))], client)
    assert left(tmp_path) == ["one.bin"]


def test_logins_of_the_url_and_of_netrc(tmp_path: Path, server: PackageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.login = f"me:{SECRET}"
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    (tmp_path / "bundle").mkdir()
    url = f"http://me:{SECRET}@{server.host}{PATH}"
    with open_client(NO_SOURCES, 1) as client:
        download_all([wanted(server, tmp_path / "bundle" / "one.bin", url=url)], client)
    monkeypatch.setenv("NETRC", str(netrc))
    with open_client(NO_SOURCES, 1) as client:
        download_all([wanted(server, tmp_path / "bundle" / "two.bin")], client)
    assert left(tmp_path / "bundle") == ["one.bin", "two.bin"]


def test_the_environments_proxy_is_used(tmp_path: Path, server: PackageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    with open_client(NO_SOURCES, 1) as client:
        download_all([wanted(server, tmp_path / "one.bin", url=f"http://channel.example{PATH}")], client)
    assert len(server.requests) == 1


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "broken.pem"):
        with pytest.raises(DeployError, match=f"the certificates in {path} cannot be read"):
            open_client(replace(NO_SOURCES, certificate=str(path)), 1)
        (tmp_path / "broken.pem").write_text("no certificate")


def test_a_login_that_is_refused_is_not_shown(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.login = "me:another"
    with pytest.raises(DeployError) as error:
        download_all([wanted(server, tmp_path / "one.bin", url=f"http://me:{SECRET}@{server.host}{PATH}")], client)
    assert error.value.problem == f"one: {server.url}{PATH} is refused without a valid login (HTTP 401)"
    assert "~/.netrc" in error.value.fix
    assert SECRET not in str(error.value)


def test_an_unreachable_server_is_named(tmp_path: Path, server: PackageServer, client: httpx.Client) -> None:
    server.close()
    with pytest.raises(
        DeployError, match=r"one cannot be fetched from http://127\.0\.0\.1.*Connection refused"
    ) as error:
        download_all([wanted(server, tmp_path / "one.bin", url=f"http://me:{SECRET}@{server.host}{PATH}")], client)
    assert SECRET not in str(error.value)


def test_a_file_of_this_machine_is_linked_never_written_to(
    tmp_path: Path, server: PackageServer, client: httpx.Client
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    (tmp_path / "bundle").mkdir()
    fetched = download_all([wanted(server, tmp_path / "bundle" / "one.bin", url=source.as_uri())], client)
    assert fetched == Fetched(1, 0)
    assert os.path.samefile(source, tmp_path / "bundle" / "one.bin")
    source.write_bytes(b"changed")
    with pytest.raises(DeployError, match="is not the locked file"):
        download_all([wanted(server, tmp_path / "bundle" / "two.bin", url=source.as_uri())], client)
    assert left(tmp_path / "bundle") == ["one.bin"]


def test_a_full_disk_is_said_and_the_part_stays(
    tmp_path: Path, server: PackageServer, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = downloads._Part.append

    def full(part: downloads._Part, block: bytes) -> None:
        if part.size > 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(part, block)

    monkeypatch.setattr(downloads._Part, "append", full)
    with pytest.raises(DeployError, match=f"the disk of {tmp_path} is full") as error:
        download_all([wanted(server, tmp_path / "one.bin")], client)
    assert error.value.fix.startswith("make room")
    monkeypatch.undo()
    there = (tmp_path / "one.bin.part").stat().st_size
    download_all([wanted(server, tmp_path / "one.bin")], client)
    assert starts(server) == [0, there]


@pytest.mark.parametrize("size", [len(CONTENT), None], ids=["size known", "size unknown"])
def test_what_cannot_fit_is_not_begun(
    tmp_path: Path,
    server: PackageServer,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    size: int | None,
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DeployError, match=r"has 1\.0 kB free, 262\.1 kB are still to be fetched"):
        download_all([wanted(server, tmp_path / "one.bin", size=size)], client)
    assert len(server.requests) == (0 if size else 1)
    assert not (tmp_path / "one.bin").exists()


@pytest.mark.parametrize(
    ("number", "problem", "fix"),
    [
        (errno.ENOSPC, "the disk of /bundle is full", "make room"),
        (errno.EROFS, "/bundle/x cannot be written: Read-only file system", "make the folder writable"),
        (errno.EACCES, "/bundle/x cannot be written: Permission denied", "make the folder writable"),
        (errno.EIO, "/bundle/x: Input/output error", "check that disk"),
    ],
)
def test_what_the_disk_says_is_one_line_with_a_fix(number: int, problem: str, fix: str) -> None:
    with pytest.raises(DeployError) as error, disk_errors_explained(Path("/bundle")):
        raise OSError(number, os.strerror(number), "/bundle/x")
    assert error.value.problem == problem
    assert error.value.fix.startswith(fix)
    assert error.value.detail == ""
