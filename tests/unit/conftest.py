"""What several unit tests share: the published checkpoints, which take seconds to write; no deadline for examples."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, read_model
from tests.doubles.published_models import NAMES, publish

settings.register_profile("any-machine", deadline=None)  # how fast an example is depends on who else computes
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each published checkpoint, by its name. Tests read them and change nothing."""
    root = tmp_path_factory.mktemp("published")
    return {name: publish(root / name, name) for name in NAMES}


@pytest.fixture(scope="session")
def published_facts(published: dict[str, Path]) -> dict[str, ModelFacts]:
    """What `read_model` says of each published checkpoint."""
    return {name: read_model(str(folder), list_files(str(folder))) for name, folder in published.items()}
