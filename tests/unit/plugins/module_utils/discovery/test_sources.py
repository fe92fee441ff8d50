"""Where environments may be."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.discovery import sources
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import owner_of
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sources import (
    Candidate,
    Home,
    all_homes,
    beside,
    environment_folders,
    listed,
    search,
    shell_roots,
    written_down,
)

KEYS = ("envs_dirs",)


def home_at(path: Path) -> Home:
    path.mkdir(parents=True, exist_ok=True)
    return Home("me", str(path), owner_of(str(path)))


def conda_at(path: Path) -> Path:
    (path / "conda-meta").mkdir(parents=True)
    return path


def paths_of(home: Home) -> set[str]:
    return {one.path for one in written_down([home])}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "envs_dirs:\n  - /a\n  - '/b c'\n  - \"~/d\"  # mine\nchannels:\n  - /no",
        "channels: [x]\nenvs_dirs: [/a, '/b c', \"~/d\"]",
        "# first\nenvs_dirs:\n- /a\n\n# between\n-   /b c\n- ~/d\nchannels: [/no]",
    ],
)
def test_the_simple_forms_of_a_list_are_read_as_yaml_reads_them(text: str) -> None:
    assert listed(text, KEYS) == yaml.safe_load(text)["envs_dirs"] == ["/a", "/b c", "~/d"]


@pytest.mark.parametrize(
    "text",
    ["", "envs_dirs:", "envs_dirs: {a: b}", "envs_dirs: *x", "x:\n  envs_dirs:\n    - /a", "envs_dirs:\n  a: /b"],
)
def test_other_forms_give_nothing(text: str) -> None:
    assert listed(text, KEYS) == []


@given(st.text(alphabet="envs_dirs:- []{}'\"#\n/abc", max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert all(listed(text, KEYS))


def test_conda_settings_name_folders_of_environments(tmp_path: Path) -> None:
    home = home_at(tmp_path / "home")
    write(tmp_path / "condarc", "envs_dirs: [~/mine, $HOME/too, '${USER}', /data/$USER/envs, relative]")
    write(tmp_path / "d" / "a.yml", "envs_dirs:\n  - /from/d")
    found = environment_folders([str(tmp_path / "condarc"), str(tmp_path / "d")], home.owner, home)
    assert found == [f"{home.path}/mine", f"{home.path}/too", "/data/me/envs", "/from/d"]


def test_what_the_tools_wrote_down_is_found(tmp_path: Path) -> None:
    home = home_at(tmp_path / "home")
    away, gone = conda_at(tmp_path / "away"), tmp_path / "gone"
    write(tmp_path / "home/.conda/environments.txt", f"{away}\n{gone}\nrelative\n\n")
    inside = [
        conda_at(tmp_path / place)
        for place in (
            "home/miniconda3",
            "home/miniconda3/envs/a",
            "home/.local/share/mamba/envs/b",
            "home/.conda/envs/c",
            "home/.pixi/envs/tool",
            "home/.cache/rattler/cache/envs/project-123/envs/default",
            "projects/registered/.pixi/envs/default",
            "custom/root",
            "custom/root/envs/d",
            "by-settings/e",
            "by-root-settings/f",
        )
    ]
    write(tmp_path / "home/.condarc", f"envs_dirs:\n  - {tmp_path}/by-settings\n")
    write(tmp_path / "home/miniconda3/.condarc", f"envs_dirs: [{tmp_path}/by-root-settings]\n")
    write(
        tmp_path / "home/.pixi/workspaces.toml",
        f'[named-workspaces]\none = "{tmp_path}/projects/registered/pixi.toml"\n',
    )
    (tmp_path / "projects/registered/pixi.toml").touch()
    write(tmp_path / "home/.bashrc", f"__conda_setup=\"$('{tmp_path}/custom/root/bin/conda' 'shell.bash')\"\n")
    found = paths_of(home)
    assert found >= {str(path) for path in (away, *inside)}
    candidates = {one.path: one for one in written_down([home])}
    assert candidates[str(away)] == Candidate(str(away), certain=True, by_conda=True)
    assert not candidates[str(gone)].certain


def test_shells_name_root_prefixes(tmp_path: Path) -> None:
    home = home_at(tmp_path)
    write(
        tmp_path / ".bashrc", "export MAMBA_ROOT_PREFIX='/data/mamba';\n__x=\"$('/data/conda/bin/conda' 'shell.bash')\""
    )
    write(tmp_path / ".zshrc", "export MAMBA_ROOT_PREFIX=/data/other\n" + "'/x" * 1000)
    assert shell_roots(home) == ["/data/mamba", "/data/conda", "/data/other"]


def test_an_environment_leads_to_those_beside_it(tmp_path: Path) -> None:
    known, other = conda_at(tmp_path / "root/envs/a"), conda_at(tmp_path / "root/envs/b")
    assert {one.path for one in beside(str(known))} == {str(tmp_path / "root"), str(known), str(other)}
    assert list(beside("/opt/conda")) == []


def test_homes_are_searched_near_the_top(tmp_path: Path) -> None:
    home = home_at(tmp_path)
    conda_at(tmp_path / "projects/project/.pixi/envs/default")
    conda_at(tmp_path / "projects/made-by-hand")
    write(tmp_path / "projects/code/.venv/pyvenv.cfg", "")
    write(tmp_path / "venvs/one/pyvenv.cfg", "")
    conda_at(tmp_path / "a/b/c/d/too-deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    found, left_out = search([home], time.monotonic() + 60)
    assert left_out == []
    assert {(one.path.replace(str(tmp_path), "~"), one.for_engine) for one in found} == {
        ("~/projects/project/.pixi/envs/default", False),
        ("~/projects/made-by-hand", False),
        ("~/projects/code/.venv", True),
        ("~/venvs/one", True),
    }


def test_a_search_that_is_cut_short_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
    assert search([home_at(tmp_path)], time.monotonic() - 1)[1] == ["the search in homes ended after 0 folders"]
    monkeypatch.setattr(sources, "MOST_FOLDERS", 4)
    assert search([home_at(tmp_path)], time.monotonic() + 60)[1] == ["the search in homes ended after 4 folders"]


def test_homes_are_those_that_belong_to_their_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    mine, foreign = tmp_path / "mine", tmp_path / "foreign"
    mine.mkdir()
    foreign.mkdir()
    entries = [
        ("me", mine, uid),
        ("again", mine, uid),
        ("she", foreign, uid + 1),
        ("sys", "/", uid),
        ("bin", "/usr/x", uid),
    ]
    users = [pwd.struct_passwd((name, "x", number, number, "", str(path), "/bin/sh")) for name, path, number in entries]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(sources, "folders_in", lambda folder: [])
    assert [(home.user, home.path) for home in all_homes(everyone=True)[0]] == [("me", str(mine))]
    monkeypatch.setattr(sources, "_automounts", lambda: frozenset([str(tmp_path)]))
    homes, left_out = all_homes(everyone=True)
    assert homes == []
    assert left_out == ["3 homes are mounted on demand and were not looked at"]
