"""The client kit of a release, rendered on the controller: tests, a guide in two languages, Python access."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import KIT_FILES
from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import whole_number
from ansible_collections.deployer.sglang.plugins.module_utils.release import Release
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.plugin_utils import quoting

TEMPLATES = Path(__file__).resolve().parents[2] / "roles" / "release" / "templates" / "client"
EVERY_ADDRESS = ("0.0.0.0", "::", "")
LOOPBACK = ("localhost", "::1")
GIB = 2**30
LLAMAFACTORY_SAMPLING = {"temperature": 0.95, "top_p": 0.7, "top_k": 50, "max_new_tokens": 1024}  # of 0.9.5


@dataclass(frozen=True)
class KitFacts:
    """What a kit says of its service.

    Attributes:
        service: its name.
        release: id of the release.
        engine: sglang or llamafactory.
        version: of the engine; '' where it is not known.
        model: the name that clients send.
        url: where clients reach it.
        host: its address in `url`.
        local: it listens on the host's own loopback address alone.
        port: of the service.
        gpus: indices or UUIDs.
        product: what these GPUs are, with their memory; '' where it is not known or they are several kinds.
        tensor_parallel: degree of tensor parallelism.
        context: longest request in tokens; None where it is not known.
        max_running_requests: that run at once, where the description says so.
        max_total_tokens: of the KV cache, where the description says so.
        metrics: it has `/metrics`.
        log_requests: requests are logged.
        log_level: how much of them; None for the engine's default.
        prefix_cache: beginnings that requests share are computed once.
        truncates: too long a prompt is cut instead of refused.
        backend: what LLaMA-Factory computes with.
        template: LLaMA-Factory's chat template.
        concurrent: how many answers LLaMA-Factory's own backend generates at a time.
        sampling: what LLaMA-Factory samples with where a request does not say.
        may_need_key: a file of options may ask clients for a key.
        tells_release: the running server says which release it is.
        unit: of systemd; '' without it.
        folder: of the service, on the host.
        log: of the service, on the host, without systemd.
    """

    service: str
    release: str
    engine: str
    version: str
    model: str
    url: str
    host: str
    local: bool
    port: int
    gpus: tuple[str, ...]
    product: str
    tensor_parallel: int
    context: int | None
    max_running_requests: int | None
    max_total_tokens: int | None
    metrics: bool
    log_requests: bool
    log_level: int | None
    prefix_cache: bool
    truncates: bool
    backend: str
    template: str
    concurrent: int
    sampling: str
    may_need_key: bool
    tells_release: bool
    unit: str
    folder: str
    log: str

    @property
    def engine_name(self) -> str:
        """The engine as people write it."""
        return {"sglang": "SGLang", "llamafactory": "LLaMA-Factory"}.get(self.engine, self.engine)

    @property
    def longest(self) -> int | None:
        """Tokens of the longest request: the context, or a KV cache that is smaller; None where neither is known."""
        known = [one for one in (self.context, self.max_total_tokens) if one is not None]
        return min(known) if known else None

    @property
    def health_generates(self) -> bool:
        """`/health` generates a token, as SGLang's does since mid-2025 (its PRs 8115 and 8444)."""
        return self.engine == "sglang" and not self.version.startswith("0.4.")


def kit_facts(
    release: Release, identifier: str, service: Service, version: str, address: str, planned: Mapping[str, Any]
) -> KitFacts:
    """What the kit of a release says: only what the release and its description fix, never what a moment measured.

    Args:
        release: what runs.
        identifier: its id.
        service: as described.
        version: of the engine's package; '' where it is not known.
        address: of the host.
        planned: the service's entry in the plan, for GPUs and context; empty where there is none.
    """
    options = engine_named(release.engine).canonical(service.options)
    sglang = release.engine == "sglang"
    local = release.host in LOOPBACK or release.host.startswith("127.")
    place = address if release.host in EVERY_ADDRESS else release.host
    folder = Store(release.root).service(release.service)
    return KitFacts(
        service=release.service,
        release=identifier,
        engine=release.engine,
        version=version,
        model=release.served_name,
        url=f"http://{_in_url(place)}:{release.port}",
        host=place,
        local=local,
        port=release.port,
        gpus=release.gpus,
        product=_product(planned.get("gpus") or ()),
        tensor_parallel=parallelism_of(release.engine, options).tensor if sglang else 1,
        context=_whole(whole_number(options.get("context_length")) if sglang else None)
        or _whole(planned.get("context")),
        max_running_requests=_number(options, "max_running_requests") if sglang else None,
        max_total_tokens=_number(options, "max_total_tokens") if sglang else None,
        metrics=sglang and _set(options, "enable_metrics"),
        log_requests=_set(options, "log_requests") if sglang else _is_verbose(service),
        log_level=whole_number(options.get("log_requests_level")) if sglang else None,
        prefix_cache=sglang and not _set(options, "disable_radix_cache"),
        truncates=_set(options, "allow_auto_truncate"),
        backend="" if sglang else str(options.get("infer_backend", "huggingface")),
        template="" if sglang else str(options.get("template", "")),
        concurrent=_number(service.environment_variables, "MAX_CONCURRENT") or 1,
        sampling=", ".join(f"{name} {options.get(name, value)}" for name, value in LLAMAFACTORY_SAMPLING.items()),
        may_need_key=sglang and "config" in options,
        tells_release=bool(release.identity_option),
        unit=release.unit if release.supervisor == "systemd" else "",
        folder=folder.path,
        log=f"{folder.logs}/service.log",
    )


def render_kit(facts: KitFacts) -> dict[str, str]:
    """The files of the kit, name -> text.

    Args:
        facts: what they say.
    Raises:
        DeployError: a template has a mistake.
    """
    environment = _environment()
    try:
        return {name: environment.get_template(f"{name}.j2").render(facts=facts, GIB=GIB) for name in KIT_FILES}
    except jinja2.TemplateError as error:
        raise DeployError(f"a template of the client kit cannot be rendered: {error}", "correct the template") from None


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        python=quoting.python_literal,
        shell=quoting.shell_word,
        line=quoting.one_line,
        code=quoting.code_span,
        cell=quoting.code_cell,
        json_text=json.dumps,
        number=lambda value: f"{value:,}",
    )
    return environment


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _product(gpus: Sequence[Mapping[str, Any]]) -> str:
    """What the GPUs are, in words; '' where they are several kinds, or none."""
    kinds = {(str(gpu.get("product") or ""), _whole(gpu.get("memory_total")) or 0) for gpu in gpus}
    if len(kinds) != 1:
        return ""
    product, memory = kinds.pop()
    return f"{product}, {memory / GIB:.0f} GiB" if product and memory else product


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _number(options: Mapping[str, Any], name: str) -> int | None:
    return _whole(whole_number(options.get(name)))


def _set(options: Mapping[str, Any], name: str) -> bool:
    """A flag that stands alone; templated values are text before ansible-core 2.19."""
    return str(options.get(name, False)).lower() == "true"


def _is_verbose(service: Service) -> bool:
    """LLaMA-Factory logs requests unless this variable says no (its extras/misc.py, api/chat.py)."""
    return service.environment_variables.get("API_VERBOSE", "1").lower() in ("true", "y", "1")
