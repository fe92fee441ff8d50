"""The demo's inputs: what can be checked without the engines themselves."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    parse_conda_lock,
    parse_requirements_lock,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file
from demo import inputs, python_package, standin_wheels, wheels
from demo.make_tiny_model import VOCABULARY, byte_alphabet, make_tiny_model
from demo.wheels import Pin, find_wheel, read_pins
from tests.doubles.bundle_files import write_wheel


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in folder.iterdir()}


def test_a_seed_gives_one_model_and_another_seed_another(tmp_path: Path) -> None:
    for folder, seed in (("one", 0), ("same", 0), ("other", 1)):
        make_tiny_model(tmp_path / folder, seed)
    one, other = digests(tmp_path / "one"), digests(tmp_path / "other")
    assert digests(tmp_path / "same") == one
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "one").iterdir()} == {0o644}


def test_the_checkpoint_is_consistent(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert end == len(content) - 8 - length
    config = json.loads((tmp_path / "config.json").read_text())
    assert header["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert len(vocabulary) <= VOCABULARY
    assert len(set(byte_alphabet())) == 256


def test_pins_of_both_engines_are_complete() -> None:
    for environment in inputs.ENVIRONMENTS:
        pins = {pin.name: pin.version for pin in read_pins(inputs.REQUIREMENTS / f"{environment.name}.txt")}
        assert pins["torch"] == "2.13.0"
        assert pins[environment.name.removesuffix("-cpu")]


def test_a_requirement_without_a_pin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loose.txt").write_text("# tools\nnumpy>=2\n")
    with pytest.raises(DeployError, match="line 2 is not name==version: numpy>=2"):
        read_pins(tmp_path / "loose.txt")


def test_only_the_cpu_build_is_torch(tmp_path: Path) -> None:
    write_wheel(tmp_path, "torch", "2.13.0")
    assert find_wheel(tmp_path, Pin("torch", "2.13.0")) is None
    build = write_wheel(tmp_path, "torch", "2.13.0+cpu")
    assert find_wheel(tmp_path, Pin("torch", "2.13.0")) == build


@pytest.mark.parametrize("own", [True, False], ids=["own sources", "torch index"])
def test_where_torch_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    asked: list[tuple[str, ...]] = []

    def pip(requirements: list[str], folder: Path, options: tuple[str, ...] = ()) -> None:
        asked.append(options)
        if "--index-url" not in options and not own:
            raise DeployError("no matching distribution")
        write_wheel(folder, *requirements[0].split("=="))

    monkeypatch.setenv(wheels.TORCH_INDEX_SETTING, "http://torch.example/cpu")
    monkeypatch.setattr(wheels, "_pip_wheel", pip)
    wheels.fetch_wheels([Pin("torch", "2.13.0")], tmp_path, lambda line: None)
    assert [options[-1] for options in asked] == ["1"] if own else ["1", "http://torch.example/cpu"]
    wheels.fetch_wheels([Pin("torch", "2.13.0")], tmp_path, lambda line: pytest.fail(line))


def test_no_torch_anywhere_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pip(requirements: list[str], folder: Path, options: tuple[str, ...] = ()) -> None:
        raise DeployError("no matching distribution")

    monkeypatch.setattr(wheels, "_pip_wheel", pip)
    with pytest.raises(DeployError, match="no CPU build of torch") as error:
        wheels.fetch_wheels([Pin("torch", "2.13.0")], tmp_path, lambda line: None)
    assert "DEMO_TORCH_INDEX" in error.value.fix


@pytest.mark.parametrize("standin", [s for environment in inputs.ENVIRONMENTS for s in environment.standins])
def test_standins_are_marked_wheels(tmp_path: Path, standin: str) -> None:
    wheel = standin_wheels.build_standin(standin, tmp_path / "one")
    assert wheel.name.startswith("lab_standin_")
    assert hash_file(wheel) == hash_file(standin_wheels.build_standin(standin, tmp_path / "two"))
    with zipfile.ZipFile(wheel) as archive:
        listed = {line.split(",")[0] for line in archive.read(archive.namelist()[-1]).decode().splitlines()}
        assert listed == set(archive.namelist())
        archive.extractall(tmp_path / "site")
    # -v would show it, too: a bare start of Python imports neither torch nor a stand-in's package.
    script = "import sys, site; site.addsitedir(sys.argv[1]); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-I", "-c", script, tmp_path / "site"], capture_output=True, text=True)
    assert not {"torch", "triton", "torchaudio", "sgl_kernel"} & set(modules.stdout.split())


def test_torchvision_operators_are_declared_on_import(tmp_path: Path) -> None:
    standin = standin_wheels.SOURCES / "torchvision_operators"
    (tmp_path / "torchvision.py").write_text("import torch; print(sorted(torch.ops.torchvision.declared))\n")
    (tmp_path / "torch.py").write_text(
        "from types import SimpleNamespace\n"
        "ops = SimpleNamespace(torchvision=SimpleNamespace(declared=[]))\n"
        "library = SimpleNamespace(define=lambda name, schema: ops.torchvision.declared.append(name))\n"
    )
    script = (
        f"import site, sys; site.addsitedir({str(standin)!r}); sys.path.append({str(tmp_path)!r}); import torchvision"
    )
    done = subprocess.run([sys.executable, "-I", "-B", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torchvision::nms', 'torchvision::qnms']"


def test_a_staged_prefix_becomes_a_conda_package(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python3.11").write_bytes(b"program")
    (prefix / "bin" / "python3.11").chmod(0o700)
    (prefix / "bin" / "python").symlink_to("python3.11")
    packages = []
    for name in ("one", "two"):
        python_package.write_package(prefix, tmp_path / name)
        packages.append((tmp_path / name).read_bytes())
    assert packages[0] == packages[1]
    with tarfile.open(tmp_path / "one") as archive:
        paths = json.load(archive.extractfile("info/paths.json") or pytest.fail("no paths.json"))["paths"]
        assert [(path["_path"], path["path_type"]) for path in paths] == [
            ("bin/python", "softlink"),
            ("bin/python3.11", "hardlink"),
        ]
        assert json.load(archive.extractfile("info/index.json") or pytest.fail("no index"))["name"] == "python"
        assert archive.getmember("bin/python3.11").mode == 0o755


def test_text_with_the_old_prefix_is_marked(tmp_path: Path) -> None:
    data = tmp_path / "_sysconfigdata__linux.py"
    data.write_text("build_time_vars = {'prefix': '/home/me/python'}\n")
    record = python_package.path_record(data, tmp_path, "/home/me/python")
    assert (record["prefix_placeholder"], record["file_mode"]) == ("/home/me/python", "text")
    assert "prefix_placeholder" not in python_package.path_record(data, tmp_path, "")


def test_locks_of_the_demo_are_locks(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "torch", "2.13.0+cpu")
    (package,) = parse_conda_lock(inputs.conda_lock(_conda_package(tmp_path)))
    assert package.path == "conda/linux-64/python-3.11.9-0.tar.bz2"
    (locked,) = parse_requirements_lock(inputs.requirements_lock([wheel]))
    assert (locked.name, locked.version, locked.sha256) == ("torch", "2.13.0+cpu", {hash_file(wheel)})


def _conda_package(folder: Path) -> Path:
    package = folder / "linux-64" / "python-3.11.9-0.tar.bz2"
    package.parent.mkdir()
    package.write_bytes(b"package")
    return package
