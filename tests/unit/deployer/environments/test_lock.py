"""Locking with the real py-rattler and uv, against a double of a channel and an index on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import load_lock, parse_needs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments import sources as package_sources
from deployer.environments.bundle import make_bundle
from deployer.environments.environment_file import parse_environment
from deployer.environments.lock import LockSummary, PackageChange, check_lock, lock_environment, write_both
from deployer.environments.sources import read_sources
from tests.doubles.package_registry import Registry, conda_record, wheel_content

LOGIN = "me:hunter2secret"
ENVIRONMENT = """channels: [team]
dependencies:
  - python =3.12
  - pip:
      - alpha
"""


def make_conda_package(folder: Path, name: str, version: str) -> Path:
    folder.mkdir(parents=True)
    path = folder / f"{name}-{version}-0.tar.bz2"
    content = json.dumps(conda_record(name, version)).encode()
    with tarfile.open(path, "w:bz2") as archive:
        member = tarfile.TarInfo("info/index.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(autouse=True)
def settings_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_sources, "pip_settings", dict)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache" / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("NETRC", "/dev/null")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("M_LOGIN", LOGIN)


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A channel and an index that want a login."""
    double = Registry(LOGIN)
    double.set_channel(
        conda_record("python", "3.12.4", "libb >=1", "__glibc >=2.28,<3.0.a0"),
        conda_record("libb", "1.2"),
        conda_record("libb", "1.3"),
        conda_record("gpulib", "1.0", "__cuda >=13"),
        conda_record("beta", "1.0", "python"),
    )
    double.add_wheel("alpha", "1.0", "beta>=1")
    double.add_wheel("alpha", "1.1", "beta>=1", "windowsonly ; sys_platform == 'win32'")
    double.add_wheel("beta", "1.0", tag="cp312-cp312-manylinux_2_28_x86_64")
    double.add_wheel("beta", "1.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    double.add_wheel("newer", "1.0", tag="cp313-cp313-manylinux_2_17_x86_64")
    double.add_wheel("needs_beta_2", "1.0", "beta>=2")
    yield double
    double.server.shutdown()
    double.server.server_close()


@pytest.fixture
def sources_file(tmp_path: Path, registry: Registry) -> Path:
    """The sources.yml that names the registry's channel and index."""
    path = tmp_path / "environments" / "sources.yml"
    path.parent.mkdir()
    path.write_text(
        f'channels: {{team: "http://${{M_LOGIN}}@{registry.host}/channel"}}\n'
        f'indexes: ["http://${{M_LOGIN}}@{registry.host}/simple"]\nfind_links: []\n'
    )
    return path


@pytest.fixture
def folder(sources_file: Path) -> Path:
    """An environment's folder."""
    folder = sources_file.parent / "sglang"
    folder.mkdir()
    (folder / "environment.yml").write_text(ENVIRONMENT)
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every argument that a child process is started with."""
    seen: list[str] = []
    run = subprocess.run

    def noting(command: list[Any], **options: Any) -> Any:
        seen.extend(map(str, command))
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", noting)
    yield seen


def lock(folder: Path, **options: Any) -> LockSummary:
    return lock_environment(folder, read_sources(folder), **options)


def refusal(folder: Path, *dependencies: str, pip: str = "") -> DeployError:
    lines = "".join(f"\n- {dependency}" for dependency in dependencies) + (f"\n- pip: [{pip}]" if pip else "")
    (folder / "environment.yml").write_text(f"channels: [team]\ndependencies:{lines}\n")
    with pytest.raises(DeployError) as error:
        lock(folder)
    assert "hunter2" not in str(error.value)
    assert error.value.fix
    assert "\n" not in error.value.problem
    assert not list(folder.glob("*.lock*"))
    return error.value


def test_locks_conda_in_dependency_order_and_one_wheel_a_package(folder: Path) -> None:
    summary = lock(folder)
    assert (folder / "conda-linux-64.lock").read_text().splitlines() == [
        "# Made by `deployer lock sglang` from environment.yml: change that, and lock again.",
        "# platform: linux-64",
        f"# inputs: sha256:{parse_environment(ENVIRONMENT).digest}",
        f"# digest: sha256:{load_lock(folder).digest}",
        "# python: 3.12.4",
        "# glibc: 2.28",
        f"# download: {summary.download}",
        "@EXPLICIT",
        *(
            f"https://conda.anaconda.org/team/linux-64/{name}-{version}-0.conda"
            f"#sha256:{hashlib.sha256(f'{name} {version}'.encode()).hexdigest()}"
            for name, version in (("libb", "1.3"), ("python", "3.12.4"))
        ),
    ]
    text = (folder / "requirements.lock").read_text()
    assert "# beta-1.0-cp312-cp312-manylinux_2_17_x86_64.whl, " in text
    assert "windowsonly" not in text
    locked = load_lock(folder)
    assert [(wheel.name, wheel.version, len(wheel.sha256)) for wheel in locked.wheels] == [
        ("alpha", "1.1", 1),
        ("beta", "1.0", 1),
    ]
    assert parse_needs(text) == locked.needs
    assert (summary.conda, summary.wheels, summary.python, summary.glibc, summary.cuda) == (2, 2, "3.12.4", "2.28", "")
    assert summary.download > 2000
    assert [change.name for change in summary.added] == ["alpha", "beta", "libb", "python"]
    assert (summary.unsized, summary.removed, summary.changed, summary.written) == (0, (), (), True)


def test_same_inputs_give_the_same_bytes(folder: Path) -> None:
    lock(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    summary = lock(folder)
    assert not summary.written
    assert summary.lines() == [
        "2 conda packages, 2 wheels: python 3.12.4, glibc 2.28; 3.1 kB",
        "the lock is as it was",
    ]
    for path in folder.glob("*.lock"):
        path.unlink()
    lock(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_versions_are_kept_until_upgrade(folder: Path, registry: Registry, tmp_path: Path) -> None:
    lock(folder)
    registry.add_wheel("alpha", "1.2", "beta>=1")
    registry.set_channel(*(conda_record("libb", v) for v in ("1.3", "1.4")), conda_record("python", "3.12.4", "libb"))
    shutil.rmtree(tmp_path / "cache")
    kept = lock(folder)
    assert kept.changed == ()
    upgraded = lock(folder, upgrade=True)
    assert upgraded.changed == (PackageChange("alpha", "1.1", "1.2"), PackageChange("libb", "1.3 0", "1.4 0"))
    assert upgraded.lines()[1:] == ["~ alpha 1.1 → 1.2", "~ libb 1.3 0 → 1.4 0"]


def test_what_conda_installs_is_not_locked_as_a_wheel(folder: Path) -> None:
    (folder / "environment.yml").write_text(ENVIRONMENT.replace("  - pip:", "  - beta\n  - pip:"))
    lock(folder)
    assert [wheel.name for wheel in load_lock(folder).wheels] == ["alpha"]


def test_conda_and_pip_may_not_want_different_versions(folder: Path) -> None:
    direct = refusal(folder, "python", "beta", pip='"beta>=2"')
    assert "line 5: pip is to install beta>=2, conda installs beta 1.0" in direct.problem
    extra = refusal(folder, "python", "beta", pip='"beta[more]"')
    assert "leaves out what beta[more] adds" in extra.problem
    indirect = refusal(folder, "python", "beta", pip="needs_beta_2")
    assert "cannot be installed together beside beta 1.0 from conda" in indirect.problem
    assert "needs-beta-2" in indirect.detail
    assert "file://" not in indirect.detail


@pytest.mark.parametrize(
    ("dependencies", "pip", "problem", "fix"),
    [
        (["python", "nothere"], "", "line 4: there is no package nothere for linux-64 in team (http://", "pip:"),
        (["python =3.9"], "", "there is no python 3.9.* for linux-64 in team", "a version"),
        (["python", "gpulib"], "", "conda dependencies cannot be installed together", "__cuda"),
        (["python =x=y=z"], "", "environment.yml", ""),
        (["libb"], "", "its conda dependencies bring no python", "- python =3.12"),
        (["python"], "nosuch", "line 4: there is no package nosuch in http://127.0.0.1", "spelling"),
        (["python"], '"alpha>=9"', "line 4: there is no alpha>=9 in http://127.0.0.1", "a version"),
        (["python"], 'alpha, "beta<1"', "pip requirements cannot be installed together", "loosen"),
        (
            ["python"],
            "newer",
            "line 4: newer 1.0 has no wheel for Python 3.12 on linux-64 with glibc 2.34",
            "find_links",
        ),
    ],
)
def test_what_cannot_be_solved_is_named(
    folder: Path, dependencies: list[str], pip: str, problem: str, fix: str
) -> None:
    error = refusal(folder, *dependencies, pip=pip)
    assert problem in error.problem
    assert fix in error.fix


def test_credentials_are_nowhere(folder: Path, tmp_path: Path, commands: list[str]) -> None:
    lines: list[str] = []
    lock(folder, progress=lines.append)
    files = [*folder.rglob("*"), *tmp_path.joinpath("cache").rglob("*")]
    written = b"".join(path.read_bytes() for path in files if path.is_file())
    assert len(commands) > 10
    assert lines
    for text in (" ".join(commands), " ".join(lines), written.decode(errors="replace")):
        assert "hunter2" not in text
        assert "aHVudGVyMnNlY3JldA" not in text  # its base64


def test_tokens_in_addresses_are_nowhere(
    folder: Path,
    registry: Registry,
    sources_file: Path,
    tmp_path: Path,
    commands: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("M_TOKEN", "tok-en-123456")
    url = f"http://{registry.host}/t/${{M_TOKEN}}"
    sources_file.write_text(f'channels: {{team: "{url}/channel"}}\nindexes: ["{url}/simple"]\nfind_links: []\n')
    assert lock(folder).wheels == 2
    assert "conda.anaconda.org/team/linux-64/python" in (folder / "conda-linux-64.lock").read_text()
    files = [*folder.rglob("*"), *tmp_path.joinpath("cache").rglob("*")]
    assert not any(b"tok-en" in path.read_bytes() for path in files if path.is_file())
    assert "tok-en" not in " ".join(commands)
    monkeypatch.setenv("M_TOKEN", "tok-en-wrong")
    for path in folder.glob("*.lock"):
        path.unlink()
    error = refusal(folder, "python")
    assert "it answers 401" in error.problem
    assert "tok-en" not in str(error)


def test_wrong_credentials_name_the_channel_and_the_index(
    folder: Path, registry: Registry, sources_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M_LOGIN", "me:hunter2wrong")
    channel = refusal(folder, "python")
    assert f"channel team (http://{registry.host}/channel) cannot be read: it answers 401" in channel.problem
    assert "netrc" in channel.fix
    monkeypatch.setenv("RIGHT", LOGIN)
    sources_file.write_text(sources_file.read_text().replace("${M_LOGIN}", "${RIGHT}", 1))
    index = refusal(folder, "python", pip="alpha")
    assert index.problem == f"index http://{registry.host}/simple answers 401 Unauthorized"
    assert "netrc" in index.fix


def test_netrc_serves_channel_and_index(
    folder: Path, sources_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, _, password = LOGIN.partition(":")
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {user} password {password}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    sources_file.write_text(sources_file.read_text().replace("${M_LOGIN}@", ""))
    assert lock(folder).wheels == 2


def test_nobody_listening_is_a_network_matter(folder: Path, registry: Registry, sources_file: Path) -> None:
    sources_file.write_text(sources_file.read_text().replace(f"{registry.host}/simple", "127.0.0.1:9/simple"))
    error = refusal(folder, "python", pip="alpha")
    assert error.problem.startswith("http://127.0.0.1:9/simple/alpha/ cannot be fetched: ")
    assert "proxy" in error.fix


def test_folders_serve_as_channel_and_find_links(folder: Path, tmp_path: Path) -> None:
    python = make_conda_package(folder / "channel" / "linux-64", "python", "3.12.9")
    (tmp_path / "my wheels").mkdir()
    (tmp_path / "my wheels" / "gamma-1.0+cpu-py3-none-any.whl").write_bytes(wheel_content("gamma", "1.0+cpu"))
    (folder / "environment.yml").write_text("channels: [./channel]\ndependencies: [python, {pip: [gamma]}]\n")
    (folder.parent / "sources.yml").write_text("indexes: []\nfind_links: [../my wheels]\n")
    summary = lock(folder)
    locked = load_lock(folder)
    assert locked.conda[0].url == python.as_uri()
    assert locked.conda[0].sha256 == hashlib.sha256(python.read_bytes()).hexdigest()
    assert [(wheel.name, wheel.version) for wheel in locked.wheels] == [("gamma", "1.0+cpu")]
    assert (summary.python, summary.unsized) == ("3.12.9", 0)
    assert check_lock(folder, read_sources(folder)) == []
    python.unlink()
    assert check_lock(folder, read_sources(folder)) == [f"{python} is not there any more"]


def test_a_folder_that_is_no_channel_is_named(folder: Path) -> None:
    (folder / "environment.yml").write_text("channels: [./channel]\ndependencies: [python]\n")
    with pytest.raises(DeployError, match=r"channel \./channel .*cannot be read: .* has neither linux-64/ nor noarch/"):
        lock(folder)
    (folder / "channel" / "noarch").mkdir(parents=True)
    (folder / "channel" / "noarch" / "a-1-0.tar.bz2").write_bytes(b"no package")
    with pytest.raises(DeployError, match="cannot be read"):
        lock(folder)


def test_record_without_sha256_is_refused(folder: Path, registry: Registry) -> None:
    record = conda_record("python", "3.12.4")
    registry.set_channel({key: value for key, value in record.items() if key != "sha256"})
    assert "python-3.12.4-0.conda has no sha256" in refusal(folder, "python").problem


def test_defaults_is_not_a_channel(folder: Path) -> None:
    (folder / "environment.yml").write_text("channels: [defaults]\ndependencies: [python]\n")
    with pytest.raises(DeployError, match="the channel defaults is several"):
        lock(folder)


def test_check_says_what_is_stale(folder: Path) -> None:
    sources = read_sources(folder)
    assert check_lock(folder, sources) == ["conda-linux-64.lock is missing", "requirements.lock is missing"]
    lock(folder)
    (folder / "environment.yml").write_text(f"# a comment\n{ENVIRONMENT}")
    assert check_lock(folder, sources) == []
    (folder / "virtual-packages.yml").write_text('subdirs: {linux-64: {packages: {__cuda: "13.0"}}}')
    assert check_lock(folder, sources) == ["environment.yml or virtual-packages.yml has changed since"]
    text = (folder / "requirements.lock").read_text()
    (folder / "requirements.lock").write_text(text.replace("3.12.4", "3.12.5"))
    assert "are not of one run" in check_lock(folder, sources)[0]
    (folder / "requirements.lock").write_text("alpha\n")
    assert "is not name==version" in check_lock(folder, sources)[0]
    (folder / "requirements.lock").write_text(text)
    conda = folder / "conda-linux-64.lock"
    conda.write_text("\n".join(line for line in conda.read_text().splitlines() if not line.startswith("# inputs")))
    assert "was not written by" in check_lock(folder, sources)[0]


def test_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")
    replace = Path.replace

    def full_at_b(self: Path, target: Path) -> Path:
        if target.name == "b":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full_at_b)
    with pytest.raises(DeployError, match="cannot be written: No space left"):
        write_both(tmp_path, {"a": "new", "b": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_lock_that_was_edited_is_stale_and_not_fetched(folder: Path, tmp_path: Path) -> None:
    sources = read_sources(folder)
    lock_environment(folder, sources)
    assert check_lock(folder, sources) == []
    lock = folder / "requirements.lock"
    lock.write_text("".join(line for line in lock.read_text().splitlines(keepends=True) if not line.startswith("beta")))
    assert check_lock(folder, sources) == ["conda-linux-64.lock or requirements.lock was edited since it was written"]
    with pytest.raises(DeployError, match="was edited since it was written"):
        make_bundle(folder, tmp_path / "bundle", sources=sources)
