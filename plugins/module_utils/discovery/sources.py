"""Where environments may be on a host: what conda, mamba and pixi wrote down, where they put them, and a short search.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import (
    Owner,
    entries_or_nothing,
    folders_in,
    owner_of,
    text_or_nothing,
)
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.prefixes import is_environment, user_name

# Where their installers put themselves; micromamba's and mamba's own default for MAMBA_ROOT_PREFIX.
ROOT_NAMES = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba")
HOME_ROOTS = (*ROOT_NAMES, ".local/share/mamba", ".conda")
SYSTEM_ROOTS = tuple(f"{folder}/{name}" for folder in ("/opt", "/usr/local") for name in ("conda", *ROOT_NAMES))
SYSTEM_SETTINGS = ("/etc/conda/.condarc", "/etc/conda/condarc", "/etc/conda/condarc.d")
HOME_SETTINGS = (
    ".condarc",
    ".conda/.condarc",
    ".conda/condarc",
    ".conda/condarc.d",
    ".config/conda/.condarc",
    ".mambarc",
)
SHELL_SETTINGS = (".bashrc", ".bash_profile", ".profile", ".zshrc")
# pixi keeps environments there where `detached-environments` is switched on; rattler's cache is its default.
DETACHED = tuple(
    f".cache/{cache}/{kind}" for cache in ("rattler/cache", "pixi") for kind in ("envs", "detached-environments")
)

MOST_LINES = 1000  # of environments.txt
MOST_HOMES = 500
DEPTH = 3  # folders below a home that are looked through
MOST_FOLDERS = 20_000
NOT_SEARCHED = frozenset(("node_modules", "__pycache__", "site-packages", "proc", "snap", "go"))
_NO_HOMES = re.compile(r"/(|(bin|boot|dev|etc|lib\w*|nonexistent|proc|run|sbin|sys|usr)(/.*)?)")
# What `conda init` and `mamba shell init` write.
_SHELL_ROOT = re.compile(r"['\"](/[^'\"$\n]+)/bin/(?:conda|mamba)['\"]|MAMBA_ROOT_PREFIX=['\"]?(/[^'\"$;\s]+)")
_QUOTED_PATH = re.compile(r"=\s*[\"'](/[^\"'\n]+)[\"']")


@dataclass(frozen=True)
class Home:
    """A user's home folder."""

    user: str
    path: str
    owner: Owner


@dataclass(frozen=True)
class Candidate:
    """A folder that may be an environment.

    Attributes:
        path: as its source has it.
        certain: it is listed even where its files say otherwise, or it is gone: somebody counts on it.
        by_conda: one of conda's kin says that it is one: without conda-meta, it was removed by half.
        for_engine: it is of interest only with an engine in it, as one of a developer's many.
    """

    path: str
    certain: bool = False
    by_conda: bool = False
    for_engine: bool = False


def all_homes(everyone: bool) -> tuple[list[Home], list[str]]:
    """The home folders to look in, and what was left out, a line each.

    Args:
        everyone: those of all users, as far as they can be read; else only that of the user who asks.
    """
    own = os.geteuid()
    places = [
        (entry.pw_name, entry.pw_dir, entry.pw_uid) for entry in pwd.getpwall() if everyone or entry.pw_uid == own
    ]
    if everyone:
        # A directory service need not list its users: whose homes are here, it may not name.
        places += [(os.path.basename(path), path, -1) for path in folders_in("/home")]
    automounts = _automounts()
    homes: dict[str, Home] = {}
    left_out: list[str] = []
    unmounted = unreadable = 0
    for user, path, uid in places:
        if _NO_HOMES.fullmatch(path) or not os.path.isabs(path):
            continue
        if os.path.dirname(path) in automounts and not os.path.ismount(path):
            unmounted += 1  # to look at it would mount it, and with it everybody's
            continue
        try:
            real = os.path.realpath(path)
            owner = owner_of(real)
            if os.path.isdir(real) and uid in (-1, owner.uid):
                homes.setdefault(real, Home(user, real, owner))
                unreadable += not os.access(real, os.R_OK | os.X_OK)
        except (OSError, ValueError):
            continue
    if unmounted:
        left_out.append(f"{unmounted} homes are mounted on demand and were not looked at")
    if unreadable:
        left_out.append(f"{unreadable} homes cannot be read by {user_name(own)}")
    if len(homes) > MOST_HOMES:
        left_out.append(f"of {len(homes)} homes {MOST_HOMES} were looked at")
    return list(islice(homes.values(), MOST_HOMES)), left_out


def _automounts() -> frozenset[str]:
    """Folders whose entries are mounted when they are looked at."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
            rows = [line.split() for line in stream]
    except OSError:
        return frozenset()
    return frozenset(row[1] for row in rows if len(row) > 2 and row[2] == "autofs")


def written_down(homes: Sequence[Home]) -> Iterator[Candidate]:
    """What the tools wrote down or put at their usual places, for the host and for each home."""
    for root in SYSTEM_ROOTS:
        yield from root_and_environments(root)
    for home in homes:
        settings = [os.path.join(home.path, name) for name in HOME_SETTINGS]
        for line in _lines(os.path.join(home.path, ".conda/environments.txt"), home.owner):
            yield Candidate(line, certain=os.path.isdir(line), by_conda=True)
        for folder in environment_folders(SYSTEM_SETTINGS, Owner(0, 0), home):
            yield from _in(folder)
        for folder in environment_folders(settings, home.owner, home):
            yield from _in(folder)
        for root in HOME_ROOTS:
            yield from root_and_environments(os.path.join(home.path, root))
        for root in shell_roots(home):
            yield from root_and_environments(root)
        yield from _of_pixi(home)


def root_and_environments(root: str) -> Iterator[Candidate]:
    """A root prefix and the environments below it, those too that its own .condarc puts elsewhere."""
    yield Candidate(root)
    yield from _in(os.path.join(root, "envs"))
    try:
        owner = owner_of(root)
    except (OSError, ValueError):
        return
    for folder in environment_folders([os.path.join(root, ".condarc")], owner, None):
        yield from _in(folder)


def _in(folder: str) -> Iterator[Candidate]:
    """What lies in a folder of environments."""
    for path in folders_in(folder):
        yield Candidate(path, by_conda=True)


def beside(prefix: str) -> Iterator[Candidate]:
    """The environments that lie in one folder `envs` with a known one, and the root prefix that it belongs to."""
    above, folder = os.path.split(os.path.dirname(prefix))
    if folder == "envs":
        yield from root_and_environments(above)


def _of_pixi(home: Home) -> Iterator[Candidate]:
    """Environments of pixi: global ones, those of registered projects, and those kept apart from their projects."""
    yield from _in(os.path.join(home.path, ".pixi/envs"))
    # `pixi workspace register` writes name = "path of the manifest"; other projects are nowhere written down.
    registry = text_or_nothing(os.path.join(home.path, ".pixi/workspaces.toml"), home.owner)
    for manifest in _QUOTED_PATH.findall(registry):
        project = manifest if os.path.isdir(manifest) else os.path.dirname(manifest)
        yield from _in(os.path.join(project, ".pixi/envs"))
    detached = [os.path.join(home.path, folder) for folder in DETACHED]
    for settings in (".pixi/config.toml", ".config/pixi/config.toml"):
        text = text_or_nothing(os.path.join(home.path, settings), home.owner)
        detached += re.findall(r"^\s*detached-environments\s*=\s*[\"'](/[^\"'\n]+)[\"']", text, re.MULTILINE)
    for folder in detached:
        for project in folders_in(folder):
            yield from _in(os.path.join(project, "envs"))


def _lines(path: str, owner: Owner) -> Iterator[str]:
    lines = (line.strip() for line in text_or_nothing(path, owner).splitlines())
    for line in islice(lines, MOST_LINES):
        if os.path.isabs(line) and "\0" not in line:
            yield line


def environment_folders(paths: Iterable[str], owner: Owner, home: Home | None) -> list[str]:
    """The `envs_dirs` of conda's settings; `~`, $HOME and $USER stand for `home` and its user.

    Args:
        paths: settings, and folders of such.
        owner: of the settings.
        home: whose settings they are; without, entries that need one are left out.
    """
    texts = []
    for path in paths:
        names = [name for name in entries_or_nothing(path) if name.endswith((".yml", ".yaml", "condarc"))]
        texts += [text_or_nothing(os.path.join(path, name), owner) for name in names] or [text_or_nothing(path, owner)]
    entries = [entry for text in texts for entry in listed(text, ("envs_dirs", "envs_path"))]
    folders = []
    for entry in entries:
        folder = _expanded(entry, home)
        if os.path.isabs(folder) and "\0" not in folder:
            folders.append(os.path.normpath(folder))
    return folders


def _expanded(entry: str, home: Home | None) -> str:
    if home is None:
        return entry
    for mark, value in (("HOME", home.path), ("USER", home.user)):
        entry = entry.replace(f"${{{mark}}}", value).replace(f"${mark}", value)
    return home.path + entry[1:] if entry == "~" or entry.startswith("~/") else entry


def listed(text: str, keys: Sequence[str]) -> list[str]:
    """The entries of a list at the top of a YAML text, in its simple forms: `- entry` a line, or `[a, b]` in one.

    What is written in another way is left out: hosts have no YAML library.
    """
    found: list[str] = []
    inside = False
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if not line:
            continue
        key = re.match(r"([A-Za-z_]+)\s*:\s*(.*)$", line)
        if key:
            inside = key.group(1) in keys
            if inside and key.group(2):
                found += _flow(key.group(2))
            continue
        entry = re.match(r"\s*-\s+(.+)$", line)
        if entry is None:
            inside = False
        elif inside:
            found.append(_unquoted(entry.group(1)))
    return [entry for entry in found if entry]


def _flow(text: str) -> list[str]:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [] if inner.startswith(("[", "{", "&", "*", "|", ">")) else [_unquoted(part) for part in inner.split(",")]


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def shell_roots(home: Home) -> list[str]:
    """Root prefixes that a user's shell is set up for."""
    texts = (text_or_nothing(os.path.join(home.path, name), home.owner) for name in SHELL_SETTINGS)
    found = [one or other for text in texts for one, other in _SHELL_ROOT.findall(text)]
    return list(dict.fromkeys(os.path.dirname(path) if path.endswith("/condabin") else path for path in found))


def search(homes: Sequence[Home], deadline: float) -> tuple[list[Candidate], list[str]]:
    """Environments near the top of homes: nothing was written down of those of pixi's projects, and of venvs.

    Links are not followed, hidden folders and what lies on another filesystem are left out.

    Args:
        homes: to look in.
        deadline: in the time of `time.monotonic`.
    Returns:
        The candidates, and what was left out, a line each.
    """
    found: list[Candidate] = []
    looked = 0
    # Breadth first over all homes: when the time is up, everybody's upper folders have been looked at.
    waiting = deque((home.path, 0, _device(home.path)) for home in homes)
    while waiting:
        if time.monotonic() > deadline or looked >= MOST_FOLDERS:
            return found, [f"the search in homes ended after {looked:,} folders"]
        folder, depth, device = waiting.popleft()
        looked += 1
        names = entries_or_nothing(folder)
        if depth and is_environment(folder):
            found.append(Candidate(folder, for_engine="conda-meta" not in names))
            continue
        if ".pixi" in names:
            found += _in(os.path.join(folder, ".pixi/envs"))
        if ".venv" in names:
            found.append(Candidate(os.path.join(folder, ".venv"), for_engine=True))
        if depth < DEPTH:
            below = (os.path.join(folder, name) for name in names if name[0] != "." and name not in NOT_SEARCHED)
            waiting += [(path, depth + 1, device) for path in below if _is_plain_folder(path, device)]
    return found, []


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except (OSError, ValueError):
        return -1


def _is_plain_folder(path: str, device: int) -> bool:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_dev == device
