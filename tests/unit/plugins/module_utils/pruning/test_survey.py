"""What the survey takes for what: the names are those that builds and transfers give."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.pruning import survey
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.survey import take_inventory
from tests.doubles.pruned_host import NOW, PrunedHost, date, digest


def kinds(root: Path) -> dict[str, str]:
    return {os.path.relpath(entry.path, root): entry.kind for entry in take_inventory(str(root)).entries}


def test_the_caches_that_builds_share_are_known() -> None:
    assert os.path.relpath(Caches(Path("cache")).conda("x"), "cache").split("/")[0] in survey.SHARED_CACHES
    assert Caches(Path("cache")).wheels.name in survey.SHARED_CACHES


def test_everything_that_work_leaves_behind_has_its_kind(tmp_path: Path) -> None:
    host = PrunedHost(tmp_path)
    environment, _ = host.environment("e"), host.model("m")
    host.build("b")
    host.incoming("i")
    host.cache("e")
    name = environment.name
    for hidden in (f".{name}.build", f".{name}.replaced", f".{name}.removing", f".{name}.removing.2"):
        environment.with_name(hidden).mkdir()
    environment.with_name(f".{name}.lock").touch()
    (tmp_path / "incoming" / f"{digest('l')}.landing").mkdir()
    (tmp_path / "cache" / "wheels").mkdir()
    (tmp_path / "cache" / ".builds.lock").touch()
    (tmp_path / "artifacts" / "environments" / "empty-0123456789ab").mkdir()
    folder = "artifacts/environments"
    assert kinds(tmp_path) == {
        f"{folder}/{name}": "environment",
        f"{folder}/b-{digest('b')[:12]}": "unfinished build",
        f"{folder}/empty-0123456789ab": "unfinished build",
        f"{folder}/.{name}.build": "unfinished build",
        f"{folder}/.{name}.replaced": "unfinished build",
        f"{folder}/.{name}.removing": "unfinished removal",
        f"{folder}/.{name}.removing.2": "unfinished removal",
        f"artifacts/models/m-{digest('m')[:12]}": "model",
        f"incoming/{digest('i')}": "incoming",
        f"incoming/{digest('l')}.landing": "incoming",
        f"cache/{digest('e')[:12]}": "compile cache",
    }
    assert take_inventory(str(tmp_path)).left_alone == {}


def test_a_release_of_another_version_is_read_as_well(tmp_path: Path) -> None:
    host = PrunedHost(tmp_path)
    host.release("s", "a", "e", "m")
    host.link("s", "current", "a", age=5)
    with contextlib.ExitStack() as locks:
        (service,) = survey.survey(str(tmp_path), locks, NOW, create_locks=False).services
    (release,) = service.releases
    assert (service.links, service.committed_at) == ({"current": "a"}, NOW - 5)
    assert f"e-{digest('e')[:12]}" in release.text


def test_an_environment_behind_a_link_of_the_users_own_is_named_by_the_release(tmp_path: Path) -> None:
    host = PrunedHost(tmp_path)
    environment = host.environment("e")
    (tmp_path / "mine").symlink_to(environment)
    folder = host.release("s", "a", "other", "m")
    text = (folder / "release.json").read_text()
    (folder / "release.json").write_text(text.replace(f"artifacts/environments/other-{digest('other')[:12]}", "mine"))
    assert environment.name in survey._release(str(folder)).text


def test_a_gate_that_was_staged_later_makes_the_release_as_young(tmp_path: Path) -> None:
    folder = PrunedHost(tmp_path).release("s", "a", "e", "m")
    date(folder / "gate.json", NOW)
    assert survey._release(str(folder)).staged_at == NOW
