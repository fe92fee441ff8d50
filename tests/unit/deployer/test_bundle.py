"""make_bundle with the real pip and the real channel index, on wheels and packages made here."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import environment_lock
from ansible_collections.deployer.sglang.plugins.module_utils.environment_lock import (
    CONDA_LOCK,
    bundle_problems,
    damaged_files,
    lock_digest,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer import bundle as bundle_module
from deployer.bundle import make_bundle
from tests.doubles.bundle_files import use_installer_doubles, write_lock, write_python_package, write_wheel


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two wheels and the installers' doubles; pip sees nothing but this folder."""
    folder = tmp_path / "sources"
    for name in ("alpha", "beta"):
        write_wheel(folder, name, "1.0")
    use_installer_doubles(folder, monkeypatch)
    monkeypatch.setattr(bundle_module, "INSTALLERS", environment_lock.INSTALLERS)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def lock(tmp_path: Path, sources: Path) -> Path:
    python = write_python_package(tmp_path / "channel" / "linux-64")
    return write_lock(tmp_path / "lock", python, sorted(sources.glob("[ab]*.whl")))


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(bundle_module, "_download", refuse)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("no_download")
def test_takes_wheels_from_the_sources(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert bundle_problems(bundle) == []
    assert damaged_files(bundle) == []
    assert lock_digest(bundle) == lock_digest(lock)
    assert names(bundle / "wheels") == {"alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"}
    repodata = json.loads((bundle / "conda" / "linux-64" / "repodata.json").read_text())
    assert list(repodata["packages"]) == [path.name for path in (bundle / "conda" / "linux-64").glob("python-*")]


def test_downloads_what_the_sources_lack(tmp_path: Path, lock: Path) -> None:
    make_bundle(lock, tmp_path / "bundle")
    assert damaged_files(tmp_path / "bundle") == []
    assert bundle_problems(tmp_path / "bundle") == []


def test_a_second_run_does_nothing(tmp_path: Path, lock: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    monkeypatch.setattr(bundle_module, "hash_file", lambda path: pytest.fail(f"{path} was read"))
    lines: list[str] = []
    make_bundle(lock, bundle, wheel_sources=[sources], progress=lines.append)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    assert lines == []


@pytest.mark.usefixtures("no_download")
def test_repairs_what_changed_since(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    (bundle / "wheels" / "alpha-1.0-py3-none-any.whl").unlink()
    (bundle / "wheels" / "beta-1.0-py3-none-any.whl").unlink()
    (bundle / "wheels" / "beta-1.0-py3-none-any.whl").write_bytes(b"half")
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert damaged_files(bundle) == []
    assert bundle_problems(bundle) == []


@pytest.mark.usefixtures("no_download")
def test_another_lock_leaves_nothing_of_the_one_before(tmp_path: Path, lock: Path, sources: Path) -> None:
    bundle = tmp_path / "bundle"
    make_bundle(lock, bundle, wheel_sources=[sources])
    python = next((tmp_path / "channel" / "linux-64").iterdir())
    write_lock(lock, python, [sources / "alpha-1.0-py3-none-any.whl"])
    make_bundle(lock, bundle, wheel_sources=[sources])
    assert names(bundle / "wheels") == {"alpha-1.0-py3-none-any.whl"}
    assert lock_digest(bundle) == lock_digest(lock)


def test_an_unknown_wheel_is_named(tmp_path: Path, lock: Path, sources: Path) -> None:
    (sources / "beta-1.0-py3-none-any.whl").unlink()
    with pytest.raises(DeployError, match="pip could not download") as error:
        make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert "beta==1.0" in error.value.detail
    assert error.value.fix


@pytest.fixture
def channel_url(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    folder = tmp_path / "channel"
    folder.mkdir(exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def over_http(lock: Path, channel: Path, url: str) -> None:
    text = (lock / CONDA_LOCK).read_text()
    (lock / CONDA_LOCK).write_text(text.replace(channel.as_uri(), url))


@pytest.mark.usefixtures("no_download")
def test_fetches_conda_packages_over_http(tmp_path: Path, lock: Path, sources: Path, channel_url: str) -> None:
    over_http(lock, tmp_path / "channel", channel_url)
    make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert damaged_files(tmp_path / "bundle") == []


def test_a_package_that_was_replaced_is_refused(tmp_path: Path, lock: Path, sources: Path, channel_url: str) -> None:
    over_http(lock, tmp_path / "channel", channel_url)
    package = next((tmp_path / "channel" / "linux-64").iterdir())
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(DeployError, match="is not the locked file: sha256 wanted") as error:
        make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert package.name in error.value.problem
    assert names(tmp_path / "bundle" / "conda" / "linux-64") == set()


def test_a_package_that_is_gone_is_named(tmp_path: Path, lock: Path, sources: Path, channel_url: str) -> None:
    over_http(lock, tmp_path / "channel", channel_url)
    next((tmp_path / "channel" / "linux-64").iterdir()).unlink()
    with pytest.raises(DeployError, match="cannot be fetched") as error:
        make_bundle(lock, tmp_path / "bundle", wheel_sources=[sources])
    assert channel_url in error.value.problem
