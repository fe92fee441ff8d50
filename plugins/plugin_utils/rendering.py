"""The texts that run a release, rendered on the controller: its launch script, its unit, and the id that follows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_VARIABLE, Release, release_id

TEMPLATES = Path(__file__).resolve().parents[2] / "roles" / "release" / "templates"


def release_templates() -> tuple[str, str]:
    """The sources of the launch script's template and of the unit's."""
    launch, unit = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("launch.sh.j2", "unit.service.j2"))
    return launch, unit


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
        command=flag_lines(release.command(identifier)),
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
