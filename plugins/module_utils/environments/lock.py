"""A locked environment: what its two lock files name, and what a bundle of those files lacks.

A lock is a folder with `conda-linux-64.lock` (conda's `@EXPLICIT` list, sha256 per line) and `requirements.lock`
(pip requirements, `name==version --hash=sha256:…` per package). A bundle is a folder with both and all that they name.
Standard library only, Python 3.9+: hosts read it too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file

CONDA_LOCK = "conda-linux-64.lock"
REQUIREMENTS_LOCK = "requirements.lock"
SUBDIRS = ("linux-64", "noarch")
PLATFORM = "linux-64"
RELOCK = "lock again: `deployer lock NAME`, or `conda list --explicit --sha256`, `uv pip compile --generate-hashes`"
RELOCK_PLATFORM = f"hosts are {PLATFORM}: lock again with `deployer lock NAME`, or conda-lock's `-p {PLATFORM}`"
# conda's subfolders: the operating system comes first.
_SUBDIR = re.compile(r"(?:linux|osx|win|freebsd|emscripten|wasi|zos)-[a-z0-9]+")


@dataclass(frozen=True)
class Installer:
    """A wheel that the bundle brings to install the rest with: exactly this file."""

    name: str
    version: str
    sha256: str


# py-rattler 0.25 is the last one for Python 3.9 (abi3 from 3.8 on): it runs under the host's own python3.
INSTALLERS = (
    Installer("py-rattler", "0.25.0", "b642304155f492c7dd3eb772df5e8e97942bff445ab8e343dc7a173e3efbfcf1"),
    Installer("uv", "0.13.9", "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19"),
)


@dataclass(frozen=True)
class CondaPackage:
    """One line of the conda lock.

    Attributes:
        url: where it is fetched from; `file://` is allowed.
        subdir: the channel's subfolder, `linux-64` or `noarch`.
        file_name: `<name>-<version>-<build>.conda` or `.tar.bz2`.
        sha256: hex digest of the file.
    """

    url: str
    subdir: str
    file_name: str
    sha256: str

    @property
    def path(self) -> str:
        """The file's path inside a bundle."""
        return f"conda/{self.subdir}/{self.file_name}"


@dataclass(frozen=True)
class LockedWheel:
    """One locked requirement: PEP 503 name, version, and the sha256 digests of the files that may serve."""

    name: str
    version: str
    sha256: frozenset[str]


@dataclass(frozen=True)
class LockNeeds:
    """What a lock's header says of it; all of it empty in a lock that was written by hand.

    Attributes:
        inputs: sha256 (hex) of what it was made from: environment.yml and virtual-packages.yml.
        digest: of the lock when it was written; another one now was edited by hand.
        python: version of the locked python, `3.12.11`.
        glibc: the oldest glibc that all of it runs on, `2.34`.
        cuda: the CUDA runtime that it brings, `13.0`; '' for none.
        download: bytes of all files together.
    """

    inputs: str = ""
    digest: str = ""
    python: str = ""
    glibc: str = ""
    cuda: str = ""
    download: int = 0


@dataclass(frozen=True)
class Lock:
    """The two lock files, read. `needs` is what the header says; it does not count for the digest."""

    conda: tuple[CondaPackage, ...]
    wheels: tuple[LockedWheel, ...]
    needs: LockNeeds = field(default=LockNeeds(), compare=False)

    @property
    def edited(self) -> bool:
        """Whether it was changed since it was written by `deployer lock`."""
        return self.needs.digest not in ("", self.digest)

    @property
    def digest(self) -> str:
        """sha256 (hex) of what is locked. Where a file comes from does not count, nor do comments and order."""
        content = {
            "conda": sorted([package.subdir, package.file_name, package.sha256] for package in self.conda),
            "wheels": sorted([wheel.name, wheel.version, sorted(wheel.sha256)] for wheel in self.wheels),
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    @property
    def python_version(self) -> str:
        """Version of the locked python, as its conda file name has it; empty when the lock has no python."""
        for package in self.conda:
            if match := re.match(r"python-(\d[^-]*)-", package.file_name):
                return match.group(1)
        return ""


def normalize_name(name: str) -> str:
    """PEP 503: `Flash_Attn` and `flash-attn` are one package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def normalize_version(version: str) -> str:
    """`v2025.02` and `2025.2` are one version, as far as file names and locks differ in practice."""
    return re.sub(r"\d+", lambda number: str(int(number.group())), version.lower().lstrip("v"))


def wheel_identity(file_name: str) -> tuple[str, str]:
    """The normalised name and version that a wheel's file name states (PEP 427).

    Raises:
        DeployError: it is not the name of a wheel.
    """
    parts = unquote(file_name)[: -len(".whl")].split("-")
    if not file_name.endswith(".whl") or len(parts) not in (5, 6):
        raise DeployError(
            f"{file_name} is not named like a wheel", fix="keep the name that the package index gave the file"
        )
    return normalize_name(parts[0]), normalize_version(parts[1])


def load_lock(folder: str | Path) -> Lock:
    """Read the two lock files of `folder`.

    Raises:
        DeployError: a file is missing, or a line is not a locked package; names file and line.
    """
    folder = Path(folder)
    conda = _read(folder / CONDA_LOCK)
    return Lock(
        conda=parse_conda_lock(conda, str(folder / CONDA_LOCK)),
        wheels=parse_requirements_lock(_read(folder / REQUIREMENTS_LOCK), str(folder / REQUIREMENTS_LOCK)),
        needs=parse_needs(conda),
    )


def lock_digest(folder: str | Path) -> str:
    """sha256 (hex) of what the lock in `folder` names; it names the environment artifact.

    The same lock gives the same digest wherever it was written: comments, blank lines, order and download addresses do
    not count; names, versions and hashes do.

    Raises:
        DeployError: as `load_lock`.
    """
    return load_lock(folder).digest


def locked_packages(requirements_text: str) -> dict[str, str]:
    """Version of each package that the text of a `requirements.lock` names, by PEP 503 name.

    Raises:
        DeployError: a line is not a locked package; names the line.
    """
    return {wheel.name: wheel.version for wheel in parse_requirements_lock(requirements_text)}


def parse_needs(text: str) -> LockNeeds:
    """What the header of a lock file's text says; what is missing or malformed in it stays empty."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            break
        match = re.fullmatch(r"# (inputs: sha256|digest: sha256|python|glibc|cuda|download): ?([0-9a-f][\w.+!]*)", line)
        if match is not None:
            found.setdefault(match.group(1).partition(":")[0], match.group(2))
    download = found.pop("download", "")
    return LockNeeds(download=int(download) if re.fullmatch(r"[0-9]{1,18}", download) else 0, **found)


def parse_conda_lock(text: str, source: str = CONDA_LOCK) -> tuple[CondaPackage, ...]:
    """The packages of a conda lock's text; `source` names the file in errors.

    Raises:
        DeployError: no `@EXPLICIT` line, a line that is no package URL, or one without sha256; a lock for another
            platform than the hosts'.
    """
    _check_platform(text, source)
    packages = []
    explicit = False
    for number, line in _lines(text):
        if line == "@EXPLICIT":
            explicit = True
            continue
        url, _, fragment = line.partition("#")
        parts = urlsplit(url).path.split("/")
        subdir, file_name = unquote(parts[-2]) if len(parts) > 1 else "", unquote(parts[-1])
        if _SUBDIR.fullmatch(subdir) and subdir not in SUBDIRS and file_name.endswith((".conda", ".tar.bz2")):
            raise DeployError(f"{source} line {number}: {file_name} is locked for {subdir}", fix=RELOCK_PLATFORM)
        if subdir not in SUBDIRS or not file_name.endswith((".conda", ".tar.bz2")):
            raise DeployError(
                f"{source} line {number} is not the URL of a linux-64 or noarch package: {_bare(line)}", fix=RELOCK
            )
        digest = re.fullmatch(r"sha256:([0-9a-f]{64})", fragment)
        if digest is None:
            raise DeployError(f"{source} line {number} has no #sha256:<hex> behind {file_name}", fix=RELOCK)
        packages.append(CondaPackage(url, subdir, file_name, digest.group(1)))
    if not explicit:
        raise DeployError(f"{source} has no @EXPLICIT line", fix=RELOCK)
    return tuple(packages)


def _bare(url: str) -> str:
    """A line of a lock without the credentials that somebody may have left in its URL."""
    return re.sub(r"(?<=://)[^/\s]*@|/t/[^/\s]+(?=/)", "", url)


def _check_platform(text: str, source: str) -> None:
    """Refuse a lock whose comment `# platform: …` names another platform than the hosts'."""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"#\s*platform:\s*(\S+)", line)
        if match is not None and match.group(1) != PLATFORM:
            raise DeployError(f"{source} line {number}: it is locked for {match.group(1)}", fix=RELOCK_PLATFORM)


def parse_requirements_lock(text: str, source: str = REQUIREMENTS_LOCK) -> tuple[LockedWheel, ...]:
    """The packages of a requirements lock's text; `source` names the file in errors.

    Raises:
        DeployError: a line is not `name==version` with `--hash=sha256:…`, or names a package twice.
    """
    wheels: dict[str, LockedWheel] = {}
    for number, line in _lines(text):
        pinned, *options = re.split(r"\s+--", line)
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)(\[[^\]]*\])?\s*==\s*([^\s;,*]+)", pinned)
        hashes = [re.fullmatch(r"hash[= ]sha256:([0-9a-f]{64})", option) for option in options]
        if match is None:
            raise DeployError(f"{source} line {number} is not name==version: {pinned}", fix=RELOCK)
        if not hashes or not all(hashes):
            raise DeployError(f"{source} line {number} has no --hash=sha256:<hex> for {match.group(1)}", fix=RELOCK)
        name = normalize_name(match.group(1))
        if name in wheels:
            raise DeployError(f"{source} line {number} names {name} a second time", fix=RELOCK)
        wheels[name] = LockedWheel(name, normalize_version(match.group(3)), frozenset(h.group(1) for h in hashes if h))
    return tuple(wheels.values())


def bundle_problems(bundle: str | Path) -> list[str]:
    """What the lock files in `bundle` name that the bundle has no file for; empty when it is complete.

    Compares names and versions only, without reading a file: see `damaged_files` for content.

    Raises:
        DeployError: as `load_lock`.
    """
    bundle = Path(bundle)
    lock = load_lock(bundle)
    problems = [f"{package.path} is missing" for package in lock.conda if not (bundle / package.path).is_file()]
    problems += [
        f"conda/{s}/repodata.json is missing" for s in SUBDIRS if not (bundle / f"conda/{s}/repodata.json").is_file()
    ]
    present = {wheel_identity(path.name) for path in bundle.glob("wheels/*.whl")}
    problems += [f"wheels/ has no {w.name} {w.version}" for w in lock.wheels if (w.name, w.version) not in present]
    tools = {wheel_identity(path.name) for path in bundle.glob("installer/*.whl")}
    problems += [f"installer/ has no {t.name} {t.version}" for t in INSTALLERS if (t.name, t.version) not in tools]
    return problems


def damaged_files(bundle: str | Path) -> list[str]:
    """What in a complete bundle is not what the lock names, by sha256: file, wanted, got. Reads every file once.

    Raises:
        DeployError: as `load_lock`.
    """
    bundle = Path(bundle)
    wanted = dict(expected_files(bundle, load_lock(bundle)))
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = dict(zip(wanted, pool.map(hash_file, wanted)))
    return [
        f"{path.relative_to(bundle)}: sha256 wanted {' or '.join(sorted(digests))}, got {found[path]}"
        for path, digests in wanted.items()
        if found[path] not in digests
    ]


def expected_files(bundle: Path, lock: Lock) -> Iterator[tuple[Path, frozenset[str]]]:
    """Each file of a complete bundle that the lock names, with the sha256 digests that it may have."""
    for package in lock.conda:
        yield bundle / package.path, frozenset({package.sha256})
    yield from _wheels_of(bundle / "wheels", {(wheel.name, wheel.version): wheel.sha256 for wheel in lock.wheels})
    yield from _wheels_of(bundle / "installer", {(t.name, t.version): frozenset({t.sha256}) for t in INSTALLERS})


def _wheels_of(folder: Path, wanted: dict[tuple[str, str], frozenset[str]]) -> Iterator[tuple[Path, frozenset[str]]]:
    for path in sorted(folder.glob("*.whl")):
        if (digests := wanted.get(wheel_identity(path.name))) is not None:
            yield path, digests


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if (path.parent / "environment.yml").is_file():
            raise DeployError(f"{path.parent} is not locked", fix=f"python -m deployer lock {path.parent}") from error
        raise DeployError(
            f"{path} cannot be read: {error.strerror}",
            fix=f"a lock is a folder with {CONDA_LOCK} and {REQUIREMENTS_LOCK}",
        ) from error


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """Logical lines with the number they start at: without comments, with continuations joined."""
    pending: list[str] = []
    start = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        start = start if pending else number
        if line.endswith("\\"):
            pending.append(line[:-1].strip())
            continue
        joined = " ".join([*pending, line]).strip()
        pending = []
        if joined:
            yield start, joined
    if pending:
        yield start, " ".join(pending)
