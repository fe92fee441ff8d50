"""What a launch plan has to know of an environment: versions, what it needs of a host, which options its engine knows.

Nothing of the environment is imported or run beyond its bare interpreter.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import OptionTable
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import inspect_prefix
from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import cuda_runtime, needed_glibc
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

LARGEST_SOURCE = 4 * 2**20  # bytes


@dataclass(frozen=True)
class EnvironmentReport:
    """An environment, on a host or as its bundle describes it.

    Attributes:
        name: as the inventory calls it.
        path: the prefix on the host.
        digest: of its content; '' where it is not known.
        versions: of its packages, by PEP 503 name.
        glibc: the oldest glibc that its compiled packages run on, `2.34`; '' where none says.
        cuda: the CUDA runtime that it brings, `13.0`; '' for none.
        options: the options of each engine in it that was asked for.
        templates: LLaMA-Factory's chat templates and the system prompt that each adds by itself.
        problem: why there is no such environment, with the fix behind it; ('', '') when there is.
        transfer: bytes that have to be brought to a host without it.
        installed: bytes that it takes there once it is built.
        backend: what is to install its conda packages there; '' where nothing is built.
    """

    name: str
    path: str = ""
    digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    glibc: str = ""
    cuda: str = ""
    options: Mapping[str, OptionTable] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    problem: tuple[str, str] = ("", "")
    transfer: int = 0
    installed: int = 0
    backend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        tables = {engine: table.as_dict() for engine, table in self.options.items()}
        return {**self.__dict__, "options": tables, "problem": list(self.problem)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> EnvironmentReport:
        """The report that `as_dict` gave.

        Raises:
            KeyError, TypeError: a field is missing or unknown.
        """
        tables = {engine: OptionTable.from_dict(table) for engine, table in value["options"].items()}
        problem = (str(value["problem"][0]), str(value["problem"][1]))
        return cls(**{**value, "options": tables, "problem": problem})


def report_prefix(name: str, prefix: str, engines: Sequence[str]) -> EnvironmentReport:
    """The report of an existing prefix on this host.

    Args:
        name: as the inventory calls it.
        prefix: absolute path of a conda environment or venv.
        engines: whose options are asked for.
    """
    try:
        facts = inspect_prefix(prefix)
    except DeployError as error:
        return EnvironmentReport(name, prefix, problem=(error.problem, error.fix))
    site_packages = Path(prefix, "lib", f"python{'.'.join(facts.python.split('.')[:2])}", "site-packages")
    tags = [line for path in site_packages.glob("*.dist-info/WHEEL") for line in _tag_lines(path)]
    sources = {engine: _sources_below(site_packages, engine_named(engine).sources) for engine in engines}
    return EnvironmentReport(
        name=name,
        path=prefix,
        digest=facts.digest,
        versions=facts.packages,
        glibc=needed_glibc(tags),
        cuda=cuda_runtime(facts.packages),
        **read_engines(sources, facts.packages),
    )


def read_engines(sources: Mapping[str, Mapping[str, str]], versions: Mapping[str, str]) -> dict[str, Any]:
    """Option tables and chat templates of the engines whose source is there and can be read.

    Args:
        sources: engine -> path inside site-packages -> text.
        versions: of the environment's packages.
    """
    tables, templates = {}, {}
    for name, texts in sources.items():
        engine = engine_named(name)
        if engine.package not in versions:
            continue
        try:
            tables[name] = engine.read_options(texts, versions[engine.package])
            templates.update(engine.read_templates(texts))
        except DeployError:
            continue  # the plan says that the options were not read; staging asks the engine itself
    return {"options": tables, "templates": templates}


def _tag_lines(path: Path) -> list[str]:
    """The tags of one installed wheel, in one text."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [" ".join(line for line in lines if line.startswith("Tag:"))]


def _sources_below(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """Texts of the files that match: regular ones of a size that sources have; what else is there is not opened."""
    found = {}
    for pattern in patterns:
        for path in sorted(glob.glob(os.path.join(glob.escape(str(folder)), pattern))):
            if not os.path.isfile(path) or os.path.getsize(path) > LARGEST_SOURCE:
                continue
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
                found[os.path.relpath(path, folder)] = stream.read()
    return found
