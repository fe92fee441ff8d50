"""What the comments of a first inventory say: where each value comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.filesize import decimal

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import (
    FoundEnvironment,
    FoundServer,
    HostSurvey,
)
from deployer.first_inventory.decisions import LOCK, disk_of
from deployer.first_inventory.services import Service
from deployer.first_inventory.survey import Seen

ENGINES = {"llamafactory": "LLaMA-Factory", "sglang": "SGLang", "vllm": "vLLM"}
GIB = 2**30
MOST_HOSTS = 6  # that one comment names


def host_line(one: Seen, day: str) -> str:
    """What a host is, for the comment above its name."""
    if one.survey is None:
        why = f"{one.trouble.problem}. Fix: {one.trouble.fix}" if one.trouble else "it was not asked"
        return f"NOT SEEN on {day}: {why}. Nothing was checked of it: what the group says is assumed"
    host = one.survey.host
    gpus = Counter(map(_gpu, host.gpus.gpus))
    parts = [
        ", ".join(f"{count} x {what}" for what, count in gpus.items())
        or f"no GPU ({host.gpus.problem or 'none seen'})",
        f"driver {host.gpus.driver}" if host.gpus.driver else "",
        f"{host.system} {host.machine}, glibc {host.glibc or 'none'}, Python {host.python}",
        "systemd" if host.systemd else "no systemd",
        f"seen on {day} as {_as_whom(one.survey)}",
    ]
    return "found: " + "; ".join(filter(None, parts))


def _gpu(gpu: Gpu) -> str:
    return f"{gpu.product} ({gpu.memory_total / GIB:.0f} GiB)"


def _as_whom(survey: HostSurvey) -> str:
    if survey.by_sudo:
        return f"root, by {survey.login}'s sudo"
    return survey.login


def explained(key: str, value: Any, surveys: Mapping[str, HostSurvey], troubles: Mapping[str, str]) -> Iterator[str]:
    """Where a setting comes from, in texts that stand above it.

    Args:
        key: of the inventory.
        value: that it has.
        surveys: of the hosts that have it so.
        troubles: host -> why it could not be looked at as root.
    """
    if key == "ansible_become":
        yield from _of_become(value, surveys, troubles)
    elif key == "inference_environments":
        yield from _of_environments(value, surveys)
    elif key == "inference_root":
        yield f"Where everything lies on a host. found: {_each(_room(one, value) for one in surveys.values())}"
    elif key == "inference_supervisor":
        yield from _of_supervisor(value, surveys)
    elif key == "inference_services":
        yield "What every host is to serve. What is not said here is as by default (README, docs/)."
        unseen = sorted({port for one in surveys.values() for port in one.unseen_ports})
        if unseen:
            yield (
                f"Not looked at: ports {', '.join(map(str, unseen[:12]))}{', …' if len(unseen) > 12 else ''}, whose "
                "processes could not be seen: other users' (that takes root), or in containers"
            )


def _of_become(value: Any, surveys: Mapping[str, HostSurvey], troubles: Mapping[str, str]) -> Iterator[str]:
    if value:
        logins = sorted({one.login for one in surveys.values()})
        yield f"found: {', '.join(logins)} becomes root by sudo, without being asked for a password"
    else:
        first = next(iter(surveys.values()))
        why = next((troubles[name] for name in surveys if name in troubles), "sudo did not work")
        as_root = f"{first.login} logs in, and is root already"
        yield f"found: {as_root if first.host.uid == 0 else f'{first.login} does not become root: {why}'}"


def _of_supervisor(value: Any, surveys: Mapping[str, HostSurvey]) -> Iterator[str]:
    first = next(iter(surveys.values()))
    if value == "systemd":
        yield "found: systemd runs there, and units can be written as root"
        return
    why = "no systemd runs there" if not first.host.systemd else f"{first.login} cannot become root without a password"
    yield (
        f"found: {why}: services are processes of their own, run by who logs in. Nothing restarts one that dies or "
        "starts it at boot; the next rollout does"
    )
    if first.host.systemd:
        yield (
            "With a sudo password in a file: remove this line and inference_root, set ansible_become: true, and give "
            "every command -- --become-password-file FILE"
        )


def _of_environments(value: Mapping[str, Mapping[str, str]], surveys: Mapping[str, HostSurvey]) -> Iterator[str]:
    yield "Where the engines' Python comes from."
    named = {one["prefix"]: name for name, one in value.items() if "prefix" in one}
    said: dict[str, None] = {}
    for survey in surveys.values():
        for one in survey.environments:
            what = f"{named[one.path]} is" if one.path in named else "not used:"
            said.setdefault(f"found: {what} {_environment(one)}")
    yield from said
    if any(one.get("lock") == LOCK for one in value.values()):
        yield (
            f"No environment with SGLang was found that could be used: it is built on every host from the lock in "
            f"{LOCK} beside this inventory, once python -m deployer bundle has fetched what that names"
        )


def _environment(one: FoundEnvironment) -> str:
    names = {"sglang": "SGLang", "llamafactory": "LLaMA-Factory", "torch": "torch", "vllm": "vLLM"}
    versions = [f"{shown} {one.versions[name]}" for name, shown in names.items() if one.versions.get(name)]
    parts = [
        f"{one.path}: {one.kind or 'an environment'} of {one.owner}",
        *versions,
        f"Python {one.python}" if one.python else "",
        f"CUDA {one.cuda}" if one.cuda else "",
        "" if one.open_to_all else "closed to other users",
        one.problem,
    ]
    return ", ".join(filter(None, parts))


def _room(survey: HostSurvey, root: str) -> str:
    disk = disk_of(survey, root)
    free = disk.free if disk else survey.host.disk_free
    others = [f"{other.mount} {decimal(other.free)}" for other in survey.disks if other != disk][:3]
    there = f"{', '.join(survey.host.services)} deployed there already; " if survey.host.services else ""
    return f"{there}{decimal(free)} free there" + (f" ({', '.join(others)})" if others else "")


def service_lines(alike: Sequence[tuple[str, Service]]) -> Iterator[str]:
    """What serves now, host by host, for the comment above a service.

    Args:
        alike: the service as every host has it.
    """
    service = alike[0][1]
    if service.server is None:
        hosts = _names([name for name, _ in alike])
        yield f"Nothing that is known serves on {hosts} now. What it is to serve is yours to say:"
        return
    for name, one in alike[:MOST_HOSTS]:
        if one.server is not None:
            yield f"found on {name}: {_server(one.server)}"
    if len(alike) > MOST_HOSTS:
        yield f"and the same on {_names([name for name, _ in alike[MOST_HOSTS:]])}"
    if not service.server.deployed and not service.server.release and not service.server.problem:
        yield "A rollout records that command before it stops it; rollback --to @adopted starts exactly it again."
    for caution in dict.fromkeys(caution for _, one in alike for caution in one.cautions):
        yield f"LOOK AT: {caution}"


def _server(server: FoundServer) -> str:
    by = {"hand": ", started by hand", "refused": ""}.get(server.supervision, f", kept by {server.supervision}")
    other = ", by a deployment of this package that was not found" if server.release else by
    whose = f", deployed as {server.deployed}" if server.deployed else other
    engine = ENGINES.get(server.engine, server.engine)
    return f"{engine} serves port {server.port}: {server.who}, since {server.started or 'some time'}{whose}"


def with_evidence(service: Service, alike: Sequence[tuple[str, Service]]) -> dict[str, list[str]]:
    """The comments of a service's keys: of the first host's, as the others have the same values."""
    said: dict[str, list[str]] = {}
    for note in service.notes:
        said.setdefault(note.key, []).append(note.text)
    if service.server is not None and len(alike) > 1:
        said.setdefault("model.source", []).append("a guess: it is the same model on all of them; the plan compares")
    return said


def _each(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_HOSTS else f"{', '.join(names[: MOST_HOSTS - 1])} and others"
