"""Reads `model` of a service: where the weights come from, under which name they are served, what belongs to them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import HOST, Problems
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.service import Model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import model_rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import FORMS, Source, parse_source

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,95}")  # it ends up in scripts


def parse_model(problems: Problems, where: str, raw: Any, engine: str) -> Model:
    """The model that a description names; what is wrong with it goes to `problems`.

    Args:
        problems: collects what is wrong.
        where: the key, for messages.
        raw: as the inventory gives it.
        engine: that serves it.
    """
    value = problems.mapping(where, raw)
    problems.keys(where, value, ("name", "source", "exclude", "include", "fetch_on"))
    source = _parse_source(problems, where, value) if value else None
    named = value.get("name") not in (None, "")
    # Without a name an engine serves the model as its path; of that, the folder's name is what still means something.
    name = value["name"] if named else _last_part(source) or "unnamed"
    if engine == "sglang" and ":" in str(name):  # `name:adapter` asks for a LoRA adapter (its validation_hook.py)
        problems.add(f"{where}.name", f"is {name!r}", "leave out the colon, which SGLang refuses in a served name")
    exclude, include = (_patterns(problems, f"{where}.{key}", value.get(key)) for key in ("exclude", "include"))
    return Model(
        problems.text(f"{where}.name", name, MODEL_NAME, "letters, digits and ._/:- only"),
        source.text if source else "",
        named,
        exclude,
        include,
        _parse_fetch_on(problems, f"{where}.fetch_on", value.get("fetch_on"), source),
    )


def _last_part(source: Source | None) -> str:
    """The name of the folder or repository that a source names."""
    place = (source.repository or source.path or source.url) if source else ""
    return os.path.basename(place.rstrip("/"))


def _parse_source(problems: Problems, where: str, value: Mapping[str, Any]) -> Source | None:
    if not value.get("source"):
        problems.add(f"{where}.source", "is missing", f"say where the weights are: {FORMS}")
        return None
    try:
        return parse_source(value["source"])
    except DeployError as error:
        problems.add(f"{where}.source", error.problem, error.fix)
        return None


def _parse_fetch_on(problems: Problems, where: str, value: Any, source: Source | None) -> str:
    if value in (None, ""):
        return ""
    if source is not None and not source.is_fetched:
        problems.add(where, f"is of no use with {source.text}, which nobody fetches", "remove it")
        return ""
    return problems.text(where, value, HOST, "the name of a host in the inventory")


def _patterns(problems: Problems, where: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(one, str) for one in value):
        problems.add(where, f"is {value!r}", "give a list of patterns, such as ['*.bin', 'logs']")
        return ()
    try:
        model_rules(value)
    except DeployError as error:
        problems.add(where, error.problem, error.fix)
        return ()
    return tuple(value)
