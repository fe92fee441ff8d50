"""A service as it is described, of a server that was found; pure functions."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import HOST, NAME
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import FoundServer, HostSurvey
from ansible_collections.deployer.sglang.plugins.module_utils.model_description import MODEL_NAME
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import GPU_UUID
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import FORMS, HUGGINGFACE, parse_source
from deployer.first_inventory.options import is_plain, llamafactory_options, sglang_options

FILL_IN = "FILL-IN"
DEFAULT_NAME = "gpt-3.5-turbo"  # what LLaMA-Factory calls every model without API_MODEL_NAME
TEMPLATE_NAME, TEMPLATE_PORT = "llm", 8001
# Weights of their own beside the model's folder: SGLang would serve the model without them.
ADAPTERS = ("adapter_name_or_path", "lora_modules")
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Note:
    """What a person should know of a key of a service, such as `model.source`."""

    key: str
    text: str


@dataclass(frozen=True)
class Service:
    """A service as an inventory has it.

    Attributes:
        value: the description.
        server: what was found; None for a template.
        notes: what a person should know of it.
        cautions: the same, of what has to be looked at before a rollout.
        fill_in: what a person has to say; '' for nothing.
        spare_predecessor: a predecessor that would need something first; shown, not described.
    """

    value: Mapping[str, Any]
    server: FoundServer | None = None
    notes: tuple[Note, ...] = ()
    cautions: tuple[str, ...] = ()
    fill_in: str = ""
    spare_predecessor: Mapping[str, Any] = field(default_factory=dict)


def template(survey: HostSurvey) -> Service:
    """What a host on which nothing serves is to serve, as far as it can be told."""
    on_cpu = {} if survey.host.gpus.gpus else {"device": "cpu"}
    held = {one.port for one in survey.host.listeners}
    value = {
        "name": TEMPLATE_NAME,
        "port": next(port for port in range(TEMPLATE_PORT, TEMPLATE_PORT + 2**10) if port not in held),
        "model": {"name": TEMPLATE_NAME, "source": FILL_IN},
        "gpus": [] if on_cpu else "auto",
        "engine": "sglang",
        "environment": "sglang",
        "options": {**on_cpu, "enable_metrics": True},
    }
    notes = (
        Note("name", "a guess, like all that follows: what it is called here; folders and its unit are named after it"),
        Note("model.name", 'what clients send as "model"'),
        Note("model.source", f"FILL IN: where the weights are: {FORMS} (docs/weights.md)"),
        Note("gpus", "there are none" if on_cpu else "the plan chooses; or a list, as nvidia-smi counts them: [0, 1]"),
        Note("options", "SGLang's own flags, by their own names; for two GPUs a service, tensor_parallel_size: 2"),
    )
    fill_in = _fill_in(TEMPLATE_NAME, f"where the weights are: {FORMS}")
    return Service(value, notes=notes, fill_in=fill_in)


def service_of(
    server: FoundServer,
    survey: HostSurvey,
    others: Sequence[Service],
    weights_on: Mapping[str, str],
    environments: Mapping[str, str],
) -> Service:
    """A found server as a service of SGLang.

    Args:
        server: llamafactory, sglang or vllm.
        survey: of its host.
        others: of the same host.
        weights_on: folder of a model -> the host that it is sent from, where it cannot be read where it lies.
        environments: prefix -> what the inventory calls it.
    """
    notes: list[Note] = []
    cautions: list[str] = []
    name = _service_name(server, [str(one.value["name"]) for one in others])
    source, of_source = _source(server, weights_on)
    notes.append(Note("model.source", f"FILL IN: {of_source}" if source == FILL_IN else of_source))
    gpus = _gpus(server, survey, others, notes)
    taken = sglang_options(server.engine, _own_options(server))
    model_name = _model_name(server, notes)
    if server.engine == "sglang" and taken.options:
        notes.append(Note("options", "found: its own, by their long names"))
    value: dict[str, Any] = {"name": name, "port": server.port}
    if server.address not in ANYWHERE and HOST.fullmatch(server.address):
        value["host"] = server.address
    value["model"] = {**({"name": model_name} if model_name else {}), "source": source}
    value["gpus"] = gpus
    value["engine"] = "sglang"
    value["environment"] = environments.get(server.prefix, "sglang") if server.engine == "sglang" else "sglang"
    value["options"] = _options(server, survey, taken.options, gpus, notes)
    _say_the_rest(server, taken.left_out, environments, notes, cautions)
    fill_in = _fill_in(name, of_source) if source == FILL_IN else ""
    spare: dict[str, Any] = {}
    if server.engine == "llamafactory" and not server.deployed and not fill_in:
        before = _predecessor(server, gpus)
        if environments.get(server.prefix) == "llamafactory":
            value["predecessor"] = before
            said = (
                "found: what serves now, for the plan to compare; a rollback needs it only where nothing was recorded"
            )
            notes.append(Note("predecessor", said))
        else:
            spare = before
    return Service(value, server, tuple(notes), tuple(cautions), fill_in, spare)


def _own_options(server: FoundServer) -> dict[str, tuple[str, ...]]:
    """The options without the one by which a deployment tells its releases apart."""
    mark = engine_named("sglang").identity_option.lstrip("-").replace("-", "_") if server.release else ""
    return {name: words for name, words in server.options.items() if name != mark}


def _fill_in(name: str, what: str) -> str:
    return f"inference_services[{name}].model.source: {what}"


def _service_name(server: FoundServer, taken: Iterable[str]) -> str:
    named = "" if server.served_name == DEFAULT_NAME else server.served_name
    for text in (server.deployed, posixpath.basename(named.rstrip("/")), posixpath.basename(server.model)):
        name = re.sub(r"[^a-z0-9._-]+", "-", text.lower())[:40].strip("._-")
        if NAME.fullmatch(name):
            return name if name not in taken else f"{name}-{server.port}"
    return f"service-{server.port}"


def _model_name(server: FoundServer, notes: list[Note]) -> str:
    """`model.name`; '' where it is left out."""
    name = server.served_name
    if MODEL_NAME.fullmatch(name) and ":" not in name:
        notes.append(Note("model.name", "found: what /v1/models lists"))
        return name
    if name:
        notes.append(
            Note(
                "model",
                "name is left out: clients send one today that cannot be one here, a path mostly; the plan says "
                "which they will have to send",
            )
        )
    else:
        notes.append(
            Note("model", 'name is left out: it did not say which it serves; write what clients send as "model"')
        )
    return ""


def _source(server: FoundServer, weights_on: Mapping[str, str]) -> tuple[str, str]:
    """`model.source`, and what to say of it."""
    adapter = next((option for option in ADAPTERS if option in server.options), "")
    if adapter:
        what = f"it serves a model with an adapter (--{adapter}), which SGLang would leave out"
        return FILL_IN, f"{what}: merge the two (llamafactory-cli export) and give that folder"
    if server.model_is_folder:
        host = weights_on.get(server.model, "hosts")
        text = f"{host}:{server.model}"
        if _is_source(text) and server.deployed:
            what = "the deployment's own copy: better name where it came from"
        elif host == "hosts":
            what = "the folder that is served, used where it lies"
        else:
            what = f"the folder that is served, copied from {host}: where it lies only its owner can read it"
        if _is_source(text):
            return text, f"found: {what}"
    elif HUB_NAME.fullmatch(server.model) and _is_source(f"hf://{server.model}"):
        return (
            f"hf://{server.model}",
            "a guess: it was given this name of Hugging Face's, which is fetched anew; pin its commit (@REVISION)",
        )
    return FILL_IN, "where the weights are could not be told from what serves, or cannot be written here"


def _is_source(text: str) -> bool:
    try:
        source = parse_source(text)
    except DeployError:
        return False
    return is_plain(text) and (source.kind == HUGGINGFACE or source.path == text.partition(":")[2])


def _gpus(server: FoundServer, survey: HostSurvey, others: Sequence[Service], notes: list[Note]) -> Any:
    known = {str(gpu.index) for gpu in survey.host.gpus.gpus}
    gpus: list[int | str] = []
    for one in server.gpus:
        if one.isascii() and one.isdigit() and (one in known or not known):
            gpus.append(int(one))
        elif GPU_UUID.fullmatch(one):
            gpus.append(one)
    taken = [gpu for other in others if isinstance(other.value["gpus"], list) for gpu in other.value["gpus"]]
    shared = [gpu for gpu in gpus if gpu in taken]
    if shared:
        notes.append(
            Note("gpus", f"a guess: today it shares GPU {shared[0]} with another service, which cannot be here")
        )
        return "auto"
    if not gpus and known:
        notes.append(Note("gpus", "a guess: neither nvidia-smi nor its environment names one that is there"))
        return "auto"
    if server.gpus_from == "nvidia-smi":
        notes.append(Note("gpus", "found: where nvidia-smi sees it compute"))
    elif gpus:
        notes.append(Note("gpus", f"found: as its {server.gpus_from} has them; nvidia-smi sees it compute on none"))
    return list(dict.fromkeys(gpus))


def _options(
    server: FoundServer, survey: HostSurvey, found: Mapping[str, Any], gpus: Any, notes: list[Note]
) -> dict[str, Any]:
    """The options as found, and what SGLang needs beside them."""
    options = dict(found)
    if server.engine != "sglang" and isinstance(gpus, list) and len(gpus) > 1:
        if "tensor_parallel_size" not in options:
            notes.append(Note("options.tensor_parallel_size", f"a guess: it computes on {len(gpus)} GPUs"))
        options.setdefault("tensor_parallel_size", len(gpus))
    if not survey.host.gpus.gpus and gpus == []:
        if "device" not in options:
            notes.append(Note("options.device", "a guess: the host has no GPU"))
        options.setdefault("device", "cpu")
    if "enable_metrics" not in options:
        notes.append(
            Note("options.enable_metrics", "a guess: it serves none now; they cost little, and status reads them")
        )
        options["enable_metrics"] = True
    return options


def _predecessor(server: FoundServer, gpus: Any) -> dict[str, Any]:
    options = llamafactory_options(server.options).options
    return {
        "engine": "llamafactory",
        **({"gpus": gpus} if isinstance(gpus, list) else {}),
        "environment": "llamafactory",
        "options": dict(options),
    }


def _say_the_rest(
    server: FoundServer,
    left_out: Sequence[str],
    environments: Mapping[str, str],
    notes: list[Note],
    cautions: list[str],
) -> None:
    template_name = " ".join(server.options.get("template", ()))
    if server.engine == "llamafactory" and template_name:
        notes.append(
            Note(
                "options",
                f"LLaMA-Factory's --template {template_name} has no counterpart: SGLang takes the chat template "
                "in the model's folder",
            )
        )
    if server.engine == "sglang" and server.prefix not in environments:
        notes.append(Note("environment", "a guess: what serves now runs from a Python that could not be named here"))
    if server.engine == "vllm":
        notes.append(Note("options", "found: of vLLM's those that mean the same to SGLang"))
    if left_out:
        notes.append(
            Note(
                "options",
                f"left out, as they cannot be written here (templates to Ansible, or long): {', '.join(left_out)}",
            )
        )
    if server.withheld:
        notes.append(Note("options", f"left out, as they hold a secret: {', '.join(server.withheld)}"))
    if server.asks_for_key:
        cautions.append(
            f"port {server.port}: it asks its clients for an API key. The key is written nowhere, as every user of a "
            "host can read command lines, and SGLang would answer without: put the key check in front of it (a gateway)"
        )
    if server.release and not server.deployed:
        cautions.append(
            f"port {server.port}: a deployment of this package started it (release {server.release}), of a root folder "
            "that was not found: set inference_root to that, or this one would take it over as a stranger's"
        )
    if server.problem:
        cautions.append(f"port {server.port}: a rollout cannot take it over: {server.problem}. Fix: {server.fix}")
