"""Finds where a locked wheel can be had: folders and pages of links first, then simple indexes (PEP 503, PEP 691)."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import LockedWheel, wheel_identity
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file
from deployer.environments.http_client import in_parallel
from deployer.environments.pages import Candidate, Unreachable, read_page
from deployer.environments.sources import PackageSources, without_credentials

CONNECTIONS = 8
HASHING = 4
# Lowest glibc first: of several wheels that the lock allows, the one that runs on the most hosts.
PLATFORMS = (
    "linux_x86_64",
    *("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"),
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 44)),
)
NO_WHEEL = "run it again, or name the index that has it in sources.yml; else build it with `pip wheel`, and lock that"


def locate_wheels(
    wheels: Sequence[LockedWheel],
    python: str,
    sources: PackageSources,
    client: httpx.Client,
    folders: Iterable[Path] = (),
    connections: int = CONNECTIONS,
) -> dict[LockedWheel, tuple[Candidate, ...]]:
    """Where each of `wheels` can be had: the candidates to try, in order.

    A file with a locked hash is the one candidate. Only where no page states a hash there can be several, told apart
    by downloading them.

    Args:
        wheels: what is locked.
        python: version of the locked Python; counts where a lock allows several files.
        sources: which indexes and pages.
        client: as `http_client.open_client` gives it.
        folders: looked into before anything else.
        connections: pages at once.

    Raises:
        DeployError: a wheel is nowhere; names it, the places, and what is there instead.
    """
    links = [place for place in map(_local_folder, sources.find_links) if place is not None]
    found = _on_disk([*folders, *links], wheels)
    missing = [wheel for wheel in wheels if wheel not in found]
    if not missing:
        return found
    search = _Search(python, sources, client)
    problems: list[DeployError] = []

    def take(wheel: LockedWheel, result: tuple[Candidate, ...] | DeployError) -> None:
        if isinstance(result, DeployError):
            problems.append(result)
        else:
            found[wheel] = result

    in_parallel(missing, search.find, connections, take)
    if problems:
        raise _first_of(problems)
    return found


class NotThere(DeployError):
    """Every place was asked, and none has the wheel."""


def _first_of(problems: Sequence[DeployError]) -> DeployError:
    """One error for all: an index that fails is said once, each wheel that is nowhere in a line of its own."""
    first, *others = sorted(problems, key=lambda problem: (isinstance(problem, NotThere), str(problem)))
    lines = [first.detail, *(other.problem for other in others if isinstance(other, NotThere))]
    return DeployError(first.problem, first.fix, "\n".join(line for line in lines if line))


class _Search:
    """Looks for wheels on pages; pages of links are read once."""

    def __init__(self, python: str, sources: PackageSources, client: httpx.Client) -> None:
        self._client = client
        self._tags = _ranks(python)
        self._indexes = (*sources.indexes, *((default_index(),) if sources.public_index else ()))
        self._link_pages = [place for place in sources.find_links if _local_folder(place) is None]
        self._links: list[Candidate] | DeployError | None = None
        self._unreachable: dict[str, DeployError] = {}
        self._lock = threading.Lock()

    def find(self, wheel: LockedWheel, stopped: threading.Event) -> tuple[Candidate, ...] | DeployError:
        """The wheel's candidates, or why there are none."""
        offered: list[Candidate] = []
        problems: list[DeployError] = []
        for place in (None, *self._indexes):
            try:
                page = self._all_links(stopped) if place is None else self._page(place, wheel.name, stopped)
            except DeployError as problem:
                # Some servers answer 403 for what they do not have: another index may have it.
                problems.append(problem)
                continue
            locked = [one for one in page if one.sha256 in wheel.sha256 and _is_version_of(one, wheel)]
            if exact := self._choose(wheel, locked):
                return tuple(one for one in exact if one.sha256 == exact[0].sha256)
            # Only now: pages of 15,000 files are not rare, and a name takes longer to read than a hash.
            offered += [one for one in page if _is_version_of(one, wheel)]
        if unsure := self._choose(wheel, [one for one in offered if not one.sha256], by_tag=True):
            return unsure
        return problems[0] if problems else self._nowhere(wheel, offered)

    def _choose(
        self, wheel: LockedWheel, candidates: Iterable[Candidate], by_tag: bool = False
    ) -> tuple[Candidate, ...]:
        """The wheels among `candidates`, best first; unsuitable ones only where the lock leaves no choice."""
        ranked = [(self._rank(one.file_name), one) for one in candidates if one.file_name.endswith(".whl")]
        if by_tag or len(wheel.sha256) > 1:
            ranked = [(rank, one) for rank, one in ranked if rank < len(self._tags)]
        return tuple(one for _, one in sorted(ranked, key=lambda pair: pair[0]))

    def _rank(self, file_name: str) -> int:
        try:
            tags = parse_wheel_filename(file_name)[3]
        except InvalidWheelFilename:
            return len(self._tags)
        return min(self._tags.get(tag, len(self._tags)) for tag in tags)

    def _page(self, index: str, name: str, stopped: threading.Event) -> list[Candidate]:
        if known := self._unreachable.get(index):
            raise known
        url = f"{index.rstrip('/')}/{quote(name)}/"
        try:
            return read_page(self._client, url, f"the page of {name}", stopped)
        except Unreachable as problem:
            with self._lock:
                self._unreachable[index] = problem
            raise

    def _all_links(self, stopped: threading.Event) -> list[Candidate]:
        with self._lock:
            if self._links is None:
                try:
                    pages = [read_page(self._client, page, "the page of wheels", stopped) for page in self._link_pages]
                    self._links = [one for page in pages for one in page]
                except DeployError as problem:
                    self._links = problem
            if isinstance(self._links, DeployError):
                raise self._links
            return self._links

    def _nowhere(self, wheel: LockedWheel, offered: Sequence[Candidate]) -> NotThere:
        what = f"{wheel.name}=={wheel.version}"
        places = ", ".join(map(without_credentials, (*self._link_pages, *self._indexes))) or "any folder of wheels"
        locked = " or ".join(sorted(wheel.sha256))
        if any(one.sha256 in wheel.sha256 and not one.file_name.endswith(".whl") for one in offered):
            return NotThere(f"{what} is a source archive at {places}, not a wheel", fix=NO_WHEEL)
        if any(one.sha256 in wheel.sha256 for one in offered):
            return NotThere(f"no locked wheel of {what} suits the locked python and Linux on x86_64", fix=NO_WHEEL)
        others = sorted({(self._rank(one.file_name), one.file_name, one.sha256) for one in offered})
        if others:
            _, file_name, got = others[0]
            return NotThere(
                f"no file of {what} at {places} is the locked one: sha256 wanted {locked}, got {got} ({file_name})",
                fix="lock again; or name the index that the lock was written with in sources.yml",
                detail="\n".join(f"{got} {file_name}" for _, file_name, got in others[1:]),
            )
        return NotThere(f"{what} is not at {places}", fix=NO_WHEEL)


def default_index() -> str:
    """The simple index that pip asks when nothing else is set.

    Raises:
        DeployError: this Python has no pip, or one that does not say it.
    """
    try:
        return str(importlib.import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError):
        raise DeployError(
            "which package index to ask is not known: this python has no pip that says it",
            fix="install pip for it, or name indexes in sources.yml",
        ) from None


def _local_folder(place: str) -> Path | None:
    """The folder that a find-links entry names, if it names one."""
    path = Path(unquote(urlsplit(place).path)) if place.startswith("file:") else Path(place).expanduser()
    return path if path.is_dir() or "://" not in place else None


def _on_disk(folders: Iterable[Path], wheels: Iterable[LockedWheel]) -> dict[LockedWheel, tuple[Candidate, ...]]:
    """The wheels that lie in `folders` with a locked hash."""
    wanted: dict[tuple[str, str], list[LockedWheel]] = {}
    for wheel in wheels:
        wanted.setdefault((wheel.name, wheel.version), []).append(wheel)
    paths = [path for folder in folders for path in sorted(folder.glob("*.whl")) if _identity(path.name) in wanted]
    found: dict[LockedWheel, tuple[Candidate, ...]] = {}
    with ThreadPoolExecutor(HASHING) as pool:
        for path, digest in zip(paths, pool.map(hash_file, paths), strict=True):
            for wheel in wanted[_identity(path.name)]:
                if digest in wheel.sha256:
                    found.setdefault(wheel, (Candidate(path.name, path.absolute().as_uri(), digest),))
    return found


def _is_version_of(candidate: Candidate, wheel: LockedWheel) -> bool:
    if candidate.file_name.endswith(".whl"):
        return _identity(candidate.file_name) == (wheel.name, wheel.version)
    # A source archive counts by its hash alone: its name may be split in several ways.
    return candidate.sha256 in wheel.sha256


def _identity(file_name: str) -> tuple[str, str]:
    try:
        return wheel_identity(file_name)
    except DeployError:
        return ("", "")


def _ranks(python: str) -> dict[Tag, int]:
    """Every tag that suits a Python on x86_64 Linux, by how well: compiled for it first, of those the lowest glibc."""
    numbers = re.findall(r"\d+", python)[:2]
    version = [int(number) for number in numbers] if len(numbers) == 2 else None
    interpreter = "cp" + "".join(numbers) if version else None
    tags = [*cpython_tags(version, platforms=PLATFORMS), *compatible_tags(version, interpreter, PLATFORMS)]
    return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}
