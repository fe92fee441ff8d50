"""The engine's options against what its installed version knows."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import OptionTable
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service


def option_findings(where: str, service: Service, table: OptionTable | None) -> Iterator[Finding]:
    """Options that are unknown, do not take their value, or are on their way out.

    Args:
        where: key of the service.
        service: with its options as they were spelled.
        table: of the version that will run; None where its source could not be read.
    """
    if table is None:
        if service.options:
            yield finding(
                "options-unread",
                f"{where}.options",
                f"what {service.engine} in environment {service.environment} takes could not be read from its files",
                "nothing: staging lets the installed engine's own parser read them, before anything is stopped",
            )
        return
    engine = f"{table.engine} {table.version}".strip()
    aliases = engine_named(service.engine).aliases
    for name, value in service.options.items():
        key = f"{where}.options.{name}"
        option = table.find(aliases.get(name, name))  # as the launch script will have it
        if option is None:
            near = table.nearest(name)
            fix = f"did you mean {near}?" if near else "see the engine's --help for its options"
            yield finding("option-unknown", key, f"{engine} has no such option", fix)
            continue
        problem = option.problem(value)
        if problem:
            yield finding("option-value", key, problem, "correct the value")
        if option.deprecated:
            yield finding("option-deprecated", key, f"is deprecated in {engine}", option.deprecated)
