"""The running Python as a conda package, and a local channel for it: a real conda prefix without any conda channel.

Works for a Python built from source (pyenv, python.org, Docker images) and for Debian's and Ubuntu's own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file

LEFT_OUT = (
    *("__pycache__", "*.pyc", "*.a", "config-3*", "EXTERNALLY-MANAGED", "LICENSE*", "sitecustomize.py"),
    *("site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"),
    *("_tkinter*.so", "_test*.so", "_ctypes_test*.so", "_xx*.so"),
)
VERSION = sysconfig.get_python_version()  # 3.11
RELEASE = sys.version.split()[0].rstrip("+")  # 3.11.9
FILE_NAME = f"python-{RELEASE}-0.tar.bz2"


def interpreter() -> Path:
    """The executable behind the running interpreter, outside of any venv."""
    return Path(sys._base_executable).resolve()  # type: ignore[attr-defined]


def package_python(channel: Path, patchelf: Path) -> Path:
    """Write the running Python as `<channel>/linux-64/python-<version>-0.tar.bz2`.

    The same interpreter gives the same bytes, so that environments locked with it keep their digest.

    Args:
        channel: folder of the channel.
        patchelf: the patchelf program.

    Returns:
        The package's path.

    Raises:
        DeployError: the interpreter's standard library is not where this expects it.
    """
    target = channel / "linux-64" / FILE_NAME
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".python-", dir=target.parent) as temporary:
        prefix = Path(temporary, "prefix")
        stage_python(prefix, patchelf)
        part = Path(temporary, FILE_NAME)
        write_package(prefix, part)
        part.replace(target)
    return target


def stage_python(prefix: Path, patchelf: Path) -> None:
    """Lay the running Python out as a conda prefix: interpreter, standard library, an empty site-packages."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    if not (stdlib / "os.py").is_file() or not (stdlib / "lib-dynload").is_dir():
        raise DeployError(
            f"the standard library of {interpreter()} is not complete at {stdlib}",
            fix="run the demo with a Python from source, pyenv, or Debian's python3 with libpython3-stdlib",
        )
    library = prefix / "lib" / f"python{VERSION}"
    shutil.copytree(stdlib, library, ignore=shutil.ignore_patterns(*LEFT_OUT), ignore_dangling_symlinks=True)
    (library / "site-packages").mkdir()
    (library / "site-packages" / "README.txt").write_text("Packages of this environment.\n", encoding="utf-8")
    binary = prefix / "bin" / f"python{VERSION}"
    binary.parent.mkdir()
    shutil.copy(interpreter(), binary)
    for link in ("python", "python3"):
        (binary.parent / link).symlink_to(binary.name)
    if "posix_local" in sysconfig.get_scheme_names():
        # Debian's Python looks for packages in <prefix>/local/lib/python3.x/dist-packages; here that is site-packages.
        # The same for what wheels bring beside packages.
        (prefix / "local").mkdir()
        (prefix / "share").mkdir()
        (prefix / "share" / "README.txt").write_text("Data of this environment's packages.\n", encoding="utf-8")
        for link in ("bin", "lib", "share"):
            (prefix / "local" / link).symlink_to(f"../{link}")
        (library / "dist-packages").symlink_to("site-packages")
    _bring_libpython(binary, patchelf)


def _bring_libpython(binary: Path, patchelf: Path) -> None:
    """An interpreter that is linked to libpython takes it along, and finds it wherever the prefix is."""
    shared = str(sysconfig.get_config_var("INSTSONAME"))
    needed = subprocess.run([patchelf, "--print-needed", binary], capture_output=True, text=True, check=True).stdout
    if shared not in needed.split():
        return
    shutil.copy(Path(str(sysconfig.get_config_var("LIBDIR")), shared), binary.parents[1] / "lib" / shared)
    # RPATH, not RUNPATH: it holds for the extension modules, too.
    subprocess.run([patchelf, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", binary], check=True)


def write_package(prefix: Path, target: Path) -> None:
    """Pack a staged prefix as a conda package (format 1: a tar.bz2 with info/index.json and info/paths.json)."""
    old_prefix = sys.base_prefix if sys.base_prefix not in ("/usr", "/usr/local") else ""
    entries = sorted(path for path in prefix.rglob("*") if path.is_symlink() or path.is_file())
    paths = [path_record(path, prefix, old_prefix) for path in entries]
    index = {
        "name": "python",
        "version": RELEASE,
        "build": "0",
        "build_number": 0,
        "depends": [],
        "subdir": "linux-64",
        "arch": "x86_64",
        "platform": "linux",
        "license": "PSF-2.0",
    }
    info: dict[str, dict[str, Any] | list[str]] = {
        "info/index.json": index,
        "info/paths.json": {"paths": paths, "paths_version": 1},
        "info/about.json": {"summary": "The Python that made the demo's inputs, for lab hosts"},
        "info/files": [record["_path"] for record in paths],
    }
    # Level 1: a third of the time of level 9 for a package that only travels through a lab.
    with tarfile.open(target, "w:bz2", compresslevel=1) as archive:
        for name, content in info.items():
            _add_text(archive, name, content)
        for path in entries:
            member = _plain(archive.gettarinfo(path, arcname=str(path.relative_to(prefix))))
            with path.open("rb") if member.isfile() else BytesIO() as stream:
                archive.addfile(member, stream)


def path_record(path: Path, prefix: Path, old_prefix: str) -> dict[str, Any]:
    """A file's entry in info/paths.json; text that names `old_prefix` is marked, so that installing replaces it."""
    record: dict[str, Any] = {"_path": str(path.relative_to(prefix))}
    if path.is_symlink():
        return record | {"path_type": "softlink", "size_in_bytes": 0}  # micromamba wants a number
    record |= {"path_type": "hardlink", "sha256": hash_file(path), "size_in_bytes": path.stat().st_size}
    if old_prefix and path.name.startswith("_sysconfigdata") and old_prefix in path.read_text(encoding="utf-8"):
        record |= {"file_mode": "text", "prefix_placeholder": old_prefix}
    return record


def _add_text(archive: tarfile.TarFile, name: str, content: dict[str, Any] | list[str]) -> None:
    text = json.dumps(content, indent=1, sort_keys=True) if isinstance(content, dict) else "\n".join(content)
    data = (text + "\n").encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(_plain(member), BytesIO(data))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs from one run to the next."""
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    # A file with two names would be archived as a link to the first.
    if member.islnk():
        raise DeployError(f"{member.name} is a hard link inside the staged prefix", fix="report this as a defect")
    return member
