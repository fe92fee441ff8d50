"""Reads the service description of an inventory, and names every mistake in it with its key and a fix."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import HOST, Problems
from ansible_collections.deployer.sglang.plugins.module_utils.engines import ENGINES, engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import BACKENDS
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gate_description import (
    NEW_ONE,
    engine_problems,
    parse_gate,
    parse_handover,
)
from ansible_collections.deployer.sglang.plugins.module_utils.model_description import parse_model
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import policy_problems
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism, parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import reserved_variables
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    SUPERVISORS,
    Environment,
    Model,
    Service,
    with_predecessors,
)

# These end up in paths, units and scripts, too (description_problems.NAME).
JOURNAL_SIZE = re.compile(r"[1-9][0-9]{0,5}[KMGT]")  # journald.conf(5)
FOLDER = re.compile(r"(/[A-Za-z0-9._+-]+)+/?")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
GPU_UUID = re.compile(r"(GPU|MIG)-[0-9A-Fa-f-]{8,}")
SECRET = re.compile(r"(api|access|private|admin)_?key|passw(or)?d|secret|token$", re.IGNORECASE)
# Names of environment variables are less of a kind: OPENAI_KEY, DB_PASS, AUTH, HF_TOKEN_2.
SECRET_VARIABLE = re.compile(
    rf"{SECRET.pattern}|token_?\d+$|(^|_)(key|pass|passwd|pwd|auth|credentials?)(_|$)", re.IGNORECASE
)
CREDENTIALS = re.compile(r"://[^/@\s]*:[^/@\s]*@")  # http://user:password@proxy
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

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
    "drain_timeout",
    "gateway",
    "findings",
    "predecessor",
)
SETTINGS = (
    "inference_address",
    "inference_environments",
    "inference_findings",
    "inference_hub_variables",
    "inference_journal_max_size",
    "inference_root",
    "inference_services",
    "inference_supervisor",
    "inference_textfile_directory",
    "inference_user",
)
# A predecessor is the same endpoint run in another way: what it does not say, it takes from its service.
INHERITED = ("name", "port", "host", "model", "gate", "stop_timeout", "drain_timeout", "gateway")


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
    problems = Problems()
    known = _parse_environments(problems, environments)
    parsed: list[Service] = []
    if not isinstance(services, Sequence) or isinstance(services, str) or not services:
        problems.add(
            "inference_services", "no service is described", "list at least one (README, 'A first real deployment')"
        )
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


def _parse_environments(problems: Problems, raw: Any) -> dict[str, Environment]:
    found = {}
    for name, value in problems.mapping("inference_environments", raw).items():
        where = f"inference_environments.{name}"
        problems.name(where, name)
        entry = problems.mapping(where, value)
        problems.keys(where, entry, ("lock", "prefix", "backend"))
        if len([key for key in ("lock", "prefix") if entry.get(key)]) != 1:
            problems.add(
                where, "needs exactly one of lock and prefix", "name a lock folder, or a conda prefix on hosts"
            )
        prefix = entry.get("prefix")
        lock = entry.get("lock")
        backend = entry.get("backend", Environment.backend)
        if backend not in BACKENDS:
            problems.add(f"{where}.backend", f"is {backend!r}", f"use one of {', '.join(BACKENDS)}")
        elif prefix and "backend" in entry:
            problems.add(f"{where}.backend", "is of no use with prefix, which is used as it is", "remove it")
        if prefix:
            problems.text(f"{where}.prefix", prefix, FOLDER, "the absolute path of the prefix on the hosts")
        if lock and (not isinstance(lock, str) or CONTROL.search(lock)):
            problems.add(f"{where}.lock", f"is {lock!r}", "give the path of one folder")
        path = os.path.normpath(prefix) if isinstance(prefix, str) else prefix
        found[str(name)] = Environment(str(name), lock, path, str(backend))
    return found


def _parse_service(
    problems: Problems, where: str, value: Mapping[str, Any], environments: Mapping[str, Environment]
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
    options, exposed = _parse_options(problems, f"{where}.options", value.get("options"), engine)
    parallelism = _parse_parallelism(problems, where, engine, options)
    gpus, auto_gpus = _parse_gpus(problems, f"{where}.gpus", value.get("gpus"), parallelism)
    predecessor = None
    if value.get("predecessor") is not None:
        own = problems.mapping(f"{where}.predecessor", value["predecessor"])
        inherited = {key: value[key] for key in INHERITED if key in value}
        if isinstance(inherited.get("gate"), Mapping):  # what is asked of the new one must not close the way back
            inherited["gate"] = {key: one for key, one in inherited["gate"].items() if key not in NEW_ONE}
        for key, fix in (("predecessor", "remove it"), ("findings", "say it in the findings of the service")):
            if key in own:
                problems.add(f"{where}.predecessor.{key}", "is not allowed", fix)
        for key in ("parity", "load"):
            if isinstance(own.get("gate"), Mapping) and key in own["gate"]:
                problems.add(f"{where}.predecessor.gate.{key}", "is not allowed: no way back is judged", "remove it")
        predecessor = _parse_service(
            problems, f"{where}.predecessor", {**inherited, **own, "predecessor": None}, environments
        )
        problems.forget([f"{where}.predecessor.{key}" for key in inherited if key not in own])
        if predecessor.name != name:
            problems.add(f"{where}.predecessor.name", f"is {predecessor.name!r}", "remove it: it is the same service")
    gate = parse_gate(problems, f"{where}.gate", value.get("gate"))
    engine_problems(problems, f"{where}.gate", gate, engine)
    return Service(
        name=name,
        port=port,
        model=parse_model(problems, f"{where}.model", value.get("model"), engine),
        engine=engine,
        environment=environment,
        host=problems.text(f"{where}.host", value.get("host", Service.host), HOST, "an address, such as 0.0.0.0"),
        gpus=gpus,
        auto_gpus=auto_gpus,
        options=options,
        exposed=exposed,
        environment_variables=_parse_variables(
            problems, f"{where}.environment_variables", value.get("environment_variables"), engine
        ),
        findings=_parse_findings(problems, f"{where}.findings", value.get("findings")),
        gate=gate,
        stop_timeout=problems.integer(f"{where}.stop_timeout", value.get("stop_timeout", 120), 1, 7200),
        handover=parse_handover(problems, where, value),
        predecessor=predecessor,
    )


def _parse_gpus(problems: Problems, where: str, raw: Any, parallelism: Parallelism) -> tuple[tuple[str, ...], int]:
    """The GPUs by index or UUID, and how many the plan is to choose: `auto`, or `{auto: 2}`."""
    if raw is None:
        return (), 0
    if raw == "auto":
        return (), parallelism.gpus
    if isinstance(raw, Mapping) and list(raw) == ["auto"]:
        return (), problems.integer(f"{where}.auto", raw["auto"], 1, 64)
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        fix = "give a list of GPU indices or UUIDs, such as [6, 7]; [] for none; or auto, or {auto: 2}"
        problems.add(where, f"is {raw!r}", fix)
        return (), 0
    gpus = []
    for item in raw:
        text = str(item)
        if isinstance(item, bool) or not (text.isdigit() or GPU_UUID.fullmatch(text)):
            problems.add(where, f"{item!r} is neither a GPU index nor a UUID", "see nvidia-smi -L")
        gpus.append(text)
    return tuple(gpus), 0


def _parse_options(problems: Problems, where: str, raw: Any, engine: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options in snake_case, and the names of those that would show a secret: their values are kept nowhere."""
    options: dict[str, Any] = {}
    exposed = []
    reserved = engine_named(engine).reserved if engine in ENGINES else {}
    for key, value in problems.mapping(where, raw).items():
        name = str(key).lstrip("-").replace("-", "_")
        if name in reserved:
            problems.add(f"{where}.{key}", "is set by the deployment", f"use {reserved[name]} of the service instead")
        elif not OPTION.fullmatch(name):
            problems.add(f"{where}.{key}", "is no name of a flag", "write the flag without dashes in front")
        elif SECRET.search(name) and not isinstance(value, bool):
            exposed.append(name)
        elif name in options:
            problems.add(f"{where}.{key}", "is given twice, with - and with _", "keep one of them")
        elif value is None:
            problems.add(
                f"{where}.{key}", "has no value", "write true for a flag that stands alone, or remove the line"
            )
        else:
            options[name] = value
    return options, tuple(exposed)


def _parse_parallelism(problems: Problems, where: str, engine: str, options: Mapping[str, Any]) -> Parallelism:
    if engine not in ENGINES:
        return Parallelism()
    try:
        return parallelism_of(engine, engine_named(engine).canonical(options))
    except DeployError as error:
        problems.found.append(f"{where}.{error}")
        return Parallelism()


def _parse_findings(problems: Problems, where: str, raw: Any) -> dict[str, str]:
    for key, problem, fix in policy_problems(where, raw):
        problems.add(key, problem, fix)
    return {str(key): str(value) for key, value in raw.items()} if isinstance(raw, Mapping) else {}


def _parse_variables(problems: Problems, where: str, raw: Any, engine: str) -> dict[str, str]:
    variables = {}
    reserved = reserved_variables(engine) if engine in ENGINES else frozenset()
    for key, value in problems.mapping(where, raw).items():
        if str(key) in reserved:
            problems.add(
                f"{where}.{key}", "is set by the deployment", "remove it; gpus, host, port and model set theirs"
            )
        elif not VARIABLE.fullmatch(str(key)):
            problems.add(f"{where}.{key}", "is no name of an environment variable", "use letters, digits and _")
        elif (SECRET_VARIABLE.search(str(key)) and value) or CREDENTIALS.search(str(value)):
            problems.add(f"{where}.{key}", "would stand in a world-readable launch script", "remove it")
        elif not isinstance(value, (str, int, float)) or isinstance(value, bool) or CONTROL.search(str(value)):
            problems.add(f"{where}.{key}", f"is {value!r}", "quote it: an environment variable is one line of text")
        else:
            variables[str(key)] = str(value)
    return variables


def _check_together(problems: Problems, services: Sequence[Service]) -> None:
    """Two services of one host share neither name nor port nor GPU."""
    for what, values in (
        ("name", [(s.name,) for s in services]),
        ("port", [(str(s.port),) for s in services]),
        ("gpus", [tuple(dict.fromkeys(s.gpus)) for s in services]),
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
    rules: dict[str, Model] = {}
    for role, service in with_predecessors(services):
        model = service.model
        first = rules.setdefault(model.source, model)
        if model.source and (first.exclude, first.include, first.fetch_on) != (
            model.exclude,
            model.include,
            model.fetch_on,
        ):
            where = f"inference_services[{service.name}]{'.predecessor' if role == 'predecessor' else ''}.model"
            problems.add(
                where,
                f"{model.source} is used elsewhere with another exclude, include or fetch_on",
                "say the same wherever one source is used",
            )


def unknown_settings(names: Sequence[str]) -> list[str]:
    """Variables that look like settings of the deployment and are none: misspelled, they would change nothing."""
    problems = Problems()
    for name in sorted(set(names) - set(SETTINGS)):
        near = difflib.get_close_matches(name, SETTINGS, n=1)
        problems.add(
            name, "unknown setting", f"did you mean {near[0]}?" if near else f"use one of {', '.join(SETTINGS)}"
        )
    return problems.found


def findings_problems(policy: Any) -> list[str]:
    """What is wrong with `inference_findings`, a line each with key and fix."""
    problems = Problems()
    _parse_findings(problems, "inference_findings", policy)
    return problems.found


def placement_problems(
    root: Any, user: Any, supervisor: Any = "systemd", textfiles: Any = "", journal: Any = ""
) -> list[str]:
    """What is wrong with where and as whom services run and are told of, a line each with key and fix."""
    problems = Problems()
    if supervisor not in SUPERVISORS:
        problems.add("inference_supervisor", f"is {supervisor!r}", f"use one of {', '.join(SUPERVISORS)}")
    problems.text("inference_root", root, FOLDER, "an absolute path of letters, digits and ._+-")
    problems.text("inference_user", user, USER, "the name of a user")
    if textfiles != "":
        problems.text(
            "inference_textfile_directory", textfiles, FOLDER, "the path of node_exporter's folder, or nothing"
        )
    if journal != "":
        problems.text("inference_journal_max_size", journal, JOURNAL_SIZE, "a size such as 4G, or nothing")
        if supervisor == "process":
            fix = "remove it: without systemd a service's log is rotated beside it"
            problems.add("inference_journal_max_size", "is of systemd's journal, which has no part in these logs", fix)
    return problems.found
