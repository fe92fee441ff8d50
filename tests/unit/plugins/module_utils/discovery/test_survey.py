"""Every environment of a host: real ones, found by what tools write down, by processes and by services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.discovery import survey
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import Owner, owner_of
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sources import Candidate, Home
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.survey import (
    Environment,
    environments_among,
    read_environments,
    short_path,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from tests.unit.plugins.module_utils.discovery.test_prefixes import SITE, conda_prefix, install, write


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is all of a host: its one home, its root of a deployment, and no other places."""
    home = tmp_path / "home" / "me"
    home.mkdir(parents=True)
    homes = [Home("me", str(home), owner_of(str(home)))]
    monkeypatch.setattr(survey, "all_homes", lambda everyone: (homes, []))
    monkeypatch.setattr(survey, "programs", list)
    monkeypatch.setattr("ansible_collections.deployer.sglang.plugins.module_utils.discovery.sources.SYSTEM_ROOTS", ())
    yield tmp_path


def read(host: Path, **arguments: Any) -> dict[str, dict[str, Any]]:
    result = read_environments(str(host / "root"), **arguments)
    json.dumps(result).encode()
    return {one["short_path"].replace(str(host), ""): one for one in result["environments"]}


def test_environments_are_listed_with_what_uses_them(host: Path) -> None:
    base = conda_prefix(host / "home/me/miniconda3")
    (base / "condabin").mkdir()
    sglang = conda_prefix(base / "envs/sglang")
    install(sglang, "sglang", "0.4.9.post2")
    shared = write(base / "pkgs/python/file", b"x" * 8192)
    for prefix in (base, sglang):
        os.link(shared, prefix / "bin/shared")
    write(host / "home/me/project/.venv/pyvenv.cfg", "version = 3.12.1\n")
    folder = Store(str(host / "root")).service("code2sql")
    write(
        Path(folder.release("aaa"), "release.json"),
        json.dumps({"id": "aaa", "environment": {"path": str(host / "home/me/miniconda3/envs/sglang")}}),
    )
    os.symlink("releases/aaa", folder.link("current"))
    found = read(host)
    assert list(found) == ["~me/miniconda3", "~me/miniconda3/envs/sglang"]
    assert found["~me/miniconda3"]["name"] == "base"
    used = found["~me/miniconda3/envs/sglang"]
    assert used["used_by"] == {
        "services": [{"service": "code2sql", "release": "aaa", "as": "current"}],
        "processes": [],
        "process_count": 0,
    }
    assert used["suits"] == ["sglang"]
    assert used["shared_bytes"] == found["~me/miniconda3"]["shared_bytes"] == 8192
    total = read_environments(str(host / "root"))["total_bytes"]
    assert total == sum(one["size"] for one in found.values()) - 8192


def test_an_environment_that_a_release_needs_and_that_is_gone_is_listed(host: Path) -> None:
    folder = Store(str(host / "root")).service("code2sql")
    write(Path(folder.release("aaa"), "release.json"), json.dumps({"environment": {"path": f"{host}/gone"}}))
    os.symlink("releases/aaa", folder.link("previous"))
    found = read(host)
    assert found["/gone"]["problem"].startswith("is not there")
    assert found["/gone"]["used_by"]["services"][0]["as"] == "previous"


def test_one_environment_by_several_paths_is_one(host: Path) -> None:
    data = conda_prefix(host / "data/conda/envs/a")
    (host / "home/me/miniconda3").symlink_to(host / "data/conda")
    write(host / "home/me/.conda/environments.txt", f"{host}/home/me/miniconda3/envs/a\n{data}/\n{data}\n")
    found = read(host)
    assert list(found) == ["/data/conda/envs/a"]
    assert found["/data/conda/envs/a"]["aliases"] == [f"{host}/home/me/miniconda3/envs/a"]


def test_a_venv_counts_with_an_engine_or_when_something_runs_from_it(host: Path) -> None:
    plain, engine = host / "a", host / "b"
    for prefix in (plain, engine):
        write(prefix / "pyvenv.cfg", "version = 3.11.1\n")
    install(engine, "llamafactory", "0.9.3")
    candidates = [Candidate(str(prefix), for_engine=True) for prefix in (plain, engine)]
    assert [one.path for one in environments_among(candidates)[0]] == [str(engine)]
    assert [one.path for one in environments_among(candidates, [str(plain)])[0]] == [str(plain), str(engine)]


def test_a_python_alone_is_no_environment_unless_an_engine_was_put_into_it(host: Path) -> None:
    write(host / "python/bin/python")
    (host / "python" / SITE).mkdir(parents=True)
    candidates = [Candidate(str(host / "python"))]
    assert environments_among(candidates, [str(host / "python")]) == ([], [])
    install(host / "python", "sglang", "0.5.3")
    (found,), _ = environments_among(candidates)
    assert (found.facts.kind, found.facts.suits, found.facts.problems) == ("python", ("sglang",), ())


def test_what_conda_left_behind_is_listed_and_what_never_was_one_is_not(host: Path) -> None:
    envs = host / "home/me/miniconda3/envs"
    (envs / "half" / SITE).mkdir(parents=True)
    write(envs / "half/bin/python")
    (envs / "empty").mkdir()
    (host / "registered").mkdir()
    write(host / "home/me/.conda/environments.txt", f"{host}/registered\n{host}/gone\n")
    found = read(host)
    assert list(found) == ["~me/miniconda3/envs/half", "/registered"]
    assert "removed by half" in found["~me/miniconda3/envs/half"]["problem"]
    assert "conda-meta is missing" in found["/registered"]["problem"]


def test_limits_are_kept_and_told(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        conda_prefix(host / f"home/me/.conda/envs/{number}")
    monkeypatch.setattr(survey, "MOST_ENVIRONMENTS", 3)
    result = read_environments(str(host / "root"), budget=0)
    assert len(result["environments"]) == 3
    assert result["truncated"] == [
        "the search in homes ended after 0 folders",
        "of 4 environments 3 were read",
        "3 environments were not measured within 0 s",
    ]
    assert {one["size"] for one in result["environments"]} == {None}
    assert read_environments(str(host / "root"), sizes=False)["total_bytes"] is None


def test_what_a_terminal_must_not_get_is_replaced(host: Path) -> None:
    conda_prefix(host / "home/me/.conda/envs/a\x1b[2Jb")
    conda_prefix(host / os.fsdecode(b"home/me/.conda/envs/\xff\nx"))
    found = read(host)
    assert list(found) == ["~me/.conda/envs/a?[2Jb", "~me/.conda/envs/\ufffd?x"]
    assert all("cannot be shown" in one["problem"] for one in found.values())


def test_a_path_in_a_home_is_shortened() -> None:
    homes = [Home("a", "/home/a", Owner(1, 1)), Home("svc", "/home/a/svc", Owner(2, 2))]
    assert short_path("/home/a/svc/x", homes) == "~svc/x"
    assert short_path("/home/a/x", homes) == "~a/x"
    assert short_path("/home/ab", homes) == "/home/ab"


def test_a_result_has_the_same_keys_for_every_environment(host: Path) -> None:
    gone = Environment("/x").as_dict()
    conda_prefix(host / "home/me/.conda/envs/a")
    assert next(iter(read(host).values())).keys() == gone.keys()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")
def test_another_user_sees_what_it_may_read_and_fails_at_nothing(tmp_path: Path) -> None:
    code = (
        "import json, os\n"
        "from ansible_collections.deployer.sglang.plugins.module_utils.discovery.survey import read_environments\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps(read_environments('/opt/inference', budget=20)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["user"] == "nobody"
    assert any("cannot be read by nobody" in line for line in result["truncated"])


BUNDLE = Path.home() / ".cache/sglang-deployer/demo/environments/sglang-cpu/bundle"


@pytest.mark.skipif(not (BUNDLE / "installer").is_dir(), reason="needs the inputs of the demo: python -m demo inputs")
def test_the_real_module_finds_a_real_venv_that_runs_and_an_unfinished_build(tmp_path: Path) -> None:
    """Through Ansible, with the wheel of the real SGLang in a real venv that a real process runs from."""
    venv = tmp_path / "code" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    wheel = next((BUNDLE / "wheels").glob("sglang-*.whl"))
    unpack = f"import zipfile; zipfile.ZipFile({str(wheel)!r}).extractall({str(site)!r})"
    subprocess.run([sys.executable, "-c", unpack], check=True)
    write(tmp_path / "root/artifacts/environments/llm-0123456789ab/.building")
    with subprocess.Popen([venv / "bin/python", "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = by_ansible(f"root={tmp_path}/root users=own")
        process.communicate(b"\n")
    one = found[str(venv.resolve())]
    assert one["versions"]["sglang"] == wheel.name.split("-")[1]
    assert one["suits"] == ["sglang"]
    assert process.pid in [process["pid"] for process in one["used_by"]["processes"]]
    assert one["size"] > 10 * 2**20
    assert not found[f"{tmp_path}/root/artifacts/environments/llm-0123456789ab"]["finished"]


def by_ansible(arguments: str) -> dict[str, Any]:
    """The environments by path, as `ansible localhost` reports them; it changes nothing, so also in check mode."""
    environment = {
        **os.environ,
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
    }
    ansible = Path(sys.executable).with_name("ansible")
    done = subprocess.run(
        [ansible, "localhost", "--check", "-m", "deployer.sglang.conda_env_info", "-a", arguments, "-o"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[4],
        env=environment,
    )
    result = json.loads(done.stdout.partition("=>")[2])
    assert result["changed"] is False
    return {one["path"]: one for one in result["environments"]}
