"""make_bundle with the real channel index, on wheels and packages made here, from folders and from a package server."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments import lock as environment_lock
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    CONDA_LOCK,
    bundle_problems,
    damaged_files,
    lock_digest,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments import bundle as bundle_module
from deployer.environments.bundle import make_bundle
from deployer.environments.sources import PackageSources
from deployer.progress import Silent
from tests.doubles.bundle_files import use_installer_doubles, write_lock, write_python_package, write_wheel
from tests.doubles.package_server import Fault, PackageServer
from tests.unit.deployer.environments.conftest import NO_SOURCES

SECRET = "s3cret-of-the-index"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two wheels and the installers' doubles; no index is set, not even pip's."""
    folder = tmp_path / "sources"
    for name in ("alpha", "beta"):
        write_wheel(folder, name, "1.0")
    use_installer_doubles(folder, monkeypatch)
    monkeypatch.setattr(bundle_module, "INSTALLERS", environment_lock.INSTALLERS)
    monkeypatch.setattr(bundle_module, "read_sources", lambda lock: NO_SOURCES)
    return folder


@pytest.fixture
def lock(tmp_path: Path, sources: Path) -> Path:
    python = write_python_package(tmp_path / "channel" / "linux-64")
    return write_lock(tmp_path / "lock", python, sorted(sources.glob("[ab]*.whl")))


@pytest.fixture
def served(server: PackageServer, tmp_path: Path, lock: Path, sources: Path) -> PackageSources:
    """Everything on the server, behind a login; it is a mirror of the channel that the lock names."""
    for wheel in sources.glob("*.whl"):
        server.add(wheel)
    for package in (tmp_path / "channel" / "linux-64").iterdir():
        server.add(package, "channel/linux-64")
    text = (lock / CONDA_LOCK).read_text()
    channel = "https://channel.example/main"
    (lock / CONDA_LOCK).write_text(text.replace((tmp_path / "channel").as_uri(), channel))
    server.login = f"me:{SECRET}"
    mine = f"http://me:{SECRET}@{server.host}"
    return PackageSources({channel: f"{mine}/channel"}, (f"{mine}/simple",), public_index=False)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_takes_wheels_from_the_sources(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert bundle_problems(bundle) == []
    assert damaged_files(bundle) == []
    assert lock_digest(bundle) == lock_digest(lock)
    assert names(bundle / "wheels") == {"alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"}
    repodata = json.loads((bundle / "conda" / "linux-64" / "repodata.json").read_text())
    assert list(repodata["packages"]) == [path.name for path in (bundle / "conda" / "linux-64").glob("python-*")]


def test_a_second_run_does_nothing(tmp_path: Path, lock: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    monkeypatch.setattr(bundle_module, "hash_file", lambda path: pytest.fail(f"{path} was read"))
    lines: list[str] = []
    make_bundle(lock, bundle, wheel_sources=[sources], progress=lines.append)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    assert lines == [f"bundle {bundle}: complete, nothing to fetch"]


def test_repairs_what_changed_since(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    (bundle / "wheels" / "alpha-1.0-py3-none-any.whl").unlink()
    (bundle / "wheels" / "beta-1.0-py3-none-any.whl").unlink()
    (bundle / "wheels" / "beta-1.0-py3-none-any.whl").write_bytes(b"half")
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert damaged_files(bundle) == []
    assert bundle_problems(bundle) == []


def test_another_lock_leaves_nothing_of_the_one_before(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    python = next((tmp_path / "channel" / "linux-64").iterdir())
    write_lock(lock, python, [sources / "alpha-1.0-py3-none-any.whl"])
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert names(bundle / "wheels") == {"alpha-1.0-py3-none-any.whl"}
    assert lock_digest(bundle) == lock_digest(lock)


def test_a_wheel_that_is_nowhere_is_named(tmp_path: Path, lock: Path, sources: Path) -> None:
    (sources / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DeployError, match=r"beta==1\.0 is not at any folder of wheels") as error:
        make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert error.value.fix


def file_requests(server: PackageServer) -> list[str]:
    return sorted(request.path for request in server.requests if not request.path.startswith("/simple/"))


def test_everything_comes_from_a_server_once(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    lines: list[str] = []
    make_bundle(lock, tmp_path / "bundle", sources=served, progress=lines.append)
    assert bundle_problems(tmp_path / "bundle") == []
    assert damaged_files(tmp_path / "bundle") == []
    assert file_requests(server) == sorted(server.files)
    total = sum(map(len, server.files.values()))
    assert lines[-1].endswith(f"verified; of that 5 files new, {total / 1000:.1f} kB by network")
    asked = len(server.requests)
    make_bundle(lock, tmp_path / "bundle", sources=served)
    (tmp_path / "bundle" / "bundle.json").unlink()
    make_bundle(lock, tmp_path / "bundle", sources=served)
    assert len(server.requests) == asked


def test_conda_packages_wheels_and_installers_come_at_once(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    server.gate = threading.Barrier(5)
    make_bundle(lock, tmp_path / "bundle", sources=served)
    assert server.most_at_once == 5


def test_a_run_that_failed_is_continued(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    name = next(path for path in server.files if "channel" in path)
    size = len(server.files[name])
    server.faults[name] = [Fault(bytes=100), Fault(403)]
    with pytest.raises(DeployError, match="HTTP 403"):
        make_bundle(lock, tmp_path / "bundle", sources=served)
    make_bundle(lock, tmp_path / "bundle", sources=served)
    channel = server.requests_for("/channel/")
    assert [(request.start, request.sent) for request in channel] == [(0, 100), (0, 0), (100, size - 100)]
    assert list((tmp_path / "bundle").rglob("*.part")) == []
    assert damaged_files(tmp_path / "bundle") == []


def test_parts_of_what_is_no_longer_locked_are_removed(
    tmp_path: Path, lock: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "bundle" / "wheels"
    wheels.mkdir(parents=True)
    for name in ("alpha-1.0-py3-none-any.whl.part", "other-1.0-py3-none-any.whl.part", "alpha-1.0.whl.placing"):
        (wheels / name).write_bytes(b"begun")
    with monkeypatch.context() as patch, pytest.raises(DeployError, match="later"):
        patch.setattr(bundle_module, "locate_wheels", failing(DeployError("later")))
        make_bundle(lock, tmp_path / "bundle")
    assert names(wheels) == {"alpha-1.0-py3-none-any.whl.part"}
    make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert names(wheels) == {"alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"}


def test_a_file_of_the_same_version_with_another_hash_does_not_stay(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "wheels").mkdir(parents=True)
    (bundle / "wheels" / "alpha-1.0-1-py3-none-any.whl").write_bytes(b"an earlier lock's build")
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert damaged_files(bundle) == []


def test_pages_without_hashes_are_told_by_downloading(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    server.hashes = False
    server.files["/files/alpha-1.0-1-py3-none-any.whl"] = b"another build"
    make_bundle(lock, tmp_path / "bundle", sources=served)
    assert names(tmp_path / "bundle" / "wheels") == {"alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"}


def failing(error: BaseException) -> object:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    return fail


def refused(lock: Path, bundle: Path, sources: PackageSources) -> DeployError:
    """The error of a run: with a fix, in one line, without credentials."""
    with pytest.raises(DeployError) as error:
        make_bundle(lock, bundle, sources=sources)
    assert SECRET not in str(error.value)
    assert error.value.fix
    assert "\n" not in str(error.value)
    return error.value


def test_a_package_that_was_replaced_is_refused(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    path = next(path for path in server.files if "channel" in path)
    wanted = hashlib.sha256(server.files[path]).hexdigest()
    server.files[path] += b"more"
    got = hashlib.sha256(server.files[path]).hexdigest()
    name = path.rsplit("/", 1)[-1]
    problem = refused(lock, tmp_path / "bundle", served).problem
    assert problem == f"{name} at {server.url}{path} is not the locked file: sha256 wanted {wanted}, got {got}"
    assert names(tmp_path / "bundle" / "conda" / "linux-64") == set()


def test_a_package_that_is_gone_is_named(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    path = next(path for path in server.files if "channel" in path)
    del server.files[path]
    assert (
        f"{path.rsplit('/', 1)[-1]} is not at {server.url}{path}" in refused(lock, tmp_path / "bundle", served).problem
    )


def test_a_wheel_that_the_index_lacks_is_named(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    del server.files["/files/beta-1.0-py3-none-any.whl"]
    problem = refused(lock, tmp_path / "bundle", served).problem
    assert problem == f"beta==1.0 is not at {server.url}/simple"


def test_a_refused_login_is_not_shown(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    server.login = "me:another"
    assert "HTTP 401" in refused(lock, tmp_path / "bundle", served).problem


def test_an_unreachable_index_is_named_once(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer
) -> None:
    server.close()
    problem = refused(lock, tmp_path / "bundle", served).problem
    assert f"cannot be fetched from {server.url}/simple/" in problem


def test_an_unreachable_channel_is_named(
    tmp_path: Path, lock: Path, sources: Path, served: PackageSources, server: PackageServer
) -> None:
    server.close()
    with pytest.raises(DeployError, match=r"python-.* cannot be fetched from http://127.*Connection refused") as error:
        make_bundle(lock, tmp_path / "bundle", sources=served, wheel_sources=[sources])
    assert SECRET not in str(error.value)


def test_ctrl_c_leaves_what_can_be_continued(
    tmp_path: Path, lock: Path, sources: Path, served: PackageSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(Silent):
        def advance(self, size: int) -> None:
            if size > 0:
                raise KeyboardInterrupt

    with pytest.raises(DeployError, match="interrupted") as error:
        make_bundle(lock, tmp_path / "bundle", sources=served, progress=Impatient())
    assert "run it again" in error.value.fix
    assert list((tmp_path / "bundle").rglob("*.part")) != []
    make_bundle(lock, tmp_path / "bundle", sources=served)
    assert damaged_files(tmp_path / "bundle") == []


def test_a_folder_that_cannot_be_made(tmp_path: Path, lock: Path, sources: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match="file/bundle: Not a directory"):
        make_bundle(lock, tmp_path / "file" / "bundle", wheel_sources=[sources])


def test_a_full_disk(tmp_path: Path, lock: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_stamp", failing(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(DeployError, match="is full"):
        make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])


def test_room_for_all_of_the_lock_is_asked_for_first(
    tmp_path: Path, lock: Path, served: PackageSources, server: PackageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = environment_lock.LockNeeds(download=1 << 60)
    monkeypatch.setattr(
        bundle_module, "load_lock", lambda folder: replace(environment_lock.load_lock(folder), needs=needs)
    )
    assert "are still to be fetched" in refused(lock, tmp_path / "bundle", served).problem
    assert file_requests(server) == []


def test_a_second_run_says_that_it_waits(tmp_path: Path, lock: Path, sources: Path) -> None:
    lines: list[str] = []
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    waiting = threading.Event()

    def told(line: str) -> None:
        lines.append(line)
        waiting.set()

    with bundle_module._exclusive(bundle, Silent()):
        second = threading.Thread(
            target=make_bundle, args=(lock, bundle), kwargs={"wheel_sources": [sources], "progress": told}
        )
        second.start()
        assert waiting.wait(60)
        assert not (bundle / "bundle.json").exists()
    second.join(60)
    assert lines[0] == f"another run is making {bundle}: waiting for it"
    assert bundle_problems(bundle) == []
