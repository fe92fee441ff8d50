"""The controller's part of M(deployer.sglang.release): compute releases and render what runs them."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from ansible.plugins.action import ActionBase

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    RELEASE_VARIABLE,
    Artifact,
    Placement,
    Release,
    plan_release,
    release_id,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services


class ActionModule(ActionBase):
    """Run once a host, for all its services."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compute and render every release, then let the module stage them."""
        super().run(tmp, task_vars)
        given = dict(self._task.args)
        try:
            services, _ = parse_services(given["services"], given["environments"])
            environments = {r["item"]["name"]: _artifact(r) for r in given["environment_results"]}
            models = {r["item"]["source"]: _artifact(r) for r in given["model_results"]}
            placement = Placement(given["root"], given["supervisor"], given["user"], given["address"])
            launch, unit = (self._template(given[key]) for key in ("launch_template", "unit_template"))
            given["releases"] = [
                {
                    "role": role,
                    "gate": dataclasses.asdict(service.gate),
                    **rendered(
                        plan_release(
                            service, environments[service.environment], models[service.model.source], placement
                        ),
                        launch,
                        unit,
                    ),
                }
                for role, service in with_predecessors(services)
            ]
        except DeployError as error:
            return {"failed": True, "changed": False, "msg": str(error)}
        return self._execute_module(module_name="deployer.sglang.release", module_args=given, task_vars=task_vars)

    def _template(self, name: str) -> str:
        return Path(self._find_needle("templates", name)).read_text(encoding="utf-8")


def with_predecessors(services: Sequence[Service]) -> Iterator[tuple[str, Service]]:
    """Every service, and what its rollback falls back to, with the role that each has."""
    for service in services:
        yield "service", service
        if service.predecessor is not None:
            yield "predecessor", service.predecessor


def rendered(release: Release, launch: str, unit: str) -> dict[str, Any]:
    """A release with its id and texts, as the module takes it.

    Args:
        release: what has to run.
        launch: source of the launch script's template.
        unit: source of the unit's template.
    """
    unit_text = render(unit, release=release)
    identifier = release_id(release, render_launch(launch, release, ""), unit_text)
    return {
        "id": identifier,
        "release": release.as_dict(),
        "launch": render_launch(launch, release, identifier),
        "unit": unit_text,
    }


def render_launch(source: str, release: Release, identifier: str) -> str:
    """The launch script: the whole environment of the process, and its arguments one flag a line."""
    variables = {RELEASE_VARIABLE: identifier, **release.variables}
    return render(
        source,
        release=release,
        id=identifier,
        variables=sorted(variables.items()),
        command=flag_lines(release.argv),
    )


def render(source: str, **values: Any) -> str:
    """Render a template; what it names and is not given is an error.

    Raises:
        DeployError: the template has a mistake.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["quote"] = shlex.quote
    try:
        return environment.from_string(source).render(**values)
    except jinja2.TemplateError as error:
        raise DeployError(f"a template cannot be rendered: {error}", "correct the template") from None


def flag_lines(argv: Sequence[str]) -> list[str]:
    """The quoted command: its first line up to the first flag `--…`, then each flag with its values."""
    lines: list[list[str]] = [[]]
    for word in argv:
        if word.startswith("--"):
            lines.append([])
        lines[-1].append(shlex.quote(word))
    return [" ".join(line) for line in lines]


def _artifact(result: Mapping[str, Any]) -> Artifact:
    return Artifact(result["item"]["name"], result["digest"], result["path"])
