"""Looks at a host before anything is described for it; changes nothing."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import Adoptable, look
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.recognise import (
    is_title,
    key_of,
    options_of,
    recognise,
)
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.secrets import (
    HIDDEN,
    is_secret_option,
    secret_values,
    secret_variables,
    shown_argv,
)
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server, find_server
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.survey import read_environments
from ansible_collections.deployer.sglang.plugins.module_utils.engines import UNKNOWN
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_probe import read_host
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import (
    Disk,
    FoundEnvironment,
    FoundServer,
    HostSurvey,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_VARIABLE

ENVIRONMENTS_WITHIN = 30  # seconds
FOLDER = "inference"  # that a root folder is, wherever it lies
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The engines' own ports, for a server that has several and was given none.
PORTS = {"sglang": 30000, "llamafactory": 8000, "vllm": 8000}
# File systems that hold what they are given; on others nothing belongs that is to stay, or to be read fast.
KEEPING = frozenset(("btrfs", "ext2", "ext3", "ext4", "overlay", "xfs", "zfs"))


def read_survey(root: str) -> HostSurvey:
    """What this host is, which environments it has, and what serves there.

    Args:
        root: the root folder that a deployment has by default; it need not exist.
    """
    user = _login()
    disks = tuple(_disks())
    found_root = deployment_among(
        (root, os.path.join(user.pw_dir, FOLDER), *(os.path.join(one.mount, FOLDER) for one in disks))
    )
    services = _entries(os.path.join(found_root, "services"))
    facts = read_host(found_root or root, services, (), ())
    found = read_environments(found_root or root, everyone=True, sizes=False, budget=ENVIRONMENTS_WITHIN)
    used = {
        int(process["pid"]): str(one["path"])
        for one in found["environments"]
        for process in one["used_by"]["processes"]
    }
    ports = procfs.listening_ports()
    return HostSurvey(
        host=facts,
        login=user.pw_name,
        home=user.pw_dir,
        by_sudo=os.geteuid() == 0 and user.pw_uid != 0,
        root=found_root,
        disks=disks,
        environments=tuple(_environment(one) for one in found["environments"] if one["suits"]),
        servers=tuple(_servers(ports, facts, used)),
        unseen_ports=tuple(sorted(port for port, pids in ports.items() if not pids)),
        left_out=tuple(found["truncated"]),
    )


def deployment_among(roots: Iterable[str]) -> str:
    """The first of these folders that a deployment has services in; ''."""
    return next((root for root in roots if _entries(os.path.join(root, "services"))), "")


def _login() -> pwd.struct_passwd:
    """Who logged in: sudo says so where it made this root."""
    uid = os.environ.get("SUDO_UID", "") if os.geteuid() == 0 else ""
    number = int(uid) if uid.isdigit() else os.geteuid()
    try:
        return pwd.getpwuid(number)
    except KeyError:  # a container's user without an entry in /etc/passwd
        return pwd.struct_passwd((str(number), "x", number, number, "", os.environ.get("HOME", "/"), ""))


def _environment(value: Mapping[str, Any]) -> FoundEnvironment:
    names = ("path", "kind", "owner", "python", "cuda", "versions", "open_to_all", "problem")
    return FoundEnvironment(**{name: value[name] for name in names}, suits=tuple(value["suits"]))


def _disks() -> Iterator[Disk]:
    """The local file systems that keep what is written, the freest first; each once, where it is mounted first."""
    found: dict[int, Disk] = {}
    for mount in _mounts():
        with contextlib.suppress(OSError):
            device = os.stat(mount).st_dev
            writable = os.access(mount, os.W_OK | os.X_OK)
            found.setdefault(device, Disk(mount, shutil.disk_usage(mount).free, writable))
    return iter(sorted(found.values(), key=lambda one: (-one.free, one.mount)))


def _mounts() -> list[str]:
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
        rows = [line.split() for line in stream]
    # Spaces and the like are octal there: such a path is no root folder anyway.
    kept = [row[1] for row in rows if row[2] in KEEPING and "ro" not in row[3].split(",") and "\\" not in row[1]]
    return [mount for mount in kept if os.path.isdir(mount)]  # a file can be mounted, too


def _servers(ports: Mapping[int, Iterable[int]], facts: HostFacts, used: Mapping[int, str]) -> list[FoundServer]:
    """What serves: the known engines, and whatever else computes on a GPU and listens."""
    computing = {process.pid for gpu in facts.gpus.gpus for process in gpu.processes}
    computing |= {above for pid in computing for above in procfs.ancestors_of(pid) if above > 1}
    owners = {one.port: one.service for one in facts.listeners if one.service}
    by_top: dict[int, list[Server]] = {}
    for port, pids in sorted(ports.items()):
        if not any(pid in computing or _is_engine(pid) for pid in pids):
            continue
        with contextlib.suppress(DeployError):  # two that share a port; or it ended meanwhile
            server = find_server(port)
            if server is not None:
                by_top.setdefault(server.top_pid, []).append(server)
    found = []
    for server in map(_main, by_top.values()):
        adoptable = look(server.port, ())
        if adoptable is not None:
            found.append(found_server(server, adoptable, facts.gpus, used, owners.get(server.port, "")))
    return sorted(found, key=lambda one: one.port)


def _is_engine(pid: int) -> bool:
    chain = (pid, *procfs.ancestors_of(pid))
    return any(recognise(procfs.words_of(one), {}).engine != UNKNOWN for one in chain if one > 1)


def _main(several: Sequence[Server]) -> Server:
    """Of the ports of one server the one that clients know: as given, the engine's own, or the lowest.

    The others are not asked: an SGLang has a dozen ports that its parts meet on, which take a request and never answer.
    """
    by_port = {server.port: server for server in several}
    first = several[0]
    given = _options(first)[0].get("port", [])[:1] or [first.engine_environ.get("API_PORT", "")]
    wanted = [int(given[0])] if given[0].isascii() and given[0].isdigit() else []
    engine = first.recognised.engine
    return next((by_port[port] for port in [*wanted, PORTS.get(engine, 0)] if port in by_port), first)


def found_server(
    server: Server, adoptable: Adoptable, gpus: GpuFacts, used: Mapping[int, str], deployed: str
) -> FoundServer:
    """What is known of a server, without a secret in it.

    Args:
        server: what serves.
        adoptable: what a rollout would make of it.
        gpus: of the host, with what computes on them.
        used: pid -> the environment that it runs from.
        deployed: the service whose process it is; ''.
    """
    options, withheld = _options(server)
    known = server.recognised
    path = os.path.normpath(os.path.join(server.cwd, known.model_path)) if known.model_path else ""
    is_folder = bool(path) and os.path.isdir(path)
    shown = " ".join(options.get("model_name_or_path") or options.get("model_path") or options.get("model") or ())
    chosen, source = _gpus(server, gpus)
    return FoundServer(
        port=server.port,
        address=server.address,
        engine=known.engine,
        who=adoptable.who,
        started=server.started,
        model=_text(path if is_folder else shown or known.model_path),
        model_is_folder=is_folder,
        model_open=is_folder and open_to_all(path),
        served_name=_text(adoptable.served_name),
        gpus=chosen,
        gpus_from=source,
        options={_text(name): tuple(map(_text, words)) for name, words in options.items()},
        withheld=tuple(map(_text, withheld)),
        asks_for_key=bool(key_of(server.engine_argv, server.engine_environ) or key_of(server.argv, server.environ)),
        prefix=next((used[pid] for pid in sorted(server.family) if pid in used), ""),
        deployed=deployed,
        release=_text(server.environ.get(RELEASE_VARIABLE, "")),
        supervision=adoptable.supervision,
        problem=_text(adoptable.problem),
        fix=_text(adoptable.fix),
    )


def _options(server: Server) -> tuple[dict[str, list[str]], list[str]]:
    """The options of the engine's own command, and the names of what is secret among them and in its environment."""
    titled = is_title(server.engine_argv) or recognise(server.engine_argv, {}).engine == UNKNOWN
    argv, environ = (server.argv, server.environ) if titled else (server.engine_argv, server.engine_environ)
    words = shown_argv(argv, secret_values(environ, secret_variables(environ)))
    starts = [at for at in range(len(words)) if recognise(words[at:], {}).engine != UNKNOWN]
    options = options_of(words[starts[-1] :])[0] if starts else {}
    secret = [name for name, values in options.items() if is_secret_option(name) or HIDDEN in " ".join(values)]
    return {name: values for name, values in options.items() if name not in secret}, sorted(secret)


def _gpus(server: Server, facts: GpuFacts) -> tuple[tuple[str, ...], str]:
    """The GPUs that it computes on, as nvidia-smi sees it; without that, those that its environment names."""
    computing = [str(gpu.index) for gpu in facts.gpus if any(process.pid in server.family for process in gpu.processes)]
    if computing:
        return tuple(computing), "nvidia-smi"
    if VISIBLE not in server.engine_environ:
        return (), ""
    given = [one.strip() for one in server.gpus.split(",")]
    return tuple(_text(one) for one in given if one and not one.startswith("-")), VISIBLE


def open_to_all(folder: str) -> bool:
    """Whether every user can reach a folder and read the files directly in it."""
    try:
        above = os.path.realpath(folder)
        while above != "/":
            if not os.stat(above).st_mode & stat.S_IXOTH:
                return False
            above = os.path.dirname(above)
        modes = [os.stat(folder).st_mode, *(os.stat(entry.path).st_mode for entry in os.scandir(folder))]
    except OSError:
        return False
    return all(mode & stat.S_IROTH for mode in modes)


def _text(value: str) -> str:
    """Valid text: bytes that are none are replaced."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _entries(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []
