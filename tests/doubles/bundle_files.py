"""Small locks and bundles, with stand-ins for py-rattler and uv that need neither network nor seconds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments import installers as environment_installers
from ansible_collections.deployer.sglang.plugins.module_utils.environments import lock as environment_lock
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file

PYTHON = platform.python_version()

# Unpacks the packages into the prefix, as the real one does.
RATTLER = """
import hashlib, json, tarfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

class Channel:
    def __init__(self, url):
        self.url = url

class Record:
    def __init__(self, channel, file_name):
        self.file_name = file_name
        self.path = Path(unquote(urlsplit(channel.url).path), "linux-64", file_name)
        self.sha256 = hashlib.sha256(self.path.read_bytes()).digest()
        self.url = self.path.as_uri()

class RepoData:
    @staticmethod
    def from_path(path):
        data = RepoData()
        data.names = json.loads(Path(path).read_text())["packages"]
        return data

    def into_repo_data(self, channel):
        return [Record(channel, name) for name in self.names]

async def install(records, target_prefix, **options):
    for record in records:
        with tarfile.open(record.path) as archive:
            archive.extractall(target_prefix)
"""

# `uv pip install` in as much as building an environment uses of it; it copies by way of its cache, like the real one.
UV = """#!{python}
import os, re, shutil, sys, zipfile
from pathlib import Path
option = lambda name: sys.argv[sys.argv.index(name) + 1]
print("Using the double of uv")
site = Path(option("--python")).parents[1] / "lib" / "python{version}" / "site-packages"
for line in Path(option("--requirements")).read_text().splitlines():
    name, version = re.match(r"([\\w.-]+)==(\\S+)", line).groups()
    if name == "full-disk":
        sys.exit("error: No space left on device (os error 28)")
    if name == "killer":
        import signal
        os.kill(os.getppid(), signal.SIGKILL)
    if name != "forgotten":
        wheel = next(Path(option("--find-links")).glob(name.replace("-", "_") + "-" + version + "-*.whl"))
        unpacked = Path(option("--cache-dir"), "archive", wheel.stem)
        if not unpacked.exists():
            zipfile.ZipFile(wheel).extractall(unpacked)
        shutil.copytree(unpacked, site, copy_function=os.link, dirs_exist_ok=True)
"""


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str] | None = None) -> Path:
    """A wheel with the given files and the metadata of its name; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    wheel_file = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = {f"{stem}.dist-info/METADATA": metadata, f"{stem}.dist-info/WHEEL": wheel_file}
    contents = {**(files or {}), **info}
    contents[f"{stem}.dist-info/RECORD"] = _record(contents, f"{stem}.dist-info/RECORD")
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in contents.items():
            wheel.writestr(zipfile.ZipInfo(member), content)
    return path


def _record(contents: dict[str, str], own_name: str) -> str:
    """A wheel's RECORD (PEP 376)."""
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in contents.items()}
    words = {name: base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for name, digest in digests.items()}
    lines = [f"{name},sha256={words[name]},{len(contents[name])}" for name in contents]
    return "\n".join([*lines, f"{own_name},,", ""])


def write_python_package(folder: Path, version: str = PYTHON) -> Path:
    """A conda package whose python is a link to the one that runs the tests; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"python-{version}-0.tar.bz2"
    short = ".".join(PYTHON.split(".")[:2])
    index = {"name": "python", "version": version, "build": "0", "build_number": 0, "depends": [], "subdir": "linux-64"}
    texts = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": [], "paths_version": 1}),
        f"lib/python{short}/site-packages/README.txt": "packages\n",
    }
    with tarfile.open(path, "w:bz2") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            # Unreadable for others, as some archives are.
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("bin/python")
        link.type, link.linkname = tarfile.SYMTYPE, str(Path(sys.executable).resolve())
        archive.addfile(link)
    return path


def write_lock(folder: Path, python: Path, wheels: list[Path]) -> Path:
    """A lock folder that names these files; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    conda = f"# platform: linux-64\n@EXPLICIT\n{python.as_uri()}#sha256:{hash_file(python)}\n"
    (folder / environment_lock.CONDA_LOCK).write_text(conda)
    lines = [
        f"{name}=={version} --hash=sha256:{hash_file(wheel)}\n"
        for wheel in wheels
        for name, version in [environment_lock.wheel_identity(wheel.name)]
    ]
    (folder / environment_lock.REQUIREMENTS_LOCK).write_text("".join(lines))
    return folder


def use_installer_doubles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the doubles of py-rattler and uv into `folder`, and their digests in place of the real ones'."""
    short = ".".join(PYTHON.split(".")[:2])
    contents = {
        "py-rattler": {"rattler/__init__.py": RATTLER},
        "uv": {"uv.data/scripts/uv": UV.format(python=sys.executable, version=short)},
    }
    installers = []
    for tool in environment_lock.INSTALLERS:
        wheel = write_wheel(folder, tool.name, tool.version, contents[tool.name])
        installers.append(replace(tool, sha256=hashlib.sha256(wheel.read_bytes()).hexdigest()))
    for module in (environment_lock, environment_installers):
        monkeypatch.setattr(module, "INSTALLERS", tuple(installers))


def write_bundle(
    bundle: Path,
    wheels: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, dict[str, str]] | None = None,
) -> Path:
    """A complete bundle with doubles for its installers, `wheels` by name and version; returns it.

    `files` are those of a wheel, by its name: path inside site-packages -> text.
    """
    python = write_python_package(bundle / "conda" / "linux-64")
    own = files or {}
    built = [write_wheel(bundle / "wheels", name, version, own.get(name)) for name, version in wheels.items()]
    (bundle / "conda" / "noarch").mkdir()
    (bundle / "conda" / "noarch" / "repodata.json").write_text('{"packages": {}}')
    (bundle / "conda" / "linux-64" / "repodata.json").write_text(json.dumps({"packages": {python.name: {}}}))
    use_installer_doubles(bundle / "installer", monkeypatch)
    return write_lock(bundle, python, built)
