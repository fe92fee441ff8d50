"""What an operator sees of the environments on the hosts: a table, what can be named in an inventory, and remarks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ansible_collections.deployer.sglang.plugins.module_utils.discovery import usage
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import FOLDER
from deployer.views.console import shown
from deployer.views.plan import Line, print_lines
from deployer.wording import counted

Environment = Mapping[str, Any]
Found = Mapping[str, Mapping[str, Any]]

HOSTS_NAMED = 2  # in the table; remarks have more room
HOSTS_REMARKED = 4
NARROWEST = 80  # characters of a line that the table is made for
PATH_WIDTH = 25  # of them
ROLES = usage.ROLES[::-1]  # the later, the more it matters
HEADINGS = (
    "environment\n[dim]made by, where[/]",
    "python\n[dim]size[/]",
    "sglang\n[dim]llamafactory[/]",
    "torch\n[dim]CUDA[/]",
    "trans-\nformers",
    "used by",
)


@dataclass(frozen=True)
class Whole(Line):
    """A line that is never broken: it is there to be copied."""


@dataclass(frozen=True)
class Folded:
    """An environment that is the same on several hosts, as far as the table says."""

    environment: Environment
    hosts: tuple[str, ...]
    sizes: tuple[int, ...]
    uses: tuple[tuple[str, str], ...]
    processes: int
    users: tuple[str, ...]


def print_environments(console: Console, found: Found, failures: Mapping[str, str] | None = None) -> None:
    """Print the environments of all hosts; what is there to be copied stays in one line on any terminal.

    Args:
        console: where to.
        found: host -> what the module `conda_env_info` returned there.
        failures: host -> why it could not be asked.
    """
    for line in environment_lines(found, failures, console.width):
        if isinstance(line, Whole):
            console.print(" " * line.indent + line.text, highlight=False, soft_wrap=True)
        else:
            print_lines(console, [line])


def environment_lines(
    found: Found, failures: Mapping[str, str] | None = None, width: int = NARROWEST
) -> Iterator[Table | Line]:
    """The environments of all hosts for people: a table, what an inventory can name, remarks, and a sum.

    Args:
        found: host -> what the module `conda_env_info` returned there.
        failures: host -> why it could not be asked.
        width: characters of a line; what is over NARROWEST goes to the paths.
    """
    failures = failures or {}
    folded = fold(found)
    if folded:
        yield _table(folded, len(found), PATH_WIDTH + max(0, width - NARROWEST))
        yield from _to_name(folded, len(found))
    yield from _remarks(folded, len(found))
    yield from _left_out(found)
    for reason, hosts in _by_value(failures).items():
        yield Line(f"[red]not asked[/]  [bold]{shown(_hosts(hosts, 0, HOSTS_REMARKED))}[/]")
        yield from (Line(shown(line), 9) for line in reason.splitlines())
    yield _sum(folded, found, failures)


def fold(found: Found) -> list[Folded]:
    """The environments, those with the same path and facts on several hosts once; with an engine first."""
    groups: dict[str, Folded] = {}
    for host, result in found.items():
        for one in result["environments"]:
            key = repr([one[name] for name in ("path", "kind", "owner", "python", "cuda", "suits", "problem")])
            key += repr([sorted(one["versions"].items()), sorted(one["editable"].items()), one["open_to_all"]])
            known = groups.get(key, Folded(one, (), (), (), 0, ()))
            used = one["used_by"]
            groups[key] = replace(
                known,
                hosts=(*known.hosts, host),
                sizes=known.sizes if one["size"] is None else (*known.sizes, one["size"]),
                uses=tuple(
                    {**dict.fromkeys(known.uses), **{(use["service"], use["as"]): None for use in used["services"]}}
                ),
                processes=known.processes + used["process_count"],
                users=tuple(dict.fromkeys((*known.users, *(process["user"] for process in used["processes"])))),
            )
    return sorted(groups.values(), key=_rank)


def _rank(one: Folded) -> tuple[Any, ...]:
    facts = one.environment
    has_torch = "torch" in facts["versions"]
    return (not facts["suits"], not one.uses, not has_torch, not one.processes, facts["path"], one.hosts)


def _table(folded: Sequence[Folded], all_hosts: int, path_width: int) -> Table:
    table = Table(title="Environments", title_justify="left", padding=(0, 1, 0, 0), box=box.SIMPLE)
    for heading in HEADINGS[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(HEADINGS[-1], overflow="fold")
    for one in folded:
        table.add_row(*_row(one, all_hosts, path_width))
    return table


def _row(one: Folded, all_hosts: int, path_width: int) -> list[str]:
    """An environment in cells of two lines, so that it is read in 80 columns as well."""
    facts = one.environment
    versions = facts["versions"]
    made = "unfinished" if not facts["finished"] else facts["kind"] or "broken"
    where = made if all_hosts == 1 else f"{made}, {_hosts(one.hosts, all_hosts, HOSTS_NAMED)}"
    style = "bold" if facts["suits"] else "default"
    return [
        f"[{style}]{shown(short(facts['short_path'], path_width))}[/]\n[dim]{shown(short(where, path_width))}[/]",
        f"{shown(short(facts['python'], 8)) or '-'}\n[dim]{_sizes(one.sizes)}[/]",
        f"{_marked(_version(versions, 'sglang'))}\n{_marked(_version(versions, 'llamafactory'))}",
        f"{_version(versions, 'torch') or '-'}\n[dim]{_cuda(facts)}[/]",
        _version(versions, "transformers") or "-",
        _used_by(one),
    ]


def short(text: str, width: int) -> str:
    """Text in at most `width` characters; of a path the last folders, and the first where there is room for it."""
    if len(text) <= width:
        return text
    first, *rest = text.split("/")
    first = f"/{rest.pop(0)}" if not first and rest else first
    for beginning in (f"{first}/…", "…"):
        tail: list[str] = []
        while len(tail) < len(rest) and len("/".join([beginning, rest[-1 - len(tail)], *tail])) <= width:
            tail.insert(0, rest[-1 - len(tail)])
        if len(tail) > 1 or (tail and beginning == "…"):
            return "/".join([beginning, *tail])
    return f"…{text[1 - width :]}" if "/" in text else f"{text[: width - 1]}…"


def _version(versions: Mapping[str, str], package: str) -> str:
    """A version for the table: what follows its `+`, as in torch 2.7.1+cu126, is in the line of CUDA."""
    if package not in versions:
        return ""
    return shown(short(versions[package].partition("+")[0] or "unknown", 12))


def _cuda(facts: Environment) -> str:
    """The CUDA version, or what else torch was built for, `cpu`."""
    return shown(short(facts["cuda"] or facts["versions"].get("torch", "").partition("+")[2], 8)) or "-"


def _marked(version: str) -> str:
    return f"[green]{version}[/]" if version else "[dim]-[/]"


def _sizes(sizes: Sequence[int]) -> str:
    """The size, or the largest where hosts differ."""
    return size_text(max(sizes)) if sizes else "-"


def size_text(size: int) -> str:
    """`9.8G`, `512M`."""
    return f"{size / 2**30:.1f}G" if size >= 2**30 / 10 else f"{size / 2**20:.0f}M"


def _used_by(one: Folded) -> str:
    roles: dict[str, str] = {}
    for service, role in one.uses:
        if ROLES.index(role) >= ROLES.index(roles.get(service, ROLES[0])):
            roles[service] = role
    parts = [shown(service) if role == "current" else f"{shown(service)} ({role})" for service, role in roles.items()]
    if one.processes:
        count = f"{one.processes} process" + ("es" if one.processes != 1 else "")
        people = ", ".join(one.users[:2]) + (", …" if len(one.users) > 2 else "")
        parts += [f"[dim]{count}[/]", f"[dim]of {shown(people)}[/]"]
    return "\n".join(parts) or "[dim]-[/]"


def _to_name(folded: Sequence[Folded], all_hosts: int) -> Iterator[Line]:
    """What can be copied into an inventory: a line an environment that an engine can be served from."""
    named: set[str] = set()
    lines: list[Line] = []
    for one in folded:
        facts = one.environment
        if facts["suits"] and nameable(facts) and facts["kind"] != "deployer":
            name = entry_name(facts, named)
            named.add(name)
            engines = ", ".join(f"{engine} {facts['versions'].get(engine, '')}".strip() for engine in facts["suits"])
            where = "" if all_hosts == 1 else f", on {_hosts(one.hosts, all_hosts, HOSTS_REMARKED)}"
            comment = f"[dim]# {shown(engines)}{where}[/]"
            lines.append(Whole(f"{name}: {{prefix: {escape(facts['path'])}}}  {comment}", 2))
    if lines:
        yield Line("To serve from one of them, name it in the inventory and in [bold]environment[/] of a service:")
        yield Whole("inference_environments:")
        yield from lines
        yield Line("")


def nameable(facts: Environment) -> bool:
    """Whether an inventory can name an environment by its path, and something can be started from it."""
    return bool(FOLDER.fullmatch(facts["path"])) and bool(facts["python"]) and facts["finished"]


def entry_name(facts: Environment, taken: Collection[str]) -> str:
    """A name for `inference_environments` that is none of `taken`: the environment's own, as far as names allow."""
    base = facts["suits"][0] if facts["name"] == "base" else facts["name"]
    wanted = re.sub(r"[^a-z0-9._-]+", "-", base.lower()).strip("._-")[:40].rstrip("._-") or facts["suits"][0]
    numbered = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def _remarks(folded: Sequence[Folded], all_hosts: int) -> Iterator[Line]:
    """What is wrong with environments, and what to know before one is named."""
    for one in folded:
        facts = one.environment
        lines = [facts["problem"], *_notes(facts)] if facts["problem"] else _notes(facts)
        if lines:
            mark = "[yellow]problem[/]" if facts["problem"] else "[cyan]note   [/]"
            where = "" if all_hosts == 1 else f" on {_hosts(one.hosts, all_hosts, HOSTS_REMARKED)}"
            yield Line(f"{mark}  [bold]{shown(facts['short_path'])}[/][dim]{shown(where)}[/]")
            yield from (Line(shown(line), 9) for line in lines)


def _notes(facts: Environment) -> list[str]:
    notes = [f"{package} is run from {folder}" for package, folder in facts["editable"].items()]
    if facts["suits"] and not facts["open_to_all"]:
        notes.append("not every user can read it: inference_user, who runs the services, may be none of those who can")
    if facts["suits"] and not FOLDER.fullmatch(facts["path"]):
        notes.append("an inventory cannot name it: only letters, digits and ._+- may be in the path of a prefix")
    return notes


def _left_out(found: Found) -> Iterator[Line]:
    said = {host: "\n".join(result["truncated"]) for host, result in found.items() if result["truncated"]}
    for lines, hosts in _by_value(said).items():
        yield Line(f"[yellow]limited[/]  [bold]{shown(_hosts(hosts, len(found), HOSTS_REMARKED))}[/]")
        yield from (Line(shown(line), 9) for line in lines.splitlines())


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for key, value in values.items():
        keys.setdefault(value, []).append(key)
    return keys


def _hosts(names: Sequence[str], all_hosts: int, most: int) -> str:
    """The names of hosts, for people."""
    if len(names) == all_hosts > 1:
        return f"all {all_hosts} hosts"
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _sum(folded: Sequence[Folded], found: Found, failures: Mapping[str, str]) -> Line:
    """How many hosts and environments there are, and which versions of the engines."""
    count = sum(len(one.hosts) for one in folded)
    parts = []
    for engine in ("sglang", "llamafactory"):
        versions = {one.environment["versions"][engine] for one in folded if engine in one.environment["suits"]}
        parts.append(f"{engine} {', '.join(sorted(versions))}" if versions else f"no {engine}")
    failed = f"; {len(failures)} could not be asked" if failures else ""
    hosts, environments = counted(len(found) + len(failures), "host"), counted(count, "environment")
    return Line(f"{hosts}: {environments}; {shown('; '.join(parts))}{failed}")
