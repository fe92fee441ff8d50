"""`deployer lock NAME`: from environment.yml to the two lock files that hosts are built from.

conda's part is solved first and decides the Python; pip's part is resolved for that Python. Same inputs, channels and
indexes give the same bytes, whatever this machine is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.filesize import decimal

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    CONDA_LOCK,
    PLATFORM,
    REQUIREMENTS_LOCK,
    Lock,
    LockNeeds,
    load_lock,
    parse_conda_lock,
    parse_needs,
    parse_requirements_lock,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import (
    cuda_runtime,
    highest_version,
    needed_glibc,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.conda_solve import CondaRecord, conda_cuda, conda_glibc, solve_conda
from deployer.environments.environment_file import (
    ENVIRONMENT_FILE,
    VIRTUAL_PACKAGES_FILE,
    EnvironmentFile,
    read_environment,
)
from deployer.environments.sources import PackageSources
from deployer.environments.wheel_choice import ChosenWheel, lock_wheels
from deployer.wording import counted

Progress = Callable[[str], None]

SHOWN_CHANGES = 20


@dataclass(frozen=True)
class PackageChange:
    """A package that the new lock has otherwise than the one before; '' for a version that there is not."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class LockSummary:
    """What was locked.

    Attributes:
        conda, wheels: how many packages of each.
        python, glibc, cuda: as `LockNeeds`.
        download: bytes of all files whose size is known.
        unsized: how many files' size is not: their channel or index does not say.
        added, removed, changed: against the lock before, by name; a rebuilt conda package counts as changed.
        written: whether a lock file is other than before.
    """

    conda: int
    wheels: int
    python: str
    glibc: str
    cuda: str
    download: int
    unsized: int
    added: tuple[PackageChange, ...]
    removed: tuple[PackageChange, ...]
    changed: tuple[PackageChange, ...]
    written: bool

    def lines(self) -> list[str]:
        """The summary for a terminal: what was locked, then a line for each change, of many only the first."""
        needs = [f"python {self.python}", *([f"glibc {self.glibc}"] if self.glibc else ["any glibc"])]
        needs += [f"CUDA {self.cuda}"] if self.cuda else []
        unsized = f" and {self.unsized} files of unknown size" if self.unsized else ""
        packages = f"{counted(self.conda, 'conda package')}, {counted(self.wheels, 'wheel')}"
        head = f"{packages}: {', '.join(needs)}; {decimal(self.download)}{unsized}"
        changes = [f"+ {change.name} {change.new}" for change in self.added]
        changes += [f"- {change.name} {change.old}" for change in self.removed]
        changes += [f"~ {change.name} {change.old} → {change.new}" for change in self.changed]
        more = [f"… and {len(changes) - SHOWN_CHANGES} more"] if len(changes) > SHOWN_CHANGES else []
        return [head, *changes[:SHOWN_CHANGES], *more, *([] if self.written else ["the lock is as it was"])]


def lock_environment(
    folder: Path, sources: PackageSources, *, upgrade: bool = False, progress: Progress = lambda line: None
) -> LockSummary:
    """Write both lock files of `folder`, or neither.

    Args:
        folder: `environments/<name>`, with environment.yml.
        sources: where packages come from, as `read_sources` gives it.
        upgrade: take the newest versions; without it those of the lock that is there are kept where they still fit.
        progress: called with one line per step.

    Raises:
        DeployError: a mistake in an input, no solution, a channel or index that cannot be read, a folder that cannot be
            written.
    """
    environment = read_environment(folder)
    previous = _previous(folder)
    keep = previous if not upgrade else Lock((), ())
    progress(f"solving {counted(len(environment.conda), 'conda requirement')}")
    records = solve_conda(environment, folder, sources, [package.file_name for package in keep.conda])
    python = next((record.version for record in records if record.name == "python"), "")
    if not python:
        raise DeployError(
            f"{environment.path}: its conda dependencies bring no python",
            fix="add it to dependencies, such as `- python =3.12`",
        )
    if environment.pip:
        progress(f"resolving {counted(len(environment.pip), 'pip requirement')} for python {python}")
    wheels = lock_wheels(environment, python, records, sources, {wheel.name: wheel.version for wheel in keep.wheels})
    needs = lock_needs(environment, python, records, wheels)
    bare = Lock(parse_conda_lock(conda_text("", records)), parse_requirements_lock(wheels_text("", wheels)))
    header = lock_header(folder.absolute().name, replace(needs, digest=bare.digest))
    written = write_both(
        folder, {CONDA_LOCK: conda_text(header, records), REQUIREMENTS_LOCK: wheels_text(header, wheels)}
    )
    before, after = lock_versions(previous), lock_versions(load_lock(folder))
    changes = [PackageChange(n, before.get(n, ""), after.get(n, "")) for n in sorted({*before, *after})]
    return LockSummary(
        conda=len(records),
        wheels=len(wheels),
        python=needs.python,
        glibc=needs.glibc,
        cuda=needs.cuda,
        download=needs.download,
        unsized=sum(not size for size in _sizes(records, wheels)),
        added=tuple(change for change in changes if not change.old),
        removed=tuple(change for change in changes if not change.new),
        changed=tuple(change for change in changes if change.old and change.new and change.old != change.new),
        written=written,
    )


def check_lock(folder: Path, sources: PackageSources) -> list[str]:
    """Why the lock in `folder` is stale, one line each; [] when it is current. Nothing is fetched.

    Args:
        folder: `environments/<name>`, with environment.yml.
        sources: tells which packages come from folders: those have to be there.

    Raises:
        DeployError: a mistake in environment.yml or virtual-packages.yml.
    """
    environment = read_environment(folder)
    if missing := [name for name in (CONDA_LOCK, REQUIREMENTS_LOCK) if not (folder / name).is_file()]:
        return [f"{name} is missing" for name in missing]
    try:
        lock = load_lock(folder)
        other = parse_needs((folder / REQUIREMENTS_LOCK).read_text(encoding="utf-8"))
    except (DeployError, OSError, UnicodeDecodeError) as error:
        return [error.problem if isinstance(error, DeployError) else str(error)]
    if not lock.needs.inputs:
        return [f"{CONDA_LOCK} does not say what it was made from: it was not written by `deployer lock`"]
    reasons = []
    if lock.needs != other:
        reasons.append(f"{CONDA_LOCK} and {REQUIREMENTS_LOCK} are not of one run")
    if lock.edited:
        reasons.append(f"{CONDA_LOCK} or {REQUIREMENTS_LOCK} was edited since it was written")
    if lock.needs.inputs != environment.digest:
        reasons.append(f"{ENVIRONMENT_FILE} or {VIRTUAL_PACKAGES_FILE} has changed since")
    urls = (urlsplit(sources.fetch_url(package.url)) for package in lock.conda)
    gone = [path for url in urls if url.scheme == "file" and not (path := Path(unquote(url.path))).is_file()]
    return reasons + [f"{path} is not there any more" for path in gone]


def lock_needs(
    environment: EnvironmentFile, python: str, records: Iterable[CondaRecord], wheels: Iterable[ChosenWheel]
) -> LockNeeds:
    """What a lock's header says."""
    records, wheels = list(records), list(wheels)
    return LockNeeds(
        inputs=environment.digest,
        python=python,
        glibc=highest_version([needed_glibc(wheel.file_name for wheel in wheels), conda_glibc(records)]),
        cuda=cuda_runtime({wheel.name: wheel.version for wheel in wheels}) or conda_cuda(records),
        download=sum(_sizes(records, wheels)),
    )


def _sizes(records: Iterable[CondaRecord], wheels: Iterable[ChosenWheel]) -> list[int]:
    return [*(record.size for record in records), *(wheel.size for wheel in wheels)]


def lock_header(name: str, needs: LockNeeds) -> str:
    """The comment at the top of both files; `parse_needs` reads it."""
    lines = [
        f"Made by `deployer lock {name}` from {ENVIRONMENT_FILE}: change that, and lock again.",
        f"platform: {PLATFORM}",
        f"inputs: sha256:{needs.inputs}",
        f"digest: sha256:{needs.digest}",
        f"python: {needs.python}",
        *([f"glibc: {needs.glibc}"] if needs.glibc else []),
        *([f"cuda: {needs.cuda}"] if needs.cuda else []),
        f"download: {needs.download}",
    ]
    return "".join(f"# {line}\n" for line in lines)


def conda_text(header: str, records: Iterable[CondaRecord]) -> str:
    """Text of the conda lock."""
    return f"{header}@EXPLICIT\n" + "".join(f"{record.url}#sha256:{record.sha256}\n" for record in records)


def wheels_text(header: str, wheels: Iterable[ChosenWheel]) -> str:
    """Text of the requirements lock; a comment above each package says which file it is, and its size in bytes."""
    lines = (
        f"# {wheel.file_name}{f', {wheel.size}' if wheel.size else ''}\n"
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n"
        for wheel in wheels
    )
    return f"{header}\n" + "".join(lines)


def lock_versions(lock: Lock) -> dict[str, str]:
    """What a lock names: version and build of conda packages, versions of wheels; a name may stand for both."""
    versions = {}
    for package in lock.conda:
        name, *version = package.file_name.removesuffix(".conda").removesuffix(".tar.bz2").rsplit("-", 2)
        versions[name] = " ".join(version)
    return {**versions, **{wheel.name: wheel.version for wheel in lock.wheels}}


def write_both(folder: Path, texts: Mapping[str, str]) -> bool:
    """Write files of `folder` by name, each whole; all of them or, when one cannot be written, none.

    Returns:
        Whether one of them is other than before.

    Raises:
        DeployError: the folder cannot be written.
    """
    before = {name: _content(folder / name) for name in texts}
    if all(before[name] == text.encode() for name, text in texts.items()):
        return False
    parts = {name: folder / f"{name}.part" for name in texts}
    replaced = []
    try:
        for name, text in texts.items():
            parts[name].write_text(text, encoding="utf-8")
        for name, part in parts.items():
            replaced.append(name)
            part.replace(folder / name)
    except BaseException as error:
        _restore(folder, {name: before[name] for name in replaced}, parts.values())
        if isinstance(error, OSError):
            raise DeployError(
                f"{folder}: the lock cannot be written: {error.strerror}", fix="check the folder's mode and its disk"
            ) from error
        raise
    return True


def _restore(folder: Path, before: Mapping[str, bytes | None], parts: Iterable[Path]) -> None:
    for name, content in before.items():
        with suppress(OSError):
            if content is None:
                os.unlink(folder / name)
            elif _content(folder / name) != content:
                (folder / name).write_bytes(content)
    for part in parts:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _previous(folder: Path) -> Lock:
    """The lock that is there; an empty one where there is none, or none that can be read."""
    try:
        return load_lock(folder)
    except (DeployError, UnicodeDecodeError):
        return Lock((), ())
