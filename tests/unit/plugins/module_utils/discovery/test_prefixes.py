"""What the files of an environment say of it, whole, broken and hostile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import owner_of
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.packages import SHOWN, read_packages
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.prefixes import is_environment, read_prefix

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
SITE = "lib/python3.11/site-packages"


def write(path: Path, text: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def install(prefix: Path, name: str, version: str, **files: str) -> Path:
    """A package as pip installs it."""
    folder = prefix / SITE / f"{name.replace('-', '_')}-{version}.dist-info"
    write(folder / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9 in the text\n")
    for file, text in files.items():
        write(folder / file, text)
    return folder


def conda_prefix(prefix: Path, history: str = "# cmd: /opt/conda/bin/conda create -n x\n", **conda: str) -> Path:
    """A prefix as conda makes one."""
    write(prefix / "conda-meta/history", f"==> 2025-07-10 15:48:49 <==\n{history}# conda version: 24.1.2\n")
    for name, version in {"python": "3.11.9", **conda}.items():
        write(prefix / f"conda-meta/{name.replace('_', '-')}-{version}-h955ad1f_0.json", "{}")
    write(prefix / "bin/python")
    (prefix / SITE).mkdir(parents=True)
    return prefix


def test_a_conda_environment_tells_what_is_in_it(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "envs" / "sglang", openssl="3.0")
    install(prefix, "sglang", "0.4.9.post2")
    install(prefix, "sgl-kernel", "0.2.4")
    install(prefix, "torch", "2.7.1+cu126")
    install(prefix, "requests", "2.0")
    facts = read_prefix(str(prefix))
    assert (facts.kind, facts.name, facts.python, facts.cuda) == ("conda", "sglang", "3.11.9", "12.6")
    assert facts.versions == {"sglang": "0.4.9.post2", "sgl-kernel": "0.2.4", "torch": "2.7.1+cu126"}
    assert (facts.packages, facts.conda_packages, facts.suits, facts.problems) == (4, 2, ("sglang",), ())


@pytest.mark.parametrize(
    ("history", "kind"),
    [
        ("# cmd: /home/me/miniconda3/bin/conda create -n x\n# cmd: /usr/bin/mamba install y\n", "conda"),
        ("# cmd: /home/me/mambaforge/bin/mamba create -n x\n", "mamba"),
        ("# cmd: micromamba create -n x\n", "micromamba"),
        ("# cmd: /opt/conda/lib/python3.11/site-packages/conda/__main__.py create\n", "conda"),
        ("", "conda"),
    ],
)
def test_the_first_command_tells_who_made_it(tmp_path: Path, history: str, kind: str) -> None:
    assert read_prefix(str(conda_prefix(tmp_path / "x", history))).kind == kind


def test_pixi_is_known_by_its_file_and_named_after_its_project(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "project/.pixi/envs/default")
    assert (read_prefix(str(prefix)).kind, read_prefix(str(prefix)).name) == ("pixi", "project")
    detached = conda_prefix(tmp_path / "detached/x-1/envs/gpu")
    write(detached / "conda-meta/pixi", json.dumps({"manifest_path": "/home/me/llm/pixi.toml"}))
    assert (read_prefix(str(detached)).kind, read_prefix(str(detached)).name) == ("pixi", "llm:gpu")


def test_a_root_prefix_is_called_base(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "miniconda3")
    (prefix / "condabin").mkdir()
    assert read_prefix(str(prefix)).name == "base"


def test_a_finished_build_of_the_deployment_has_its_name_and_digest(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "sglang-abc")
    write(prefix / ".building")
    assert (read_prefix(str(prefix)).kind, read_prefix(str(prefix)).finished) == ("deployer", False)
    assert "not finished" in read_prefix(str(prefix)).problems[0]
    write(prefix / "environment.json", json.dumps({"schema": 1, "name": "sglang", "digest": "ab" * 32}))
    facts = read_prefix(str(prefix))
    assert (facts.kind, facts.name, facts.digest, facts.finished, facts.problems) == (
        "deployer",
        "sglang",
        "ab" * 32,
        True,
        (),
    )


@pytest.mark.parametrize(
    ("packages", "conda", "torch", "cuda"),
    [
        ({"nvidia-cuda-runtime-cu12": "12.8.90", "torch": "2.9.0"}, {}, "", "12.8"),
        ({"torch": "2.5.1"}, {"cuda_cudart": "12.4.127"}, "cuda = '11.8'", "12.4"),
        ({"torch": "2.1.0"}, {"pytorch_cuda": "12.1"}, "", "12.1"),
        ({"torch": "2.5.1"}, {}, "from typing import Optional\ncuda: Optional[str] = '12.4'\nhip = None\n", "12.4"),
        ({"torch": "2.5.1"}, {}, "cuda: Optional[str] = None\n", ""),
        ({}, {}, "", ""),
    ],
)
def test_the_cuda_version_comes_from_the_packages(
    tmp_path: Path, packages: dict[str, str], conda: dict[str, str], torch: str, cuda: str
) -> None:
    prefix = conda_prefix(tmp_path / "x", **conda)
    for name, version in packages.items():
        install(prefix, name, version)
    write(prefix / SITE / "torch/version.py", torch)
    facts = read_prefix(str(prefix))
    assert facts.cuda == cuda
    assert set(facts.versions) <= set(SHOWN)


def test_editable_installs_name_their_folder(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    sources = tmp_path / "LLaMA Factory"
    url = {"url": sources.as_uri(), "dir_info": {"editable": True}}
    install(prefix, "llamafactory", "0.9.4.dev0", **{"direct_url.json": json.dumps(url)})
    write(prefix / SITE / "sglang.egg-link", f"{tmp_path}/sglang/python\n../\n")
    assert read_prefix(str(prefix)).problems == (
        "sglang: PKG-INFO: No such file or directory",
        f"sglang is run from {tmp_path}/sglang/python, which is not there",
        f"llamafactory is run from {sources}, which is not there",
    )
    sources.mkdir()
    write(tmp_path / "sglang/python/sglang.egg-info/PKG-INFO", "Name: sglang\nVersion: 0.5.3\n")
    facts = read_prefix(str(prefix))
    assert facts.editable == {"sglang": f"{tmp_path}/sglang/python", "llamafactory": str(sources)}
    assert facts.versions == {"sglang": "0.5.3", "llamafactory": "0.9.4.dev0"}
    assert facts.problems == ()


@pytest.mark.parametrize(
    "direct_url", ["", "[]", "{", '{"url": "file:///x"}', '{"url": 3, "dir_info": {"editable": true}}', "[" * 50_000]
)
def test_other_installs_are_not_editable(tmp_path: Path, direct_url: str) -> None:
    prefix = conda_prefix(tmp_path / "x")
    install(prefix, "sglang", "0.5.3", **{"direct_url.json": direct_url})
    assert read_prefix(str(prefix)).editable == {}


def test_older_forms_of_metadata_are_read(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    write(prefix / SITE / "torch-2.5.1-py3.11.egg-info", "Name: torch\nVersion: 2.5.1\n")
    write(prefix / SITE / "vllm-0.6.0-py3.11.egg-info/PKG-INFO", "Name: vllm\nVersion: 0.6.0\n")
    write(prefix / SITE / "~ransformers-4.0.dist-info/METADATA", "")
    assert read_prefix(str(prefix)).versions == {"torch": "2.5.1", "vllm": "0.6.0"}


def test_what_is_wrong_with_a_package_is_a_problem(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    install(prefix, "sglang", "0.5.3")
    install(prefix, "sglang", "0.4.9")
    (install(prefix, "torch", "2.7.1") / "METADATA").unlink()
    write(install(prefix, "vllm", "1.0") / "METADATA", "Name: vllm\nVersion: \x1b[2J\n")
    facts = read_prefix(str(prefix))
    assert facts.versions == {"sglang": "0.4.9", "torch": "2.7.1", "vllm": "1.0"}
    assert facts.problems == (
        "sglang is there twice: 0.4.9, 0.5.3",
        "torch: METADATA: No such file or directory",
        "vllm: METADATA states no version",
    )


def test_a_fifo_and_a_huge_file_in_place_of_metadata_do_no_harm(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    for name, special in (("sglang", "fifo"), ("torch", "huge"), ("vllm", "loop")):
        path = install(prefix, name, "1.0") / "METADATA"
        path.unlink()
        if special == "fifo":
            os.mkfifo(path)
        elif special == "huge":
            with path.open("wb") as stream:
                stream.truncate(2**40)
        else:
            path.symlink_to("METADATA")
    for name in ("conda-meta/history", "conda-meta/pixi", "environment.json", "pyvenv.cfg"):
        (prefix / name).unlink(missing_ok=True)
        os.mkfifo(prefix / name)
    facts = read_prefix(str(prefix))
    assert facts.versions == {"sglang": "1.0", "torch": "1.0", "vllm": "1.0"}
    assert facts.problems == (
        "sglang: METADATA: not a regular file",
        "torch: METADATA states no version",
        "vllm: METADATA: Too many levels of symbolic links",
    )


def test_prefixes_that_were_removed_by_half_say_so(tmp_path: Path) -> None:
    no_python = conda_prefix(tmp_path / "a")
    (no_python / "bin/python").unlink()
    assert read_prefix(str(no_python)).problems == ("bin/python is missing: removed by half",)
    (no_python / "bin/python").symlink_to("python3.11")
    assert "link to python3.11, which is not there" in read_prefix(str(no_python)).problems[0]
    (tmp_path / "b" / SITE).mkdir(parents=True)
    assert read_prefix(str(tmp_path / "b"), by_conda=True).problems == (
        "conda-meta is missing: removed by half, or no environment",
        "bin/python is missing: removed by half",
    )
    assert read_prefix(str(tmp_path / "gone")).problems == ("is not there",)
    assert not is_environment(str(tmp_path / "gone"))
    write(tmp_path / "file")
    assert not is_environment(str(tmp_path / "file"))
    assert read_prefix("/no\0where").problems


def test_who_may_read_it_is_told(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    tmp_path.chmod(0o700)
    assert not read_prefix(str(prefix)).open_to_all
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        assert read_prefix(str(conda_prefix(Path(folder, "x")))).open_to_all


@as_root
def test_root_does_not_give_away_what_the_owner_of_a_prefix_may_not_read(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    secret = write(tmp_path / "secret", "Name: sglang\nVersion: s3cret\n")
    secret.chmod(0o600)
    metadata = install(prefix, "sglang", "1.0") / "METADATA"
    metadata.unlink()
    metadata.symlink_to(secret)
    os.chown(prefix, 65534, 65534)
    facts = read_prefix(str(prefix))
    assert facts.versions == {"sglang": "1.0"}
    assert facts.owner == "nobody"
    assert facts.problems == ("sglang: METADATA: not readable for the owner of the folder",)


@as_root
def test_folders_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    prefix = conda_prefix(tmp_path / "x")
    install(prefix, "sglang", "1.0")
    for folder in (prefix / SITE, prefix / "conda-meta"):
        folder.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    facts = as_nobody(prefix)
    assert facts["problems"] == ["conda-meta: Permission denied", "site-packages: Permission denied"]
    prefix.chmod(0o700)
    (prefix / "conda-meta").chmod(0o755)
    assert as_nobody(prefix)["owner"] == "root"


def as_nobody(prefix: Path) -> dict[str, Any]:
    """The facts as another user reads them."""
    code = (
        "import dataclasses, json, os, sys\n"
        "from ansible_collections.deployer.sglang.plugins.module_utils.discovery.prefixes import read_prefix\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(json.dumps(dataclasses.asdict(read_prefix(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(prefix)], capture_output=True, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_a_real_venv_tells_its_python_and_its_packages(tmp_path: Path) -> None:
    prefix = tmp_path / "project" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", prefix], check=True)
    facts = read_prefix(str(prefix))
    assert facts.kind == "venv"
    assert facts.name == "project"
    assert facts.python == ".".join(map(str, sys.version_info[:3]))
    assert facts.packages >= 1
    assert facts.problems == ()


@pytest.mark.parametrize(
    ("settings_text", "python"),
    [
        ("home = /usr/bin\nversion_info = 3.12.4\nprompt = x\n", "3.12.4"),
        ("version_info = 3.11.7.final.0\n", "3.11.7"),
        ("version = 3.13.0rc1\n", "3.13.0rc1"),
        ("version = \x1b[2J\n", "3.11"),
        ("", "3.11"),
    ],
)
def test_pyvenv_cfg_states_the_python(tmp_path: Path, settings_text: str, python: str) -> None:
    write(tmp_path / "pyvenv.cfg", settings_text)
    (tmp_path / SITE).mkdir(parents=True)
    assert read_prefix(str(tmp_path)).python == python


NAMES = st.sampled_from(
    [
        "conda-meta/history",
        "conda-meta/pixi",
        "conda-meta/python-3.11.9-x_0.json",
        "conda-meta/-.json",
        "conda-meta/a-b.json",
        "pyvenv.cfg",
        "environment.json",
        ".building",
        "bin/python",
        f"{SITE}/sglang-1.0.dist-info/METADATA",
        f"{SITE}/sglang-1.0.dist-info/direct_url.json",
        f"{SITE}/sglang.egg-link",
        f"{SITE}/torch-2.egg-info",
        f"{SITE}/-.dist-info/METADATA",
        f"{SITE}/torch/version.py",
        f"{SITE}/x\udcff\x1b.dist-info/METADATA",
        "lib/python3.99t/x",
    ]
)
PIECES = [
    b"Version: ",
    b"# cmd: ",
    b'{"dir_info": {"editable": true}, "url": "file://',
    b"version = ",
    b"\xff",
    b"\n",
    b"{",
]
CONTENTS = st.one_of(st.binary(max_size=80), st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join))


@settings(max_examples=150)
@given(st.dictionaries(NAMES, st.one_of(CONTENTS, st.just(None))))
def test_any_files_at_all_give_facts(files: dict[str, bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder)
        for name, content in files.items():
            path = prefix / name
            if content is None:  # a folder in the place of a file
                path.mkdir(parents=True, exist_ok=True)
            elif not path.is_dir():
                write(path, content)
        facts = read_prefix(folder)
        assert facts.owner
        for version in (*facts.versions.values(), facts.python, facts.cuda):
            assert version.isprintable()
        read_packages(str(prefix / SITE), owner_of(folder))
