"""Client kits: what a release's clients test and learn it by. Staged with it, no part of it, read back from a host."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store

KIT_FOLDER = "client"  # below a release's folder
API_TEST, CURL_TEST, PYTHON_ACCESS = "test_sglang_api.py", "test_sglang_curl.sh", "python_access.py"
GUIDE, GUIDE_IN_CHINESE = "sglang_usage_guide.md", "sglang_usage_guide.zh.md"
KIT_FILES = (API_TEST, CURL_TEST, PYTHON_ACCESS, GUIDE, GUIDE_IN_CHINESE)
PROGRAMS = (API_TEST, CURL_TEST, PYTHON_ACCESS)
LARGEST = 128 * 1024  # bytes of one file of a kit; ours have a tenth of that
LARGEST_RELEASE = 1024 * 1024
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Kit:
    """The kit of a service's committed release, as a host has it.

    Attributes:
        service: its name.
        release: id of the release; '' for none.
        engine: of the release; '' where it cannot be told.
        files: file name -> text; empty where there is a problem.
        problem: why there is no kit; '' where there is one.
        fix: what to do about that.
    """

    service: str
    release: str = ""
    engine: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def kit_path(name: str) -> str:
    """A file of the kit, below the release's folder."""
    return os.path.join(KIT_FOLDER, name)


def is_kit_path(path: str) -> bool:
    """Whether a path below a release's folder, or a whole one, is that of a file of a kit."""
    return os.path.basename(os.path.dirname(path)) == KIT_FOLDER and os.path.basename(path) in KIT_FILES


def mode_of(name: str) -> int:
    """The permissions of a file of the kit: everybody may read it, and run what is a program."""
    return 0o755 if os.path.basename(name) in PROGRAMS else 0o644


def read_kit(root: str, service: str) -> Kit:
    """The kit of the release that a service's `current` names.

    No link is followed on the way from the service's folder to the files, and only files of a kit are read.

    Args:
        root: the deployment's root folder.
        service: the service's name.
    """
    folder = Store(root).service(service)
    release = folder.release_of("current")
    if release is None:
        fix = "roll it out; only what serves has a kit"
        return Kit(service, problem=f"service {service} has no release that serves", fix=fix)
    if release in ("", ".", ".."):
        fix = "deploy again: that mends it"
        return Kit(service, problem=f"{folder.link('current')} names no release", fix=fix)
    try:
        with _folder(folder, release) as place:
            value = json.loads(_read_file(RELEASE_FILE, place, LARGEST_RELEASE))
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return Kit(service, release, problem=f"release {release} cannot be read", fix="deploy again: that mends it")
    engine = str(value.get("engine") or "")
    if value.get("adopted"):
        problem = f"release {release} was adopted: somebody else started it, and its clients' kit is not written"
        fix = "roll out what is described; the kit of that release also tests this server: --url"
        return Kit(service, release, engine, problem=problem, fix=fix)
    try:
        with _folder(folder, release, KIT_FOLDER) as place:
            files = {name: _read_file(name, place, LARGEST) for name in KIT_FILES}
    except FileNotFoundError:
        problem = f"release {release} was staged without a kit"
        return Kit(service, release, engine, problem=problem, fix="deploy again: that adds it, and restarts nothing")
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = f"the kit in {os.path.join(folder.release(release), KIT_FOLDER)} cannot be read: {said}"
        return Kit(service, release, engine, problem=problem, fix="deploy again: that writes it anew")
    return Kit(service, release, engine, files)


@contextlib.contextmanager
def _folder(folder: ServiceFolder, *below: str) -> Iterator[int]:
    """The descriptor of a folder below a service's releases.

    Raises:
        OSError: a folder on the way is missing, or a link.
    """
    place = os.open(folder.path, FOLDER_FLAGS)
    try:
        for name in (os.path.basename(folder.releases), *below):
            above, place = place, os.open(name, FOLDER_FLAGS, dir_fd=place)
            os.close(above)
        yield place
    finally:
        os.close(place)


def _read_file(name: str, folder: int, largest: int) -> str:
    """The text of a file in a folder.

    Raises:
        OSError: it is missing, or a link.
        ValueError: it is no regular file, has more bytes than `largest`, or is no text.
    """
    descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise ValueError(f"{name} is no regular file")
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{name} has more than {largest} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8") from None
