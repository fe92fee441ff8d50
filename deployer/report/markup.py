"""The templates of reports: every expression is escaped, and loses what could act on its reader."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from deployer.report.words import clock, counted, duration, plain, some


@cache
def template(name: str) -> Template:
    """A template of this package.

    Args:
        name: of its file below templates/.
    """
    environment = Environment(
        loader=PackageLoader("deployer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(duration=duration, clock=clock, some=some, counted=counted)
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    """What an expression of the template comes to: only markup that the template itself made passes as it is."""
    return value if isinstance(value, Markup) else plain(str(value))
