"""Every environment of a host: conda's, mamba's, pixi's, the deployment's, and the venvs that engines run from.

Read-only, and nothing of an environment is run: root would run code of another user. What belongs to others is read
with care (see guarded_files), and every step has a limit; what a limit left out is said.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.guarded_files import folders_in, printable
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.prefixes import (
    PrefixFacts,
    is_environment,
    read_prefix,
    user_name,
)
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sizes import Size, measure
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sources import (
    Candidate,
    Home,
    all_homes,
    beside,
    search,
    written_down,
)
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.usage import (
    Program,
    Use,
    programs,
    releases,
    shown_process,
    users_of,
)

MOST_ENVIRONMENTS = 500
MOST_PROCESSES = 10  # of one environment that are shown; an engine has a process a GPU, and more
SEARCH_SHARE = 0.25  # of the time, for the search in homes


@dataclass(frozen=True)
class Environment:
    """An environment on this host.

    Attributes:
        path: its real path.
        aliases: other paths that it was found by: links.
        facts: what its files say.
        size: of the disk; None where it was not measured.
        uses: the releases that use it.
        processes: what runs from it, `pid`, `user` and `command` of each.
    """

    path: str
    aliases: tuple[str, ...] = ()
    facts: PrefixFacts = field(default_factory=PrefixFacts)
    size: Size | None = None
    uses: tuple[Use, ...] = ()
    processes: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self, homes: Sequence[Home] = ()) -> dict[str, Any]:
        """The environment as a module's result has it: valid text that is safe to show.

        Args:
            homes: for `short_path`, where a path in a home starts with `~user`.
        """
        facts = asdict(self.facts)
        problems = list(facts.pop("problems"))
        if printable(self.path) != self.path:
            problems.append("its path has characters that cannot be shown")
        if self.size is not None and self.size.unreadable:
            problems.append(f"{self.size.unreadable} of its folders cannot be read, its size is larger")
        value = {
            "path": self.path,
            "short_path": short_path(self.path, homes),
            "aliases": list(self.aliases),
            **facts,
            "suits": list(self.facts.suits),
            "size": None if self.size is None else self.size.size,
            "shared_bytes": None if self.size is None else self.size.shared,
            "used_by": {
                "services": [use.as_dict() for use in self.uses],
                "processes": [dict(process) for process in self.processes[:MOST_PROCESSES]],
                "process_count": len(self.processes),
            },
            "problem": "; ".join(problems),
        }
        cleaned: dict[str, Any] = _printable(value)
        return cleaned


def read_environments(
    root: str, everyone: bool = True, sizes: bool = True, budget: float = 60, prefixes: Sequence[str] = ()
) -> dict[str, Any]:
    """Every environment of this host that can be found within limits, as the module `conda_env_info` returns it.

    Args:
        root: the deployment's root folder, which need not exist.
        everyone: look into the homes of all users, as far as they can be read.
        sizes: measure what they take of the disk.
        budget: seconds for all of it. What is not measured by then has no size.
        prefixes: that the inventory names.
    """
    started = time.monotonic()
    homes, limits = all_homes(everyone)
    uses = releases(root)
    running = programs()
    candidates = [
        *(Candidate(use.path, certain=True) for use in uses),
        *(Candidate(prefix, certain=True) for prefix in prefixes),
        *(Candidate(path) for path in folders_in(os.path.join(root, "artifacts", "environments"))),
        *(Candidate(program.prefix) for program in running),
        *written_down(homes),
    ]
    searched, search_limits = search(homes, started + budget * SEARCH_SHARE)
    candidates += searched
    candidates += [one for candidate in tuple(candidates) for one in beside(candidate.path)]
    found, count_limits = environments_among(candidates, [program.prefix for program in running])
    found = with_users(found, uses, running)
    limits += search_limits + count_limits
    total = None
    if sizes:
        measured = measure(_most_wanted_first(found), started + budget)
        found = [replace(one, size=measured.by_prefix.get(one.path)) for one in found]
        total = measured.total
        missing = sum(one.size is None for one in found)
        if missing:
            limits.append(f"{missing} environments were not measured within {budget:g} s")
    return {
        "environments": [one.as_dict(homes) for one in found],
        "total_bytes": total,
        "user": printable(user_name(os.geteuid())),
        "truncated": [printable(line) for line in limits],
    }


def environments_among(
    candidates: Iterable[Candidate], run_from: Iterable[str] = ()
) -> tuple[list[Environment], list[str]]:
    """The environments among folders, each once, sorted by path; and what was left out, a line each.

    Args:
        candidates: the folders; one may come several times, by several paths.
        run_from: prefixes that processes run from: those are of interest without an engine too.
    """
    paths: dict[str, list[str]] = {}
    certain, by_conda, any_use = set(), set(), set(map(_real, run_from))
    for candidate in candidates:
        real = _real(candidate.path)
        known = paths.setdefault(real, [])
        if candidate.path not in known:
            known.append(candidate.path)
        if candidate.certain:
            certain.add(real)
        if candidate.by_conda:
            by_conda.add(real)
        if not candidate.for_engine:
            any_use.add(real)
    wanted = [real for real in sorted(paths) if real in certain or is_environment(real)]
    limits = []
    if len(wanted) > MOST_ENVIRONMENTS:
        limits.append(f"of {len(wanted)} environments {MOST_ENVIRONMENTS} were read")
    found = []
    for real in wanted[:MOST_ENVIRONMENTS]:
        facts = read_prefix(real, real in by_conda)
        # An installation of Python alone is no environment of anybody, unless an engine was put into it.
        if facts.suits or real in certain or (real in any_use and facts.kind != "python"):
            aliases = (os.path.normpath(path) for path in paths[real])
            found.append(Environment(real, tuple(sorted({path for path in aliases if path != real})), facts))
    return found, limits


def with_users(found: Sequence[Environment], uses: Sequence[Use], running: Sequence[Program]) -> list[Environment]:
    """The environments with the releases and the processes that use them."""
    by_path: dict[str, list[Use]] = {}
    for use in uses:
        by_path.setdefault(_real(use.path), []).append(use)
    pids = users_of({one.path for one in found}, running)
    return [
        replace(one, uses=tuple(by_path.get(one.path, ())), processes=_still_there(pids.get(one.path, ())))
        for one in found
    ]


def _still_there(pids: Iterable[int]) -> tuple[Mapping[str, Any], ...]:
    return tuple(process for process in map(shown_process, pids) if process["user"])


def short_path(path: str, homes: Sequence[Home]) -> str:
    """The path for people: `~user/…` in a home, the innermost where homes lie in each other."""
    inside = [home for home in homes if path == home.path or path.startswith(f"{home.path}/")]
    if not inside:
        return path
    home = max(inside, key=lambda one: len(one.path))
    return f"~{home.user}{path[len(home.path) :]}"


def _most_wanted_first(found: Sequence[Environment]) -> list[str]:
    """Paths in the order to measure them while there is time: those that engines can be served from first."""
    return [one.path for one in sorted(found, key=lambda one: (not one.facts.suits, not one.uses, not one.processes))]


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(one) for key, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, (list, tuple)) else value
