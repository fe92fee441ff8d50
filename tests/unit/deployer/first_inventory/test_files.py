"""A folder is written in one step, over nothing, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.first_inventory import files
from deployer.first_inventory.files import refuse_existing, shipped_environment, write_folder


def test_files_and_copies_are_there_and_nothing_else_is(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    (lock / "bundle").mkdir(parents=True)
    (lock / "a.lock").write_text("a")
    (lock / "bundle" / "wheel").write_text("gigabytes")
    (tmp_path / "fleet").mkdir()  # an empty one is nobody's
    written = write_folder(tmp_path / "fleet", {"hosts.yml": "x\n", "host_vars/a.yml": "y\n"}, {"environments/s": lock})
    assert written == ["environments/s/a.lock", "host_vars/a.yml", "hosts.yml"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fleet", "lock"]
    assert (tmp_path / "fleet").stat().st_mode & 0o700 == 0o700


def test_nothing_is_overwritten_and_what_is_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "fleet" / "hosts.yml"
    mine.parent.mkdir()
    mine.write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    for folder in (Path("fleet"), Path("fleet/hosts.yml"), Path("link"), Path("."), Path("no/such")):
        with pytest.raises(DeployError) as raised:
            refuse_existing(folder)
        assert raised.value.fix
    with pytest.raises(DeployError, match=r"fleet/hosts\.yml"):
        write_folder(Path("fleet"), {"hosts.yml": "new"}, {})
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_one_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(files.shutil, "copytree", break_off)
    with pytest.raises((KeyboardInterrupt, DeployError)):
        write_folder(tmp_path / "fleet", {"hosts.yml": "x\n"}, {"environments/s": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_the_lock_that_comes_with_the_package_is_found() -> None:
    assert (shipped_environment("sglang") / "requirements.lock").is_file()
    with pytest.raises(DeployError, match="nowhere"):
        shipped_environment("nowhere")
