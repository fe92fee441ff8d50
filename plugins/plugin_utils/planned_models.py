"""What a plan knows of the models: read here, told by the host that has them, or asked of a hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import identity, list_files, listing_digest
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, read_model
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import ModelUnseen
from ansible_collections.deployer.sglang.plugins.module_utils.service import Model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Listing
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import (
    CONTROLLER,
    EVERY_HOST,
    Source,
    parse_source,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cached, once_a_run
from ansible_collections.deployer.sglang.plugins.plugin_utils.fetching import resolve_source, source_facts_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import known_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.model_folders import CODE, model_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import model_path


@dataclass(frozen=True)
class PlannedModel:
    """A model of a plan.

    Attributes:
        facts: or why there are none.
        listing: `manifest.listing_digest` of its files, '' where it is not known.
        digest: of its manifest, '' where a file has still to be hashed.
        in_place: its folder on the hosts, where it is used as it lies there; else ''.
    """

    facts: ModelFacts | DeployError
    listing: str = ""
    digest: str = ""
    in_place: str = ""


def planned_models(
    models: Sequence[Model],
    described: Mapping[str, Mapping[str, Any]],
    inventory: str | None,
    variables: Mapping[str, str],
) -> dict[str, PlannedModel]:
    """The models by source.

    Args:
        models: of services and predecessors.
        described: results of M(deployer.sglang.model_source) by source.
        inventory: folder that relative paths are taken from.
        variables: environment variables for asking hubs.
    """
    return {model.source: _planned(model, described.get(model.source), inventory, variables) for model in models}


def _planned(
    model: Model, described: Mapping[str, Any] | None, inventory: str | None, variables: Mapping[str, str]
) -> PlannedModel:
    source = parse_source(model.source)
    in_place = source.path if source.kind == EVERY_HOST else ""
    try:
        if source.kind == CONTROLLER:
            return _here(model_path(source.path, inventory), model.rules)
        if source.is_fetched:
            return _told(_asked(source, model.rules, variables), "")
        if described is None:
            raise ModelUnseen(f"{source.text} was not looked at", "")
        return _told(described, in_place)
    except ModelUnseen as error:
        return PlannedModel(error, in_place=in_place)
    except DeployError as error:
        if model.fetch_on:  # it may well have a way out that this controller has not
            return PlannedModel(ModelUnseen(f"{source.text} cannot be asked from here ({error.problem})", error.fix))
        return PlannedModel(error, in_place=in_place)


def _here(folder: str, rules: Rules) -> PlannedModel:
    facts = model_folder(folder, rules)
    files = list_files(folder, rules)
    try:
        manifest = known_manifest(folder, rules)
    except (DeployError, OSError):
        manifest = None
    listing = listing_digest((name, os.path.getsize(real)) for name, real in files.items())
    return PlannedModel(facts, listing, manifest.digest if manifest else "")


def _told(answer: Mapping[str, Any], in_place: str) -> PlannedModel:
    try:
        return PlannedModel(ModelFacts.from_dict(answer["facts"]), str(answer["listing"]), in_place=in_place)
    except (KeyError, TypeError, ValueError) as error:
        raise DeployError(f"the host's answer about the model cannot be read: {error!r}", "run again") from None


def _asked(source: Source, rules: Rules, variables: Mapping[str, str]) -> dict[str, Any]:
    """What a hub or a web server says, without its weights."""

    def ask() -> dict[str, Any]:
        resolved = resolve_source(source, variables)
        state = canonical_json([resolved.commit, rules.exclude, rules.include, list(map(identity, CODE))])
        return dict(cached("sources", source.text, state, lambda: read(resolved)))

    def read(resolved: Listing) -> dict[str, Any]:
        with source_facts_folder(source, resolved, rules, variables) as folder:
            files = list_files(folder, rules)
            facts = read_model(source.text, files).as_dict()
            listing = listing_digest((name, os.path.getsize(real)) for name, real in files.items())
        return {"facts": facts, "listing": listing}

    return once_a_run(f"facts of {source.text} {rules}", ask)
