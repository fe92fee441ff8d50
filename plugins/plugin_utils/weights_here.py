"""Weights whose folder is on the controller, or is made there: the folder, and its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import check_source
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules, model_rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import once_a_run
from ansible_collections.deployer.sglang.plugins.plugin_utils.fetching import fetched_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.progress_lines import ProgressLines
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import model_path


@dataclass(frozen=True)
class WeightsHere:
    """A model's files on the controller: path in the model -> path to read."""

    folder: str
    files: Mapping[str, str]
    manifest: Manifest


def rules_of(model: Mapping[str, Any]) -> Rules:
    """The rules of a model as `models_used` describes it."""
    return model_rules(model.get("exclude") or (), model.get("include") or ())


def _fetched_once(source: Source, rules: Rules, variables: Mapping[str, str]) -> str:
    """The fetched folder, the same for all hosts of a run: what a branch names may change meanwhile."""
    lines = ProgressLines(f"fetching {source.text}")

    def fetch() -> dict[str, Any]:
        return {
            "folder": fetched_folder(source, rules, lambda progress: lines(progress.bytes, progress.total), variables)
        }

    return str(once_a_run(f"fetched {source.text} {rules}", fetch)["folder"])


def weights_here(model: Mapping[str, Any], inventory: str | None, variables: Mapping[str, str]) -> WeightsHere:
    """Fetch a model where it has to be fetched, and hash it.

    Args:
        model: as `models_used` describes it, with a source that is not on a host.
        inventory: folder that relative paths are taken from.
        variables: environment variables for fetching.
    Raises:
        DeployError: it cannot be fetched, is incomplete, or is changing.
    """
    source, rules = parse_source(model["source"]), rules_of(model)
    folder = _fetched_once(source, rules, variables) if source.is_fetched else model_path(source.path, inventory)
    try:
        files = list_files(folder, rules)
        check_source(files, folder)
        manifest = cached_manifest(folder, rules, ProgressLines(f"hashing {folder}"))
    except OSError as error:
        raise DeployError(str(error), "make it readable for the user who runs Ansible") from None
    return WeightsHere(folder, files, manifest)
