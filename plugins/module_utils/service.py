"""The service description: what a user writes in the inventory, validated and made into frozen data."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?$")
VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
GPU_UUID = re.compile(r"^(GPU|MIG)-[0-9A-Fa-f-]{8,}$")
SECRET = re.compile(r"(api_?key|token|password|secret)s?$", re.IGNORECASE)
SUPERVISORS = ("systemd", "process")


@dataclass(frozen=True)
class Gate:
    """What a release has to show before it is committed. Times in seconds."""

    ready_timeout: int = 1200
    min_healthy_time: int = 10
    request_timeout: int = 60
    prompt: str = "Say hello."
    max_tokens: int = 8


@dataclass(frozen=True)
class Model:
    """The weights: the name that clients send, and the folder on the controller that holds them."""

    name: str
    source: str


@dataclass(frozen=True)
class Service:
    """One endpoint on a host, run by one engine."""

    name: str
    port: int
    model: Model
    engine: str
    environment: str
    host: str = "0.0.0.0"
    gpus: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    stop_timeout: int = 120
    predecessor: Service | None = None


@dataclass(frozen=True)
class Environment:
    """A named environment: built from a lock's bundle on the controller, or an existing prefix on the host."""

    name: str
    lock: str | None = None
    prefix: str | None = None


SERVICE_KEYS = (
    "name",
    "port",
    "host",
    "model",
    "gpus",
    "engine",
    "environment",
    "options",
    "environment_variables",
    "gate",
    "stop_timeout",
    "predecessor",
)
# A predecessor is the same endpoint run in another way: what it does not say, it takes from its service.
INHERITED = ("name", "port", "host", "model", "gate", "stop_timeout")


class _Problems:
    """Collects what is wrong, so that one run names all of it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, key: str, problem: str, fix: str) -> None:
        self.found.append(f"{key}: {problem}. Fix: {fix}")

    def keys(self, where: str, value: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for key in value:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(allowed)}"
                self.add(f"{where}.{key}", "unknown key", hint)

    def mapping(self, where: str, value: Any) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(where, f"is {value!r}", "write a mapping of key: value")
            return {}
        return value

    def integer(self, where: str, value: Any, low: int, high: int) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = low - 1
        if isinstance(value, bool) or not low <= number <= high:
            self.add(where, f"is {value!r}", f"give a whole number from {low} to {high}")
            return low
        return number

    def name(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not NAME.match(value):
            self.add(where, f"is {value!r}", "use lower-case letters, digits, '.', '_' and '-', at most 48")
            return "unnamed"
        return value


def parse_services(services: Any, environments: Any) -> tuple[tuple[Service, ...], dict[str, Environment]]:
    """Make the inventory's `inference_services` and `inference_environments` into data.

    Args:
        services: the list as the inventory gives it.
        environments: the mapping of environment names to `{lock: …}` or `{prefix: …}`.
    Returns:
        The services in the inventory's order, and the environments by name.
    Raises:
        DeployError: something is wrong; its detail names every key, what is wrong with it and the fix.
    """
    problems = _Problems()
    known = _parse_environments(problems, environments)
    parsed: list[Service] = []
    if not isinstance(services, Sequence) or isinstance(services, str) or not services:
        problems.add("inference_services", "no service is described", "list at least one (README, 'First deployment')")
        services = []
    for index, raw in enumerate(services):
        where = f"inference_services[{index}]"
        value = problems.mapping(where, raw)
        if value.get("name"):
            where = f"inference_services[{value['name']}]"
        parsed.append(_parse_service(problems, where, value, known))
    _check_together(problems, parsed)
    if problems.found:
        raise DeployError("the service description has mistakes", "", "\n".join(problems.found))
    return tuple(parsed), known


def _parse_environments(problems: _Problems, raw: Any) -> dict[str, Environment]:
    found = {}
    for name, value in problems.mapping("inference_environments", raw).items():
        where = f"inference_environments.{name}"
        problems.name(where, name)
        entry = problems.mapping(where, value)
        problems.keys(where, entry, ("lock", "prefix"))
        if len([key for key in ("lock", "prefix") if entry.get(key)]) != 1:
            problems.add(
                where, "needs exactly one of lock and prefix", "name a lock folder, or a conda prefix on hosts"
            )
        prefix = entry.get("prefix")
        if prefix and not str(prefix).startswith("/"):
            problems.add(f"{where}.prefix", f"is {prefix!r}", "give the absolute path of the prefix on the hosts")
        found[str(name)] = Environment(str(name), entry.get("lock"), prefix)
    return found


def _parse_service(
    problems: _Problems, where: str, value: Mapping[str, Any], environments: Mapping[str, Environment]
) -> Service:
    problems.keys(where, value, SERVICE_KEYS)
    for key in ("name", "port", "model", "engine", "environment"):
        if value.get(key) in (None, ""):
            problems.add(f"{where}.{key}", "is missing", f"add {key}: to the service")
    name = problems.name(f"{where}.name", value.get("name", "unnamed"))
    port = problems.integer(f"{where}.port", value.get("port", 1), 1, 65535)
    engine = str(value.get("engine", "sglang"))
    if engine not in ENGINES:
        near = difflib.get_close_matches(engine, ENGINES, n=1)
        problems.add(
            f"{where}.engine", f"is {engine!r}", f"use one of {', '.join(ENGINES)}" + (f" ({near[0]}?)" if near else "")
        )
    environment = str(value.get("environment", ""))
    if environment and environment not in environments:
        problems.add(
            f"{where}.environment",
            f"{environment!r} is not described",
            f"add inference_environments.{environment}, or use one of {', '.join(environments) or '(none yet)'}",
        )
    gpus = _parse_gpus(problems, f"{where}.gpus", value.get("gpus"))
    options = _parse_options(problems, f"{where}.options", value.get("options"), engine)
    _check_parallelism(problems, where, engine, options, gpus)
    predecessor = None
    if value.get("predecessor") is not None:
        own = problems.mapping(f"{where}.predecessor", value["predecessor"])
        inherited = {key: value[key] for key in INHERITED if key in value}
        if "predecessor" in own:
            problems.add(f"{where}.predecessor.predecessor", "is not allowed", "remove it")
        predecessor = _parse_service(
            problems, f"{where}.predecessor", {**inherited, **own, "predecessor": None}, environments
        )
        if predecessor.name != name:
            problems.add(f"{where}.predecessor.name", f"is {predecessor.name!r}", "remove it: it is the same service")
    return Service(
        name=name,
        port=port,
        model=_parse_model(problems, f"{where}.model", value.get("model")),
        engine=engine,
        environment=environment,
        host=str(value.get("host", Service.host)),
        gpus=gpus,
        options=options,
        environment_variables=_parse_variables(problems, f"{where}.environment_variables", value),
        gate=_parse_gate(problems, f"{where}.gate", value.get("gate")),
        stop_timeout=problems.integer(f"{where}.stop_timeout", value.get("stop_timeout", 120), 1, 7200),
        predecessor=predecessor,
    )


def _parse_model(problems: _Problems, where: str, raw: Any) -> Model:
    value = problems.mapping(where, raw)
    problems.keys(where, value, ("name", "source"))
    for key in ("name", "source"):
        if value and not value.get(key):
            meaning = 'the name that clients send as "model"' if key == "name" else "the folder with the weights"
            problems.add(f"{where}.{key}", "is missing", f"give {meaning}")
    name = str(value.get("name", "unnamed"))
    if not re.match(r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,95}$", name):
        problems.add(f"{where}.name", f"is {name!r}", "use letters, digits and ._/:- only")
    return Model(name, str(value.get("source", "")))


def _parse_gpus(problems: _Problems, where: str, raw: Any) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        problems.add(where, f"is {raw!r}", "give a list of GPU indices or UUIDs, such as [6, 7]; [] for none")
        return ()
    gpus = []
    for item in raw:
        text = str(item)
        if isinstance(item, bool) or not (text.isdigit() or GPU_UUID.match(text)):
            problems.add(where, f"{item!r} is neither a GPU index nor a UUID", "see nvidia-smi -L")
        elif text in gpus:
            problems.add(where, f"GPU {text} is listed twice", "list each GPU once")
        gpus.append(text)
    return tuple(gpus)


def _parse_options(problems: _Problems, where: str, raw: Any, engine: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    reserved = engine_named(engine).reserved if engine in ENGINES else {}
    for key, value in problems.mapping(where, raw).items():
        name = str(key).lstrip("-").replace("-", "_")
        if name in reserved:
            problems.add(f"{where}.{key}", "is set by the deployment", f"use {reserved[name]} of the service instead")
        elif SECRET.search(name) and isinstance(value, str):
            problems.add(
                f"{where}.{key}",
                "would stand in the process's argv, where every user of the host can read it",
                "remove it and put the key check in front of the service",
            )
        elif name in options:
            problems.add(f"{where}.{key}", "is given twice, in two spellings", "keep one of them")
        elif value is not None:
            options[name] = value
    return options


def _check_parallelism(
    problems: _Problems, where: str, engine: str, options: Mapping[str, Any], gpus: tuple[str, ...]
) -> None:
    """One tensor-parallel flag, and as many GPUs as it and the pipeline need."""
    if engine != "sglang":
        return
    spellings = [name for name in ("tensor_parallel_size", "tp_size", "tp") if name in options]
    if len(spellings) > 1:
        problems.add(f"{where}.options", f"{' and '.join(spellings)} say the same", "keep tensor_parallel_size")
    size = 1
    for names in (spellings[:1], [n for n in ("pipeline_parallel_size", "pp_size", "pp") if n in options][:1]):
        for name in names:
            size *= problems.integer(f"{where}.options.{name}", options[name], 1, 1024)
    nodes = options.get("nnodes", 1)
    if gpus and nodes == 1 and size != len(gpus):
        problems.add(
            f"{where}.gpus",
            f"{len(gpus)} GPUs are given and the parallelism needs {size}",
            f"give {size} GPUs, or set options.tensor_parallel_size to {len(gpus)}",
        )


def _parse_variables(problems: _Problems, where: str, service: Mapping[str, Any]) -> dict[str, str]:
    variables = {}
    for key, value in problems.mapping(where, service.get("environment_variables")).items():
        if not VARIABLE.match(str(key)):
            problems.add(f"{where}.{key}", "is no name of an environment variable", "use letters, digits and _")
        elif SECRET.search(str(key)) and value:
            problems.add(f"{where}.{key}", "would stand in a world-readable launch script", "remove it")
        elif not isinstance(value, (str, int, float)) or isinstance(value, bool) or "\n" in str(value):
            problems.add(f"{where}.{key}", f"is {value!r}", "quote it: an environment variable is one line of text")
        else:
            variables[str(key)] = str(value)
    return variables


def _parse_gate(problems: _Problems, where: str, raw: Any) -> Gate:
    value = problems.mapping(where, raw)
    names = tuple(Gate.__dataclass_fields__)
    problems.keys(where, value, names)
    numbers = {
        name: problems.integer(f"{where}.{name}", value[name], 0 if name == "min_healthy_time" else 1, 86400)
        for name in names
        if name in value and name != "prompt"
    }
    return Gate(prompt=str(value.get("prompt", Gate.prompt)), **numbers)


def _check_together(problems: _Problems, services: Sequence[Service]) -> None:
    """Two services of one host share neither name nor port nor GPU."""
    for what, values in (
        ("name", [(s.name,) for s in services]),
        ("port", [(str(s.port),) for s in services]),
        ("gpus", [s.gpus for s in services]),
    ):
        owner: dict[str, str] = {}
        for service, own in zip(services, values):
            for value in own:
                if value in owner:
                    problems.add(
                        f"inference_services[{service.name}].{what}",
                        f"{value} is used by {owner[value]} too",
                        "give each service its own",
                    )
                owner[value] = service.name
